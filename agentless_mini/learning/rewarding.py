"""Rollouts of TRL -> rewards: one number for each answer, None where nobody can tell.

An answer is read by the reader of inference on the tree of its row. A shaped reward is by how much the potential of
the answer is above that of one of the patches that its prompt shows, less the format penalty (Satori-SWE). The
potential is any that measures patches: `similarities`, the rows' checks, a reward model. What is no patch has the
least potential, 0; what nobody can tell has none, and so has the reward that hangs on it.
"""

import functools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from agentless_mini.domain import Completion, Finish, Patch, Rejected, RewardKind
from agentless_mini.edits import read_answer
from agentless_mini.learning.reward import COSTS, Oracle, format_penalty, read_patch, reward, shaped
from agentless_mini.learning.rows import Row, RowFile

Measure = Callable[[Sequence[tuple[Row, Patch]]], list[float | None]]
"""Returns how good each patch is for its row, in [0, 1], None where it cannot tell."""

Outcome = Patch | Rejected | None
Key = tuple[str, str]
Told = Mapping[Key, float | None]
"""What was measured, by the row's id and the patch's normal form."""

# Rows whose oracle is kept ready: those of some batches.
_KEPT = 256


@dataclass(frozen=True, slots=True)
class Answer:
    """A rollout and what came of it."""

    row: Row
    text: str
    outcome: Patch | Rejected


def row_text(row: Row) -> str:
    """Return a row as the JSON that a data set carries beside its prompt."""
    return json.dumps(asdict(row))


@functools.lru_cache(_KEPT)
def read_row(text: str) -> Row:
    """Return the row of `row_text`."""
    values: dict[str, Any] = json.loads(text)
    files = tuple(RowFile(**file) for file in values["files"])
    return Row(**{**values, "files": files, "parents": tuple(values["parents"])})


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
    reward, `seed` draws the patch that a row's answers are compared with.
    """

    def __init__(self, kind: RewardKind, measure: Measure | None = None, weight: float = 1.0, seed: int = 0) -> None:
        """Reward for what `kind` says."""
        self._kind, self._weight, self._seed = kind, weight, seed
        untold: Measure = lambda asked: [None] * len(asked)  # noqa: E731 - it has no name to say
        self._measure = measure or (similarities if kind is RewardKind.SHAPED else untold)
        self._remembered: dict[Key, float | None] = {}

    def values(self, answers: Sequence[Answer]) -> list[float | None]:
        """Return the reward of each answer; by tests what is no patch has -1."""
        if self._kind is RewardKind.SHAPED:
            return self._shaped(answers)
        told = self._told((one.row, one.outcome) for one in answers) if self._kind is RewardKind.TESTS else {}
        kind = RewardKind.SIMILARITY if self._kind is RewardKind.TESTS else self._kind  # of what is no patch
        return [
            told[one.row.id, one.outcome.normal]
            if self._kind is RewardKind.TESTS and isinstance(one.outcome, Patch)
            else reward(one.outcome, _oracle(one.row), _tree(one.row), kind)
            for one in answers
        ]

    def _shaped(self, answers: Sequence[Answer]) -> list[float | None]:
        parents = [(answer.row, self._parent(answer.row)) for answer in answers]
        told = self._told([*((answer.row, answer.outcome) for answer in answers), *parents])
        for row, parent in parents:  # they come again; what could not be told may be the next time
            if isinstance(parent, Patch) and (value := told[row.id, parent.normal]) is not None:
                self._remembered[row.id, parent.normal] = value
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
        distinct = {(row.id, outcome.normal): (row, outcome) for row, outcome in asked if isinstance(outcome, Patch)}
        new = {key: pair for key, pair in distinct.items() if key not in self._remembered}
        values = self._measure(list(new.values())) if new else []
        return {**self._remembered, **dict(zip(new, values, strict=True))}

    def _parent(self, row: Row) -> Outcome:
        """Return the patch that a row's answers are compared with, drawn by the seed; None without any."""
        if not row.parents:
            return None
        draw = Random(f"{self._seed} {row.id} parent")  # noqa: S311 - for a choice that can be repeated
        return _read_parent(row, draw.randrange(len(row.parents)))


def similarities(asked: Sequence[tuple[Row, Patch]]) -> list[float | None]:
    """Measure patches by how like the oracle they are."""
    return [reward(patch, _oracle(row), _tree(row)) for row, patch in asked]


def _potential(row: Row, outcome: Outcome, told: Told) -> float | None:
    """Return how good an outcome is; what is no patch is good for nothing, and F is its penalty."""
    if isinstance(outcome, Patch):
        return told[row.id, outcome.normal]
    return 0.0 if outcome is not None and outcome.reason in COSTS else None


@functools.lru_cache(_KEPT)
def _read_parent(row: Row, place: int) -> Patch | Rejected:
    return read_patch(row.parents[place], _tree(row))


def reasons(answers: Sequence[Answer]) -> Counter[str]:
    """Count what came of answers: `patch`, or why there is none."""
    return Counter(
        answer.outcome.reason.value if isinstance(answer.outcome, Rejected) else "patch" for answer in answers
    )
