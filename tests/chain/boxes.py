"""A bench over the scripted sandbox, whose tests come to what a function of their code says."""

import json
from collections.abc import Callable

from agentless_mini.chain.session import Boxes
from agentless_mini.domain import (
    Environment,
    Event,
    Fault,
    Harness,
    Job,
    JobResult,
    Outcome,
    PackedTree,
    Place,
    Runner,
    Snapshot,
    Step,
    StepResult,
)
from agentless_mini.ports import Sandbox
from tests.fakes.records import RAN, record_for
from tests.fakes.sandbox import Answering, ScriptedSandbox, exited

PYTEST = Harness(Runner.PYTEST, ("python", "-m", "pytest"))
PLACE = Place(Environment("here"), PackedTree("d" * 64))

Said = tuple[Outcome, Fault | None]
Deciding = Callable[[str, str], Said]
"""Says what comes of a test, by its id and the code of its file (empty where the tree's own is run)."""

PASSES: Said = (Outcome.PASS, None)


def fails(kind: str = "AssertionError", message: str = "assert 1 == 2", path: str = "shop/cart.py") -> Said:
    return Outcome.FAIL, Fault(kind, message, path, 1)


def recording(decide: Deciding) -> Answering:
    """Write the record that the tests of a job would have left."""

    def answer(job: Job) -> JobResult:
        files = {file.path: (file.data or b"").decode() for file in job.files}
        return JobResult(tuple(step_result(step, files, decide) for step in job.steps))

    return answer


def step_result(step: Step, files: dict[str, str], decide: Deciding) -> StepResult:
    if not step.results:  # a command: it tells by its status
        return exited(0 if decide(step.argv[-1], "")[0] is Outcome.PASS else 1)
    plan = json.loads(files[step.argv[-1]])
    events: list[dict[str, object]] = [{"event": "begun", "id": ""}, *(RAN if plan["canaries"] else ())]
    for name in plan["wanted"]:
        outcome, fault = decide(name, files.get(name.partition("::")[0], ""))
        if outcome is not Outcome.NOT_COLLECTED:
            told = fault and {name: getattr(fault, name) for name in ("kind", "message", "path", "line")}
            events.append({"event": "start", "id": name})
            events.append({"event": "end", "id": name, "outcome": outcome.value, "seconds": 0.1, "fault": told})
    return exited(0, results={step.results[0]: record_for(step, [*events, {"event": "done"}])})


def bench(
    answer: Answering, snapshot: Snapshot, harness: Harness = PYTEST
) -> tuple[Boxes, ScriptedSandbox, list[Event]]:
    sandbox, events = ScriptedSandbox(answer), list[Event]()
    return over(sandbox, snapshot, events, harness), sandbox, events


def over(sandbox: Sandbox, snapshot: Snapshot, events: list[Event], harness: Harness = PYTEST) -> Boxes:
    return Boxes(sandbox, PLACE, harness, snapshot, events.append)
