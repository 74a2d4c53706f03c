"""Images that were made elsewhere: where their Python is, what their tests need, and what they are told to lack."""

import asyncio
import subprocess
import tarfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentless_mini.domain import BoxLimits, BoxUser, Environment, Job, JobResult, PackedTree, Runner, Step, StepResult
from agentless_mini.environment.activated import COPIED, Activated, activate, find_environment
from agentless_mini.errors import AminiError, EnvironmentFailed
from agentless_mini.settings.run import SandboxSettings
from tests.environment.samples import BARE
from tests.environment.trees import opened, request, run_there
from tests.evaluation.testbed_image import Holds, instance_image
from tests.fakes.sandbox import ScriptedSandbox, exited, refusing
from tests.sandbox.image import add_folder, image_id

NOT_HERE = EnvironmentFailed("It has no Python: add one.")
TREE = PackedTree("d" * 64, "/app")


def words(step: Step) -> str:
    return " ".join(step.argv)


def found(
    answer: Callable[[Job, Step], StepResult | None], runner: Runner = Runner.PYTEST, path: str = "/bin"
) -> tuple[Activated, list[Job]]:
    """Search in boxes in which a step comes to what is said, and none starts where that is None."""

    def answering(job: Job) -> JobResult | AminiError:
        steps = [answer(job, step) for step in job.steps]
        return JobResult(tuple(step for step in steps if step)) if all(steps) else NOT_HERE

    sandbox = ScriptedSandbox(answering)
    return asyncio.run(
        find_environment(sandbox, Job(Environment("i"), TREE, (), (), BoxLimits()), runner, path)
    ), sandbox.jobs


def only(program: str) -> Callable[[Job, Step], StepResult]:
    return lambda job, step: exited(0 if words(step).startswith(f"{program} ") else 127, b"no such\n")


@pytest.mark.parametrize("folder", [COPIED, "/venv", "/opt/venv"])
def test_a_virtual_environment_at_a_usual_place_is_taken_before_the_path(folder: str) -> None:
    there, jobs = found(lambda job, step: exited(0 if words(step).startswith((folder, "python ")) else 127))
    assert (there.program, dict(there.variables)) == ("python", {"PATH": f"{folder}/bin:/bin", "VIRTUAL_ENV": folder})
    assert len(jobs) == 1


def test_python_may_be_called_python3_alone() -> None:
    there, _ = found(only("python3"))
    assert (there.program, there.variables, there.problem) == ("python3", (), "")


def test_whoever_can_start_the_tests_runs_them_and_by_any_python() -> None:
    def answer(job: Job, step: Step) -> StepResult | None:
        if job.environment.python != "/usr/bin/python3":
            return None
        return exited(0 if job.environment.user is BoxUser.ROOT and step.argv[0] == "python" else 1, b"Denied.\n")

    there, _ = found(answer)
    assert (there.environment.user, there.environment.python, there.problem) == (BoxUser.ROOT, "/usr/bin/python3", "")


def test_what_no_way_has_is_told_and_a_command_needs_no_pytest() -> None:
    lacking = lambda job, step: exited(1, b"x\nNo module named pytest\n")  # noqa: E731
    assert found(lacking)[0].problem == "No module named pytest"
    there, _ = found(lambda job, step: exited(words(step) != "python3 -c "), Runner.COMMAND)
    assert (there.problem, there.program) == ("", "python3")


def test_where_no_box_starts_the_first_reason_is_told() -> None:
    with pytest.raises(EnvironmentFailed, match="It has no Python: add one"):
        found(lambda job, step: None)
    with pytest.raises(EnvironmentFailed, match=r"cannot be activated \(too large\)"):
        asyncio.run(activate(ScriptedSandbox(refusing("too large")), "i", TREE, Runner.PYTEST, BoxLimits()))


# --- real images ------------------------------------------------------------------------------------------------------

VENV = """
import glob, os, shutil, subprocess, sys
folder = sys.argv[1]
subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
here, there = (glob.glob(f"{top}/lib/python3*/site-packages")[0] for top in ("/usr/local", folder))
for name in os.listdir(here):
    shutil.move(f"{here}/{name}", there)
"""
NO_PYTEST = "import glob, shutil\nfor path in glob.glob('/usr/local/lib/python3*/site-packages'): shutil.rmtree(path)"
NO_PYTHON = "import os; os.remove('/usr/local/bin/python')"


@pytest.fixture
def made() -> Iterator[Callable[..., str]]:
    """Return what makes an image: it runs a program in one, and keeps it."""
    names = list[str]()

    def make(code: str, *arguments: str, folder: str = "/app") -> str:
        names.append(f"amini-test-made:{uuid.uuid4().hex[:12]}")
        container = names[-1].replace(":", "-")
        run = ("docker", "run", "--name", container, image_id(), "python3", "-c", code, *arguments)
        try:
            subprocess.run(run, check=True, capture_output=True)
            subprocess.run(("docker", "commit", "-c", f"WORKDIR {folder}", container, names[-1]), check=True)
        finally:
            subprocess.run(("docker", "rm", container), capture_output=True)
        return names[-1]

    yield make
    subprocess.run(("docker", "rmi", *names), capture_output=True)


def settings(image: str, **more: str) -> SandboxSettings:
    return SandboxSettings.model_validate({"kind": "docker", "boxes": 1, "image": image, **more})


def version_there(image: str, cache: Path) -> str:
    """Return what pytest says in an image, by the way that was found."""
    _, place = run_there(request(BARE, cache), settings(image))
    starting = Step((place.program, "-m", "pytest", "--version"), variables=place.variables)
    result, place = run_there(request(BARE, cache), settings(image), starting)
    return result.steps[0].output.text()


@pytest.mark.thorough
def test_images_laid_out_in_known_ways_run_tests_as_they_are(tmp_path: Path, made: Callable[..., str]) -> None:
    assert version_there(made(NO_PYTHON), tmp_path).startswith("pytest ")
    assert version_there(made(VENV, "/opt/venv"), tmp_path).startswith("pytest ")
    assert version_there(instance_image(Holds.PYTEST), tmp_path).startswith("pytest ")


@pytest.mark.thorough
def test_a_virtual_environment_where_the_tree_lies_is_copied_once(tmp_path: Path, made: Callable[..., str]) -> None:
    image = made(VENV, "/app/.venv")
    _, place = run_there(request(BARE, tmp_path), settings(image))
    try:
        assert dict(place.variables)["VIRTUAL_ENV"] == COPIED
        assert version_there(image, tmp_path).startswith("pytest ")
        _, again = run_there(request(BARE, tmp_path / "other"), settings(image))
        assert again.identity == place.identity
    finally:
        subprocess.run(("docker", "rmi", place.identity), capture_output=True)


@pytest.mark.slow
def test_what_an_image_lacks_is_told_in_a_sentence_with_what_to_try(tmp_path: Path, made: Callable[..., str]) -> None:
    image = made(NO_PYTEST)
    with pytest.raises(EnvironmentFailed, match=r"cannot be run in the image .*No module named .*pytest.*--setup"):
        opened(request(BARE, tmp_path), settings(image), [])
    assert not isinstance(opened(request(BARE, tmp_path, Runner.UNITTEST), settings(image), []), str)


@pytest.mark.thorough
def test_an_image_without_python_is_told_so(tmp_path: Path) -> None:
    name = f"amini-test-made:{uuid.uuid4().hex[:12]}"
    with tarfile.open(tmp_path / "empty.tar", "w") as tar:
        add_folder(tar, "tmp", 0o1777)
    image_id()  # skips where no daemon answers
    subprocess.run(("docker", "import", tmp_path / "empty.tar", name), check=True, capture_output=True)
    try:
        with pytest.raises(EnvironmentFailed, match=r"python3.* cannot be run.*install what they need") as told:
            opened(request(BARE, tmp_path), settings(name), [])
        assert "daemon" not in str(told.value)
    finally:
        subprocess.run(("docker", "rmi", name), capture_output=True)
