"""How the tests of an instance are run in its image: who starts a box, and what `conda activate` sets.

An image has its Pythons in the way that SWE-bench lays them out. Nothing of what a box says is believed but variables
of a bounded number and size, which hold in other boxes of the same image alone.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from agentless_mini.domain import (
    BoxLimits,
    BoxUser,
    Environment,
    Harness,
    ImageTree,
    Job,
    JobResult,
    Place,
    Runner,
    Step,
    StepResult,
)
from agentless_mini.errors import EnvironmentFailed, printable
from agentless_mini.evaluation.copied_tree import FOLDER
from agentless_mini.ports import Sandbox

ACTIVATE = "source /opt/miniconda3/bin/activate && conda activate testbed"
PYTHONS = ("/opt/miniconda3/bin/python", "python3", "/opt/miniconda3/envs/testbed/bin/python")
"""What can be behind a box: the tests' own Python comes last, for it may be too old."""
_BEFORE, _AFTER = ".amini-box/before", ".amini-box/after"
_SHOW = f"mkdir -p .amini-box && env -0 > {_BEFORE} && {ACTIVATE} && env -0 > {_AFTER}"
_SECONDS = 120.0
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OWN = frozenset({"_", "PWD", "OLDPWD", "SHLVL", "PS1", "PYTHONPATH"})
_MOST, _LONGEST = 100, 8192


@dataclass(frozen=True, slots=True)
class Activated:
    """An image whose boxes start: what runs them, and the variables of the tests' environment.

    `problem` says why the tests do not start there, "" where they do.
    """

    environment: Environment
    variables: tuple[tuple[str, str], ...]
    problem: str = ""

    @property
    def place(self) -> Place:
        """Return where the tests are run."""
        return Place(self.environment, ImageTree(FOLDER))

    def harness(self, harness: Harness) -> Harness:
        """Return the harness with these variables."""
        return replace(harness, variables=self.variables)


async def activated(sandbox: Sandbox, image: str, runner: Runner, limits: BoxLimits) -> Activated:
    """Return how tests are run in an image, by the first way in which a box starts and its environment is found.

    Raises `EnvironmentFailed` where there is none.
    """
    failures = []
    for environment in _ways(image):
        try:
            result = await sandbox.run(_probe(environment, runner, limits))
        except EnvironmentFailed as error:
            failures.append(str(error))
            continue
        shown = None if result.refusal else _variables(result.steps[0])
        if shown is not None:
            return Activated(environment, shown, _problem(result))
        failures.append(_complaint(result))
    raise EnvironmentFailed(
        f"The environment in the image cannot be activated ({failures[0]}): see that "
        f"`{ACTIVATE}` works in it, as in the images of SWE-bench."
    )


def _ways(image: str) -> Iterator[Environment]:
    for user in (BoxUser.NOBODY, BoxUser.ROOT):
        for python in PYTHONS:
            yield Environment(image, python, user)


def _probe(environment: Environment, runner: Runner, limits: BoxLimits) -> Job:
    starting = {Runner.PYTEST: "python -m pytest --version", Runner.COMMAND: ":"}.get(runner, "python -c ''")
    steps = (
        Step(("bash", "-c", _SHOW), seconds=_SECONDS, results=(_BEFORE, _AFTER)),
        Step(("bash", "-c", f"{ACTIVATE} && {starting}"), seconds=_SECONDS),
    )
    return Job(environment, ImageTree(FOLDER), (), steps, limits)


def _variables(step: StepResult) -> tuple[tuple[str, str], ...] | None:
    """Return what the activation set, sorted by name; None where it failed."""
    if not step.succeeded or len(step.results) != 2:
        return None
    before, after = (dict(_read(file.data)) for file in step.results)
    return tuple(sorted(pair for pair in after.items() if before.get(pair[0]) != pair[1])[:_MOST])


def _read(data: bytes) -> Iterator[tuple[str, str]]:
    for entry in data.decode("utf-8", "replace").split("\0"):
        name, _, value = entry.partition("=")
        if _NAME.fullmatch(name) and name not in _OWN and len(value) <= _LONGEST:
            yield name, value


def _problem(result: JobResult) -> str:
    return "" if result.steps[1].succeeded else _last_line(result.steps[1])


def _complaint(result: JobResult) -> str:
    return result.refusal or _last_line(result.steps[0])


def _last_line(step: StepResult) -> str:
    lines = [line.strip() for line in step.output.text().splitlines() if line.strip()]
    return printable(lines[-1][:200]) if lines else f"it ended with {step.status}"
