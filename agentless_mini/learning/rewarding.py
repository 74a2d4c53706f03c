"""Rollouts of TRL -> rewards: one number for each answer, None where nobody can tell.

An answer is read by the reader of inference on the tree of its row. A shaped reward is by how much the similarity of
the answer is above that of one of the patches that its prompt shows, less the format penalty (mission section 5).
"""

import functools
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from agentless_mini.domain import Completion, Finish, Patch, Rejected
from agentless_mini.edits import read_answer
from agentless_mini.learning.rows import Row, RowFile
from agentless_mini.reward import WORST, Kind, Oracle, apply_diff, format_penalty, reward, shaped

Checking = Callable[[Sequence[tuple[Row, Patch]]], list[float | None]]
"""Returns what the rows' checks say of patches, in [0, 1]."""

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

    `checking` is needed for TESTS alone. `weight` is λ of the shaped reward, `seed` draws the patch that a row's
    answers are compared with.
    """

    def __init__(self, kind: Kind, checking: Checking | None = None, weight: float = 1.0, seed: int = 0) -> None:
        """Reward for what `kind` says."""
        self._kind, self._checking, self._weight, self._seed = kind, checking, weight, seed

    def values(self, answers: Sequence[Answer]) -> list[float | None]:
        """Return the reward of each answer."""
        if self._kind is Kind.TESTS:
            return self._tested(answers)
        if self._kind is Kind.SHAPED:
            return [self._shaped(answer) for answer in answers]
        return [reward(answer.outcome, _oracle(answer.row), self._kind) for answer in answers]

    def _tested(self, answers: Sequence[Answer]) -> list[float | None]:
        """Return what the checks say, -1 for what is no patch; equal patches of a row share a box."""
        distinct = {
            (answer.row.id, answer.outcome.normal): (answer.row, answer.outcome)
            for answer in answers
            if isinstance(answer.outcome, Patch)
        }
        told = self._checking(list(distinct.values())) if self._checking else [None] * len(distinct)
        found = dict(zip(distinct, told, strict=True))
        return [
            found[answer.row.id, answer.outcome.normal]
            if isinstance(answer.outcome, Patch)
            else reward(answer.outcome, _oracle(answer.row))
            for answer in answers
        ]

    def _shaped(self, answer: Answer) -> float | None:
        parent = self.parent_value(answer.row)
        return shaped(potential(answer.row, answer.outcome), parent, format_penalty(answer.outcome), self._weight)

    def parent_value(self, row: Row) -> float | None:
        """Return the potential of the patch that a row's answers are compared with, drawn by the seed."""
        if not row.parents:
            return None
        draw = Random(f"{self._seed} {row.id} parent")  # noqa: S311 - for a choice that can be repeated
        return _parent_value(row, draw.randrange(len(row.parents)))


def potential(row: Row, outcome: Patch | Rejected) -> float | None:
    """Return how like the oracle an outcome is, in [0, 1]; what is no patch is like nothing, and F is its penalty."""
    value = reward(outcome, _oracle(row))
    return 0.0 if value == WORST else value


@functools.lru_cache(_KEPT)
def _parent_value(row: Row, place: int) -> float | None:
    return potential(row, apply_diff(row.parents[place], _tree(row)))


def reasons(answers: Sequence[Answer]) -> Counter[str]:
    """Count what came of answers: `patch`, or why there is none."""
    return Counter(
        answer.outcome.reason.value if isinstance(answer.outcome, Rejected) else "patch" for answer in answers
    )
