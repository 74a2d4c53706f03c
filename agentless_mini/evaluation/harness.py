"""The official harness as a process: `python -m agentless_mini.evaluation.harness`, in the folder where its logs go.

One JSON request a line on stdin, JSON answers on stdout; what swebench prints goes to stderr. It is a process because
swebench blocks, prints, reads a `.env` and takes a second to import, and because only a process can be ended at once.
The end of stdin, which the death of its parent is too, and SIGTERM end it with all containers that it made.

What swebench says is translated here and nowhere else. A patch that does not apply, and tests that outlast the limit,
are results. Whatever else leaves no report, and a report that blames the environment, is a failure with the reason of
the instance's log: nothing is recorded of it, and a later try starts afresh.
"""

import json
import logging
import os
import queue
import re
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO, TypedDict

from agentless_mini.errors import AminiError, GradingFailed, printable
from agentless_mini.evaluation.instances import NAME
from agentless_mini.evaluation.owned_containers import Ending, OwnedClient
from agentless_mini.sandbox.containers import require_daemon, translated

CLIENT_TIMEOUT = 1800
"""Seconds without a word that an answer of the daemon may take; a silent test run is one."""
_SEEN = 300
"""Characters of a reason that are told."""
_NOT_APPLIED = re.compile(r"^\S+ \S+ - INFO - >>>>> Patch Apply Failed:", re.MULTILINE)
_TIMED_OUT = re.compile(r"\n\nTimeout error: \d+ seconds exceeded\.\Z")
_ERROR = re.compile(r" - ERROR - (.*)|EvaluationError: (?:Error in evaluation for \S+: )?(.*)")

Reply = dict[str, Any]


class GradeRequest(TypedDict):
    """A patch to be graded. `row` is the dataset's row as JSON; `run` names the folder of its logs."""

    row: str
    diff: str
    model: str
    run: str
    timeout: int


class SummaryRequest(TypedDict):
    """The official summary of a run: all instance ids, and the predictions in the official form by id."""

    run: str
    instances: list[str]
    predictions: dict[str, dict[str, str]]


class Harness:
    """Answers requests by swebench."""

    def __init__(self, ending: Ending) -> None:
        """Reach no daemon before something is to be graded."""
        self._ending = ending
        self._client: OwnedClient | None = None

    def grade(self, request: GradeRequest) -> Reply:
        """Grade a patch; an older report of the same run that says something is returned as it is."""
        from swebench.harness.run_evaluation import run_instance
        from swebench.harness.utils import make_test_spec

        row = json.loads(request["row"])
        prediction = {"instance_id": row["instance_id"], **_official(request["model"], request["diff"])}
        folder = logs_of(request["run"], request["model"], row["instance_id"])
        _forget_inconclusive(folder)
        client, limit = self._connected(), request["timeout"]
        started = time.monotonic()
        try:
            run_instance(make_test_spec(row), prediction, client, request["run"], limit)
        finally:
            client.remove_all()
        return {**_verdict(folder, row["instance_id"]), "seconds": round(time.monotonic() - started, 3)}

    def summarise(self, request: SummaryRequest) -> Reply:
        """Write the official summary of the reports that lie in the run's folder, and name its file."""
        from swebench.harness.reporting import make_run_report

        instances = [{"instance_id": name} for name in request["instances"]]
        return {"file": str(make_run_report(request["predictions"], instances, request["run"]))}

    def rows(self, request: dict[str, str], answer: BinaryIO) -> Reply:
        """Write the rows of a dataset, as swebench loads it, one a line."""
        from swebench.harness.utils import load_swebench_dataset

        for row in load_swebench_dataset(request["name"], "test"):
            _write(answer, {"row": json.dumps(row, default=str)})
        return {"end": True}

    def close(self) -> None:
        """Remove whatever container is left."""
        if self._client is not None:
            self._client.remove_all()

    def _connected(self) -> OwnedClient:
        if self._client is None:
            import docker

            require_daemon()
            with translated():
                self._client = OwnedClient(docker.from_env(timeout=CLIENT_TIMEOUT), self._ending)
        return self._client


def logs_of(run: str, model: str, instance: str) -> Path:
    """Return where swebench puts the logs of an instance, below the folder it runs in. Raises `GradingFailed`."""
    parts = (run, model.replace("/", "__"), instance)
    unfit = next((part for part in parts if not NAME.fullmatch(part)), None)
    if unfit is not None:
        raise GradingFailed(
            f"swebench cannot name a container and a folder after {printable(unfit)!r}: "
            "use letters, digits, dots, dashes and underscores."
        )
    return Path("logs", "run_evaluation", *parts)


def _official(model: str, diff: str) -> dict[str, str]:
    return {"model_name_or_path": model, "model_patch": diff}


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


def _verdict(folder: Path, instance: str) -> Reply:
    """Say what came of an evaluation, from the files that it leaves."""
    log = _text(folder / "run_instance.log")
    report = _text(folder / "report.json")
    if report:
        return _reported(json.loads(report), instance)
    if _NOT_APPLIED.search(log):
        return _unreported("The patch does not apply.", applied=False)
    if _TIMED_OUT.search(_text(folder / "test_output.txt")):
        return _unreported("The tests did not end within the time limit.", applied=True)
    return {"failure": f"swebench could not grade {instance}: {_reason(log)} Its log is {folder / 'run_instance.log'}."}


def _reported(report: dict[str, Any], instance: str) -> Reply:
    found = report[instance]
    if found["infra_failure"]:
        reason = found.get("infra_failure_reason", "it does not say why")
        return {"failure": f"swebench blames the environment of {instance}, not the patch: {printable(reason)}."}
    text = json.dumps(report, sort_keys=True)
    return {"resolved": found["resolved"], "applied": found["patch_successfully_applied"], "report": text}


def _unreported(reason: str, *, applied: bool) -> Reply:
    return {"resolved": False, "applied": applied, "report": json.dumps({"error": reason})}


def _reason(log: str) -> str:
    """Return the first error of an instance's log as one sentence."""
    found = _ERROR.search(log)
    told = next(group for group in found.groups() if group is not None) if found else "it does not say why"
    return printable(told.strip())[:_SEEN].rstrip(".") + "."


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _write(answer: BinaryIO, reply: Reply) -> None:
    answer.write(json.dumps(reply).encode() + b"\n")
    answer.flush()


def _answered(harness: Harness, request: dict[str, Any], answer: BinaryIO) -> Reply:
    """Answer one request. What goes wrong in it is an answer too: another request may fare better."""
    try:
        match request.pop("kind"):
            case "grade":
                return harness.grade(request)  # type: ignore[arg-type] # one file writes both ends
            case "summarise":
                return harness.summarise(request)  # type: ignore[arg-type]
            case "rows":
                return harness.rows(request, answer)
            case other:
                return {"failure": f"The harness knows no request {other!r}."}
    except AminiError as error:
        return {"failure": str(error)}
    except Exception as error:
        logging.exception("A request failed.")
        return {"failure": f"swebench failed: {type(error).__name__}: {printable(str(error))[:_SEEN]}"}


def _read(requests: "queue.SimpleQueue[bytes]", ending: Ending) -> None:
    for line in sys.stdin.buffer:
        requests.put(line)
    ending.ask()


def main() -> None:
    """Answer requests until stdin ends or SIGTERM comes, and leave no container."""
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    ending, requests = Ending(), queue.SimpleQueue[bytes]()
    harness = Harness(ending)
    ending.install()
    threading.Thread(target=_read, args=(requests, ending), daemon=True).start()
    try:
        while True:
            _write(answer, _answered(harness, json.loads(requests.get()), answer))
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
