"""What the contract and the attack suite run their jobs on: one adapter, and the look at what it left behind."""

import asyncio
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

from agentless_mini.domain import (
    MIB,
    BoxLimits,
    Ending,
    Environment,
    FileKind,
    Job,
    JobResult,
    PackedTree,
    PlacedFile,
    Snapshot,
    SourceFile,
    Step,
)
from agentless_mini.model.process_table import Family, find_process
from agentless_mini.ports import Sandbox
from agentless_mini.sandbox.wire import Pack, pack_snapshot

Opening = Callable[[Mapping[str, Pack], int], AbstractAsyncContextManager[Sandbox]]
"""Opens the adapter on packs, for so many boxes at once."""

LIMITS = BoxLimits(memory=192 * MIB, pids=64, disk=32 * MIB, seconds=30.0, output=4096, result=8192)
TREE = (
    SourceFile("link", "120000", FileKind.SYMLINK),
    SourceFile("pkg/data.bin", "100644", FileKind.BINARY),
    SourceFile("pkg/module.py", "100644", FileKind.TEXT, b"VALUE = 41\n"),
    SourceFile("run.sh", "100755", FileKind.TEXT, b"#!/bin/sh\necho ran\n"),
    SourceFile("sub", "160000", FileKind.SUBMODULE),
    SourceFile("way", "120000", FileKind.SYMLINK),
)
HELD = {"link": b"pkg/module.py", "pkg/data.bin": b"\0\1\2", "way": b"/etc"}


def python(code: str, *results: str, seconds: float = 10.0) -> Step:
    return Step(("python", "-c", code), seconds=seconds, results=results)


OK = python("print('ok')")
LATE = {Ending.TIMED_OUT, Ending.STARVED}
"""How what uses a processor to the end of its time may end: it is starved where the machine is busy otherwise."""


@dataclass(frozen=True)
class Adapter:
    """An adapter, the environment that it has, and a folder for trees."""

    opening: Opening
    environment: Environment
    folder: Path
    left: Callable[[], list[str]]
    packs: dict[str, Pack] = field(default_factory=dict)

    def tree(self, *files: SourceFile) -> PackedTree:
        """Pack the standard tree with more files."""
        snapshot = Snapshot("tree", "", "", tuple(sorted((*TREE, *files), key=lambda file: file.path)))
        with tempfile.NamedTemporaryFile(dir=self.folder, delete=False) as body:
            pack = pack_snapshot(snapshot, lambda held: (HELD[file.path] for file in held), Path(body.name))
        self.packs[pack.digest] = pack
        return PackedTree(pack.digest)

    def job(self, *steps: Step, files: tuple[PlacedFile, ...] = (), limits: BoxLimits = LIMITS) -> Job:
        return Job(self.environment, self.tree(), files, steps, limits)

    def run(self, *steps: Step, files: tuple[PlacedFile, ...] = (), limits: BoxLimits = LIMITS) -> JobResult:
        (result,) = self.run_jobs(self.job(*steps, files=files, limits=limits))
        return result

    def run_jobs(self, *jobs: Job, boxes: int = 2) -> list[JobResult]:
        async def run() -> list[JobResult]:
            async with self.opening(self.packs, boxes) as sandbox:
                return await asyncio.gather(*(sandbox.run(job) for job in jobs))

        return asyncio.run(run())

    def open(self, boxes: int = 2) -> AbstractAsyncContextManager[Sandbox]:
        return self.opening(self.packs, boxes)


def children_left() -> list[str]:
    """Return what this process started and did not end, however it was left."""
    import os

    myself = find_process(os.getpid())
    assert myself is not None
    return [str(pid) for pid in Family(replace(myself, group=-1)).alive() if pid != myself.pid]


def printed(result: JobResult, step: int = 0) -> str:
    return result.steps[step].output.text()
