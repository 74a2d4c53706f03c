"""Regression selection on histories: are the tests that a commit touches among the first that are selected?

    python -m tests.benchmarks.histories CLONE... [--commits 40] [--first 8] [--misses]

CLONE is a bare clone. The commits touch a source and a test file that is there before; what they change in the sources
stands for a patch, the first line of their message for the issue. Told is the share of them of which all test files
touched are among the first: by names and history, with the import graph beside these, with the issue's words instead,
and with both.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from agentless_mini.chain import related_tests
from agentless_mini.chain.file_roles import CODE_SUFFIX, is_test_path
from agentless_mini.chain.import_graph import ImportGraph
from agentless_mini.domain import Issue, Runner, Snapshot
from agentless_mini.repository.opening import open_repository
from tests.benchmarks.stages import copied
from tests.gitrepo import git

MOST_FILES = 10
LOOKED_AT = 3000


def candidates(clone: Path) -> Iterator[tuple[str, str, list[str], list[str]]]:
    """Yield the commits, newest first: id, subject, the sources and the tests that they modify."""
    listing = (
        "log",
        "--no-merges",
        f"--max-count={LOOKED_AT}",
        "--no-renames",
        "--name-status",
        "--format=%x01%H%x02%s",
    )
    for entry in git(clone, *listing).decode("utf-8", "replace").split("\1")[1:]:
        head, _, rest = entry.partition("\n")
        commit, _, subject = head.partition("\2")
        changed = [line.split("\t", 1) for line in rest.split("\n") if "\t" in line]
        code = [path for status, path in changed if status == "M" and CODE_SUFFIX.search(path)]
        tests = [path for path in code if is_test_path(path)]
        if len(changed) <= MOST_FILES and 0 < len(tests) < len(code):
            yield commit, subject, [path for path in code if path not in tests], tests


def tree_before(clone: Path, commit: str) -> Snapshot:
    """Read the tree of a commit's parent, and the history before it."""
    with tempfile.TemporaryDirectory(prefix="amini-histories-") as folder:
        copy = copied(clone, Path(folder), f"{commit}^")
        repository = open_repository(str(copy), git(clone, "rev-parse", f"{commit}^").decode().strip(), copy)
        return replace(repository.snapshot(), name=clone.parent.name, history=repository.history())


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clones", nargs="+", type=Path)
    parser.add_argument("--commits", type=int, default=40)
    parser.add_argument("--first", type=int, default=8)
    parser.add_argument("--misses", action="store_true")
    given = parser.parse_args()
    for clone in given.clones:
        found, rows = list(candidates(clone)), list[tuple[bool, ...]]()
        began = time.process_time()
        for commit, subject, sources, tests in found[:: max(1, len(found) // (given.commits * 5 // 4))]:
            snapshot = tree_before(clone, commit)
            wanted = {file.path for file in related_tests.test_files(snapshot, Runner.COMMAND)} & set(tests)
            if wanted and len(rows) < given.commits:
                ways = [(Issue(text), reach) for text in ("", subject) for reach in (_nothing, related_tests._reach)]
                first = [selected(snapshot, sources, issue, reach)[: given.first] for issue, reach in ways]
                rows.append(tuple(wanted <= set(some) for some in first))
                if given.misses and not rows[-1][-1]:
                    sys.stdout.write(f"  {commit[:10]} {sources} {sorted(wanted)}\n")
        shares = " ".join(f"{fmean(row[way] for row in rows):4.0%}" for way in range(4))
        seconds = (time.process_time() - began) / len(rows)
        sys.stdout.write(f"{clone.parent.name}: {len(rows)} of {len(found)} commits: {shares} ({seconds:.1f} s each)\n")
        sys.stdout.flush()


def _nothing(graph: ImportGraph, touched: Collection[str]) -> dict[str, float]:
    return {}


def selected(
    snapshot: Snapshot, sources: Sequence[str], issue: Issue, reach: Callable[..., dict[str, float]]
) -> tuple[str, ...]:
    """Return the related tests as they come with this use of the import graph."""
    own, related_tests._reach = related_tests._reach, reach
    try:
        return related_tests.related_tests(snapshot, sources, issue, Runner.COMMAND)
    finally:
        related_tests._reach = own


if __name__ == "__main__":
    main()
