"""Runs in a box: calls what a file defines and tells what came of each call, each file in a process with limits.

It is sent into boxes as text: `main` observes many files while bugs are made, and each row's check begins with it. The
process that runs a file is not the one that tells of it, so that a file that exits or hangs is wrong, never right.
"""

import contextlib
import itertools
import json
import os
import resource
import signal
import sys
import types

CALL_SECONDS, FILE_SECONDS, LONGEST = 0.2, 6, 300


class Hanging(BaseException):
    """A call takes too long. It is no Exception, so that few handlers catch it."""


def observe(source: str, calls: list[str]) -> list[list[str]]:
    """Return what came of each call: ["returns", text], ["raises", type, message], or ["nothing"] that can be told."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(reading)
            run(writing, source, calls)
        finally:
            os._exit(0)
    os.close(writing)
    seen: list[list[str]] = []
    with os.fdopen(reading, "rb") as said, contextlib.suppress(ValueError):
        seen += [list(map(str, json.loads(line))) for line in said.read().splitlines()[: len(calls)]]
    os.waitpid(pid, 0)
    return seen + [["nothing"]] * (len(calls) - len(seen))


def run(writing: int, source: str, calls: list[str]) -> None:
    """Load the file and make the calls, in this process, and say what comes of them."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nowhere, number)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    sys.setrecursionlimit(400)
    signal.alarm(FILE_SECONDS)
    signal.signal(signal.SIGPROF, hang)
    module = sys.modules["module_under_repair"] = types.ModuleType("module_under_repair")
    exec(compile(source, "module_under_repair", "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - in a box
    for call in calls:
        os.write(writing, json.dumps(outcome(call, dict(module.__dict__))).encode() + b"\n")


def outcome(call: str, names: dict[str, object]) -> list[str]:
    """Return what comes of one call."""
    signal.setitimer(signal.ITIMER_PROF, CALL_SECONDS)  # of processor time: a busy machine must not change what is seen
    try:
        value = eval(compile(call, "<call>", "eval", dont_inherit=True), names)  # noqa: S307 - in a box
        said = ["returns", repr(list(itertools.islice(value, 40)) if hasattr(type(value), "__next__") else value)]
    except Hanging:
        return ["nothing"]
    except BaseException as error:  # noqa: BLE001 - whatever a foreign function does is told
        said = ["raises", type(error).__name__, str(error)]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    text = "".join(said)
    return said if len(text) <= LONGEST and text.isprintable() and " at 0x" not in text else ["nothing"]


def hang(number: int, frame: object) -> None:
    raise Hanging


def check(path: str, expected: list[tuple[str, list[str]]]) -> int:
    """Return 0 if each call comes to what is expected of it, else 1."""
    with open(path, encoding="utf-8", newline="") as file:  # noqa: PTH123 - it starts once for each check
        source = file.read()
    return int(observe(source, [call for call, _ in expected]) != [wanted for _, wanted in expected])


def main(plan: str, result: str) -> None:
    """Observe the files that a plan holds with the calls on each."""
    with open(plan, encoding="utf-8") as file:  # noqa: PTH123 - as above
        asked = json.load(file)
    seen = [observe(source, calls) for source, calls in asked]
    with open(result, "w", encoding="utf-8") as file:  # noqa: PTH123 - as above
        json.dump(seen, file)
