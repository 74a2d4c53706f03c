"""The papers' shape in miniature: a small model on made-up bugs, before and after each kind of training.

    python -m tests.benchmarks.learning DATA WORK --model MODEL [--size smoke|cpu|gpu] STAGE...

DATA is the output of `amini learn bugs` (train.parquet, test.parquet of other packages), WORK the folder of the
experiment. Each stage is one command, goes on where it was, and stops after `--minutes`:

    classical       supervised fine-tuning of the base model
    parents         patches of the classical model for the training rows
    mutation        supervised fine-tuning of the base model on prompts with these patches
    rl, discrete    reinforcement learning of the classical model, by similarity and by equality
    shaped          reinforcement learning of the mutation model, by gain over an earlier patch
    selector        a reward model of the same patches
    sample:NAME     answers of base, classical, mutation, rl, discrete or shaped to the held-out rows
    evolve:NAME     rounds of answers, shown patches of the round before at random; the first round is the classical
                    model's plain answers, the same for all
    select:NAME     the same, shown the patches that the selector scores best
    score           runs the checks of all answers in a sandbox (needs no GPU)
    report          prints the tables

All but `score` run foreign code nowhere, so a machine without a sandbox can do them.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from agentless_mini.domain import Completion, Finish, Patch, SamplingParams
from agentless_mini.edits import Tree, read_answer
from agentless_mini.learning.asking import answers, in_turn
from agentless_mini.learning.parents import Breeding, with_parents
from agentless_mini.learning.rows import Row, read_rows, write_rows
from agentless_mini.learning.training_settings import (
    Precision,
    RewardModelSettings,
    RlSettings,
    SftKind,
    SftSettings,
)
from agentless_mini.ports import Sampler
from agentless_mini.reward import Kind
from tests.benchmarks.learning_experiment import SEED, SIZES, Experiment, Size, draws, lines, prompts, told
from tests.benchmarks.learning_scores import report, score

ROUNDS = 4
START = {"rl": "classical", "discrete": "classical", "shaped": "mutation"}


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
    data = _training_data(it, bred=name in {"mutation", "shaped", "selector"})
    task = Task(name, it.model, data, it.work / name, prompts(), told)
    if name in {"classical", "mutation"}:
        kind, steps = (SftKind(name), size.sft_steps if name == "classical" else size.mutation_steps)
        learned = {"steps": steps, "batch": size.batch, "learning_rate": 5e-4, "parents": size.parents}
        outcome = train_sft(task, SftSettings(kind=kind, **learned, **common))
    elif name == "selector":
        paired = {"steps": size.selector_steps, "batch": size.batch, "learning_rate": 2e-4}
        outcome = train_reward_model(task, RewardModelSettings(**paired, **common))
    else:
        reward = {"rl": Kind.SIMILARITY, "discrete": Kind.DISCRETE, "shaped": Kind.SHAPED}[name]
        settings = RlSettings(
            reward=reward,
            adapter=it.work / START[name],
            steps=size.rl_steps,
            group=size.group,
            batch=size.groups * size.group,
            answer_tokens=size.answer_tokens,
            learning_rate=1e-4,
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
        async with _sampler(it, "classical") as sampler:
            breeding = Breeding(sampler, prompts(), it.size.parents + 1, it.size.answer_tokens)
            rows = islice(read_rows(_training_data(it, bred=False)), it.size.bred_rows)
            return [row async for row in with_parents(rows, breeding, counts)]

    counts: Counter[str] = Counter()
    write_rows(it.work / "parents.parquet", asyncio.run(made()))
    told(str(dict(counts)))


def _sampler(it: Experiment, name: str) -> Any:  # noqa: ANN401 - torch may be missing
    from agentless_mini.learning.rollouts import Checkpoint, TransformersSampler

    adapter = None if name == "base" else it.work / name
    return TransformersSampler(Checkpoint(it.model, adapter), at_once=64, precision=it.size.precision)


# --- answers ---------------------------------------------------------------------------------------------------------


Show = Callable[[Row, list[list[str]]], Sequence[str]]
"""Chooses what a round is shown of the patches of all rounds before."""


def draw(it: Experiment, name: str, show: Show | None) -> None:
    """Write answers to the held-out rows: all plainly, or in rounds that are shown what `show` chooses."""
    label = "sample" if show is None else show.__name__
    path = it.work / "answers" / f"{label}-{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    had = {line["row"] for line in lines(path)}
    rows = [row for row in it.rows("test") if row.id not in had]
    deadline = time.monotonic() + 60 * it.minutes
    firsts = _first_rounds(it)

    async def asked() -> None:
        async with _sampler(it, name) as sampler:

            async def one(row: Row) -> tuple[str, list[Sequence[Completion]]] | None:
                if time.monotonic() > deadline:
                    return None
                if show is None:
                    return row.id, [await _answers(sampler, row, it.size, (0, it.size.samples))]
                return row.id, await _rounds(sampler, row, it.size, (show, firsts.get(row.id)))

            async for found in in_turn(rows, one, 16):
                if found is not None:
                    _append(path, *found)

    asyncio.run(asked())
    told(f"{label}-{name}: {len(list(lines(path)))} rows")


def _first_rounds(it: Experiment) -> dict[str, list[Completion]]:
    """Return the plain answers of the classical model, where there are some: all evolutions begin with the same."""
    each = it.size.samples // ROUNDS
    return {
        line["row"]: [Completion(0, one["text"], Finish(one["finish"])) for one in line["rounds"][0][:each]]
        for line in lines(it.work / "answers" / "sample-classical.jsonl")
    }


async def _answers(sampler: Sampler, row: Row, size: Size, places: tuple[int, int]) -> Sequence[Completion]:
    """Return the answers from one place to another of the same stream of seeds."""
    first, stop = places
    params = SamplingParams(size.answer_tokens, seed=SEED + first)
    return await answers(sampler, row.messages(prompts()), params, tuple(range(stop - first)), row)


async def _rounds(
    sampler: Sampler, row: Row, size: Size, how: tuple[Show, Sequence[Completion] | None]
) -> list[Sequence[Completion]]:
    show, first = how
    each, tree = size.samples // ROUNDS, row.tree()
    rounds = [first or await _answers(sampler, row, size, (0, each))]
    patches = [_patches(tree, rounds[0])]
    for number in range(1, ROUNDS):
        shown = replace(row, parents=tuple(show(row, patches))[: size.parents])
        rounds.append(await _answers(sampler, shown, size, (number * each, (number + 1) * each)))
        patches.append(_patches(tree, rounds[-1]))
    return rounds


def _patches(tree: Tree, group: Sequence[Completion]) -> list[str]:
    read = (read_answer(one, tree) for one in group)
    found = {one.normal: one.diff.decode("utf-8", "replace") for one in read if isinstance(one, Patch)}
    return list(found.values())


def at_random(row: Row, rounds: list[list[str]]) -> Sequence[str]:
    """Show the patches of the last round that has some, in a random order."""
    last = next((patches for patches in reversed(rounds) if patches), [])
    return draws(f"{row.id} {len(rounds)}").sample(last, len(last))


def best_of(it: Experiment) -> Show:
    """Return what shows the patches of all rounds that the selector scores best."""
    import torch
    import transformers

    from agentless_mini.learning.reward_model import score_messages
    from agentless_mini.learning.texts import ChatTokens

    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(it.work / "selector")
    model: Any = transformers.AutoModelForSequenceClassification.from_pretrained(it.work / "selector")
    tokens, said = ChatTokens(tokenizer), prompts()
    half = torch.cuda.is_available() or it.size.precision is Precision.BFLOAT16
    model.to("cuda" if torch.cuda.is_available() else "cpu", torch.bfloat16 if half else torch.float32).eval()
    known: dict[tuple[str, str], float] = {}

    def selected(row: Row, rounds: list[list[str]]) -> Sequence[str]:
        def score(diff: str) -> float:
            if (row.id, diff) not in known:
                ids = torch.tensor([tokens.chat(score_messages(said, row.issue, diff))], device=model.device)
                with torch.inference_mode():
                    known[row.id, diff] = float(model(input_ids=ids).logits)
            return known[row.id, diff]

        distinct = dict.fromkeys(patch for patches in rounds for patch in patches)
        return sorted(distinct, key=score, reverse=True)

    return selected


def _append(path: Path, row: str, rounds: list[Sequence[Completion]]) -> None:
    said = [[{"text": one.text, "finish": one.finish.value} for one in group] for group in rounds]
    with path.open("a") as file:
        file.write(json.dumps({"row": row, "rounds": said}) + "\n")


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
    whole: dict[str, Callable[[Experiment], None]] = {"parents": breed, "score": score, "report": report}
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
        else:
            train(it, kind)


if __name__ == "__main__":
    main()
