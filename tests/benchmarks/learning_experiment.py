"""The experiment of `learning`: its sizes, its folder, its rows."""

import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentless_mini.chain.prompts import Prompts
from agentless_mini.chain.templates import load_prompts
from agentless_mini.learning.rows import Row, read_rows
from agentless_mini.settings.learning import Precision

SEED = 20261121
TEMPERATURE = 0.6  # at 1 so small a model seldom copies a line without a slip
LINES = "lines"  # answers that are in an order, where all others are drawn
_PROMPTS = Path(__file__).parent / "learning_prompts"


@dataclass(frozen=True, slots=True)
class Size:
    """How much is trained and sampled. Rows whose files have more characters are left out: they cost the most."""

    train_rows: int
    bred_rows: int
    test_rows: int
    characters: int
    sft_steps: int
    mutation_steps: int
    rl_steps: int
    selector_steps: int
    batch: int
    groups: int
    group: int
    samples: int
    parents: int
    answer_tokens: int
    upper_layers: int | None
    precision: Precision


SIZES = {
    "smoke": Size(8, 8, 2, 2000, 2, 2, 1, 1, 2, 1, 2, 8, 2, 16, 1, Precision.FLOAT32),
    "cpu": Size(2000, 480, 40, 700, 220, 60, 20, 60, 8, 4, 8, 20, 3, 128, 10, Precision.BFLOAT16),
    "gpu": Size(20_000, 2_000, 200, 3200, 600, 600, 150, 200, 16, 16, 8, 20, 5, 512, None, Precision.AUTO),
}


@dataclass(frozen=True, slots=True)
class Experiment:
    """Where everything is."""

    data: Path
    work: Path
    model: str
    size: Size
    minutes: float

    def rows(self, split: str) -> list[Row]:
        """Return the rows of a split that are short enough, some at random where there are more than are wanted."""
        wanted = self.size.train_rows if split == "train" else self.size.test_rows
        short = [
            row
            for row in read_rows(self.data / f"{split}.parquet")
            if sum(len(file.before or "") for file in row.files) <= self.size.characters
        ]
        return draws().sample(short, min(wanted, len(short)))


def prompts() -> Prompts:
    """Return the prompts: the packaged ones explain the format, which on short files is half of what is computed."""
    return load_prompts(_PROMPTS)


def draws(of: str = "") -> random.Random:
    """Return a stream of numbers that is the same in every run."""
    return random.Random(f"{SEED} {of}")  # noqa: S311 - for choices that can be repeated


def told(said: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {said}\n")


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield what a file of JSON lines holds; nothing where there is none."""
    if path.exists():
        for line in path.read_text().splitlines():
            yield json.loads(line)
