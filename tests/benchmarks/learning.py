"""The papers' shape in miniature: a small model on made-up bugs, before and after each kind of training.

    python -m tests.benchmarks.learning DATA WORK --model MODEL [--size smoke|cpu|gpu] STAGE...

DATA is what `tests.benchmarks.bugs` makes (train.parquet, test.parquet of other packages), WORK the folder of the
experiment. Each stage is one command, goes on where it was, and stops after `--minutes`:

    classical       supervised fine-tuning of the base model
    parents         patches of the classical model for the training rows
    mutation        supervised fine-tuning of the base model on prompts with these patches
    rl, discrete    reinforcement learning of the classical model, by similarity and by equality
    shaped          reinforcement learning of the mutation model, by gain over an earlier patch
    mutation-onward, shaped-onward
                    the same two, but that the first goes on from the classical model
    selector        a reward model of the same patches, from the classical model
    sample:NAME     answers of base or of one of these models to the held-out rows
    evolve:NAME     rounds of answers, shown patches of the round before at random, read loosely; the first round is the
                    classical model's plain answers, the same for all
    select:NAME     the same, shown the patches that the selector scores best
    pick:ANSWERS    which of all answers in a file (sample-rl, at_random-shaped) the selector scores best
    lines           line rewriting with the embedded model, in its own order: what needs no training
    score           runs the checks of all answers in a sandbox (needs no GPU)
    report          prints the tables

All but `score` run foreign code nowhere, so a machine without a sandbox can do them.
"""

import argparse
import asyncio
from itertools import islice
from pathlib import Path
from typing import Any

from agentless_mini.domain import RewardKind
from agentless_mini.learning.asking import with_parents
from agentless_mini.learning.rows import Row, read_rows, write_rows
from agentless_mini.settings.learning import RewardModelSettings, RlSettings, SftKind, SftSettings, Tuning
from tests.benchmarks.learning_answers import at_random, best_of, draw, pick, rewrite, sampler_of
from tests.benchmarks.learning_experiment import SIZES, TEMPERATURE, Experiment, prompts, told
from tests.benchmarks.learning_scores import report, score

ONWARD = "-onward"
START = {
    "rl": "classical",
    "discrete": "classical",
    "shaped": "mutation",
    "selector": "classical",
    f"mutation{ONWARD}": "classical",
    f"shaped{ONWARD}": f"mutation{ONWARD}",
}


# --- training --------------------------------------------------------------------------------------------------------


def train(it: Experiment, name: str) -> None:
    """Train one model; it stops in time with a checkpoint."""
    from agentless_mini.learning.reward_model import train_reward_model
    from agentless_mini.learning.rl import train_rl
    from agentless_mini.learning.sft import train_sft
    from agentless_mini.learning.training import Task

    size = it.size
    common: dict[str, Any] = {
        "minutes": it.minutes,
        "seed": 0,
        "save_every": 10,
        "max_tokens": 4096,
        "accumulate": 1,
        "upper_layers": size.upper_layers,
        "precision": size.precision,
    }
    way = name.removesuffix(ONWARD)
    data = _training_data(it, bred=way in {"mutation", "shaped", "selector"})
    base = str(it.work / START[name]) if name in START else it.model
    task = Task(name, base, data, it.work / name, prompts(), told)
    if way in {"classical", "mutation"}:
        kind, steps = (SftKind(way), size.sft_steps if way == "classical" else size.mutation_steps)
        learned = {"steps": steps, "batch": size.batch, "learning_rate": 2e-4, "tuning": Tuning.FULL}
        outcome = train_sft(task, SftSettings(kind=kind, parents=size.parents, **learned, **common))
    elif way == "selector":
        learned = {"steps": size.selector_steps, "batch": size.batch, "learning_rate": 1e-4, "tuning": Tuning.FULL}
        outcome = train_reward_model(task, RewardModelSettings(margin=0.1, **learned, **common))
    else:
        reward = {"rl": RewardKind.SIMILARITY, "discrete": RewardKind.DISCRETE, "shaped": RewardKind.SHAPED}[way]
        settings = RlSettings(
            reward=reward,
            steps=size.rl_steps,
            group=size.group,
            batch=size.groups * size.group,
            answer_tokens=size.answer_tokens,
            temperature=TEMPERATURE,
            learning_rate=3e-4,
            log_every=1,
            **common,
        )
        outcome = train_rl(task, settings)
    told(outcome.document())


def _training_data(it: Experiment, *, bred: bool) -> Path:
    """Return the file of training rows, with the patches of the classical model or without."""
    if bred:
        return it.work / "parents.parquet"
    path = it.work / "train.parquet"
    if not path.exists():
        it.work.mkdir(parents=True, exist_ok=True)
        write_rows(path, it.rows("train"))
    return path


def breed(it: Experiment) -> None:
    """Sample patches of the classical model for the training rows, and write the rows with them."""
    from collections import Counter

    async def made() -> list[Row]:
        async with sampler_of(it, "classical") as sampler:
            rows = islice(read_rows(_training_data(it, bred=False)), it.size.bred_rows)
            asked = (it.size.parents + 1, it.size.answer_tokens, 0, TEMPERATURE)
            return [row async for row in with_parents(rows, sampler, prompts(), counts, *asked)]

    counts: Counter[str] = Counter()
    write_rows(it.work / "parents.parquet", asyncio.run(made()))
    told(str(dict(counts)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("stages", nargs="+", metavar="STAGE")
    parser.add_argument("--model", required=True)
    parser.add_argument("--size", choices=sorted(SIZES), default="cpu")
    parser.add_argument("--minutes", type=float, default=8.0)
    given = parser.parse_args()
    it = Experiment(given.data, given.work, given.model, SIZES[given.size], given.minutes)
    whole = {"parents": breed, "lines": rewrite, "score": score, "report": report}
    for stage in given.stages:
        kind, _, name = stage.partition(":")
        told(f"stage {stage}")
        if kind in whole:
            whole[kind](it)
        elif kind == "sample":
            draw(it, name, None)
        elif kind == "evolve":
            draw(it, name, at_random)
        elif kind == "select":
            draw(it, name, best_of(it))
        elif kind == "pick":
            pick(it, name)
        else:
            train(it, kind)


if __name__ == "__main__":
    main()
