"""The process that stands above a model server, so that no server outlives the run that started it.

Started as `python -m agentless_mini.model.guard COMMAND...` with a pipe on its standard input. It runs the command
and ends as it ends. The other end of the pipe is held by the run: a byte says that the server may stay for good, the
end of the pipe without one says that the run is gone, however it went, and then the server is stopped too. This works
wherever there are pipes; it asks nothing of the system's own means to notice a parent's death.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading

from agentless_mini.model.process_table import Family, processes

PR_SET_CHILD_SUBREAPER = 36
KEEP = b"k"
"""Said by the run once the server is to outlive it."""
GRACE = 10.0
"""Seconds that a server whose run is gone has to stop by itself."""
REMAINDER_GRACE = 2.0
"""Seconds that the processes left by a server that ended have to do so too."""


def main() -> int:
    """Run the command of the arguments and return its exit code as a shell would give it."""
    _adopt()
    myself = processes()[os.getpid()]
    family = Family(myself, spared=frozenset({myself.pid}))
    child = _run(sys.argv[1:])
    threading.Thread(target=_watch, args=(child, family), daemon=True).start()
    code = child.wait()
    family.wait(REMAINDER_GRACE)
    family.kill()
    return code if code >= 0 else 128 - code


def _adopt() -> None:
    """Become the parent of whatever below this process loses its own, where the system offers it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _run(command: list[str]) -> subprocess.Popen[bytes]:
    """Start the command, and from now on pass on to it what this process is asked to do."""
    running: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def pass_on(number: int, _frame: object) -> None:
        if running:
            running[0].send_signal(number)
        else:
            early.append(number)

    for kind in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(kind, pass_on)
    running.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))  # noqa: S603 - the run's own argument list
    for number in early:
        running[0].send_signal(number)
    return running[0]


def _watch(child: subprocess.Popen[bytes], family: Family) -> None:
    if os.read(sys.stdin.fileno(), 1) == KEEP:
        return
    child.terminate()
    family.wait(GRACE)
    family.kill()


if __name__ == "__main__":
    sys.exit(main())
