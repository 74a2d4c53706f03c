"""Grades patches by the official harness, in processes of their own; has it write its summary, and load datasets.

`harness` decides what is a result and what a failure; this decides what runs when. Nothing is recorded but what
swebench writes into its folder.
"""

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO, Self

from agentless_mini.domain.sampling import canonical_json
from agentless_mini.errors import AminiError, GradingFailed, boundary, printable
from agentless_mini.evaluation.dataset import Solution
from agentless_mini.evaluation.ports import Grade
from agentless_mini.evaluation.submission import official, slug, text_of
from agentless_mini.installing import install_command
from agentless_mini.sandbox.daemon import connect, sweep
from agentless_mini.sandbox.host import uninterrupted

HARNESS = (sys.executable, "-X", "utf8", "-P", "-m", "agentless_mini.evaluation.harness")
LOG = "worker.log"
SLACK = 900.0
"""Seconds that a grading may take beyond the limit of its tests: for the daemon, which has the image."""
GRACE = 20.0
"""Seconds that a process which is asked to end has to remove its container."""
_VERSION = 1
_LOGS = Path("logs", "run_evaluation")


def _swebench_version() -> str:
    try:
        return metadata.version("swebench")
    except metadata.PackageNotFoundError:
        raise GradingFailed(f"swebench is not installed: {install_command('eval')}.") from None


def _require_harness() -> str:
    version = _swebench_version()
    if shutil.which("docker") is None:
        raise GradingFailed("swebench needs the program docker, not only its daemon: install Docker's command line.")
    return version


def _sweep_gradings() -> None:
    with closing(connect(1)) as client:
        sweep(client)


@dataclass(frozen=True, slots=True)
class HarnessProgram:
    """The program that grades. `version` raises `GradingFailed` where it cannot run; `sweep` clears up."""

    command: tuple[str, ...] = HARNESS
    version: Callable[[], str] = _require_harness
    sweep: Callable[[], None] = _sweep_gradings


SWEBENCH = HarnessProgram()


class Grader:
    """The official harness in `folder`, which keeps its logs: `grader = await Grader(folder, "model").prepared()`.

    `model` is the name that predictions are submitted under. `workers` processes grade at once, a process for each
    patch, whose tests may take `timeout` seconds (1,800 is swebench's own default). A patch is graded once more if its
    process died; a grading that is cancelled is ended at once, with its container.
    """

    def __init__(
        self, folder: Path, model: str, workers: int = 1, timeout: int = 1800, program: HarnessProgram = SWEBENCH
    ) -> None:
        """Start nothing yet."""
        self._program = program
        self._folder = folder.absolute()
        self._model = slug(model)
        self._timeout = timeout
        self._places = asyncio.Semaphore(workers)
        self._turns: dict[str, asyncio.Lock] = {}

    async def prepared(self) -> Self:
        """Remove containers of gradings whose process is dead. Raises `EnvironmentFailed` where none can be made."""
        self._version = self._program.version()
        await asyncio.to_thread(self._program.sweep)
        return self

    async def grade(self, row: str, diff: bytes) -> Grade:
        """Return the harness's verdict on a patch of the instance that `row` describes, as JSON.

        A patch without a byte to apply is not run: the harness counts it as not resolved. Raises `GradingFailed` for
        what is not the patch's fault. A patch that is not UTF-8 is graded as it is submitted: see `text_of`.
        """
        text = text_of(diff)
        if not text.strip():
            return Grade(resolved=False, applied=False, report="{}", version=self._version, seconds=0.0)
        run = run_of(row, diff)
        request = {"kind": "grade", "row": row, "diff": text, "model": self._model, "run": run}
        async with self._turns.setdefault(run, asyncio.Lock()):  # equal patches at once would share a folder
            reply = await self._tried({**request, "timeout": self._timeout})
        return Grade(reply["resolved"], reply["applied"], reply["report"], self._version, reply["seconds"])

    async def summarise(self, solutions: Mapping[str, Solution], diffs: Mapping[str, bytes]) -> Path | None:
        """Let the harness write its summary of what is submitted, by instance id; return its file, or None for nothing.

        To it, an instance in `solutions` that is not in `diffs` is incomplete, an empty patch is not resolved, a patch
        whose logs are missing is an error.
        """
        if not diffs:
            return None
        run = hashlib.sha256(canonical_json(sorted(solutions)).encode()).hexdigest()[:12]
        for name, diff in diffs.items():
            if diff:  # its logs are seen as those of its instance in the run that is summarised
                logs, seen = self.logs(solutions[name].row, diff), self._folder / _LOGS / run / self._model / name
                seen.parent.mkdir(parents=True, exist_ok=True)
                seen.unlink(missing_ok=True)
                seen.symlink_to(Path("..", "..", *logs.parts[-3:]))
        predictions = {name: official(name, self._model, diff) for name, diff in sorted(diffs.items())}
        request = {"kind": "summarise", "run": run, "instances": sorted(solutions), "predictions": predictions}
        return self._folder / str((await self._tried(request))["file"])

    def restore(self, row: str, diff: bytes, report: str) -> None:
        """Put the harness's report of a patch where `summarise` finds it, if it was graded on another machine."""
        report_file = self.logs(row, diff) / "report.json"
        if not report_file.exists():
            report_file.parent.mkdir(parents=True, exist_ok=True)
            (report_file.parent / "patch.diff").write_bytes(diff)
            report_file.write_text(report, encoding="utf-8")

    def logs(self, row: str, diff: bytes) -> Path:
        """Return the folder with what swebench wrote of a patch; it need not exist."""
        name = str(json.loads(row)["instance_id"])
        return self._folder / _LOGS / run_of(row, diff) / self._model / name

    async def _tried(self, request: dict[str, Any]) -> dict[str, Any]:
        async with self._places:
            with suppress(_WorkerDied):
                return await self._asked(request)
            return await self._asked(request)

    async def _asked(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return await _answer(request, self._folder, self._program.command, self._timeout + SLACK)
        except BaseException:
            with suppress(AminiError):  # the next grading, or the next evaluation, tries again
                await uninterrupted(asyncio.to_thread(self._program.sweep))
            raise


def run_of(row: str, diff: bytes) -> str:
    """Return the name of the harness's run for a patch: one for each, for it never grades twice under one name."""
    digest = hashlib.sha256(f"{_VERSION} {hashlib.sha256(row.encode()).hexdigest()} ".encode() + diff)
    return digest.hexdigest()[:24]


async def dataset_rows(name: str, folder: Path) -> list[str]:
    """Return the rows of a dataset's test split, each as JSON, as swebench's own loader gives them.

    `name` is one of the hub, or a file. The harness keeps its log in `folder`. Raises `GradingFailed`.
    """
    _swebench_version()
    try:
        reply = await _answer({"kind": "rows", "name": name}, folder, HARNESS)
    except GradingFailed as error:
        raise GradingFailed(
            f"The dataset {printable(name)} cannot be loaded: {error} "
            "Check the network, or give the dataset's file with --dataset."
        ) from error
    return list(reply["rows"])


# --- a process of the harness -----------------------------------------------------------------------------------------


class _WorkerDied(GradingFailed):
    """The process ended before it answered."""


async def _answer(
    request: dict[str, Any], folder: Path, command: tuple[str, ...], seconds: float | None = None
) -> dict[str, Any]:
    """Let a process of the harness answer a request in `folder`, where what it prints is added to the log.

    It has a session of its own, lest Ctrl-C reach it. When this returns, or is cancelled, it is gone. Raises
    `GradingFailed` where it cannot be started, fails, dies or takes too long.
    """

    def refused(error: BaseException) -> GradingFailed:
        return GradingFailed(f"The grading process cannot be started in {folder}: {error}.")

    with boundary({OSError: refused}), _log(folder) as log:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
    try:
        async with asyncio.timeout(seconds):
            out, _ = await process.communicate(json.dumps({**request, "parent": os.getpid()}).encode() + b"\n")
    except TimeoutError as error:
        raise GradingFailed("The grading process does not answer: check that Docker does.") from error
    finally:
        await uninterrupted(_end(process))
    if not out.endswith(b"\n"):
        raise _WorkerDied(f"The grading process ended before it answered: see {folder / LOG}.")
    answer: dict[str, Any] = json.loads(out)
    if "failure" in answer:
        raise GradingFailed(str(answer["failure"]))
    return answer


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a process with whatever it runs; it is killed where it does not end in time."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(GRACE):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _log(folder: Path) -> BinaryIO:
    folder.mkdir(parents=True, exist_ok=True)
    return (folder / LOG).open("ab")
