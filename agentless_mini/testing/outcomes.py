"""Tells what came of the cases of a step, from its record or its status, and from how it ended."""

from collections.abc import Mapping

from agentless_mini.domain import TOO_BUSY, Case, CaseResult, Ending, Fault, Outcome, StepResult
from agentless_mini.testing.plans import Task
from agentless_mini.testing.records import MOST_TEXT, Record, read_record

# Not found, as a shell and the box say it: the command was not run, which is no failure of a test.
CANNOT_RUN = 127
_ENDINGS = {
    Ending.EXITED: (Outcome.ERROR, "It ended without a word of this test"),
    Ending.TIMED_OUT: (Outcome.TIMEOUT, "It took too long"),
    Ending.STARVED: (Outcome.TIMEOUT, TOO_BUSY),
    Ending.NOT_RUN: (Outcome.TIMEOUT, "The time of the box was over before"),
    Ending.OUT_OF_MEMORY: (Outcome.ERROR, "It used more memory or disk than a box has"),
    Ending.BOX_DIED: (Outcome.ERROR, "The box ended under it"),
}


def record_of(task: Task, step: StepResult) -> Record:
    """Return the record of a step, with what its ending says of the test that was running."""
    (data, *_) = (*(file.data for file in step.results if file.path == task.record), b"")
    outcome, words = _ENDINGS[step.ending]
    return read_record(data).cut_short(outcome, f"{words}.")


def reached(task: Task, step: StepResult) -> Mapping[str, CaseResult]:
    """Return what came of the cases of a step, by id. Those that may end well in a step of their own are left out."""
    if not task.record:
        result = _of_command(step)
        return {} if result is None else {case.id: CaseResult(case.id, *result) for case in task.cases}
    record = record_of(task, step)
    if not record.begun and step.ending in {Ending.EXITED, Ending.TIMED_OUT}:
        return {case.id: _without_record(case, step, record.stopped) for case in task.cases}
    return record.results_for(case.id for case in task.cases)


def settled(task: Task, step: StepResult) -> Mapping[str, CaseResult]:
    """Return what came of all cases of a step that is not followed by another."""
    found = reached(task, step)
    return {case.id: found.get(case.id) or _without_record(case, step, None) for case in task.cases}


def _of_command(step: StepResult) -> tuple[Outcome, float, Fault | None] | None:
    if step.ending in {Ending.NOT_RUN, Ending.BOX_DIED, Ending.STARVED}:
        return None
    if step.succeeded:
        return Outcome.PASS, step.seconds, None
    outcome, words = _ENDINGS[step.ending]
    if step.ending is Ending.EXITED:
        outcome = Outcome.ERROR if step.status == CANNOT_RUN else Outcome.FAIL
        words = f"It ended with status {step.status}"
    return outcome, step.seconds, Fault("", _told(words, step))


def _without_record(case: Case, step: StepResult, stopped: Fault | None) -> CaseResult:
    outcome, words = _ENDINGS[step.ending]
    return CaseResult(case.id, outcome, fault=stopped or Fault("", _told(words, step)))


def _told(words: str, step: StepResult) -> str:
    """Return the words with the end of what was printed, which people may want to read."""
    printed = step.output.text().strip()[-MOST_TEXT // 2 :]
    return f"{words}: {printed}" if printed else f"{words}."
