"""The official harness as a process: `python -m agentless_mini.evaluation.harness`, in the folder where its logs go.

One JSON request a line on stdin, JSON answers on stdout; what swebench prints goes to stderr. It is a process because
swebench blocks, prints, reads a `.env` and takes a second to import, and because only a process can be ended at once.
The end of stdin (its parent died) and SIGTERM end it with all containers that it made.

What swebench says is translated here and nowhere else. A patch that does not apply, and tests that outlast the limit,
are results. Whatever else leaves no report, and a report that blames the environment, is a failure with the reason of
the instance's log: nothing is recorded of it, and a later try starts afresh.
"""

import json
import logging
import os
import queue
import re
import secrets
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from agentless_mini.errors import AminiError, GradingFailed, printable
from agentless_mini.evaluation.dataset import NAME
from agentless_mini.sandbox import host
from agentless_mini.sandbox.daemon import remove, require_daemon, translated

if TYPE_CHECKING:
    from docker import DockerClient

CLIENT_TIMEOUT = 1800
"""Seconds without a word that an answer of the daemon may take; a silent test run is one."""
_SEEN = 300
"""Characters of a reason that a message shows."""
_NOT_APPLIED = re.compile(r"^\S+ \S+ - INFO - >>>>> Patch Apply Failed:", re.MULTILINE)
_TIMED_OUT = re.compile(r"\n\nTimeout error: \d+ seconds exceeded\.\Z")
_ERROR = re.compile(r" - ERROR - (.*)|EvaluationError: (?:Error in evaluation for \S+: )?(.*)")

Request = dict[str, Any]
Reply = dict[str, Any]
"""One file, `grading`, writes the requests and reads the replies: see the methods of `_Swebench`."""


class _Termination:
    """SIGTERM as an exception in the main thread, so that `finally` is reached; a critical section holds it back."""

    def __init__(self) -> None:
        self._held = False
        self._asked = False

    def install(self) -> None:
        """Let SIGTERM raise `SystemExit` in the main thread, once."""
        signal.signal(signal.SIGTERM, self._on_signal)

    def ask(self) -> None:
        """Send the main thread the signal, whatever it waits for. To be called from another thread."""
        main = threading.main_thread().ident
        if main is not None:
            signal.pthread_kill(main, signal.SIGTERM)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold it back until the block ends."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            if self._asked:
                self._leave()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True
        if not self._held:
            self._leave()

    def _leave(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise SystemExit(0)


class _OwnedClient:
    """What swebench gets as a Docker client, so that no container of it is ever left behind.

    It is the real client but for the creation of containers: each has a label that says which process made it, by which
    `sandbox.daemon.sweep` finds it once that process is dead; a name that no other evaluation has; and SIGKILL as its
    signal to stop, because `tail`, which holds it open, waits out the grace of 15 seconds otherwise. Nothing of what
    runs in a container changes.
    """

    def __init__(self, client: "DockerClient", ending: _Termination) -> None:
        self._client = client
        self._ending = ending
        self._owner = host.myself()
        self.images = client.images
        self.containers = self

    def get(self, name: str) -> Any:  # noqa: ANN401 - the SDK's containers
        return self._client.containers.get(name)

    def create(self, name: str, **asked: Any) -> Any:  # noqa: ANN401 - the SDK's arguments
        """Create a container with an owner. It is known to the daemon, or was never made, when a signal is heard."""
        labels = {host.LABEL: "1", host.OWNER: self._owner}
        own = f"{name}.{secrets.token_hex(4)}"
        with self._ending.held():
            return self._client.containers.create(name=own, labels=labels, stop_signal="SIGKILL", **asked)

    def remove_all(self) -> None:
        """Remove what this process made and is still there."""
        mine = {"label": f"{host.OWNER}={self._owner}"}
        for found in self._client.api.containers(all=True, filters=mine):
            remove(self._client, found["Id"])


class _Swebench:
    """Answers requests by swebench."""

    def __init__(self, ending: _Termination) -> None:
        self._ending = ending
        self._client: _OwnedClient | None = None

    def grade(self, request: Request) -> Reply:
        """Grade a patch; an older report of the same run that says something is returned as it is.

        `row` is the dataset's row as JSON, `diff` the patch, `model` and `run` name the folder of its logs, `timeout`
        is the limit in seconds.
        """
        from swebench.harness.run_evaluation import run_instance
        from swebench.harness.utils import make_test_spec

        row = json.loads(request["row"])
        prediction = {
            "instance_id": row["instance_id"],
            "model_name_or_path": request["model"],
            "model_patch": request["diff"],
        }
        folder = _logs_of(request["run"], request["model"], row["instance_id"])
        _forget_inconclusive(folder)
        client, limit = self._connected(), request["timeout"]
        started = time.monotonic()
        try:
            run_instance(make_test_spec(row), prediction, client, request["run"], limit)
        finally:
            client.remove_all()
        return {**_verdict(folder, row["instance_id"], limit), "seconds": round(time.monotonic() - started, 3)}

    def summarise(self, request: Request) -> Reply:
        """Write the official summary of the reports that lie in the folder of `run`, and name its file.

        `instances` are all ids, `predictions` those in the official form by id.
        """
        from swebench.harness.reporting import make_run_report

        instances = [{"instance_id": name} for name in request["instances"]]
        return {"file": str(make_run_report(request["predictions"], instances, request["run"]))}

    def rows(self, request: Request) -> Reply:
        """Return the rows of the dataset `name`, each as JSON, as swebench loads it."""
        from swebench.harness.utils import load_swebench_dataset

        return {"rows": [json.dumps(row, default=str) for row in load_swebench_dataset(request["name"], "test")]}

    def close(self) -> None:
        """Remove whatever container is left."""
        if self._client is not None:
            self._client.remove_all()

    def _connected(self) -> _OwnedClient:
        if self._client is None:
            import docker

            require_daemon()
            with translated():
                self._client = _OwnedClient(docker.from_env(timeout=CLIENT_TIMEOUT), self._ending)
        return self._client


def _logs_of(run: str, model: str, instance: str) -> Path:
    """Return where swebench puts the logs of an instance, below the folder it runs in. Raises `GradingFailed`."""
    parts = (run, model.replace("/", "__"), instance)
    unfit = next((part for part in parts if not NAME.fullmatch(part)), None)
    if unfit is not None:
        raise GradingFailed(
            f"swebench cannot name a container and a folder after {printable(unfit)!r}: "
            "use letters, digits, dots, dashes and underscores."
        )
    return Path("logs", "run_evaluation", *parts)


def _forget_inconclusive(folder: Path) -> None:
    """Remove the logs of an earlier try, unless they have a whole report that does not blame the environment.

    swebench would return any report that is there, and what is older than the next try must not be taken for its own.
    """
    try:
        (found,) = json.loads((folder / "report.json").read_text()).values()
        conclusive = not found["infra_failure"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        conclusive = False
    if not conclusive:
        shutil.rmtree(folder, ignore_errors=True)


def _verdict(folder: Path, instance: str, limit: int) -> Reply:
    """Say what came of an evaluation, from the files that it leaves."""
    log = _text(folder / "run_instance.log")
    report = _text(folder / "report.json")
    if report:
        found = json.loads(report)[instance]
        if found["infra_failure"]:
            reason = printable(found.get("infra_failure_reason", "it does not say why"))
            return {"failure": f"swebench blames the environment of {instance}, not the patch: {reason}."}
        report = json.dumps(json.loads(report), sort_keys=True)
        return {"resolved": found["resolved"], "applied": found["patch_successfully_applied"], "report": report}
    if _NOT_APPLIED.search(log):
        report = json.dumps({"error": "The patch does not apply."})
        return {"resolved": False, "applied": False, "report": report}
    if _TIMED_OUT.search(_text(folder / "test_output.txt")):
        report = json.dumps({"error": "The tests did not end within the time limit.", "timeout": limit})
        return {"resolved": False, "applied": True, "report": report}
    error = _ERROR.search(log)
    said = next(group for group in error.groups() if group is not None) if error else "it does not say why"
    reason = printable(said.strip())[:_SEEN].rstrip(".")
    return {"failure": f"swebench could not grade {instance}: {reason}. Its log is {folder / 'run_instance.log'}."}


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _answered(harness: _Swebench, request: Request) -> Reply:
    """Answer one request. What goes wrong in it is an answer too: another request may fare better."""
    try:
        match request.pop("kind"):
            case "grade":
                return harness.grade(request)
            case "summarise":
                return harness.summarise(request)
            case "rows":
                return harness.rows(request)
            case other:
                return {"failure": f"The harness knows no request {other!r}."}
    except AminiError as error:
        return {"failure": str(error)}
    except Exception as error:
        logging.exception("A request failed.")
        return {"failure": f"swebench failed: {type(error).__name__}: {printable(str(error))[:_SEEN]}"}


def main() -> None:
    """Answer requests until stdin ends or SIGTERM comes, and leave no container."""
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    ending, requests = _Termination(), queue.SimpleQueue[bytes]()
    harness = _Swebench(ending)

    def read() -> None:
        for line in sys.stdin.buffer:
            requests.put(line)
        ending.ask()

    ending.install()
    threading.Thread(target=read, daemon=True).start()
    try:
        while True:
            reply = _answered(harness, json.loads(requests.get()))
            answer.write(json.dumps(reply).encode() + b"\n")
            answer.flush()
    except SystemExit:
        harness.close()
    except BaseException:
        logging.exception("The worker failed.")
        harness.close()
        raise
    finally:
        sys.stderr.flush()
        os._exit(0)  # a thread of swebench may still wait for a container that is gone


if __name__ == "__main__":
    main()
