"""Which of a repository's own tests matter for the files that patches touch, told by reading: nothing is executed.

Four orders are fused: a test imports a touched file, or what imports it; its name or folder is like the file's; it has
the issue's words; commits before the base changed it together with the file.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from pathlib import PurePosixPath

from agentless_mini.chain.file_roles import holds_tests, runs_here
from agentless_mini.chain.import_graph import ImportGraph
from agentless_mini.chain.lexical import Mentions, rank_files
from agentless_mini.domain import FileKind, Issue, Runner, Snapshot, SourceFile

# Of reciprocal rank fusion (Cormack et al. 2009): a place counts 1 / (FUSION + place), in the order of words twice.
# Chosen on six projects; a FUSION of 10 or three times came to the same, equal weights to 7 points less.
FUSION, WORDS_WEIGHT = 5, 2
# Every test has some words of an issue: of the tests so many, but one in so many at most, are related by words alone.
MOST_BY_WORDS, ONE_IN = 32, 4
# A commit of more files than this is about none of them.
MOST_TOGETHER = 50
# Of importers of importers. Further away nearly every test of a repository is related to every file.
MOST_STEPS = 4
# What remains of the relation with each step.
FALL = 0.5
# A file in a package runs the package's `__init__`, whatever it imports by name.
SAME_PACKAGE = 0.1
SAME_NAME, LIKE_NAME, NAMED_FOLDER, BESIDE = 0.6, 0.3, 0.3, 0.1

_AFFIX = re.compile(r"^(?:tests?|unittest)[_-]?|[._-]?(?:tests?|specs?|test_case)$")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_WORD = re.compile(r"[a-z0-9]+")
_graph = lru_cache(maxsize=1)(ImportGraph)  # a run asks for the graph of one tree more than once


def related_tests(
    snapshot: Snapshot, touched: Collection[str], issue: Issue, runner: Runner = Runner.PYTEST
) -> tuple[str, ...]:
    """Return the test files that matter for the touched paths, most related first; equals are in order of path.

    Empty where nothing in the tree tells. Touched paths that the tree does not have count by their names alone.
    """
    tests = test_files(snapshot, runner)
    by_words = rank_files(issue, tests, Mentions((), (), frozenset()), snapshot.history) if issue.text.strip() else ()
    fused = {path: WORDS_WEIGHT / (FUSION + place) for place, path in enumerate(by_words, 1)}
    related = set(by_words[: min(MOST_BY_WORDS, len(tests) // ONE_IN)])
    alike = {file.path: likeness(file.path, touched) for file in tests}
    for scores in (_reach(_graph(snapshot.files), touched), alike, _together(snapshot, touched)):
        found = {path: -scores[path] for path in alike if scores.get(path, 0.0) > 0}
        order = sorted(found.values())
        for path, score in found.items():  # equals share the mean of their places
            place = (bisect_left(order, score) + bisect_right(order, score) + 1) / 2
            fused[path] = fused.get(path, 0.0) + 1 / (FUSION + place)
        related.update(found)
    if not related and not runner.is_python:  # imports of few languages are read: words alone tell tests apart
        return (by_words or tuple(alike))[:MOST_BY_WORDS]
    return tuple(sorted(related, key=lambda path: (-fused[path], path)))


def test_files(snapshot: Snapshot, runner: Runner) -> tuple[SourceFile, ...]:
    """Return the files that hold tests which the runner can run."""
    texts = (file for file in snapshot.files if file.kind is FileKind.TEXT)
    return tuple(file for file in texts if runs_here(file.path, runner) and holds_tests(file))


def _together(snapshot: Snapshot, touched: Collection[str]) -> Mapping[str, float]:
    """Return how often each file was changed together with a touched one before the base; commits of few count more."""
    found, wanted = dict[str, float](), frozenset(touched)
    for commit in snapshot.history:
        if (shared := len(wanted.intersection(commit.paths))) and len(commit.paths) <= MOST_TOGETHER:
            for path in commit.paths:
                found[path] = found.get(path, 0.0) + shared / len(commit.paths)
    return found


def _reach(graph: ImportGraph, touched: Collection[str]) -> dict[str, float]:
    """Return how strongly files use the touched ones, by the best way, in (0, 1]."""
    front = dict.fromkeys(touched, 1.0)
    packages = tuple(path.removesuffix("__init__.py") for path in touched if path.endswith("/__init__.py"))
    inside = (users for target, users in graph.users.items() if packages and target.startswith(packages))
    reach = {user: SAME_PACKAGE for users in inside for user in users} | front
    for _ in range(MOST_STEPS):
        step: dict[str, float] = {}
        for target, strength in front.items():
            for user in graph.users.get(target, ()):
                focus = 1.0 / (1.0 + len(graph.used[user]) / 20.0)  # how much a file that uses so many is about each
                reached = strength * FALL * focus
                if reached > max(reach.get(user, 0.0), step.get(user, 0.0)):
                    step[user] = reached
        reach |= step
        front = step
    return reach


def likeness(test: str, touched: Iterable[str]) -> float:
    """Return how like a touched file a test is, from 0 to 1: by its name, a folder of that name, and its place."""
    said, (folder, _, _) = subject_of(test), test.rpartition("/")
    words, around = f" {' '.join(_WORD.findall(said))} ", set(map(subject_of, folder.split("/")))
    best = 0.0
    for path in touched:
        subject, beside = subject_of(path), path.rpartition("/")[0]
        alike = BESIDE if beside and f"{folder}/".startswith(f"{beside}/") else 0.0
        if subject:
            wanted = " ".join(_WORD.findall(subject))
            like = LIKE_NAME if wanted and f" {wanted} " in words else 0.0
            alike += max(SAME_NAME if said == subject else like, NAMED_FOLDER if subject in around else 0.0)
        best = max(best, alike)
    return best


@lru_cache(maxsize=65_536)
def subject_of(path: str) -> str:
    """Return what a file is about by its name: "cart" of `test_cart.py`, `CartTest.java`; "" of `tests.py`."""
    parts, name = PurePosixPath(path).parts, PurePosixPath(path).stem
    if name in {"__init__", "__main__"}:
        name = parts[-2] if len(parts) > 1 else ""
    return _AFFIX.sub("", _HUMP.sub("_", name).lower().strip("_"), count=2).strip("_")
