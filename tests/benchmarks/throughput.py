"""Test executions per second: this project's way beside that of Agentless, a new container for each patch and test.

    python -m tests.benchmarks.throughput [--image NAME] [--boxes N]

20 distinct patches of toolz, half of which break a function, and 15 of its tests. This project's way is the execution
stage itself, through the Docker and the local sandbox: a box for each patch, all tests in it. The other way is that of
`reference_way`, from the same image with as many workers. Both must come to the same verdicts. Also the time of a box
that does nothing, and what the guards cost: the local sandbox again without canaries and without the filter of system
calls, in CPU seconds too, which other work on the machine disturbs less. Exit code 1 if a sandbox is less than 10 times
as fast, or the verdicts differ.
"""

import argparse
import ast
import asyncio
import re
import resource
import shutil
import sys
import tempfile
import time
import venv
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from docker import DockerClient

from agentless_mini.chain.execute import execute
from agentless_mini.chain.session import CANARIES, Boxes
from agentless_mini.domain import (
    BoxLimits,
    Candidate,
    Case,
    Environment,
    FileChange,
    FileKind,
    Job,
    JobResult,
    Origin,
    PackedTree,
    Patch,
    Place,
    Snapshot,
    SourceFile,
    Step,
    Verdict,
)
from agentless_mini.edits import Forms, make_patch
from agentless_mini.ports import Sandbox
from agentless_mini.sandbox.bubblewrap import BubblewrapSandbox, find_bubblewrap
from agentless_mini.sandbox.daemon import connect
from agentless_mini.sandbox.docker import DockerSandbox
from agentless_mini.sandbox.host import Box, VirtualEnvironment, boxes_here
from agentless_mini.sandbox.wire import Pack, Room, pack_snapshot
from agentless_mini.testing import harness_of
from tests.benchmarks import reference_way
from tests.real_bugs.index import sdist_files
from tests.sandbox.image import PACKAGES, image_id

PROJECT, SHA256 = ("toolz", "0.12.1"), "ecca342664893f177a13dac0e6b41cbd8ac25a358e5f215316d43e2100224f4d"
PATCHES, TESTS, BAR, IDLE_BOXES, TURN = 20, 15, 10.0, 10, 5
MODULES = ("toolz/dicttoolz.py", "toolz/functoolz.py", "toolz/itertoolz.py")
DEFINED = re.compile(r"^def (\w+)\(", re.MULTILINE)
LIMITS = BoxLimits()


def fetched() -> Snapshot:
    """Return the tree of the project's source distribution."""
    files = sorted(sdist_files(*PROJECT, SHA256).items())
    tree = tuple(SourceFile(path, "100644", FileKind.TEXT, data) for path, data in files)
    return Snapshot("toolz", "0" * 40, "0" * 64, tree)


def functions(snapshot: Snapshot) -> tuple[tuple[str, str], ...]:
    """Return functions of the modules that a test has its name from, as many of each module: path and name."""
    found = []
    for module in MODULES:
        tree = ast.parse(snapshot.by_path()[_tests(module)].data)
        tested = {name.rpartition("test_")[2] for name in tests_of(tree)}
        text = snapshot.by_path()[module].data.decode()
        defined = [name for name in DEFINED.findall(text) if name in tested]
        found += [(module, name) for name in defined[: TESTS // len(MODULES)]]
    return tuple(found)


def _tests(module: str) -> str:
    return f"toolz/tests/test_{Path(module).name}"


def cases(snapshot: Snapshot) -> tuple[Case, ...]:
    """Return the tests of these functions."""
    found = []
    for module, function in functions(snapshot):
        path = _tests(module)
        names = tests_of(ast.parse(snapshot.by_path()[path].data))
        name = next(name for name in names if name.rpartition("::")[2] == f"test_{function}")
        found.append(Case(f"{path}::{name}", Origin.REGRESSION, path))
    return tuple(found)


def patches(snapshot: Snapshot) -> tuple[Patch, ...]:
    """Return distinct patches: every other one adds a constant, the rest make a function return nothing."""
    forms, made = Forms(), []
    targets = functions(snapshot)
    for number in range(PATCHES):
        module, function = targets[number * len(targets) // PATCHES]
        text = snapshot.by_path()[module].data.decode()
        harmless = f"{text}\n_PATCH = {number}\n"
        breaking = re.sub(
            rf"^def {function}\((?:.*\n)*?(?=    (?:return|yield) )", r"\g<0>    return\n", text, flags=re.M
        )
        after = harmless if number % 2 else breaking
        made.append(make_patch([FileChange(module, text.encode(), after.encode(), "100644")], forms))
    return tuple(made)


def tests_of(node: ast.Module | ast.ClassDef) -> Iterator[str]:
    """Yield the tests of a file or class as pytest names them within it."""
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef) and inner.name.startswith("test_"):
            yield inner.name
        elif isinstance(inner, ast.ClassDef) and inner.name.startswith("Test"):
            yield from (f"{inner.name}::{name}" for name in tests_of(inner))


@dataclass(frozen=True, slots=True)
class Work:
    """What both ways are given."""

    snapshot: Snapshot
    pack: Pack
    patches: tuple[Patch, ...]
    cases: tuple[Case, ...]
    boxes: int

    def candidates(self) -> tuple[Candidate, ...]:
        return tuple(Candidate("throughput", number, number, patch) for number, patch in enumerate(self.patches))


async def our_way(work: Work, sandbox: Sandbox, environment: Environment, canaries: int = CANARIES) -> list[list[bool]]:
    """Execute as the product does, with so many tests of ours in each box; return for each patch which tests pass."""
    place = Place(environment, PackedTree(work.pack.digest))
    bench = Boxes(sandbox, place, harness_of(work.snapshot), work.snapshot, lambda event: None, LIMITS)
    return [passed(verdict, work.cases) for verdict in await execute(bench, work.candidates(), work.cases, canaries)]


def passed(verdict: Verdict, tests: Sequence[Case]) -> list[bool]:
    if verdict.refusal:
        raise SystemExit(f"A box refuses a patch: {verdict.refusal}")
    return [case.id in verdict.passed() for case in tests]


async def idle_box(work: Work, sandbox: Sandbox, environment: Environment) -> float:
    """Return the seconds that a box takes whose one step does nothing, one after the other."""
    job = Job(environment, PackedTree(work.pack.digest), (), (Step(("python", "-S", "-c", "")),), LIMITS)
    begun = time.monotonic()
    for _ in range(IDLE_BOXES):
        result = await sandbox.run(job)
        if not result.steps[0].succeeded:
            raise SystemExit(f"A box does not work: {result.steps[0]}")
    return (time.monotonic() - begun) / IDLE_BOXES


class Unfiltered(BubblewrapSandbox):
    """Boxes whose steps may make every call to the kernel."""

    async def run_in(self, job: Job, pack: Pack, box: Box) -> JobResult:
        return await super().run_in(job, pack, _Open(box.environment))


class _Open(Box):
    def room(self, job: Job) -> Room:
        return replace(super().room(job), filter="")


@contextmanager
def plain_environment() -> Iterator[VirtualEnvironment]:
    """Give a virtual environment that has what the image has, and no plugin of pytest, for the block."""
    site = Path(pytest.__file__).parent.parent
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # in a box somebody else reads it
        venv.create(folder, symlinks=True)
        (there,) = Path(folder).glob("lib/python*/site-packages")
        for name in PACKAGES:
            shutil.copytree(site / name, there / name)
            for note in site.glob(f"{name}-*.dist-info"):
                shutil.copytree(note, there / note.name)
        shutil.copy2(site / "py.py", there)
        yield VirtualEnvironment("here", Path(folder))


@contextmanager
def project_image(client: DockerClient, base: str | None, snapshot: Snapshot) -> Iterator[str]:
    """Give the id of an image with the project in it for the block. A base must have git and /usr/local/bin/python."""
    tree = {file.path: file.data for file in snapshot.files}
    more = {} if base else reference_way.programs()
    made = reference_way.derived_image(client, base or image_id(), tree, more)
    try:
        yield made
    finally:
        client.images.remove(made, force=True)


@dataclass(slots=True)
class Way:
    """A way to execute, what it said so far, the seconds that it took, and those of CPUs, this process's and its
    children's."""

    run: Callable[[Work], Awaitable[list[list[bool]]]]
    said: list[list[bool]] = field(default_factory=list)
    seconds: float = 0.0
    cpu: float = 0.0

    @property
    def rate(self) -> float:
        return sum(map(len, self.said)) / self.seconds


async def compare(work: Work, client: DockerClient, image: str) -> int:
    packs, tests = {work.pack.digest: work.pack}, [case.id for case in work.cases]
    with plain_environment() as here:
        docker = DockerSandbox(client, packs, work.boxes)
        local = BubblewrapSandbox(find_bubblewrap("bwrap"), {"here": here}, packs, work.boxes)
        unfiltered = Unfiltered(find_bubblewrap("bwrap"), {"here": here}, packs, work.boxes)
        in_docker, in_local = Environment(image), Environment("here", here.python)
        for name, idle in (("docker", idle_box(work, docker, in_docker)), ("local", idle_box(work, local, in_local))):
            sys.stdout.write(f"{await idle:.2f} s for a box of {name} that does nothing\n")
        ways = {
            "agentless-mini, docker": Way(lambda part: our_way(part, docker, in_docker)),
            "agentless-mini, local": Way(lambda part: our_way(part, local, in_local)),
            "the same without guards": Way(lambda part: our_way(part, unfiltered, in_local, 0)),
            "a container for each pair, docker": Way(
                lambda part: asyncio.to_thread(reference_way.run_all, client, image, part.patches, tests, part.boxes)
            ),
        }
        await take_turns(work, list(ways.values()))
        await docker.aclose()
    return report(ways, work.boxes)


async def take_turns(work: Work, ways: Sequence[Way]) -> None:
    """Run some patches in each way by turns, so that whatever else the machine does slows down all of them."""
    for at in range(0, len(work.patches), TURN * work.boxes):
        part = replace(work, patches=work.patches[at : at + TURN * work.boxes])
        for way in ways:
            begun, before = time.monotonic(), cpu_seconds()
            way.said += await way.run(part)
            way.seconds += time.monotonic() - begun
            way.cpu += cpu_seconds() - before


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def report(ways: Mapping[str, Way], boxes: int) -> int:
    """Print the result; return the exit code."""
    for name, way in ways.items():
        count = sum(map(len, way.said))
        sys.stdout.write(f"{name:34}{count:4} executions in {way.seconds:6.1f} s: {way.rate:6.2f} a second\n")
    docker, local, bare, reference = ways.values()
    ratios = [way.rate / reference.rate for way in (docker, local)]
    same = docker.said == local.said == bare.said == reference.said
    failing = sum(not all(row) for row in docker.said)
    sys.stdout.write(
        f"{ratios[0]:.1f} times as fast in docker, {ratios[1]:.1f} times locally, {boxes} at once; with "
        f"guards {local.rate / bare.rate:.2f} times as fast as without, {bare.cpu / local.cpu:.2f} by CPU seconds; "
        f"{failing} patches break a test; the verdicts {'are the same' if same else 'DIFFER'}\n"
    )
    return 0 if same and min(ratios) >= BAR else 1


def main() -> int:
    parser = argparse.ArgumentParser(description="Test executions per second, beside a container for each.")
    parser.add_argument("--image", help="base image with git and, as /usr/local/bin/python3, a Python with pytest")
    parser.add_argument("--boxes", type=int, default=boxes_here(LIMITS), help="boxes, or containers, at once")
    options = parser.parse_args()
    snapshot = fetched()
    client = connect(options.boxes)
    try:
        with tempfile.NamedTemporaryFile() as body, project_image(client, options.image, snapshot) as image:
            pack = pack_snapshot(snapshot, lambda held: iter(()), Path(body.name))
            work = Work(snapshot, pack, patches(snapshot), cases(snapshot), options.boxes)
            return asyncio.run(compare(work, client, image))
    finally:
        client.close()


if __name__ == "__main__":
    sys.exit(main())
