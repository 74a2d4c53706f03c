"""Grades patches by the official harness, in processes of their own, and has it write its summary.

What is a result and what is a failure is told by `harness`; here is who may run when. Nothing is recorded but what
swebench writes into its folder.
"""

import asyncio
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agentless_mini.domain.canonical import canonical_json
from agentless_mini.errors import AminiError, GradingFailed
from agentless_mini.evaluation.instances import Answer
from agentless_mini.evaluation.ports import Grade
from agentless_mini.evaluation.predictions import official, slug, text_of
from agentless_mini.evaluation.worker import HARNESS, Worker, WorkerDied
from agentless_mini.installing import install_command
from agentless_mini.sandbox.docker import connect, sweep
from agentless_mini.sandbox.host import uninterrupted

TRIES = 2
SLACK = 900.0
"""Seconds that a grading may take beyond the limit of its tests: for the daemon, which has the image."""
_VERSION = 1
_LOGS = Path("logs", "run_evaluation")


@dataclass(frozen=True, slots=True)
class GradingSettings:
    """How patches are graded. `model` is the name that predictions are submitted under.

    `workers` processes grade at once; `timeout` is the seconds that the tests of one patch may take (1,800 is
    swebench's own default).
    """

    model: str
    workers: int = 1
    timeout: int = 1800


def require_harness() -> str:
    """Return the version of swebench. Raises `GradingFailed` where it, or the program `docker`, is not installed."""
    try:
        version = metadata.version("swebench")
    except metadata.PackageNotFoundError:
        raise GradingFailed(f"swebench is not installed: {install_command('eval')}.") from None
    if shutil.which("docker") is None:
        raise GradingFailed("swebench needs the program docker, not only its daemon: install Docker's command line.")
    return version


def sweep_gradings() -> None:
    """Remove the containers of gradings, and other boxes, whose process is dead. Raises `EnvironmentFailed`."""
    client = connect(1)
    try:
        sweep(client)
    finally:
        client.close()


@dataclass(frozen=True, slots=True)
class HarnessProgram:
    """What grades: a program that answers as `harness` does, a look at what it needs, and how to clear up after it.

    `version` raises `GradingFailed` where the program cannot be run.
    """

    command: tuple[str, ...] = HARNESS
    version: Callable[[], str] = require_harness
    sweep: Callable[[], None] = sweep_gradings


SWEBENCH = HarnessProgram()


class Grader:
    """The official harness in `folder`, which keeps its logs: `async with Grader(folder, settings) as grader`.

    Processes are started when they are first needed, started again when they die, and end with the block. A patch is
    graded once more if its process died; a grading that is cancelled is ended at once, with its container.
    """

    def __init__(self, folder: Path, settings: GradingSettings, program: HarnessProgram = SWEBENCH) -> None:
        """Start nothing yet."""
        self._program = program
        self._folder = folder.absolute()
        self._settings = settings
        self._places = asyncio.Semaphore(settings.workers)
        self._idle: list[Worker] = []
        self._turns: dict[str, asyncio.Lock] = {}

    async def __aenter__(self) -> Self:
        """Remove containers of gradings whose process is dead. Raises `EnvironmentFailed` where none can be made."""
        self._version = self._program.version()
        await asyncio.to_thread(self._program.sweep)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:  # fmt: skip
        """End the processes. No grading may be running."""
        await uninterrupted(asyncio.gather(*(worker.end() for worker in self._idle)))
        self._idle.clear()

    async def grade(self, row: str, diff: bytes) -> Grade:
        """Return the harness's verdict on a patch of the instance that `row` describes, as JSON.

        A patch without a byte to apply is not run: the harness counts it as not resolved. Raises `GradingFailed` for
        what is not the patch's fault. A patch that is not UTF-8 is graded as it is submitted: see `predictions`.
        """
        text = text_of(diff)
        if not text.strip():
            return Grade(resolved=False, applied=False, report="{}", version=self._version, seconds=0.0)
        run = run_of(row, diff)
        request = {"kind": "grade", "row": row, "diff": text, "model": slug(self._settings.model), "run": run}
        async with self._turns.setdefault(run, asyncio.Lock()):  # equal patches at once would share a folder
            reply = await self._tried({**request, "timeout": self._settings.timeout})
        return Grade(reply["resolved"], reply["applied"], reply["report"], self._version, reply["seconds"])

    async def summarise(self, answers: Mapping[str, Answer], diffs: Mapping[str, bytes]) -> Path | None:
        """Let the harness write its summary of what is submitted, by instance id, and return its file.

        There is none where nothing is submitted: the harness cannot do without a prediction.

        Who is in `answers` and not in `diffs` is incomplete to it, an empty patch not resolved, and a patch whose logs
        are not in the folder an error.
        """
        if not diffs:
            return None
        model = slug(self._settings.model)
        run = hashlib.sha256(canonical_json(sorted(answers)).encode()).hexdigest()[:12]
        for name, diff in diffs.items():
            if diff:
                _link(self.logs(answers[name].row, diff), self._folder / _LOGS / run / model / name)
        predictions = {name: official(name, model, diff) for name, diff in sorted(diffs.items())}
        request = {"kind": "summarise", "run": run, "instances": sorted(answers), "predictions": predictions}
        reply = await self._tried(request)
        return self._folder / str(reply["file"])

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
        return self._folder / _LOGS / run_of(row, diff) / slug(self._settings.model) / name

    async def _tried(self, request: dict[str, Any]) -> dict[str, Any]:
        async with self._places:
            for _ in range(TRIES - 1):
                with suppress(WorkerDied):
                    return await self._asked(request)
            return await self._asked(request)

    async def _asked(self, request: dict[str, Any]) -> dict[str, Any]:
        """Ask a worker that is idle, or a new one. One that did not answer is never asked again."""
        worker = self._idle.pop() if self._idle else await Worker.start(self._folder, self._program.command)
        try:
            async with asyncio.timeout(self._settings.timeout + SLACK):
                reply = await worker.ask(request)
        except BaseException as error:
            await uninterrupted(self._end(worker))
            if isinstance(error, TimeoutError):
                raise GradingFailed("The grading process does not answer: see whether Docker does.") from error
            raise
        self._idle.append(worker)
        return told(reply)

    async def _end(self, worker: Worker) -> None:
        await worker.end()
        with suppress(AminiError):  # the next grading, or the next evaluation, tries again
            await asyncio.to_thread(self._program.sweep)


def run_of(row: str, diff: bytes) -> str:
    """Return the name of the harness's run for a patch: one for each, for it never grades twice under one name."""
    digest = hashlib.sha256(f"{_VERSION} {hashlib.sha256(row.encode()).hexdigest()} ".encode() + diff)
    return digest.hexdigest()[:24]


def told(reply: dict[str, Any]) -> dict[str, Any]:
    """Return a worker's answer. Raises `GradingFailed` where it is a failure."""
    if "failure" in reply:
        raise GradingFailed(str(reply["failure"]))
    return reply


def _link(logs: Path, summarised: Path) -> None:
    """Let the logs of a patch be seen as those of its instance in the run that is summarised."""
    summarised.parent.mkdir(parents=True, exist_ok=True)
    summarised.unlink(missing_ok=True)
    summarised.symlink_to(Path("..", "..", *logs.parts[-3:]))
