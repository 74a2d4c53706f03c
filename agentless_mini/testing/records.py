"""Tells what came of the cases of a step: from the record that it leaves or its status, and from how it ended.

A record's lines are sealed by the driver of the box: where a seal is broken, or something else than the runner spoke to
the driver, the box is `forged`. What the lines say is foreign all the same, since the runner runs the tree's code: a
test passed only where it began and ended, in a process that came to its regular end or was ended by a later test, and
that ran as many tests as it had collected. Tests of ours among the others show whether results are what they are told
to be.
"""

import base64
import hashlib
import json
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentless_mini.domain import TOO_BUSY, Case, CaseResult, Ending, Fault, Outcome, StepResult
from agentless_mini.testing.formats import MOST_ID, READERS, placed
from agentless_mini.testing.inside.amini_record import LEFT as LEFT
from agentless_mini.testing.plans import Task

MOST_LINE = 64 * 1024
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
OTHERS = "something else than the runner wrote in the record of its tests"
UNLIKE = "tests that must {} there did not"
NONE_OF_OURS = "tests passed there, and none of those that were put beside them ran"
_CHANGED = "Another file's tests changed it before it ran"
_NO_LAST_WORD = Fault("", "Its process ended without a last word.")
_CHANGED_FILE = Fault("", f"{_CHANGED}.")
_OTHER_NUMBER = Fault("", "Its process did not run as many tests as it had collected.")


@dataclass(frozen=True, slots=True)
class Record:
    """What a step wrote down.

    `results` are those of tests, and of files and classes as a whole, in the order in which they ended. `done` says
    that all was run that there is, `stopped` what kept the runner from beginning, `forged` why nothing of it is
    believed, `unread` (a sentence) why none of the reports that the user's command was to leave tells of a test.
    """

    results: tuple[CaseResult, ...] = ()
    begun: bool = False
    done: bool = False
    stopped: Fault | None = None
    forged: str = ""
    unread: str = ""

    def results_for(self, wanted: Iterable[str]) -> Mapping[str, CaseResult]:
        """Return what came of cases: of all tests that each stands for. Those that were not reached are left out."""
        ids = sorted((result.id, place) for place, result in enumerate(self.results))
        found = {name: self._result_for(name, ids) for name in wanted}
        return {name: result for name, result in found.items() if result is not None}

    def _result_for(self, wanted: str, ids: Sequence[tuple[str, int]]) -> CaseResult | None:
        """Return what came of a case. `ids` are those of the results, in order, with the places of these."""
        # What a name covers: of ids in order, those that begin alike stand together.
        ranges = ((wanted, f"{wanted}\0"), (f"{wanted}::", f"{wanted}:;"), (f"{wanted}[", f"{wanted}\\"))
        own = [one for start, end in ranges for one in ids[bisect_left(ids, (start, 0)) : bisect_left(ids, (end, 0))]]
        found = [self.results[place] for place in sorted(place for _, place in own)]
        found = found or [result for result in self.results if covers(result.id, wanted)]
        if not found:
            return CaseResult(wanted, Outcome.NOT_COLLECTED) if self.done else None
        worst = min(found, key=lambda result: _WHOLE.index(result.outcome))
        ended = self.done or bool(worst.fault) or wanted == worst.id or found[-1] is not self.results[-1]
        if not ended:
            return None  # there may be more tests in it
        return CaseResult(wanted, worst.outcome, sum(result.seconds for result in found), worst.fault)


def covers(wanted: str, name: str) -> bool:
    """Tell whether a file, class, function or test stands for a test, among others."""
    return name == wanted or name.startswith((f"{wanted}::", f"{wanted}["))


def read_record(data: bytes, key: str, ending: Ending = Ending.EXITED, canaries: int = 0) -> Record:
    """Return what a record says, sealed with a key, of a step that ended like this and had so many `canaries` to run.

    An id that ended twice has the worse of its outcomes.
    """
    reading = _Reading(canaries > 0)
    for event in _events(data, key):
        reading.take(event["event"], event["id"], event)
    outcome, words = _ENDINGS[ending]
    reading.end(outcome, f"{words}.", is_killed=ending is not Ending.EXITED)
    if reading.forged:
        return Record(begun=reading.begun, forged=reading.forged)
    return Record(_merged(reading.results), reading.begun, reading.done, reading.stopped)


@dataclass(slots=True)
class _Reading:
    """A record that is being read: what was said of the processes before, and of the one that runs."""

    has_canaries: bool
    results: list[CaseResult] = field(default_factory=list)
    begun: bool = False
    done: bool = False
    stopped: Fault | None = None
    forged: str = ""
    process: list[CaseResult] = field(default_factory=list)
    started: set[str] = field(default_factory=set)
    canaries: dict[str, str] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    running: str = ""
    late: bool = False
    last: str = ""
    collected: int | None = None
    ran: int = 0

    def take(self, kind: str, name: str, event: Mapping[str, Any]) -> None:
        """Take the next event."""
        self.begun = self.begun or kind in {"begun", "start", "done", "over"}
        self.changed |= {name} if kind == "changed" else set()
        match kind:
            case "start":
                self.running, self.late = name, False
                self.started.add(name)
                self.ran += 1
            case "end" if (result := _result(event)) and (result.outcome is not Outcome.PASS or name in self.started):
                self.process.append(result)
            case "late" | "done" | "over":
                self.late, self.last = self.late or kind == "late", self.last if kind == "late" else kind
            case "stopped":
                self.stopped = _fault(event.get("fault")) or Fault("", "")
            case "canary":
                self.canaries[name] = str(event.get("expected"))
            case "collected":
                self.collected, self.ran = _whole(event.get("number")), 0  # before, files were read
            case "foreign":
                self.forged = self.forged or OTHERS
            case "ended" | "closed":  # a process, and the driver
                hung = event.get("hung") is True
                words = f"Its process ended with status {_whole(event.get('status'))}."
                outcome, words = (Outcome.TIMEOUT, "Its process did not go on.") if hung else (Outcome.ERROR, words)
                self.end(outcome, words, is_killed=hung)
        if kind in {"end", "read"} and name == self.running:
            self.running, self.late = "", False

    def end(self, outcome: Outcome, words: str, *, is_killed: bool) -> None:
        """The process ended, and with it the test that was running: nothing else ends one well without a last word."""
        passed = Outcome.PASS
        has_passed = any(one.outcome is passed for one in self.process)
        doubt: Fault | None = None
        if self.running:
            fault = Fault("", words)
            self.process.append(CaseResult(self.running, Outcome.TIMEOUT if self.late else outcome, fault=fault))
        elif self.last == "done" and self.collected not in {None, self.ran}:
            doubt = _OTHER_NUMBER
        elif not self.last and not is_killed:
            doubt = _NO_LAST_WORD
        else:
            self.done = self.done or self.last == "done"
        came = {one.id: one.outcome for one in self.process if one.id in self.canaries}
        for name, expected in self.canaries.items():
            wrong = passed if expected == "fail" else Outcome.FAIL
            if came.get(name, wrong if self.last == "done" else None) is wrong:
                self.forged = self.forged or UNLIKE.format(expected)
        if self.has_canaries and self.last and has_passed and not self.canaries:
            self.forged = self.forged or NONE_OF_OURS
        for one in (one for one in self.process if one.id not in self.canaries):
            why = doubt or (_CHANGED_FILE if one.id.partition("::")[0] in self.changed else None)
            believed = why is None or one.outcome is not passed
            self.results.append(one if believed else CaseResult(one.id, Outcome.ERROR, one.seconds, why))
        self.process, self.started, self.canaries = [], set(), {}
        self.running, self.late, self.last, self.collected, self.ran = "", False, "", None, 0


def seal(key: str, before: str, line: str) -> str:
    """Return the seal of a line after that of the line before it, as the driver makes it."""
    data = (before + line).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(data, digest_size=32, key=key.encode()).hexdigest()


def _events(data: bytes, key: str) -> Iterator[Mapping[str, Any]]:
    before = ""
    *lines, _ = data.split(b"\n")  # what follows the last line was cut off
    for text in lines:
        said, _, line = text.decode("utf-8", "surrogateescape").partition(" ")
        before = seal(key, before, line)
        if said != before:
            yield {"event": "foreign", "id": ""}
            return
        if len(line) <= MOST_LINE:
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(event, dict) and _is_text(event.get("event"), 20) and _is_text(event.get("id"), MOST_ID):
                yield event


# --- what runners of other languages report ---------------------------------------------------------------------------

_CUT, _HUNG = "What its runner reported is not whole", "It took too long"
_NO_END = "Tests of ours at the end of its file did not run"
_NO_FAILURE = "Its process ended with status {}, though no test failed"
_BAD = {Outcome.FAIL, Outcome.ERROR}


def read_runs(data: bytes, key: str, format_name: str, report: str = "") -> Record:
    """Return what a record of reports says, sealed with a key, each in the format of this name.

    In a process that was cut off, ended early or hung no test passed. `report` is where the user's command leaves it.
    """
    results, parts, root, unread = list[CaseResult](), dict[str, bytes](), "", list[str]()
    begun = done = False
    for event in _events(data, key):
        match event["event"]:
            case "foreign":
                return Record(begun=begun, forged=OTHERS)
            case "begun":
                begun, root = True, str(event.get("root"))
            case "part":
                parts[event["id"]] = parts.get(event["id"], b"") + base64.b64decode(str(event.get("data")))
            case "left":
                results.append(CaseResult(event["id"], Outcome.SKIP, fault=Fault("", LEFT)))
            case "ran" if event["files"]:
                run = _Run(event, parts, format_name, root)
                if run.forged:
                    return Record(begun=begun, forged=run.forged)
                results += run.results()
                unread.append(run.unread(report) if report else "")
                parts = {}
            case "closed":
                done = True
    return Record(_merged(results), begun, done, unread=unread[0] if unread and all(unread) else "")


class _Run:
    """One process of a runner, as its event and what it reported (`parts`) tell."""

    def __init__(self, event: Mapping[str, Any], parts: Mapping[str, bytes], format_name: str, root: str) -> None:
        self.event, self.parts, self.root = event, parts, root
        self.status = _whole(event["status"])
        self.found = None if event["cut"] else READERS[format_name](parts)
        self.told = list(placed(self.found or (), event["files"], event["names"], root))
        failed = any(one.outcome in _BAD for _, one in self.told)
        self.problem = (
            (_HUNG if event["hung"] else "")
            or (_CUT if self.found is None else "")
            or (_CHANGED if event["changed"] else "")
            or (_NO_FAILURE.format(self.status) if self.status and self.told and not failed else "")
        )
        self.ours = {f"{file}::{name}": (file, expected) for file, name, expected in event["canaries"]}
        came = {_of_file(id_): one.outcome for id_, one in self.told if _of_file(id_) in self.ours}
        self.cut_short = {file for id_, (file, _) in self.ours.items() if id_ not in came}
        unlike = (
            expected
            for id_, (_, expected) in self.ours.items()
            if came.get(id_) is (Outcome.PASS if expected == "fail" else Outcome.FAIL)
        )
        self.forged = next((UNLIKE.format(expected) for expected in unlike), "")

    def results(self) -> Iterator[CaseResult]:
        """Yield what came of each test, and of files that have none or whose tests are not all known."""
        known = set[str]()
        for id_, one in self.told:
            file = id_.partition("::")[0]
            doubt = self.problem or (_NO_END if file in self.cut_short else "")
            if _of_file(id_) in self.ours:
                continue
            known.add(file)
            if doubt and one.outcome is Outcome.PASS:
                yield CaseResult(id_, Outcome.ERROR, one.seconds, Fault("", f"{doubt}."))
            else:
                yield CaseResult(id_, one.outcome, one.seconds, self._inside(one.fault))
        printed = b"\n".join(self.parts.get(name, b"") for name in ("err", "out")).decode("utf-8", "replace")
        for file in self.event["files"]:
            why = self.problem or (_NO_END if file in self.cut_short else "")
            if self.event["hung"] or (why and file not in known):
                fault = Fault("", _printed(_with_end(why, printed)))
                yield CaseResult(file, Outcome.TIMEOUT if self.event["hung"] else Outcome.ERROR, 0.0, fault)

    def _inside(self, fault: Fault | None) -> Fault | None:
        """Return a fault with its path as the tree has it."""
        if fault is None:
            return None
        path = fault.path.removeprefix(f"{self.root}/")
        where = ("", 0) if path.startswith("/") else (path, fault.line)
        return Fault(fault.kind, _printed(fault.message), *where)

    def unread(self, report: str) -> str:
        """Return why the report that the user's command was to leave tells of no test, and what to try; else ""."""
        if self.told or self.event["hung"]:
            return ""
        return f"--test-report {report} tells of no test: {self._reason(report)}."

    def _reason(self, report: str) -> str:
        ended = f"the test command ended with status {self.status} and" if self.status else "the test command"
        printed = self.parts.get("out", b"")
        if self.status == CANNOT_RUN:
            return "a program of the test command is not there (status 127): install it by --setup, or give its path"
        if self.event["cut"]:
            return "it is larger than what a box brings back: have the test command tell less"
        if report == "-" and self.found is None:
            if not printed.strip():
                return f"{ended} printed nothing: have it print TAP, or give the path of its JUnit XML"
            if not re.search(rb"^ *(?:not )?ok\b", printed, re.MULTILINE):
                return f"{ended} printed no TAP: choose its reporter for TAP, or give the path of its JUnit XML"
            return "its TAP is not whole: the plan (1..N) has to count the tests, and nothing to bail out"
        if report != "-" and not self.event["left"]:
            if report.startswith(("/", "../")):
                return "that is outside of the tree: have the test command write it there, and give that path"
            return f"{ended} left no such file: give the path of its JUnit XML from the top, or - if it prints TAP"
        if not any(name.startswith("report") for name in self.parts) and report != "-":
            return "it is empty: see whether the test command runs to its end"
        if self.found is None:
            return "it is no whole JUnit XML: choose the reporter that writes that"
        what = "its tests are of other files" if self.found else "no test is in it"
        return f"{what}: see whether the test command runs the file at {{tests}}"


def _of_file(name: str) -> str:
    """Return what stands right below its file, of that which a test is in."""
    return "::".join(name.split("::", 2)[:2])


def _is_text(value: object, most: int) -> bool:
    """Tell whether it is a text that a path can be written as."""
    try:
        return isinstance(value, str) and len(value.encode("utf-8", "surrogateescape")) <= most
    except UnicodeEncodeError:
        return False


def _result(event: Mapping[str, Any]) -> CaseResult | None:
    outcome, seconds = event.get("outcome"), event.get("seconds")
    if not isinstance(outcome, str) or outcome not in set(_WORST) or not event["id"]:
        return None
    measured = float(seconds) if isinstance(seconds, int | float) and 0 <= seconds <= MOST_SECONDS else 0.0
    return CaseResult(event["id"], Outcome(outcome), measured, _fault(event.get("fault")))


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
    """Return the record of a step, with what its ending says of the test that was running; of a command it is empty."""
    data = next((file.data for file in step.results if file.path == task.record), b"")
    if task.format:
        return read_runs(data, task.key, task.format, task.report)
    return read_record(data, task.key, step.ending, task.canaries)


def reached(task: Task, step: StepResult, record: Record) -> Mapping[str, CaseResult]:
    """Return what came of the cases of a step, by id. Those that may end well in a step of their own are left out."""
    if not task.record:
        result = _of_command(step)
        return {} if result is None else {case.id: CaseResult(case.id, *result) for case in task.cases}
    if not record.begun and step.ending in {Ending.EXITED, Ending.TIMED_OUT}:
        return {case.id: _without_record(case, step, record.stopped) for case in task.cases}
    return record.results_for(case.id for case in task.cases)


def settled(task: Task, step: StepResult, record: Record) -> Mapping[str, CaseResult]:
    """Return what came of all cases of a step that is not followed by another."""
    found = reached(task, step, record)
    return {case.id: found.get(case.id) or _without_record(case, step, None) for case in task.cases}


def _of_command(step: StepResult) -> tuple[Outcome, float, Fault | None] | None:
    if step.ending in {Ending.NOT_RUN, Ending.BOX_DIED, Ending.STARVED}:
        return None
    outcome, words = _ENDINGS[step.ending]
    if step.ending is Ending.EXITED:
        failed = Outcome.ERROR if step.status == CANNOT_RUN else Outcome.FAIL
        outcome, words = failed if step.status else Outcome.PASS, f"It ended with status {step.status}"
    return outcome, step.seconds, Fault("", _with_end(words, step.output.text()))


def _without_record(case: Case, step: StepResult, stopped: Fault | None) -> CaseResult:
    outcome, words = _ENDINGS[step.ending]
    return CaseResult(case.id, outcome, fault=stopped or Fault("", _with_end(words, step.output.text())))


def _with_end(words: str, printed: str) -> str:
    """Return the words with the end of what was printed, which people may want to read."""
    end = printed.strip()[-MOST_TEXT // 2 :]
    return f"{words}: {end}" if end else f"{words}."
