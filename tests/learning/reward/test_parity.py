"""What the reward reads is what `amini repair` applies: 300 answers, with git as the judge of what a patch does."""

import logging
import random
from collections import Counter
from pathlib import Path

import pytest

from agentless_mini.domain import Completion, FileChange, Finish, Patch, Rejected
from agentless_mini.edits import changed_files, read_answer
from agentless_mini.learning.reward import Oracle, read_patch, reward
from tests.gitrepo import git, write_files
from tests.learning.reward.answers import WAYS, Problem, problem, sources

log = logging.getLogger(__name__)

ANSWERS = 200

Answered = tuple[str, Problem, Patch | Rejected]
"""The name of the way to answer, the problem, and what became of the answer."""


@pytest.fixture(name="answers", scope="module")
def make_answers() -> list[Answered]:
    """Return the answers, read as inference reads them."""
    dice = random.Random(20_250_523)  # noqa: S311 - drawn again alike, not for secrets
    files = sources()
    made = []
    for number in range(ANSWERS):
        way = WAYS[number % len(WAYS)]
        given = problem(dice, files)
        said = Completion(0, way(given, dice), Finish.STOP)
        made.append((way.__name__, given, read_answer(said, given.tree)))
    return made


def test_what_is_rewarded_is_what_git_makes_of_the_patch(answers: list[Answered], tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    became: Counter[str] = Counter()
    values = []
    for number, (_, given, outcome) in enumerate(answers):
        value = reward(outcome, Oracle(given.oracle), given.tree)
        became[outcome.reason.value if isinstance(outcome, Rejected) else "patch"] += 1
        assert (value == -1.0) == isinstance(outcome, Rejected)
        if isinstance(outcome, Patch):
            changes = applied(tmp_path, f"{number:03}", given, outcome)
            assert changes == changed_files(outcome, given.tree.entries)
            assert value == Oracle(given.oracle).similarity(changes)
            values.append(value)
    log.info(
        "%d answers: %s; mean reward of patches %.3f", ANSWERS, dict(became), sum(map(float, values)) / len(values)
    )
    assert became["patch"] > ANSWERS / 3
    assert {"no-edit", "malformed", "search-not-found", "syntax-error", "no-change", "truncated"} <= became.keys()
    assert values.count(1.0) > ANSWERS / 6 > values.count(0.0) > 0


def applied(repository: Path, folder: str, given: Problem, patch: Patch) -> tuple[FileChange, ...]:
    """Let git apply a patch to a problem's files, in a folder of their own, and return what has changed there."""
    root = repository / folder
    write_files(root, given.files)
    git(repository, "apply", "--whitespace=nowarn", f"--directory={folder}", "-", stdin=patch.diff)
    now = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    return tuple(
        FileChange(path, given.files.get(path), now.get(path), "100644")
        for path in sorted(now.keys() | given.files.keys())
        if now.get(path) != given.files.get(path)
    )


def test_patches_are_read_back_from_their_diffs(answers: list[Answered]) -> None:
    read = 0
    for _, given, outcome in answers:
        if isinstance(outcome, Patch):
            again = read_patch(outcome.diff.decode(), given.tree)
            assert isinstance(again, Patch)
            assert (again.diff, again.normal) == (outcome.diff, outcome.normal)
            read += 1
    assert read > ANSWERS / 3


def test_the_right_answers_have_the_highest_reward(answers: list[Answered]) -> None:
    for way, given, outcome in answers:
        if way in {"right", "in_one_fence", "without_language", "wrapped", "whole_file"} and isinstance(outcome, Patch):
            assert reward(outcome, Oracle(given.oracle), given.tree) == 1.0
