"""Small repositories whose tests run in real boxes, by bubblewrap, in the virtual environment of these tests."""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from agentless_mini.chain.execute import execute
from agentless_mini.chain.session import Boxes, Refused, run_cases, run_files
from agentless_mini.domain import (
    MIB,
    BoxLimits,
    Candidate,
    Case,
    CaseResult,
    Environment,
    Event,
    FileChange,
    FileKind,
    Harness,
    Origin,
    Outcome,
    PackedTree,
    Patch,
    Place,
    Snapshot,
    SourceFile,
    Verdict,
)
from agentless_mini.edits.forms import Forms
from agentless_mini.edits.writing import make_patch
from agentless_mini.environment.ecosystems import tools
from agentless_mini.sandbox.bubblewrap import BubblewrapSandbox, find_bubblewrap
from agentless_mini.sandbox.host import VirtualEnvironment
from agentless_mini.sandbox.wire import pack_snapshot
from agentless_mini.testing import harness_of

HERE = VirtualEnvironment("here", Path(sys.prefix))
LIMITS = BoxLimits(memory=512 * MIB, disk=64 * MIB, seconds=60.0)
NAME = "shop"


def tree(files: Mapping[str, str], name: str = NAME) -> Snapshot:
    entries = (SourceFile(path, "100644", FileKind.TEXT, text.encode()) for path, text in files.items())
    return Snapshot(name, "c" * 40, "d" * 64, tuple(sorted(entries, key=lambda file: file.path)))


def case(name: str, text: str | None = None) -> Case:
    return Case(name, Origin.GENERATED, name.partition("::")[0], None if text is None else text.encode())


def patch_of(snapshot: Snapshot, changes: Mapping[str, str | None]) -> Patch:
    old = {file.path: file.data for file in snapshot.files}
    made = [
        FileChange(path, old.get(path), None if text is None else text.encode(), "100644")
        for path, text in changes.items()
    ]
    return make_patch(made, Forms())


@dataclass
class RealBoxes:
    """A repository, and the ways to run its tests."""

    folder: Path
    events: list[Event] = field(default_factory=list)
    case_seconds: float = 5.0
    limits: BoxLimits = LIMITS
    harness: Harness | None = None
    environment: VirtualEnvironment = HERE

    def bench(self, files: Mapping[str, str]) -> Boxes:
        snapshot = tree(files)
        pack = pack_snapshot(snapshot, lambda held: iter(()), self.folder / "body")
        harness = self.harness or harness_of(snapshot)
        here = replace(self.environment, tools=tools(harness.runner, os.environ["PATH"]))
        sandbox = BubblewrapSandbox(find_bubblewrap("bwrap"), {"here": here}, {pack.digest: pack}, 2)
        place = Place(Environment("here", self.environment.python), PackedTree(pack.digest))
        return Boxes(sandbox, place, harness, snapshot, self.events.append, self.limits, self.case_seconds)

    def run(
        self, files: Mapping[str, str], cases: Sequence[Case], change: Mapping[str, str | None] | None = None
    ) -> dict[str, CaseResult]:
        """Run cases on the tree with the changes of a patch; return the results by id."""
        bench = self.bench(files)
        made = patch_of(bench.snapshot, change) if change else None
        results = asyncio.run(run_cases(bench, made, cases))
        assert not isinstance(results, Refused), results
        assert [result.id for result in results] == [one.id for one in cases]
        return {result.id: result for result in results}

    def outcomes(
        self, files: Mapping[str, str], names: Sequence[str], change: Mapping[str, str | None] | None = None
    ) -> dict[str, Outcome]:
        results = self.run(files, [case(name) for name in names], change)
        return {name: result.outcome for name, result in results.items()}

    def run_files(self, files: Mapping[str, str], paths: Sequence[str], budget: float = 30) -> tuple[CaseResult, ...]:
        return asyncio.run(run_files(self.bench(files), paths, budget, 240.0)).results

    def execute(
        self, files: Mapping[str, str], changes: Sequence[Mapping[str, str | None]], cases: Sequence[Case]
    ) -> tuple[Verdict, ...]:
        bench = self.bench(files)
        candidates = [
            Candidate("r", number, number, patch_of(bench.snapshot, change)) for number, change in enumerate(changes)
        ]
        return asyncio.run(execute(bench, candidates, cases))
