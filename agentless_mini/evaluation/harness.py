"""The official harness as a process: `python -m agentless_mini.evaluation.harness`, in the folder where its logs go.

One JSON request on stdin, one JSON answer on stdout; what swebench prints goes to stderr. It is a process because
swebench blocks, prints, reads a `.env` and takes a second to import, and because only a process can be ended at once:
the death of its parent and SIGTERM end it with all containers that it made.

A patch that does not apply, and tests that outlast the limit, are results. Whatever else leaves no report, and a report
that blames the environment, is a failure with the reason of the instance's log, and a later try starts afresh.
"""

import json
import logging
import os
import re
import secrets
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from agentless_mini.errors import AminiError, GradingFailed, printable
from agentless_mini.evaluation.dataset import NAME
from agentless_mini.sandbox import host
from agentless_mini.sandbox.daemon import remove, require_daemon, translated

CLIENT_TIMEOUT = 1800
"""Seconds without a word that an answer of the daemon may take; a silent test run is one."""
_SEEN = 300
"""Characters of a reason that a message shows."""
_NOT_APPLIED = re.compile(r"^\S+ \S+ - INFO - >>>>> Patch Apply Failed:", re.MULTILINE)
_TIMED_OUT = re.compile(r"\n\nTimeout error: \d+ seconds exceeded\.\Z")
_ERROR = re.compile(r" - ERROR - (.*)|EvaluationError: (?:Error in evaluation for \S+: )?(.*)")

Request = dict[str, Any]
Reply = dict[str, Any]
"""One file, `grading`, writes the requests and reads the replies."""


class _OwnedClient:
    """What swebench gets as a Docker client: the real one, but no container that it creates is left behind.

    Each has a label that says which process made it, by which `sandbox.daemon.sweep` finds it once that process is
    dead; a name that no other evaluation has; and SIGKILL as its signal to stop, because `tail`, which holds it open,
    waits out the grace of 15 seconds otherwise. Nothing of what runs in a container changes.
    """

    def __init__(self) -> None:
        self._client: Any = None
        self._owner = host.myself()
        self._making = threading.Lock()
        self.containers = self

    def connect(self) -> None:
        import docker

        require_daemon()
        with translated():
            self._client = docker.from_env(timeout=CLIENT_TIMEOUT)
        self.images = self._client.images
        self.get = self._client.containers.get

    def create(self, name: str, **asked: Any) -> Any:  # noqa: ANN401 - the SDK's arguments
        """Create a container with an owner. It is known to the daemon, or is never made, when this process ends."""
        labels = {host.LABEL: "1", host.OWNER: self._owner}
        own = f"{name}.{secrets.token_hex(4)}"
        with self._making:
            return self._client.containers.create(name=own, labels=labels, stop_signal="SIGKILL", **asked)

    def remove_all(self) -> None:
        """Remove what this process made and is still there."""
        if self._client is not None:
            for found in self._client.api.containers(all=True, filters={"label": f"{host.OWNER}={self._owner}"}):
                remove(self._client, found["Id"])

    def end(self) -> None:
        """End this process, with whatever it made. To be called from a thread that makes no container."""
        with self._making:
            try:
                self.remove_all()
            finally:
                os._exit(0)


def grade(request: Request, client: _OwnedClient) -> Reply:
    """Grade a patch, in `timeout` seconds; an older report of the same run that says something is returned."""
    from swebench.harness.run_evaluation import run_instance
    from swebench.harness.utils import make_test_spec

    row = json.loads(request["row"])
    name, model, limit = row["instance_id"], request["model"], request["timeout"]
    prediction = {"instance_id": name, "model_name_or_path": model, "model_patch": request["diff"]}
    folder = _logs_of(request["run"], model, name)
    _forget_inconclusive(folder)
    client.connect()
    started = time.monotonic()
    try:
        run_instance(make_test_spec(row), prediction, client, request["run"], limit)
    finally:
        client.remove_all()
    return {**_verdict(folder, name, limit), "seconds": round(time.monotonic() - started, 3)}


def summarise(request: Request, _client: _OwnedClient) -> Reply:
    """Write the official summary of the reports that lie in the folder of `run`, and name its file."""
    from swebench.harness.reporting import make_run_report

    instances = [{"instance_id": name} for name in request["instances"]]
    return {"file": str(make_run_report(request["predictions"], instances, request["run"]))}


def rows(request: Request, _client: _OwnedClient) -> Reply:
    """Return the rows of the dataset `name`, each as JSON, as swebench loads it."""
    from swebench.harness.utils import load_swebench_dataset

    return {"rows": [json.dumps(row, default=str) for row in load_swebench_dataset(request["name"], "test")]}


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
    """Remove the logs of an earlier try, which swebench would return, unless they hold a conclusive report."""
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
    if report := _text(folder / "report.json"):
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


def _answered(request: Request, client: _OwnedClient) -> Reply:
    """Answer a request. What goes wrong in it is an answer too."""
    try:
        return {"grade": grade, "summarise": summarise, "rows": rows}[request["kind"]](request, client)
    except AminiError as error:
        return {"failure": str(error)}
    except Exception as error:
        logging.exception("A request failed.")
        return {"failure": f"swebench failed: {type(error).__name__}: {printable(str(error))[:_SEEN]}"}


def main() -> None:
    """Answer the request. The death of the parent and SIGTERM end this process before, with its containers."""
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    client, request = _OwnedClient(), json.load(sys.stdin)

    def end_after_parent() -> None:
        while os.getppid() == request["parent"]:
            time.sleep(0.5)
        client.end()

    # In a thread: the main one may be making a container just now.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=client.end).start())
    threading.Thread(target=end_after_parent, daemon=True).start()
    try:
        answer.write(json.dumps(_answered(request, client)).encode() + b"\n")
        answer.flush()
        sys.stderr.flush()
    finally:
        os._exit(0)  # a thread of swebench may still wait for a container that is gone


if __name__ == "__main__":
    main()
