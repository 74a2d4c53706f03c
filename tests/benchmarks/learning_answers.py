"""The answers of `learning`: plain samples, rounds of EvoScale, and the lines that no training is needed for."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agentless_mini.domain import Completion, EditTask, Excerpt, Finish, Matching, Patch, SamplingParams, ShownFile
from agentless_mini.edits import Tree, read_answer
from agentless_mini.learning.asking import answers, in_turn
from agentless_mini.learning.rows import Row
from agentless_mini.ports import Sampler
from agentless_mini.settings.learning import Precision
from tests.benchmarks.learning_experiment import LINES, SEED, TEMPERATURE, Experiment, Size, draws, lines, prompts, told

ROUNDS = 4


def sampler_of(it: Experiment, name: str) -> Any:  # noqa: ANN401 - torch may be missing
    """Return the sampler of the base model, or of what was trained under a name."""
    from agentless_mini.learning.checkpoints import Checkpoint, find_checkpoint
    from agentless_mini.learning.rollouts import TransformersSampler

    checkpoint = Checkpoint(it.model) if name == "base" else find_checkpoint(str(it.work / name))
    return TransformersSampler(checkpoint, at_once=64, precision=it.size.precision)


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
        async with sampler_of(it, name) as sampler:

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
    params = SamplingParams(size.answer_tokens, temperature=TEMPERATURE, seed=SEED + first)
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
    read = (read_answer(one, tree, Matching.LOOSE) for one in group)
    found = {one.normal: one.diff.decode("utf-8", "replace") for one in read if isinstance(one, Patch)}
    return list(found.values())


def at_random(row: Row, rounds: list[list[str]]) -> Sequence[str]:
    """Show the patches of the last round that has some, in a random order."""
    last = next((patches for patches in reversed(rounds) if patches), [])
    return draws(f"{row.id} {len(rounds)}").sample(last, len(last))


def best_of(it: Experiment) -> Show:
    """Return what shows the patches of all rounds that the selector scores best."""
    worth = _selector(it)

    def selected(row: Row, rounds: list[list[str]]) -> Sequence[str]:
        distinct = dict.fromkeys(patch for patches in rounds for patch in patches)
        return sorted(distinct, key=lambda diff: worth(row, diff), reverse=True)

    selected.__name__ = best_of.__name__
    return selected


def pick(it: Experiment, name: str) -> None:
    """Write which answer of a file of answers the selector scores best for each row: its round and place in it."""
    worth, rows = _selector(it), {row.id: row for row in it.rows("test")}
    path = it.work / "picks" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    had = {line["row"] for line in lines(path)}
    for line in lines(it.work / "answers" / f"{name}.jsonl"):
        if line["row"] not in had:
            row = rows[line["row"]]
            found = [
                (worth(row, diff), -number, -place)
                for number, group in enumerate(line["rounds"])
                for place, one in enumerate(group)
                if (diff := _diff(row, one)) is not None
            ]
            best = max(found, default=None)
            with path.open("a") as file:
                file.write(json.dumps({"row": row.id, "place": best and [-best[1], -best[2]]}) + "\n")
    told(f"{name}: the selector has chosen")


def _diff(row: Row, said: dict[str, str]) -> str | None:
    outcome = read_answer(Completion(0, said["text"], Finish(said["finish"])), row.tree(), Matching.LOOSE)
    return outcome.diff.decode("utf-8", "replace") if isinstance(outcome, Patch) else None


def _selector(it: Experiment) -> Callable[[Row, str], float]:
    """Return what the reward model says of a patch, each computed once."""
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

    def worth(row: Row, diff: str) -> float:
        if (row.id, diff) not in known:
            ids = torch.tensor([tokens.chat(score_messages(said, row.issue, diff))], device=model.device)
            with torch.inference_mode():
                known[row.id, diff] = float(model(input_ids=ids).logits)
        return known[row.id, diff]

    return worth


def rewrite(it: Experiment) -> None:
    """Write the rewrites of lines that the embedded model likes best, as its sampler gives them."""
    from agentless_mini.model.embedded.llama import Context, Model
    from agentless_mini.model.embedded.sampler import render
    from agentless_mini.model.embedded.scoring import SEQUENCES, LineScorer
    from agentless_mini.settings.model import InProcessSettings
    from tests.embedded_model import carried_weights

    context = Context(Model(carried_weights().path), 8192, SEQUENCES, 512, 2)
    path = it.work / "answers" / f"{LINES}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    had = {line["row"] for line in lines(path)}
    for row in it.rows("test"):
        if row.id not in had:
            shown = (ShownFile(one.path, (Excerpt(1, one.before or ""),), whole=True) for one in row.files)
            task = EditTask(row.issue, tuple(shown))
            ranking = LineScorer(context, lambda tokens: None).rank(task, InProcessSettings().copy_tokens)
            best = ranking.rewrites[: it.size.samples]
            _append(path, row.id, [[Completion(0, render(task, one), Finish.STOP) for one in best]])
    told(f"{LINES}: {len(list(lines(path)))} rows")


def _append(path: Path, row: str, rounds: list[Sequence[Completion]]) -> None:
    said = [[{"text": one.text, "finish": one.finish.value} for one in group] for group in rounds]
    with path.open("a") as file:
        file.write(json.dumps({"row": row, "rounds": said}) + "\n")
