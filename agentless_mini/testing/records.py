"""Tells what came of the cases of a step: from the record that it leaves or its status, and from how it ended.

Everything in a record is foreign: what is not as it should be is left out. A true record is not told from one that a
test wrote: see `testing`.
"""

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agentless_mini.domain import TOO_BUSY, Case, CaseResult, Ending, Fault, Outcome, StepResult
from agentless_mini.testing.inside.amini_record import LEFT as LEFT
from agentless_mini.testing.plans import Task

MOST_LINE = 64 * 1024
MOST_ID = 4000
MOST_TEXT = 2000
MOST_SECONDS = 1e6
_WORST = (Outcome.FAIL, Outcome.ERROR, Outcome.TIMEOUT, Outcome.SKIP, Outcome.PASS)
_WHOLE = (Outcome.FAIL, Outcome.ERROR, Outcome.TIMEOUT, Outcome.PASS, Outcome.SKIP)
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
_SAID = frozenset({"pass", "fail", "error", "timeout", "skip"})


@dataclass(frozen=True, slots=True)
class Record:
    """What a step wrote down.

    `results` are those of tests, and of files and classes as a whole, in the order in which they ended; `running` is
    the one that did not (empty: none), `late` whether its clock had rung. `done` says that all was run that there is,
    `stopped` what kept the runner from beginning.
    """

    results: tuple[CaseResult, ...] = ()
    running: str = ""
    late: bool = False
    begun: bool = False
    done: bool = False
    stopped: Fault | None = None

    def cut_short(self, outcome: Outcome, words: str) -> "Record":
        """Return the record of a step that ended like this under what was running."""
        if not self.running:
            return self
        ended = CaseResult(self.running, Outcome.TIMEOUT if self.late else outcome, fault=Fault("", words))
        return replace(self, results=_merged((*self.results, ended)), running="", late=False)

    def results_for(self, wanted: Iterable[str]) -> Mapping[str, CaseResult]:
        """Return what came of cases: of all tests that each stands for. Those that were not reached are left out."""
        ids = sorted((result.id, place) for place, result in enumerate(self.results))
        found = {name: self._result_for(name, ids) for name in wanted}
        return {name: result for name, result in found.items() if result is not None}

    def _result_for(self, wanted: str, ids: Sequence[tuple[str, int]]) -> CaseResult | None:
        """Return what came of a case. `ids` are those of the results, in order, with the places of these."""
        own = [self.results[place] for place in _covered(wanted, ids)]
        found = own or [result for result in self.results if covers(result.id, wanted)]
        if not found:
            return CaseResult(wanted, Outcome.NOT_COLLECTED) if self.done else None
        worst = min(found, key=lambda result: _WHOLE.index(result.outcome))
        ended = self.done or bool(worst.fault) or wanted == worst.id or found[-1] is not self.results[-1]
        if not ended:
            return None  # there may be more tests in it
        return CaseResult(wanted, worst.outcome, sum(result.seconds for result in found), worst.fault)


def _covered(wanted: str, ids: Sequence[tuple[str, int]]) -> list[int]:
    """Return the places of what `wanted` covers. Of ids in order, those that begin alike stand together."""
    places: list[int] = []
    for start, end in ((wanted, f"{wanted}\0"), (f"{wanted}::", f"{wanted}:;"), (f"{wanted}[", f"{wanted}\\")):
        places += [place for _, place in ids[bisect_left(ids, (start, 0)) : bisect_left(ids, (end, 0))]]
    return sorted(places)


def covers(wanted: str, name: str) -> bool:
    """Tell whether a file, class, function or test stands for a test, among others."""
    return name == wanted or name.startswith((f"{wanted}::", f"{wanted}["))


def read_record(data: bytes) -> Record:
    """Return what a record says. An id that ended twice has the worse of its outcomes."""
    record = Record()
    results: list[CaseResult] = []
    for event in _events(data):
        kind, name = event["event"], event["id"]
        if kind == "start":
            record = Record((), name, begun=True, done=record.done, stopped=record.stopped)  # sooner than replace()
        elif kind in {"begun", "done"}:
            record = replace(record, begun=True, done=record.done or kind == "done")
        elif kind == "late":
            record = replace(record, late=True)
        elif kind == "stopped":
            record = replace(record, stopped=_fault(event.get("fault")) or Fault("", ""))
        elif kind == "ended":  # a process, and with it the test that was running
            hung = event.get("hung") is True
            words = f"Its process ended with status {_whole(event.get('status'))}."
            outcome, words = (Outcome.TIMEOUT, "Its process did not go on.") if hung else (Outcome.ERROR, words)
            record = record.cut_short(outcome, words)
            results += record.results
            record = replace(record, results=())
        elif kind == "end" and (result := _result(event)) is not None:
            results.append(result)
        if kind in {"end", "read"} and name == record.running:
            record = Record((), begun=record.begun, done=record.done, stopped=record.stopped)
    return replace(record, results=_merged(results))


def _events(data: bytes) -> Iterator[Mapping[str, Any]]:
    for line in data.split(b"\n"):
        if 0 < len(line) <= MOST_LINE:
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(event, dict) and _is_text(event.get("event"), 20) and _is_text(event.get("id"), MOST_ID):
                yield event


def _is_text(value: object, most: int) -> bool:
    """Tell whether it is a text that a path can be written as."""
    try:
        return isinstance(value, str) and len(value.encode("utf-8", "surrogateescape")) <= most
    except UnicodeEncodeError:
        return False


def _result(event: Mapping[str, Any]) -> CaseResult | None:
    outcome, seconds = event.get("outcome"), event.get("seconds")
    if not isinstance(outcome, str) or outcome not in _SAID or not event["id"]:
        return None
    measured = isinstance(seconds, int | float) and 0 <= seconds <= MOST_SECONDS
    return CaseResult(
        event["id"], Outcome(outcome), float(seconds or 0) if measured else 0.0, _fault(event.get("fault"))
    )


def _fault(value: object) -> Fault | None:
    if not isinstance(value, dict):
        return None
    kind, message, path = (_printed(value.get(name)) for name in ("kind", "message", "path"))
    return Fault(kind, message, path, _whole(value.get("line")))


def _printed(value: object) -> str:
    return value[:MOST_TEXT].encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else ""


def _whole(value: object) -> int:
    return value if isinstance(value, int) and abs(value) < 2**31 else 0


def _merged(results: Iterable[CaseResult]) -> tuple[CaseResult, ...]:
    worst: dict[str, CaseResult] = {}
    for result in results:
        before = worst.get(result.id, result)
        worst[result.id] = min(before, result, key=lambda one: _WORST.index(one.outcome))
    return tuple(worst.values())


# --- what came of cases ----------------------------------------------------------------------------------------------


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
