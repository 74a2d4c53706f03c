"""Tells the driver what comes of each test, at once, so that whatever ends the process leaves what came before.

It keeps what it uses under names of its own, and a connection that a test's closing of descriptors seldom meets: tests
close descriptors, change folders, fork and replace functions.
"""

import fcntl
import json
import os
import random
import signal
import sys
import threading
from _socket import AF_UNIX, SOCK_SEQPACKET, socket
from functools import partial
from pathlib import Path
from typing import Any, Iterator  # noqa: UP035 - see amini_pytest

Foreign = Any  # what has no types in a box: objects of pytest, of unittest and of the project
MOST_TEXT = 2000
MOST_NAME = 200
MOST_ID = 4000
MARGIN = 64 * 1024
SEALED = 66  # bytes that the driver adds to a line
READING = 60.0  # seconds that a file may take to be imported
FILES = 4  # a budget is for so many files at least, if there are: one that has had its share is not gone on with
LEFT = "the tests before have used up its file's share of the budget, or all of it"
RANKS = ("pass", "skip", "timeout", "error", "fail")
HIGH = 200  # the least number of the connection's descriptor
UNHEARD = 70  # the status of a process that cannot say more
_open, _write, _close, _getpid, _exit = os.open, os.write, os.close, os.getpid, os._exit
_dumps, _setitimer, _signal, _times, _read = json.dumps, signal.setitimer, signal.signal, os.times, os.read


class CaseTimeout(BaseException):
    """A test takes too long. It is no Exception, so that fewer tests swallow it."""


class Recorder:
    """The record of one process: which tests are wanted of it, and what became of them."""

    def __init__(self, state_path: str) -> None:
        """Read what is wanted and what earlier processes have recorded, once: no test can read it again."""
        state = json.loads(Path(state_path).read_text("utf-8"))
        Path(state_path).unlink()
        self.ours = str(Path(__file__).parent)
        self.roots = tuple(dict.fromkeys(state["roots"]))
        self.tree = list(state["path"])
        self.folder = str(Path.cwd())
        self.plan, self.files = state["plan"], state["files"]
        self.wanted = frozenset(self.plan["wanted"])
        self.seen = set(state["seen"])
        self.canaries = set()  # type: set[str]
        self.spent = dict(state["spent"])
        self.begun = own_seconds()
        self.room = int(state["room"])
        self.budget = float(self.plan.get("budget") or "inf")
        self.share = self.budget / max(1, min(FILES, len({name.partition("::")[0] for name in self.wanted})))
        self.process = _getpid()
        self.current = self.outcome = ""
        self.fault = None  # type: dict[str, Foreign] | None
        self.late = False
        line = socket(AF_UNIX, SOCK_SEQPACKET)
        line.connect(state["address"])
        self._line = fcntl.fcntl(line.fileno(), fcntl.F_DUPFD_CLOEXEC, HIGH)
        line.close()
        self._word = state["word"].encode("ascii") + b" "

    def enter_tree(self, folder: str = "") -> None:
        """Put the tree on the path, which nothing of it was before. `folder` comes first where there is one.

        Raises SystemExit where something that is loaded stands in the tree too: the tests want that of the tree.
        """
        if not self.tree:
            return
        path = [*([folder] if folder else []), *self.tree]
        standard = str(Path(os.__file__).parent) + "/"
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None) or ""
            is_standard = file.startswith(standard) and "-packages/" not in file
            if is_standard or "." in name or not file.endswith(".py") or file.startswith(self.ours):
                continue
            tails = ("/" + name + ".py", "/" + name + "/__init__.py")
            theirs = [place + tail for place in path for tail in tails]
            if not self.relative(file) and any(map(os.path.isfile, theirs)):  # no folder that is closed is an error
                raise SystemExit(UNHEARD)
        sys.path[:] = [*path, *(place for place in sys.path if place != self.ours)]
        before = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place not in ("", self.ours)]
        os.environ["PYTHONPATH"] = os.pathsep.join([*self.tree, *before])

    def drawn(self) -> "Iterator[tuple[str, float, str, Foreign]]":
        """Yield tests of ours: whether each passes or fails, where in all tests, how its name ends, and what makes it.

        That makes a function of a name and a file, and of "self" for a method.
        """
        draw = random.Random(self.plan["seed"])  # noqa: S311 - the seed is the secret
        kinds = [("fail" if at % 2 == 0 else "pass", at % 4 < 2) for at in range(self.plan["canaries"])]
        draw.shuffle(kinds)
        for kind, plain in kinds:
            first, second, more = (draw.randrange(2, 99) for _ in range(3))
            right = first + second + (0 if kind == "pass" else more)
            yield kind, draw.random(), f"_{draw.randrange(2, 99)}", partial(_function, first, second, right, plain)

    def canary(self, name: str, expected: str) -> None:
        """Say that a test is ours, before any test runs."""
        self.canaries.add(name)
        self._say_of(name, "canary", expected=expected)

    @property
    def full(self) -> bool:
        """Tell whether nothing more can be recorded, or the tests have used up their budget."""
        return self.room < 0 or sum(self.spent.values()) >= self.budget

    def wants(self, name: str) -> bool:
        """Tell whether a test is to be run now: it, its function, its class or its file is wanted and has time left."""
        if name in self.canaries:
            return True
        return self.asks(name) and not self.full and self.spent.get(name.partition("::")[0], 0.0) < self.share

    def asks(self, name: str) -> bool:
        """Tell whether a test is wanted and was not begun before, though there be no time for it."""
        if name in self.seen:
            return False
        parts = name.partition("[")[0].split("::")
        return name in self.wanted or any("::".join(parts[:end]) in self.wanted for end in range(1, len(parts) + 1))

    def start(self, name: str, least: float = 0.0) -> None:
        """A test begins, or a file (`READING` at least) is about to be imported with whatever it needs."""
        limit = max(self.plan["seconds"], least)
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
        seconds, file = max(own_seconds() - self.begun, 0.0), self.current.partition("::")[0]
        self.spent[file] = self.spent.get(file, 0.0) + seconds
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
        outcome = "timeout" if self.late and outcome == "error" else outcome
        self._say_of(name, "end", outcome=outcome, seconds=0.0, fault=self.fault_of(error, ""))

    def leave(self, name: str) -> None:
        """A test that is asked for has no time left."""
        if self.budget < float("inf") and self.asks(name):
            self._say_of(name, "end", outcome="skip", seconds=0.0, fault=self.fault_of(None, LEFT))

    def _say_of(self, name: str, event: str, **more: Foreign) -> None:
        self.current = name[:MOST_ID]
        self.say(event, **more)
        self.current = ""

    def say(self, event: str, **more: Foreign) -> None:
        """Write a line, at once. A process that a test has forked writes nothing."""
        if _getpid() != self.process:
            return
        line = _dumps(dict(more, event=event, id=self.current)).encode("ascii")
        self.room -= len(line) + SEALED
        if self.room > -MARGIN // 2:
            try:
                _write(self._line, self._word + line)
            except OSError:
                _exit(UNHEARD)  # a test closed it: the driver starts another process, which goes on with what is left

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
                return "" if full.startswith(self.ours + "/") else full[len(root) + 1 :]
        return ""


def _function(first: int, second: int, right: int, plain: bool, name: str, file: str, own: str = "") -> Foreign:
    """Return a test that looks like one of the file; it checks by itself or, where that is there, as unittest does."""
    scope = {"unittest": sys.modules.get("unittest")}  # type: dict[str, Foreign]
    plain = plain or not hasattr(scope["unittest"], "TestCase")
    check = "assert total == {}" if plain else (own or "unittest.TestCase()") + ".assertEqual(total, {})"
    code = f"def {name}({own}):\n    total = sum([{first}, {second}])\n    {check.format(right)}\n"
    exec(compile(code, file, "exec"), scope)  # noqa: S102 - it is ours
    return scope[name]


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
