"""Writes down what comes of each test, line by line, so that whatever ends the process leaves what came before.

It opens and closes the file for each line: tests close descriptors, change folders, fork and replace functions.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

Foreign = Any  # what has no types in a box: objects of pytest, of unittest and of the project
MOST_TEXT = 2000
MOST_NAME = 200
MOST_ID = 4000
MARGIN = 64 * 1024
READING = 60.0  # seconds that a file may take to be imported
FILES = 4  # a budget is for so many files at least, if there are: one that has had its share is not gone on with
LEFT = "the tests before have used up its file's share of the budget, or all of it"
RANKS = ("pass", "skip", "timeout", "error", "fail")
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT
_open, _write, _close, _getpid = os.open, os.write, os.close, os.getpid
_dumps, _setitimer, _signal, _times, _read = json.dumps, signal.setitimer, signal.signal, os.times, os.read


class CaseTimeout(BaseException):
    """A test takes too long. It is no Exception, so that fewer tests swallow it."""


class Recorder:
    """The record of one process: which tests are wanted of it, and what became of them."""

    def __init__(self, plan_path: str) -> None:
        """Read the plan, and what earlier processes have recorded."""
        here = Path(__file__)
        self.roots = tuple(dict.fromkeys((str(here.resolve().parent.parent), str(here.parent.parent))))
        self.folder = str(Path.cwd())
        self.path = plan_path
        self.plan = json.loads(Path(plan_path).read_text("utf-8"))
        self.wanted = frozenset(self.plan["wanted"])
        self.record = str(Path(self.roots[0], self.plan["record"]))
        self.seen = set()  # type: set[str]
        self.events = {}  # type: dict[str, int]
        self.spent = {}  # type: dict[str, float]
        self.begun = own_seconds()
        self.room = int(self.plan["room"]) - MARGIN
        self.budget = float(self.plan.get("budget") or "inf")
        self.share = self.budget / max(1, min(FILES, len({name.partition("::")[0] for name in self.wanted})))
        self.process = _getpid()
        self.current = self.outcome = ""
        self.fault = None  # type: dict[str, Foreign] | None
        self.late = False
        self.limit = None  # type: Foreign
        self._read_record()

    def _read_record(self) -> None:
        path = Path(self.record)
        for line in path.read_bytes().splitlines(True) if path.exists() else []:
            self.room -= len(line)
            try:
                event = json.loads(line.decode("ascii"))
                kind, name = str(event["event"]), str(event["id"])
            except (ValueError, TypeError, KeyError, RecursionError):
                continue
            self.events[kind] = self.events.get(kind, 0) + 1
            if kind == "start":
                self.seen.add(name)
                self.limit = event.get("limit")
            elif kind == "read":
                self.seen.discard(name)
            elif kind == "end" and isinstance(event.get("seconds"), float):
                self._spend(name, event["seconds"])

    @property
    def full(self) -> bool:
        """Tell whether nothing more can be recorded, or the tests have used up their budget."""
        return self.room < 0 or sum(self.spent.values()) >= self.budget

    def _spend(self, name: str, seconds: float) -> None:
        file = name.partition("::")[0]
        self.spent[file] = self.spent.get(file, 0.0) + seconds

    def files(self) -> "list[str]":
        """Return the absolute paths of the files that have something wanted and have not stopped a process before."""
        paths = dict.fromkeys(wanted.partition("::")[0] for wanted in self.plan["wanted"])
        full = [self.roots[0] + "/" + path for path in paths if path not in self.seen]
        return [path for path in full if Path(path).is_file()]

    def wants(self, name: str) -> bool:
        """Tell whether a test is to be run now: it, its function, its class or its file is wanted and has time left."""
        return self.asks(name) and not self.full and self.spent.get(name.partition("::")[0], 0.0) < self.share

    def asks(self, name: str) -> bool:
        """Tell whether a test is wanted and was not begun before, though there be no time for it."""
        if name in self.seen:
            return False
        parts = name.partition("[")[0].split("::")
        return name in self.wanted or any("::".join(parts[:end]) in self.wanted for end in range(1, len(parts) + 1))

    def start(self, name: str) -> None:
        """A test begins."""
        self._start(name, self.plan["seconds"])

    def start_reading(self, name: str) -> None:
        """A file is about to be imported, and for the first time whatever it needs."""
        self._start(name, max(self.plan["seconds"], READING))

    def _start(self, name: str, limit: float) -> None:
        self.current = name[:MOST_ID]
        self.reset()
        self.begun = own_seconds()
        self.say("start", limit=limit)
        self._arm(limit)

    def reset(self) -> None:
        """Forget what became of the test so far: it is tried again."""
        self.outcome, self.fault, self.late = "", None, False

    def note(self, outcome: str, error: "BaseException | None", words: str = "") -> None:
        """A part of the running test ended like this. The worst counts, and the fault that came with it first."""
        if self.late and outcome in ("fail", "error"):
            outcome = "timeout"
        if not self.outcome or RANKS.index(outcome) > RANKS.index(self.outcome):
            self.outcome, self.fault = outcome, self.fault_of(error, words)

    def end(self) -> None:
        """The running test ended, after so many seconds of its own. One of which nothing was noted was cut short."""
        self._arm(0)
        seconds = max(own_seconds() - self.begun, 0.0)
        self._spend(self.current, seconds)
        self.say("end", outcome=self.outcome or "error", seconds=round(seconds, 4), fault=self.fault)
        self.current = ""

    def stop(self) -> None:
        """The file is read."""
        self._arm(0)
        self.say("read")
        self.current = ""

    def whole(self, name: str, outcome: str, error: "BaseException | None") -> None:
        """A file or class came to this as a whole: it cannot be read, or is skipped."""
        self._arm(0)
        self.current = name[:MOST_ID]
        outcome = "timeout" if self.late and outcome == "error" else outcome
        self.say("end", outcome=outcome, seconds=0.0, fault=self.fault_of(error, ""))
        self.current = ""

    def leave(self, name: str) -> None:
        """A test that is asked for has no time left."""
        if self.budget < float("inf") and self.asks(name):
            self.current = name[:MOST_ID]
            self.say("end", outcome="skip", seconds=0.0, fault=self.fault_of(None, LEFT))
            self.current = ""

    def say(self, event: str, **more: Foreign) -> None:
        """Write a line, at once. A process that a test has forked writes nothing."""
        if _getpid() != self.process:
            return
        line = _dumps(dict(more, event=event, id=self.current)).encode("ascii") + b"\n"
        self.room -= len(line)
        if self.room > -MARGIN // 2:
            descriptor = _open(self.record, _APPEND, 0o644)
            _write(descriptor, line)
            _close(descriptor)

    def _arm(self, seconds: float) -> None:
        """Set or stop the clock of a test. It only rings in the main thread, and between two steps of Python."""
        if threading.current_thread() is threading.main_thread():
            _signal(signal.SIGALRM, self._ring)
            _setitimer(signal.ITIMER_REAL, seconds)

    def _ring(self, *_: object) -> None:
        if self.current and _getpid() == self.process:
            self.late = True
            self.say("late")
            raise CaseTimeout("it took too long")

    def fault_of(self, error: "BaseException | None", words: str) -> "dict[str, Foreign] | None":
        """Return what an exception says, and where in the tree it came from: the innermost frame that is there."""
        if error is None:
            return {"kind": "", "message": words[:MOST_TEXT], "path": "", "line": 0} if words else None
        path, line = self._origin(error)
        return {"kind": str(type(error).__name__)[:MOST_NAME], "message": text_of(error), "path": path, "line": line}

    def _origin(self, error: BaseException) -> "tuple[str, int]":
        if isinstance(error, SyntaxError) and self.relative(str(error.filename)):
            return self.relative(str(error.filename)), error.lineno or 0
        found, trace = ("", 0), error.__traceback__
        while trace is not None:
            path = self.relative(trace.tb_frame.f_code.co_filename)
            found, trace = (path, trace.tb_lineno) if path else found, trace.tb_next
        return found

    def relative(self, path: str) -> str:
        """Return a path as the tree has it, empty where it is outside or ours."""
        full = path if path.startswith("/") else self.folder + "/" + path
        for root in self.roots:
            if full.startswith(root + "/"):
                found = full[len(root) + 1 :]
                return "" if found.startswith(Path(__file__).parent.name + "/") else found
        return ""


def own_seconds() -> float:
    """Return the seconds in which this process ran or slept: those of the clock in which it waited for no processor."""
    clock, waited = _times().elapsed, 0.0
    try:
        descriptor = _open("/proc/self/schedstat", os.O_RDONLY)
        waited = int(_read(descriptor, 100).split()[1]) / 1e9
        _close(descriptor)
    except (OSError, ValueError, IndexError):
        pass  # then it counts
    return clock - waited


def text_of(error: BaseException) -> str:
    """Return an exception's text, whatever its class makes of that."""
    try:
        return str(error)[:MOST_TEXT]
    except BaseException:  # noqa: BLE001 - it is foreign code
        return ""


def import_file(path: str) -> Foreign:
    """Import a file as the package that it lies in names it; without one, by its own name, its folder coming first."""
    file = Path(path)
    names = [] if file.stem == "__init__" else [file.stem]
    folder = file.parent
    while (folder / "__init__.py").exists():
        names.insert(0, folder.name)
        folder = folder.parent
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    name = ".".join(names)
    __import__(name)
    return sys.modules[name]
