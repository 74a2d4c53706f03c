"""What each stage of the chain finds without a model, on the issues of SWE-bench Verified, from the product's own code.

    python -m tests.benchmarks.stages DATASET CLONES [--stages ranking,...] [--repositories django/django ...]
        [--sample N] [--seed S] [--processes 1|2] [--csv FILE]

DATASET is a file of the dataset, CLONES a folder with a bare clone `owner__name.git` of each repository. The product is
given the tree at the base commit and the issue's text; the true patches are the key that its findings are held against.
Six repositories were looked at while the stages were made; the other six are reported apart.

A stage is a function from a `Fix` to measures by name: a share in [0, 1], or None where the fix does not count for the
measure.
"""

import argparse
import csv
import json
import multiprocessing
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import fmean
from typing import Any

from agentless_mini.domain import Issue, Snapshot
from agentless_mini.evaluation.dataset import dataset_of, read_dataset
from agentless_mini.repository.opening import open_repository
from tests.gitrepo import git

DEVELOPED_ON = frozenset(
    {"django/django", "matplotlib/matplotlib", "mwaskom/seaborn", "pallets/flask", "pydata/xarray"}
    | {"pylint-dev/pylint"}
)
STAGES = ("ranking", "regression", "context", "suspicion")
"""Functions of `stages_measures`, from a `Fix` to `Measures`."""

Measures = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Row:
    """An instance, and the answer: the files, there before the fix, that it changes, and those that its tests change.

    `row` is the dataset's row, for the key alone.
    """

    id: str
    repo: str
    commit: str
    created: str
    issue: Issue
    files: tuple[str, ...]
    tests: tuple[str, ...]
    row: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Fix:
    """An instance with its tree, as `amini eval` would read it."""

    row: Row
    issue: Issue
    snapshot: Snapshot
    files: tuple[str, ...]
    tests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """What the stages found for one instance, and the seconds that each took; `tree` are those of reading the tree."""

    id: str
    repo: str
    measures: Measures
    seconds: Mapping[str, float]


def read_rows(dataset: Path, repositories: Sequence[str] = (), sample: int = 0, seed: int = 0) -> tuple[Row, ...]:
    """Return the instances of these repositories (none: all), of these `sample` at random (0: all), by id."""
    read = read_dataset(dataset)
    raw = {name: json.loads(solution.row) for name, solution in read.solutions.items()}
    tests = dataset_of("tests", [{**row, "patch": row["test_patch"]} for row in raw.values()]).solutions
    rows = tuple(
        Row(
            one.id,
            one.repo,
            one.base_commit,
            one.created,
            one.issue,
            read.solutions[one.id].files,
            tests[one.id].files,
            raw[one.id],
        )
        for one in read.instances
        if not repositories or one.repo in repositories or one.repo.rpartition("/")[2] in repositories
    )
    if not sample or sample >= len(rows):
        return rows
    return tuple(sorted(random.Random(seed).sample(rows, sample), key=lambda row: row.id))  # noqa: S311


def read_fix(row: Row, clones: Path) -> Fix:
    """Read the tree of an instance at its base commit."""
    with tempfile.TemporaryDirectory(prefix="amini-stages-") as folder:
        copy = copied(clones / f"{row.repo.replace('/', '__')}.git", Path(folder), row.commit)
        repository = open_repository(str(copy), row.commit, copy)
        found = repository.snapshot()
        snapshot = replace(found, name=row.repo, day=row.created[:10], history=repository.history())
    return Fix(row, row.issue, snapshot, row.files, row.tests)


def copied(clone: Path, folder: Path, commit: str) -> Path:
    """Return a repository with the objects of the clone, and an empty file for each that it lacks.

    Two trees of astropy hold a file of data that some clones leave out because of its size.
    """
    git(folder, "init", "--quiet", "--bare")
    (folder / "objects/info/alternates").write_text(f"{clone.absolute() / 'objects'}\n")
    empty = git(folder, "hash-object", "-w", "--stdin").decode().strip()
    for line in git(folder, "ls-tree", "-r", "-z", "--long", commit).split(b"\0")[:-1]:
        _, kind, name, size = line.partition(b"\t")[0].decode().split()
        if kind == "blob" and not size.isdecimal():
            git(folder, "replace", "--force", name, empty)
    return folder


def measured(row: Row, clones: Path, stages: Sequence[str]) -> Found:
    """Run the stages on one instance."""
    began = time.process_time()
    fix = read_fix(row, clones)
    seconds = {"tree": time.process_time() - began}
    measures: dict[str, float | None] = {}
    for stage in stages:
        measure: Callable[[Fix], Measures] = getattr(import_module("tests.benchmarks.stages_measures"), stage)
        began = time.process_time()
        measures |= measure(fix)
        seconds[stage] = time.process_time() - began
    return Found(row.id, row.repo, measures, seconds)


def table(found: Sequence[Found]) -> str:
    """Return a table in Markdown: the mean of each measure in percent, and of the CPU seconds, per repository."""
    groups = {name: [one for one in found if one.repo == name] for name in sorted({one.repo for one in found})}
    groups["**developed on**"] = [one for one in found if one.repo in DEVELOPED_ON]
    groups["**held out**"] = [one for one in found if one.repo not in DEVELOPED_ON]
    groups["**all**"] = [*found]
    names = list(dict.fromkeys(name for one in found for name in one.measures))
    clocks = list(dict.fromkeys(name for one in found for name in one.seconds))
    lines = ["| repository | issues | " + " | ".join([*names, *(f"{name} s" for name in clocks)]) + " |"]
    lines.append("|" + "---|" * (2 + len(names) + len(clocks)))
    for group, members in groups.items():
        cells = [group, str(len(members))]
        for name in names:
            values = [value for one in members if (value := one.measures.get(name)) is not None]
            cells.append(f"{100 * fmean(values):.1f}" if values else "-")
        cells += [f"{fmean(one.seconds[name] for one in members):.2f}" if members else "-" for name in clocks]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_csv(found: Sequence[Found], path: Path) -> None:
    """Write one line for each instance."""
    names = list(dict.fromkeys(name for one in found for name in one.measures))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["instance", *names])
        writer.writerows([one.id, *(one.measures.get(name, "") for name in names)] for one in found)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("clones", type=Path)
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--repositories", nargs="+", default=())
    parser.add_argument("--sample", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, choices=(1, 2), default=1)
    parser.add_argument("--csv", type=Path)
    asked = parser.parse_args()
    rows = read_rows(asked.dataset, asked.repositories, asked.sample, asked.seed)
    work = partial(measured, clones=asked.clones, stages=asked.stages.split(","))
    # Sorted by repository and time, so that neighbours share most of their tree. Each process starts afresh.
    with multiprocessing.get_context("spawn").Pool(asked.processes) as pool:
        found = list(pool.imap(work, sorted(rows, key=lambda row: (row.repo, row.created)), chunksize=4))
    sys.stdout.write(f"{table(found)}\n")
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) // 1024
    sys.stdout.write(f"\n{len(found)} issues, seconds are CPU time; at most {peak} MiB in one process.\n")
    if asked.csv:
        write_csv(found, asked.csv)


if __name__ == "__main__":
    main()
