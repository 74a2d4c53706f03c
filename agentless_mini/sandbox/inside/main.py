"""Serves one job: unpacks the tree, places the files, runs the steps, measures them and brings back what they left.

Where it is process 1 of its own process namespace, as in every isolated box, no process of the box can end it (the
kernel drops their signals), read or write its memory, or reach its descriptors (it is not dumpable). What it says of a
step was measured from outside: the exit status and the time come from the kernel, and all processes of the step are
dead before a result file is read. It says it on its standard output, which no step inherits.

It does not isolate: namespaces, the read-only system and the limits on the whole box are made by whoever starts it.
When its standard input closes nobody waits for the box any more, and it ends with all that it started.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import time
from typing import IO

from agentless_mini.sandbox.inside.files import FOLDER, Refused, place, unpack
from agentless_mini.sandbox.inside.memory import stored
from agentless_mini.sandbox.inside.processes import alone, become, kill_all
from agentless_mini.sandbox.inside.steps import run_step
from agentless_mini.sandbox.inside.wire import Abandoned, Message, read, receive, say


def main() -> None:
    """Serve the job that comes on the standard input."""
    stream = sys.stdin.buffer
    job = receive(stream)
    become(job["uid"])
    try:
        if job["fence"]:
            from agentless_mini.sandbox.inside.fence import begin

            os.makedirs(job["scratch"] + "/shm", exist_ok=True)
            begin(job)
        serve(stream, job)
    except Abandoned:
        pass
    finally:
        kill_all()
        if not alone():
            clear(job["scratch"])


def serve(stream: IO[bytes], job: Message) -> None:
    """Do what the job says, and say what came of it."""
    root, scratch = job["folder"], job["scratch"]
    try:
        for folder in (root, scratch, scratch + "/home"):
            os.makedirs(folder, exist_ok=True)
        if job["fence"]:
            require_room(job)
        unpack(stream, root, job["tree"])
        top = os.open(root, FOLDER)
        for path, mode, size in job["files"]:
            place(top, path, mode, None if size is None else read(stream, size))
    except Refused as error:
        return say({"kind": "refused", "words": str(error)})
    except OSError as error:
        return say({"kind": "failed", "words": str(error)})
    say({"kind": "ready"})
    end = time.monotonic() + job["seconds"]
    for step in job["steps"]:
        end += run_step(job, step, top, end)
    return None


def require_room(job: Message) -> None:
    """Raise OSError where the tree is larger than the box's share of the disk, and note how full that is."""
    fence = job["fence"]
    if sum(size for _, _, size in job["tree"]) > fence["disk"]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    fence["used"] = stored(job["scratch"])


def clear(folder: str) -> None:
    """Remove a folder, whatever rights were taken from those in it."""
    for above, folders, _ in os.walk(folder):
        for name in folders:
            path = os.path.join(above, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)
    shutil.rmtree(folder, ignore_errors=True)
