"""Starts the runner of the tests in a box, sees it to its end, and starts it again where a test ended its process.

It reads on the record what has been run, and gives up on a process that says nothing for longer than a test may take.
It tries without the project's own options where pytest does not even begin with them: they may be a missing plugin's.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from amini_record import Foreign, Recorder  # type: ignore[import-not-found]

STARTUP = 120.0  # seconds until a runner must have begun
GRACE = 5.0  # seconds for a test to end after its clock rang
TICK = 0.5
MOST_PROCESSES = 20
# The statuses of pytest where it does not like its options, which it may find out late, or a plugin broke it.
NOT_RUN = {3, 4}
HERE = Path(__file__).resolve().parent
_QUIET = ("-q", "--tb=short", "-p", "amini_pytest", "-p", "no:cacheprovider")
_PLAIN = ("-q", "--tb=short", "-p", "amini_pytest", "-o", "addopts=", "-o", "required_plugins=")
WAYS = (_QUIET, _PLAIN, (*_PLAIN, "-c", str(HERE / "empty.ini"), "--rootdir", str(HERE.parent)))
"""The arguments that pytest is tried with, one after the other until it begins."""


def main() -> None:
    """Run what the plan at the path in the first argument wants."""
    plan = str(Path(sys.argv[1]).resolve())
    way, left = 0, MOST_PROCESSES + len(Recorder(plan).wanted)
    while left > 0 and way < len(WAYS):
        left -= 1
        before = Recorder(plan)
        status, hung = run(words(before, plan, way), before)
        after = Recorder(plan)
        begun = after.events.get("begun", 0) > before.events.get("begun", 0)
        if begun:
            after.say("ended", status=status, hung=hung)
        if after.full or (hung and not begun) or any(map(after.events.get, ("done", "stopped"))):
            return
        if begun and len(after.seen) > len(before.seen):
            continue  # with what is left
        if before.plan["runner"] != "pytest" or (begun and status not in NOT_RUN):
            return
        way += 1


def words(recorder: Foreign, plan: str, way: int) -> "list[str]":
    """Return the command line that runs what is left."""
    command, runner = recorder.plan["command"], recorder.plan["runner"]
    files = recorder.files()
    if not files:
        return [*interpreter(command), str(HERE / "amini_script.py"), plan]  # which only says that nothing is left
    if runner == "pytest":
        # A path with one of these means something else to pytest.
        plain = [path for path in files if "[" not in path and "::" not in path]
        return [*command, *WAYS[way], "--amini-plan", plan, *plain]
    program = "amini_script.py" if runner == "script" else "amini_unittest.py"
    return [*interpreter(command), str(HERE / program), plan]


def interpreter(command: "list[str]") -> "list[str]":
    """Return the part of a command line that starts Python: what comes before a module or a program."""
    ends = [place for place, word in enumerate(command) if word == "-m" or word.endswith(".py")]
    return command[: ends[0]] if ends else command


def run(command: "list[str]", recorder: Foreign) -> "tuple[int, bool]":
    """Run a program; return its status, and whether it was ended because nothing more came of it."""
    child = subprocess.Popen(command, start_new_session=True)  # noqa: S603 - what the box is for
    try:
        return watch(child, recorder)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


def watch(child: Foreign, recorder: Foreign) -> "tuple[int, bool]":
    """Wait until a process ends, or its record has not grown for too long."""
    begun, size, since, patience = size_of(recorder.record), -1, time.monotonic(), STARTUP
    while True:
        with suppress(subprocess.TimeoutExpired):
            return child.wait(timeout=TICK), False
        now, grown = time.monotonic(), size_of(recorder.record)
        if grown != size:
            size, since = grown, now
            patience = patience_with(recorder.path) if size > begun else STARTUP
        if now - since > patience:
            child.kill()
            return child.wait(), True


def patience_with(plan: str) -> float:
    """Return how long what was started last may take: a test its time, the reading of a file more."""
    recorder = Recorder(plan)
    limit = recorder.limit if isinstance(recorder.limit, (int, float)) else recorder.plan["seconds"]
    return float(max(limit, recorder.plan["seconds"]) + GRACE)


def size_of(path: str) -> int:
    """Return the size of a file, 0 where there is none."""
    return Path(path).stat().st_size if Path(path).exists() else 0


if __name__ == "__main__":
    main()
