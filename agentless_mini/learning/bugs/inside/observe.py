"""Calls what a file defines, in a process of its own, and tells what came of each call.

It runs in a box, by itself: in batches while tasks are made, and as the first part of each task's check, where the
expected outcomes follow it. The caller's process is not the one that runs the file, so that a file that exits, hangs
or closes what it finds tells nothing more and is wrong, never right. It keeps nothing in: that is the box's work.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import resource
import select
import signal
import sys
import time
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

CALL_SECONDS = 0.2  # of processor time: a busy machine must not change what is seen
LOAD_SECONDS = 2.0
FILE_SECONDS = 8.0
MOST_HANGING = 2
LONGEST = 400
MOST_ITEMS = 40
MEMORY = 1 << 30
NAME = "module_under_repair"


class Hanging(BaseException):
    """A call takes too long. It is no Exception, so that few handlers catch it."""


def observe(source: str, calls: list[str]) -> list[list[str]]:
    """Return what came of each call: ["returns", text], ["raises", type, message], ["hangs"], ["unfit"] or ["dies"].

    Of a file that cannot be loaded it is ["unloadable", type] for each.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(reading)
            run(writing, source, calls)
        finally:
            os._exit(0)
    os.close(writing)
    try:
        text, ended = collect(reading, pid)
    finally:
        os.close(reading)
    seen = list(itertools.islice(parsed(text), len(calls)))
    return seen + [["dies" if ended else "hangs"]] * (len(calls) - len(seen))


def collect(reading: int, pid: int) -> tuple[bytes, bool]:
    """Return what the process says until it ends or its time is over, and whether it ended by itself."""
    deadline = time.monotonic() + FILE_SECONDS
    said, ended = b"", False
    while not ended and time.monotonic() < deadline:
        ended = bool(os.waitpid(pid, os.WNOHANG)[0])
        while select.select([reading], [], [], 0 if ended else 0.02)[0]:
            data = os.read(reading, 1 << 16)
            said += data
            if not data:
                break
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)
    if not ended:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return said, ended


def parsed(text: bytes) -> Iterator[list[str]]:
    """Yield the outcomes that were said, up to the first that is none."""
    for line in text.split(b"\n")[:-1]:
        try:
            outcome = json.loads(line)
        except ValueError:
            return
        if not isinstance(outcome, list) or not all(isinstance(part, str) for part in outcome):
            return
        yield outcome


def run(writing: int, source: str, calls: list[str]) -> None:
    """Load the file and make the calls, in this process, and say what comes of them."""
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nowhere, number)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sys.setrecursionlimit(400)
    signal.signal(signal.SIGPROF, hang)
    os.putenv("TZ", "UTC")  # wherever the machine stands
    time.tzset()
    loaded, problem = load(source)
    hanging = 0
    for call in calls:
        if problem:
            outcome = problem
        elif hanging >= MOST_HANGING:
            outcome = ["hangs"]
        else:
            outcome = outcome_of(call, dict(loaded))
        hanging += outcome == ["hangs"]
        os.write(writing, json.dumps(outcome).encode() + b"\n")


def load(source: str) -> tuple[dict[str, Any], list[str] | None]:
    """Return the names that a file defines, and the outcome of all calls where it cannot be loaded."""
    module = types.ModuleType(NAME)
    sys.modules[NAME] = module
    try:
        with limited(LOAD_SECONDS):
            exec(compile(source, NAME, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - in a box
    except BaseException as error:  # noqa: BLE001 - whatever a foreign file does is told
        return {}, ["unloadable", type(error).__name__]
    return module.__dict__, None


def outcome_of(call: str, names: dict[str, Any]) -> list[str]:
    """Return what comes of one call."""
    try:
        with limited(CALL_SECONDS):
            text = show(eval(compile(call, "<call>", "eval", dont_inherit=True), names))  # noqa: S307 - in a box
    except Hanging:
        return ["hangs"]
    except MemoryError:
        return ["hangs"]
    except BaseException as error:  # noqa: BLE001 - whatever a foreign function does is told
        return raised(error)
    return ["returns", text] if fits(text) else ["unfit"]


def raised(error: BaseException) -> list[str]:
    """Return an exception as an outcome."""
    try:
        words = str(error)
    except BaseException:  # noqa: BLE001 - it is foreign, too
        words = ""
    return ["raises", type(error).__name__, words] if fits(words + ".") else ["unfit"]


def fits(text: str) -> bool:
    """Tell whether an outcome can be compared and shown: not long, and no address of memory in it."""
    return 0 < len(text) <= LONGEST and " at 0x" not in text and text.isprintable()


def show(value: Any, depth: int = 0) -> str:  # noqa: ANN401 - whatever a foreign function returns
    """Return a value as it is written, the members of sets in order, and of an iterator what it yields."""
    kind = type(value)
    if depth > 8:
        return repr(value)
    if kind in (set, frozenset) and value:
        inner = "{" + ", ".join(sorted(show(item, depth + 1) for item in value)) + "}"
        return inner if kind is set else "frozenset(" + inner + ")"
    if kind is list:
        return "[" + ", ".join(show(item, depth + 1) for item in value) + "]"
    if kind is tuple and value:
        return "(" + ", ".join(show(item, depth + 1) for item in value) + ("," if len(value) == 1 else "") + ")"
    if kind is dict:
        return "{" + ", ".join(show(key, depth + 1) + ": " + show(value[key], depth + 1) for key in value) + "}"
    if not depth and hasattr(kind, "__next__"):
        return show(list(itertools.islice(value, MOST_ITEMS)), depth + 1)
    return repr(value)


def hang(number: int, frame: FrameType | None) -> None:
    """End the call that is under way."""
    raise Hanging


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise Hanging in a block that takes more processor time."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def check(path: str, expected: list[tuple[str, list[str]]]) -> int:
    """Return 0 if each call comes to what is expected of it, else 1; the first that does not is printed."""
    with open(path, encoding="utf-8", newline="") as file:  # noqa: PTH123 - it starts once for each check
        source = file.read()
    for (call, wanted), got in zip(expected, observe(source, [call for call, _ in expected])):  # noqa: B905 - 3.8
        if got != wanted:
            sys.stdout.write(f"{call}: expected {' '.join(wanted)}, got {' '.join(got)}\n")
            return 1
    return 0
