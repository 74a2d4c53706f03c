"""Rollouts of TRL -> rewards: one number for each answer, None where nobody can tell.

A shaped reward is by how much the potential of the answer is above that of one of the patches that its prompt shows,
less the format penalty (Satori-SWE). The potential is any that measures patches: `similarities`, the rows' checks, a
reward model. What is no patch has the least potential, 0; what nobody can tell has none, and so has the reward that
hangs on it.

A row's own check is JSON that names the tests of an image (see `tasks`), or one Python program that needs the standard
library and the row's files. That runs in the folder of the repaired files and exits with 0 if the repair is right; a
repair that exits, hangs or takes too much is wrong. Checks and repairs are foreign code: each distinct patch gets a box
of its own. A patch that reads the check is not found out.
"""

import asyncio
import functools
import json
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from agentless_mini.domain import (
    Completion,
    Ending,
    Finish,
    Job,
    Message,
    Patch,
    PlacedFile,
    Rejected,
    RewardKind,
    Runner,
    Snapshot,
    Step,
    placed_files,
)
from agentless_mini.edits import changed_files, read_answer
from agentless_mini.environment.opening import open_environment
from agentless_mini.environment.work import EnvironmentRequest, Opened, Unavailable
from agentless_mini.errors import EnvironmentFailed, UsageError, printable
from agentless_mini.learning.reward import COSTS, Oracle, format_penalty, read_patch, reward, shaped
from agentless_mini.learning.rows import Row, row_of
from agentless_mini.ports import Watch
from agentless_mini.settings.learning import Comparison
from agentless_mini.settings.run import SandboxKind, SandboxSettings

Measure = Callable[[Sequence[tuple[Row, Patch]]], list[float | None]]
"""Returns how good each patch is for its row, in [0, 1], None where it cannot tell."""

Outcome = Patch | Rejected | None
Key = tuple[Row, str]
Told = Mapping[Key, float | None]
"""What was measured, by the row and the patch's normal form: rows of two sets may have one id."""

Opening = Callable[[AsyncExitStack], Coroutine[Any, Any, Opened]]
InImage = Callable[[Row, Sequence[Patch]], Coroutine[Any, Any, list[float | None]]]
"""Tells of patches of a row whether the tests of its image pass, None where nobody can tell."""
Imaging = Callable[[AsyncExitStack], Coroutine[Any, Any, InImage]]
_KEPT = 256  # rows whose oracle is kept ready: those of some batches
_PROGRAM = ".amini-check.py"
_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A rollout and what came of it."""

    row: Row
    text: str
    outcome: Patch | Rejected


def chat_of(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Return a chat as trainers are given it."""
    return [{"role": one.role.value, "content": one.content} for one in messages]


def row_text(row: Row) -> str:
    """Return a row as the JSON that a data set carries beside its prompt."""
    return json.dumps(asdict(row))


@functools.lru_cache(_KEPT)
def read_row(text: str) -> Row:
    """Return the row of `row_text`."""
    return row_of(json.loads(text))


def read_rollout(row: Row, text: str, *, ended: bool) -> Answer:
    """Return what an answer comes to; one that was cut off by the token limit is none."""
    finish = Finish.STOP if ended else Finish.LENGTH
    return Answer(row, text, read_answer(Completion(0, text, finish), _tree(row)))


_tree = functools.lru_cache(_KEPT)(Row.tree)


@functools.lru_cache(_KEPT)
def _oracle(row: Row) -> Oracle:
    return Oracle(row.oracle())


class Rewarding:
    """Rewards answers for one kind of thing.

    `measure` is what TESTS and SHAPED ask about patches: once for all distinct ones of a batch, the earlier patches
    included. Without one SHAPED asks for the similarity, and TESTS has nobody to ask. `weight` is λ of the shaped
    reward, `seed` draws the patch that a row's answers, or each of them, are compared with.
    """

    def __init__(
        self,
        kind: RewardKind,
        measure: Measure | None = None,
        weight: float = 1.0,
        seed: int = 0,
        compared: Comparison = Comparison.ROW,
    ) -> None:
        """Reward for what `kind` says."""
        self._kind, self._weight, self._seed = kind, weight, seed
        self._draw = None if compared is Comparison.ROW else Random(seed)  # noqa: S311 - for a choice that can be repeated
        untold: Measure = lambda asked: [None] * len(asked)  # noqa: E731 - it has no name to say
        self._measure = measure or (similarities if kind is RewardKind.SHAPED else untold)
        self._remembered: dict[Key, float | None] = {}

    def values(self, answers: Sequence[Answer]) -> list[float | None]:
        """Return the reward of each answer; by tests what is no patch has -1."""
        if self._kind is RewardKind.SHAPED:
            return self._shaped(answers)
        told = self._told((one.row, one.outcome) for one in answers) if self._kind is RewardKind.TESTS else None
        return [
            told[one.row, one.outcome.normal]
            if told is not None and isinstance(one.outcome, Patch)
            else reward(one.outcome, _oracle(one.row), _tree(one.row), self._kind)
            for one in answers
        ]

    def _shaped(self, answers: Sequence[Answer]) -> list[float | None]:
        parents = [(answer.row, self._parent(answer.row)) for answer in answers]
        told = self._told([*((answer.row, answer.outcome) for answer in answers), *parents])
        for row, parent in parents:  # they come again; what could not be told may be the next time
            if isinstance(parent, Patch) and (value := told[row, parent.normal]) is not None:
                self._remembered[row, parent.normal] = value
        return [
            shaped(
                _potential(answer.row, answer.outcome, told),
                _potential(answer.row, parent, told),
                format_penalty(answer.outcome),
                self._weight,
            )
            for answer, (_, parent) in zip(answers, parents, strict=True)
        ]

    def _told(self, asked: Iterable[tuple[Row, Outcome]]) -> Told:
        """Return what is measured of the distinct patches, and what is remembered."""
        distinct = {(row, outcome.normal): (row, outcome) for row, outcome in asked if isinstance(outcome, Patch)}
        new = {key: pair for key, pair in distinct.items() if key not in self._remembered}
        values = self._measure(list(new.values())) if new else []
        return {**self._remembered, **dict(zip(new, values, strict=True))}

    def _parent(self, row: Row) -> Outcome:
        """Return the patch that a row's answers are compared with, drawn by the seed; None without any."""
        if not row.parents:
            return None
        draw = self._draw or Random(f"{self._seed} {row.id} parent")  # noqa: S311 - as above
        return _read_parent(row, draw.randrange(len(row.parents)))


def similarities(asked: Sequence[tuple[Row, Patch]]) -> list[float | None]:
    """Measure patches by how like the oracle they are."""
    return [reward(patch, _oracle(row), _tree(row)) for row, patch in asked]


def _potential(row: Row, outcome: Outcome, told: Told) -> float | None:
    """Return how good an outcome is; what is no patch is good for nothing, and F is its penalty."""
    if isinstance(outcome, Patch):
        return told[row, outcome.normal]
    return 0.0 if outcome is not None and outcome.reason in COSTS else None


@functools.lru_cache(_KEPT)
def _read_parent(row: Row, place: int) -> Patch | Rejected:
    return read_patch(row.parents[place], _tree(row))


def reasons(answers: Sequence[Answer]) -> Counter[str]:
    """Count what came of answers: `patch`, or why there is none."""
    return Counter(
        answer.outcome.reason.value if isinstance(answer.outcome, Rejected) else "patch" for answer in answers
    )


async def open_plain(
    settings: SandboxSettings, folder: Path, variables: Mapping[str, str], watch: Watch, stack: AsyncExitStack
) -> Opened:
    """Return a place with Python and no repository, until `stack` is closed. Environments are kept below `folder`.

    Raises `EnvironmentFailed` where there is none, `UsageError` for `--sandbox none`.
    """
    if settings.kind is SandboxKind.NONE:
        raise UsageError("Checks run untrusted code, which needs a sandbox: leave out --sandbox none.")
    nothing = Snapshot("python", "", "", ())
    asked = EnvironmentRequest(nothing, lambda files: iter(()), folder, variables, Runner.COMMAND)
    opened = await open_environment(asked, settings, watch, stack)
    if isinstance(opened, Unavailable):
        raise EnvironmentFailed(opened.reason)
    return opened


async def check_patch(row: Row, patch: Patch, opened: Opened) -> bool:
    """Return whether the row's check passes on a patch, in a box of its own.

    Raises `EnvironmentFailed` where the machine does not do its part: that is no verdict.
    """
    before = (PlacedFile(file.path, file.before.encode()) for file in row.files if file.before is not None)
    files = (*before, *placed_files(changed_files(patch, row.tree().entries)), PlacedFile(_PROGRAM, row.check.encode()))
    step = Step((opened.program, "-I", "-B", _PROGRAM), seconds=_SECONDS, variables=opened.variables)
    place = opened.place
    result = await opened.sandbox.run(Job(place.environment, place.tree, files, (step,), opened.limits))
    if result.refusal:
        return False
    (ended,) = result.steps
    if ended.ending in {Ending.BOX_DIED, Ending.STARVED, Ending.NOT_RUN}:
        raise EnvironmentFailed(f"The box of {printable(row.id)} was lost: run again.")
    return ended.succeeded


@contextmanager
def running_checks(opening: Opening | None, imaging: Imaging | None = None) -> Iterator[Measure]:
    """Give what runs the rows' checks, by ordinary calls as a trainer's rewards are.

    Programs run in the place that `opening` opens, the tests of an image by what `imaging` gives. It has an event loop
    of its own, so it is not for use within one. It says None where a box was lost, or there is no check. Raises
    `EnvironmentFailed` where there is no place.
    """

    async def value(row: Row, patch: Patch, opened: Opened | None) -> float | None:
        try:
            return float(await check_patch(row, patch, opened)) if row.check and opened else None
        except EnvironmentFailed:
            return None  # infrastructure is not the answer's fault

    async def values(asked: Sequence[tuple[Row, Patch]]) -> list[float | None]:
        by_row: dict[Row, list[int]] = {}
        for place, (row, _) in enumerate(asked):
            if in_image is not None and row.check.startswith("{"):
                by_row.setdefault(row, []).append(place)
        told: dict[int, float | None] = {}
        for places in by_row.values():  # of a row all patches together, in one testbed
            found = await in_image(asked[places[0]][0], [asked[place][1] for place in places]) if in_image else []
            told |= zip(places, found, strict=True)
        others = [place for place in range(len(asked)) if place not in told]
        told |= zip(others, await asyncio.gather(*(value(*asked[place], opened) for place in others)), strict=True)
        return [told[place] for place in range(len(asked))]

    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            opened = runner.run(opening(stack)) if opening else None
            in_image = runner.run(imaging(stack)) if imaging else None
            yield lambda asked: runner.run(values(asked))
        finally:
            runner.run(stack.aclose())
