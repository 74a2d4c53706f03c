import asyncio
import os
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agentless_mini.chain.session import Boxes, NoBoxes, run_cases, run_files
from agentless_mini.domain import Case, FileChange, Issue, Job, Origin, Outcome
from agentless_mini.edits.forms import Forms
from agentless_mini.edits.writing import make_patch
from agentless_mini.errors import EnvironmentFailed, GradingFailed, ImageUnavailable
from agentless_mini.evaluation import ports
from agentless_mini.evaluation.dataset import Instance, Solution
from agentless_mini.evaluation.ports import Grade
from agentless_mini.evaluation.testbeds import HostSettings, open_testbeds, wanted_pytest
from agentless_mini.sandbox import docker
from agentless_mini.sandbox.daemon import connect
from agentless_mini.sandbox.docker import asked_for
from agentless_mini.settings.run import ImageSettings, SandboxSettings
from tests.environment.conftest import package_index
from tests.evaluation.registry import open_registry
from tests.evaluation.testbed_image import SOURCES, Holds, instance_image
from tests.sandbox.conftest import containers, copies

__all__ = ["package_index"]

FIXED = make_patch(
    [FileChange("calc.py", SOURCES["calc.py"], SOURCES["calc.py"].replace(b"-", b"+"), "100644")], Forms()
)
SANDBOX = SandboxSettings(boxes=2, memory_mib=512, disk_mib=128)


@dataclass
class Graded:
    """Grades every patch as right, and remembers what it was given."""

    asked: list[tuple[str, bytes]] = field(default_factory=list)

    async def grade(self, row: str, diff: bytes) -> Grade:
        self.asked.append((row, diff))
        return Grade(resolved=True, applied=True, report="{}", version="1", seconds=0.0)


@dataclass
class LocalHost:
    """Opens testbeds of this machine."""

    state: Path
    variables: dict[str, str]
    grader: Graded = field(default_factory=Graded)

    def with_testbed(self, image: str, work: Callable[[ports.Testbed], Awaitable[None]]) -> None:
        """Do the work on the testbed of an instance with this image."""

        async def run() -> None:
            answers = {"a__b-1": Solution('{"instance_id": "a__b-1"}', ())}
            async with self.opened(answers) as testbeds, testbeds.open(instance(image), print) as testbed:
                await work(testbed)

        asyncio.run(run())

    def opened(self, answers: dict[str, Solution]) -> AbstractAsyncContextManager[ports.Testbeds]:
        settings = HostSettings(ImageSettings(min_free_gib=0), SANDBOX, self.state, self.variables)
        return open_testbeds(settings, answers, self.grader)


def instance(image: str) -> Instance:
    return Instance("a__b-1", "a/b", "c" * 40, Issue("It subtracts."), image, created="2023-05-06T07:08:09Z")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[LocalHost]:
    try:
        connect(1).close()
    except EnvironmentFailed as error:
        pytest.skip(str(error))
    trees = copies(os.getpid())
    yield LocalHost(tmp_path, dict(os.environ))
    assert containers(os.getpid()) == []
    assert set(copies(os.getpid())) <= set(trees)


async def bench_of(testbed: ports.Testbed) -> Boxes:
    bench = await opened(testbed)
    assert isinstance(bench, Boxes)
    return bench


async def opened(testbed: ports.Testbed) -> Boxes | NoBoxes:
    opening = testbed.opening(await testbed.tree())
    assert not isinstance(opening, NoBoxes)
    return await opening.open(print)


def test_tests_run_in_the_environment_of_the_image(host: LocalHost) -> None:
    async def work(testbed: ports.Testbed) -> None:
        bench = await bench_of(testbed)
        variables = dict(bench.harness.variables)
        assert variables["FROM_CONDA"] == "two\nlines"
        assert variables["PATH"].startswith("/opt/miniconda3/envs/testbed/bin:")
        assert "PWD" not in variables
        found = await run_files(bench, ("tests/test_calc.py", "tests/test_env.py"), 60, 240)
        assert [result.outcome for result in found.results] == [Outcome.FAIL, Outcome.PASS]
        case = Case("tests/test_calc.py::test_add", Origin.GIVEN, "tests/test_calc.py")
        before, after = await run_cases(bench, None, [case]), await run_cases(bench, FIXED, [case])
        assert isinstance(before, tuple)
        assert isinstance(after, tuple)
        assert (before[0].outcome, after[0].outcome) == (Outcome.FAIL, Outcome.PASS)

    host.with_testbed(instance_image(Holds.PYTEST), work)


def test_what_was_built_in_the_image_is_in_its_boxes(host: LocalHost) -> None:
    async def work(testbed: ports.Testbed) -> None:
        bench = await bench_of(testbed)
        case = Case("cat built", Origin.GIVEN, command="test -s built/extension.so && test ! -e .git")
        results = await run_cases(bench, None, [case])
        assert isinstance(results, tuple)
        assert results[0].outcome is Outcome.PASS

    host.with_testbed(instance_image(Holds.PYTEST), work)


@pytest.mark.thorough
@pytest.mark.usefixtures("package_index")
def test_pytest_is_installed_once_where_the_image_lacks_it(host: LocalHost) -> None:
    used = []

    async def work(testbed: ports.Testbed) -> None:
        bench = await bench_of(testbed)
        used.append(bench.place.environment.identity)
        found = await run_files(bench, ("tests/test_calc.py",), 60, 240)
        assert [result.outcome for result in found.results] == [Outcome.FAIL]

    image = instance_image(Holds.PIP)
    try:
        host.with_testbed(image, work)
        host.with_testbed(image, work)
        assert len(set(used)) == 1
    finally:
        subprocess.run(["docker", "rmi", *set(used)], capture_output=True)


@pytest.mark.thorough
def test_where_pytest_cannot_be_installed_there_are_no_boxes(host: LocalHost, monkeypatch: pytest.MonkeyPatch) -> None:
    networks = set[str]()

    def recorded(job: Job, volumes: tuple[str, ...], **named: bool | str | None) -> dict[str, Any]:
        made = asked_for(job, volumes, **named)  # type: ignore[arg-type]
        networks.add(made["HostConfig"]["NetworkMode"])
        return made

    monkeypatch.setattr(docker, "asked_for", recorded)

    async def work(testbed: ports.Testbed) -> None:
        bench = await opened(testbed)
        assert isinstance(bench, NoBoxes)
        assert "pytest could not be installed in the image" in bench.reason

    host.with_testbed(instance_image(Holds.NOTHING), work)
    assert networks == {"none"}


def copied() -> set[Path]:
    """Return the copies of trees that this process has."""
    return {copy for folder in copies(os.getpid()) for copy in Path(folder).iterdir()}


@pytest.mark.thorough
def test_a_testbed_that_is_closed_leaves_what_another_of_its_image_uses(host: LocalHost) -> None:
    case = Case("cat built", Origin.GIVEN, command="test -s built/extension.so")

    async def run() -> None:
        image = instance_image(Holds.PYTEST)
        async with host.opened({}) as testbeds, testbeds.open(instance(image), print) as testbed:
            bench = await bench_of(testbed)
            await run_cases(bench, None, [case])
            before = copied()
            async with testbeds.open(instance(image), print) as other:
                await bench_of(other)
            assert copied() == before
            results = await run_cases(bench, None, [case])
            assert isinstance(results, tuple)
            assert results[0].outcome is Outcome.PASS

    asyncio.run(run())


def test_an_image_that_cannot_be_had_is_an_error_of_its_own(host: LocalHost) -> None:
    async def work(testbed: ports.Testbed) -> None:
        raise AssertionError

    with open_registry() as registry, pytest.raises(ImageUnavailable):
        host.with_testbed(f"{registry.address}/absent:latest", work)


def test_an_image_without_a_tree_is_an_error(host: LocalHost) -> None:
    async def work(testbed: ports.Testbed) -> None:
        await testbed.tree()

    with open_registry() as registry:
        name = registry.add("empty")
        try:
            with pytest.raises(EnvironmentFailed, match="/testbed"):
                host.with_testbed(name, work)
        finally:
            subprocess.run(["docker", "rmi", name], capture_output=True)


def test_a_patch_is_graded_by_the_row_of_its_instance(host: LocalHost) -> None:
    async def work(testbed: ports.Testbed) -> None:
        assert (await testbed.grade(b"diff")).resolved

    host.with_testbed(instance_image(Holds.PYTEST), work)
    assert host.grader.asked == [('{"instance_id": "a__b-1"}', b"diff")]


def test_an_instance_without_a_row_is_not_graded(host: LocalHost) -> None:
    async def run() -> None:
        image = instance_image(Holds.PYTEST)
        async with host.opened({}) as testbeds, testbeds.open(instance(image), print) as testbed:
            await testbed.grade(b"diff")

    with pytest.raises(GradingFailed, match="no row of a__b-1"):
        asyncio.run(run())


def test_a_testbed_that_is_cancelled_leaves_nothing(host: LocalHost) -> None:
    async def work(testbed: ports.Testbed) -> None:
        bench = await bench_of(testbed)
        case = Case("sleep", Origin.GIVEN, command="while :; do :; done")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(run_cases(bench, None, [case]), 2)

    host.with_testbed(instance_image(Holds.PYTEST), work)


@pytest.mark.parametrize(
    ("day", "wanted"),
    [("", "pytest<8"), ("2019-01-01", "pytest<8"), ("2024-05-01T01:02:03Z", "pytest<9"), ("2026-01-01", "pytest")],
)
def test_an_old_tree_gets_the_pytest_of_its_time(day: str, wanted: str) -> None:
    assert wanted_pytest(day) == wanted
