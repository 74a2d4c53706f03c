"""The card of a trained model: what it was made from, how, and what it must not be taken for.

A card states what is known and leaves blank what is not: scores are added by whoever measures them.
"""

import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentless_mini import __version__
from agentless_mini.errors import printable

_REPAIRS = (
    "It proposes patches; it does not know whether they are right. It was trained on the prompts of\n"
    "agentless-mini and answers in its edit format."
)
_SCORES = (
    "It scores patches that it is shown with an issue; it sees neither code nor tests. It was trained on the prompt\n"
    "of agentless-mini and on patches of one model: of others its scores may mean less."
)
LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "vllm")


@dataclass(frozen=True, slots=True)
class Card:
    """What a card says. `counts` is what became of the rows, `licences` counts them by SPDX name."""

    command: str
    model: str
    data: str
    settings: Mapping[str, Any]
    counts: Mapping[str, int]
    licences: Mapping[str, int]
    steps: int
    device: str


def versions() -> dict[str, str]:
    """Return the versions of what trains, as far as it is installed."""
    found = {"agentless-mini": __version__}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write_card(folder: Path, card: Card) -> None:
    """Write the card as the folder's README.md, in place of the one that the trainer made."""
    (folder / "README.md").write_text(_text(card), encoding="utf-8")


def _text(card: Card) -> str:
    base = json.dumps(card.model)
    is_reward_model = card.command == "reward-model"  # which is written whole
    library = "peft" if card.settings.get("tuning") == "lora" and not is_reward_model else "transformers"
    return (
        f"---\nbase_model: {base}\nlibrary_name: {library}\n"
        f"tags: [agentless-mini, {card.command}]\n---\n\n"
        f"# {printable(Path(card.model).name)} after `amini learn {card.command}`\n\n"
        f"Base model: {printable(card.model)}. {card.steps} steps on {printable(card.device)}.\n\n"
        f"## Data\n\n{printable(card.data)}\n\n{_table(card.counts, 'row', 'number')}\n"
        f"## Licences of the data\n\n{_table(card.licences, 'licence', 'rows')}\n"
        f"The base model's own licence holds as well.\n\n"
        f"## Settings\n\n{_table(card.settings, 'setting', 'value')}\n"
        f"## Versions\n\n{_table(versions(), 'package', 'version')}\n"
        f"## Limits\n\n{_SCORES if is_reward_model else _REPAIRS}\nResults: none are stated here.\n"
    )


def _table(values: Mapping[str, Any], name: str, value: str) -> str:
    rows = "".join(f"| {_cell(key)} | {_cell(found)} |\n" for key, found in values.items())
    return f"| {name} | {value} |\n|---|---|\n{rows}"


def _cell(value: object) -> str:
    return printable(str(value)).replace("|", "\\|")
