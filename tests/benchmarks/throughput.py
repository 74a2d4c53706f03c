"""Test executions per second: this project's way beside that of Agentless, a new container for each patch and test.

    python -m tests.benchmarks.throughput [--image NAME] [--boxes N] [--pairs N]

20 distinct patches of toolz, half of which break a function, and 15 of its tests. This project's way is the execution
stage itself, through the Docker and the local sandbox: a box for each patch, all tests in it. The other way is that of
`reference_way`, from the same image with as many workers. Both must come to the same verdicts. Also the time of a box
that does nothing. Exit code 1 if the Docker sandbox is less than 10 times as fast, or the verdicts differ.
"""

import argparse
import ast
import asyncio
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from docker import DockerClient

from agentless_mini.domain import (
    BoxLimits,
    Candidate,
    Case,
    Environment,
    FileChange,
    FileKind,
    Job,
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
from agentless_mini.sandboxes.bubblewrap import VirtualEnvironment, find_bubblewrap
from agentless_mini.sandboxes.capacity import boxes_here
from agentless_mini.sandboxes.docker import DockerSandbox, connect
from agentless_mini.sandboxes.local import LocalSandbox
from agentless_mini.sandboxes.packs import Pack, pack_snapshot
from agentless_mini.stages.bench import Bench
from agentless_mini.stages.execute import execute
from agentless_mini.testing import harness_of
from tests.benchmarks import reference_way
from tests.sandboxes.image import PACKAGES, image_id

PROJECT, SHA256 = "toolz==0.12.1", "ecca342664893f177a13dac0e6b41cbd8ac25a358e5f215316d43e2100224f4d"
PATCHES, TESTS, BAR, IDLE_BOXES = 20, 15, 10.0, 10
MODULES = ("toolz/dicttoolz.py", "toolz/functoolz.py", "toolz/itertoolz.py")
DEFINED = re.compile(r"^def (\w+)\(", re.MULTILINE)
LIMITS = BoxLimits()


def fetched() -> Snapshot:
    """Fetch the project's source distribution from the package index, and return its tree."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:", "-d", folder]
        subprocess.run([*command, PROJECT], check=True)
        (archive,) = Path(folder).glob("*.tar.gz")
        if hashlib.sha256(archive.read_bytes()).hexdigest() != SHA256:
            raise SystemExit(f"{archive.name} is not the file that is expected.")
        with tarfile.open(archive) as tar:
            files = sorted((member.name.partition("/")[2], _read(tar, member)) for member in tar if member.isfile())
    return Snapshot(
        "toolz", "0" * 40, "0" * 64, tuple(SourceFile(path, "100644", FileKind.TEXT, data) for path, data in files)
    )


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return file.read() if file else b""


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


async def our_way(work: Work, sandbox: Sandbox, environment: Environment) -> tuple[list[list[bool]], float]:
    """Execute as the product does; return for each patch which tests pass, and the seconds."""
    place = Place(environment, PackedTree(work.pack.digest))
    bench = Bench(sandbox, place, harness_of(work.snapshot), work.snapshot, lambda event: None, LIMITS)
    begun = time.monotonic()
    verdicts = await execute(bench, work.candidates(), work.cases)
    return [passed(verdict, work.cases) for verdict in verdicts], time.monotonic() - begun


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


def report(way: str, count: int, seconds: float, idle: float | None = None) -> float:
    """Print a line of the result; return the executions per second."""
    box = "" if idle is None else f"  {idle:.2f} s for a box that does nothing"
    sys.stdout.write(f"{way:34}{count:4} executions in {seconds:6.1f} s: {count / seconds:7.2f} a second{box}\n")
    sys.stdout.flush()
    return count / seconds


async def measured(way: str, work: Work, sandbox: Sandbox, environment: Environment) -> tuple[list[list[bool]], float]:
    idle = await idle_box(work, sandbox, environment)
    verdicts, seconds = await our_way(work, sandbox, environment)
    return verdicts, report(way, len(work.patches) * len(work.cases), seconds, idle)


async def both_ways(work: Work, client: DockerClient, image: str, pairs: int) -> int:
    packs = {work.pack.digest: work.pack}
    docker = DockerSandbox(client, packs, work.boxes)
    try:
        with plain_environment() as here:
            local = LocalSandbox(find_bubblewrap("bwrap"), {"here": here}, packs, work.boxes)
            in_local, _ = await measured("agentless-mini, local", work, local, Environment("here", here.python))
        in_docker, rate = await measured("agentless-mini, docker", work, docker, Environment(image))
        reference, other = await asyncio.to_thread(the_reference_way, work, client, image, pairs)
    finally:
        await docker.aclose()
    same = in_docker == in_local and in_docker[: len(reference)] == reference
    failing = sum(not all(row) for row in in_docker)
    sys.stdout.write(f"{rate / other:.1f} times as fast with {work.boxes} at once; {failing} patches break a test; ")
    sys.stdout.write("all verdicts are the same\n" if same else "THE VERDICTS DIFFER\n")
    return 0 if same and rate >= BAR * other else 1


def the_reference_way(work: Work, client: DockerClient, image: str, pairs: int) -> tuple[list[list[bool]], float]:
    """Run the first pairs of patch and test in containers of their own; return what passes, and how many a second."""
    some, tests, begun = work.patches[: pairs // len(work.cases)], [case.id for case in work.cases], time.monotonic()
    found = reference_way.run_all(client, image, some, tests, work.boxes)
    rate = report("a container for each, docker", len(some) * len(tests), time.monotonic() - begun)
    return found, rate


def main() -> int:
    parser = argparse.ArgumentParser(description="Test executions per second, beside a container for each.")
    parser.add_argument("--image", help="base image with git and, as /usr/local/bin/python3, a Python with pytest")
    parser.add_argument("--boxes", type=int, default=boxes_here(LIMITS), help="boxes, or containers, at once")
    parser.add_argument("--pairs", type=int, default=PATCHES * TESTS, help="pairs that the other way runs")
    options = parser.parse_args()
    snapshot = fetched()
    client = connect(options.boxes)
    try:
        with tempfile.NamedTemporaryFile() as body, project_image(client, options.image, snapshot) as image:
            pack = pack_snapshot(snapshot, lambda held: iter(()), Path(body.name))
            work = Work(snapshot, pack, patches(snapshot), cases(snapshot), options.boxes)
            return asyncio.run(both_ways(work, client, image, options.pairs))
    finally:
        client.close()


if __name__ == "__main__":
    sys.exit(main())
