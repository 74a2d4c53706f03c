"""How the tests of an image start that was made elsewhere, told by running them: its Python, and its environment.

Known are the layout of SWE-bench's images (conda's environment `testbed`), virtual environments at the usual places,
and what is on the PATH. Nothing that a container says is believed but variables of a bounded number and size, which
hold in other containers of the same image alone.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from agentless_mini.domain import BoxLimits, BoxUser, Environment, ImageTree, Job, PackedTree, Runner, Step, StepResult
from agentless_mini.domain.runners import ROWS
from agentless_mini.errors import EnvironmentFailed, printable
from agentless_mini.ports import Sandbox

ACTIVATE = "source /opt/miniconda3/bin/activate && conda activate testbed"
PYTHONS = ("/opt/miniconda3/bin/python", "python3", "/opt/miniconda3/envs/testbed/bin/python")
"""What can start the program that runs in a container: the tests' own Python comes last, for it may be too old."""
COPIED = "/opt/amini/own"
"""Where a virtual environment is copied to that lies in the folder where boxes have their tree."""
VENVS = (COPIED, "/venv", "/opt/venv")
_BESIDE = ("/usr/bin/python3", "/usr/local/bin/python3")
USUAL = tuple(dict.fromkeys((*PYTHONS, *(f"{folder}/bin/python" for folder in VENVS), *_BESIDE)))
"""Where the Python of an image usually is."""
PLAIN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_BEFORE, _AFTER = ".amini-box/before", ".amini-box/after"
_SHOW = f"mkdir -p .amini-box && env -0 > {_BEFORE} && {ACTIVATE} && env -0 > {_AFTER}"
_SECONDS = 120.0
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OWN = frozenset({"_", "PWD", "OLDPWD", "SHLVL", "PS1", "PYTHONPATH"})
_MOST, _LONGEST = 100, 8192
"""The most variables that are taken over, and the most characters of one."""


@dataclass(frozen=True, slots=True)
class Activated:
    """An image whose containers start: how, and the variables of the tests' environment.

    `problem` says why the tests do not start there, "" where they do; `program` is the name of their Python.
    """

    environment: Environment
    variables: tuple[tuple[str, str], ...] = ()
    problem: str = ""
    program: str = "python"


@dataclass(frozen=True, slots=True)
class _Layout:
    """A way to the tests' Python: what shows its variables, if that is to be run, and what starts the tests."""

    start: Step
    show: Step | None = None
    program: str = "python"


async def activate(
    sandbox: Sandbox, image: str, tree: ImageTree | PackedTree, runner: Runner, limits: BoxLimits
) -> Activated:
    """Return how tests run in an image laid out as SWE-bench's, by the first way in which a box starts.

    Raises `EnvironmentFailed` where there is none.
    """
    job = Job(Environment(image), tree, (), (), limits)
    found, problem = await _first(sandbox, job, (_conda(runner),), PYTHONS)
    if found is None:
        raise EnvironmentFailed(
            f"The environment in the image cannot be activated ({problem}): see that `{ACTIVATE}` works in it, as in "
            "the images of SWE-bench."
        )
    return found


async def find_environment(
    sandbox: Sandbox, job: Job, runner: Runner, path: str, pythons: Sequence[str] = ()
) -> Activated:
    """Return how tests run in the image of a job, of any layout, with its PATH; `problem` says what all ways lack.

    Boxes are started by one of the `pythons`, or else by those at the usual places. Raises `EnvironmentFailed` where
    none starts.
    """
    starting = ("-m", "pytest", "--version") if runner is Runner.PYTEST else ("-c", "")
    layouts = [_Layout(Step(ROWS[runner].check))] if runner in ROWS else [_conda(runner)]
    for folder in VENVS if runner not in ROWS else ():
        variables = (("PATH", f"{folder}/bin:{path or PLAIN_PATH}"), ("VIRTUAL_ENV", folder))
        layouts.append(_Layout(Step((f"{folder}/bin/python", *starting), variables=variables)))
    for program in ("python", "python3") if runner not in ROWS else ():
        layouts.append(_Layout(Step((program, *starting)), program=program))
    found, problem = await _first(sandbox, job, layouts, pythons or ("python3", "python", *USUAL))
    if found is None:
        raise EnvironmentFailed(problem)
    return found


def _conda(runner: Runner) -> _Layout:
    python = "python -m pytest --version" if runner is Runner.PYTEST else "python -c ''"
    starting = python if runner.is_python else ":"
    show = Step(("bash", "-c", _SHOW), seconds=_SECONDS, results=(_BEFORE, _AFTER))
    return _Layout(Step(("bash", "-c", f"{ACTIVATE} && {starting}"), seconds=_SECONDS), show)


async def _first(
    sandbox: Sandbox, job: Job, layouts: Sequence[_Layout], pythons: Sequence[str]
) -> tuple[Activated | None, str]:
    """Return the first layout whose tests start, else the last that is there; else None, and the first problem."""
    failures, fallback = list[str](), None
    steps = tuple(step for layout in layouts for step in (layout.show, layout.start) if step)
    begun = set[BoxUser]()
    for user, python in itertools.product((BoxUser.NOBODY, BoxUser.ROOT), pythons):
        environment = replace(job.environment, python=python, user=user)
        if user in begun:
            continue
        try:
            result = await sandbox.run(replace(job, environment=environment, steps=steps))
        except EnvironmentFailed as error:
            failures.append(str(error))
            continue
        there, ended = list[Activated](), iter(result.steps)
        for layout in layouts if not result.refusal else ():
            shown = variables_of(next(ended)) if layout.show else layout.start.variables
            start = next(ended)
            if shown is None:
                failures.append(last_line(start))
                continue
            there.append(Activated(environment, shown, "" if start.succeeded else last_line(start), layout.program))
        begun |= {user} if there else set()
        if ready := next((one for one in there if not one.problem), None):
            return ready, ""
        fallback = fallback or next(reversed(there), None)
        failures.append(result.refusal)
    return fallback, next(filter(None, failures), "")


def variables_of(step: StepResult) -> tuple[tuple[str, str], ...] | None:
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


def last_line(step: StepResult) -> str:
    """Return the last line that a step printed, else how it ended."""
    lines = [line.strip() for line in step.output.text().splitlines() if line.strip()]
    return printable(lines[-1][:200]) if lines else f"it ended with {step.status}"
