"""Serves one job: unpacks the tree, places the files, runs the steps, measures them and brings back what they left.

Where it is process 1 of its own process namespace, as in every isolated box, no process of the box can end it (the
kernel drops their signals), read or write its memory, or reach its descriptors (it is not dumpable). What it says of a
step was measured from outside: the exit status and the time come from the kernel, and all processes of the step are
dead before a result file is read. It says it on its standard output, which no step inherits.

It does not isolate: namespaces, the read-only system and the limits on the whole box are made by whoever starts it.
When its standard input closes nobody waits for the box any more, and it ends with all that it started.
"""

from __future__ import annotations

import binascii
import errno
import os
import resource
import select
import shutil
import signal
import sys
import time
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from agentless_mini.sandbox.inside.files import (
    FOLDER,
    Abandoned,
    Message,
    NotPlaced,
    clear_result,
    place,
    read,
    read_result,
    receive,
    say,
    unpack,
)
from agentless_mini.sandbox.inside.processes import (
    PR_SET_DUMPABLE,
    STOPPING,
    alone,
    become,
    exceeds,
    kill_all,
    kills,
    overflows,
    prctl,
    refuse,
    stored,
    waits,
)

if TYPE_CHECKING:
    from agentless_mini.sandbox.inside.fence import Gate, Warden

TICK = 0.05  # seconds between two looks at the memory that is used
CHUNK = 1 << 16
TOLD = 200  # letters of a line
NICE = 5  # so that the runner gets its turn whatever a step does
OOM_SCORE = b"500"  # so that the kernel takes a step and not the runner
CANNOT_RUN = 127
PROXY_PORT = 3128
SHARED = "/dev/shm"  # noqa: S108 - the box's own
# What Python and bubblewrap set for the runner.
LEFT_BEHIND = ("LC_CTYPE", "PWD")


def main() -> None:
    """Serve the job that comes on the standard input."""
    stream = sys.stdin.buffer
    job = receive(stream)
    try:
        if job["proxy"]:
            hand_out(job)
        become(job["uid"])
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
            for above, folders, _ in os.walk(job["scratch"]):  # whatever rights were taken from those in it
                for path in (os.path.join(above, name) for name in folders):
                    if not os.path.islink(path):
                        os.chmod(path, 0o700)
            shutil.rmtree(job["scratch"], ignore_errors=True)


def hand_out(job: Message) -> None:
    """Let whoever waits at the socket `proxy` answer at a port of the box. It says so where that cannot be."""
    import array
    import socket  # here, since to load it takes other boxes time

    address = (job["fence"] or {}).get("address", "127.0.0.1")
    try:
        with socket.socket() as port, socket.socket(socket.AF_UNIX) as line:  # Python 3.7 has no create_server
            port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            port.bind((address, PROXY_PORT))
            port.listen()
            line.connect(job["proxy"])
            line.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [port.fileno()]))])
    except OSError as error:
        say({"kind": "failed", "words": f"the proxy cannot be reached: {error}"})
        raise Abandoned from error


def serve(stream: IO[bytes], job: Message) -> None:
    """Do what the job says, and say what came of it."""
    root, scratch = job["folder"], job["scratch"]
    try:
        for folder in (root, scratch, scratch + "/home"):
            os.makedirs(folder, exist_ok=True)
        fence = job["fence"]
        if fence:
            if sum(size for _, _, size in job["tree"]) > fence["disk"]:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            fence["used"] = stored(scratch)
        unpack(stream, root, job["tree"])
        top = os.open(root, FOLDER)
        for path, mode, size in job["files"]:
            place(top, path, mode, None if size is None else read(stream, size))
    except NotPlaced as error:
        return say({"kind": "refused", "words": str(error)})
    except OSError as error:
        return say({"kind": "failed", "words": str(error)})
    say({"kind": "ready"})
    end = time.monotonic() + job["seconds"]
    for step in job["steps"]:
        end += run_step(job, step, top, end)
    return None


class Bounded:
    """The beginning and the end of an output."""

    def __init__(self, limit: int, tells: bool = False) -> None:
        """Keep at most `limit` bytes; `tells` is whether somebody wants to hear the last line."""
        self.tells = tells
        self.half = limit // 2
        self.head = self.tail = b""
        self.cut = 0

    def read(self, descriptor: int) -> bool:
        """Take what is there to be read without waiting; return whether the output may go on."""
        try:
            data = os.read(descriptor, CHUNK)
        except BlockingIOError:
            return False
        room = self.half - len(self.head)
        self.head += data[:room]
        self.tail += data[max(room, 0) :]
        self.cut += max(len(self.tail) - self.half, 0)
        self.tail = self.tail[-self.half :]
        if self.tells and 0 < len(data) < CHUNK:  # who prints more than that at once is not to be followed
            lines = [line.strip() for line in data.decode("utf-8", "replace").splitlines() if line.strip()]
            if lines:
                say({"kind": "said", "words": lines[-1][:TOLD]})
        return bool(data)


def run_step(job: Message, step: Message, top: int, end: float) -> float:
    """Run a step and say what became of it. `end` is when the box's time is over, on the monotonic clock.

    Return the seconds that it took beyond its limit, which the machine owed it.
    """
    begun = time.monotonic()
    if begun >= end:
        say({"kind": "step", "ending": "not-run"})
        return 0.0
    for path in step["results"]:
        clear_result(top, path)
    output = Bounded(job["output"], job["tells"])
    ending, status = execute(job, step, output, min(begun + step["seconds"], end))
    seconds = time.monotonic() - begun
    found = [(path, read_result(top, path, job["result"])) for path in step["results"]]
    files = [(path, data) for path, data in found if data is not None]
    message = {
        "kind": "step",
        "ending": ending,
        "status": status,
        "seconds": seconds,
        "output": [len(output.head), len(output.tail), output.cut],
        "results": [(path, len(data)) for path, data in files],
    }
    say(message, output.head, output.tail, *(data for _, data in files))
    return max(0.0, begun + seconds - min(begun + float(step["seconds"]), end))


def execute(job: Message, step: Message, output: Bounded, deadline: float) -> tuple[str, int | None]:
    """Start the program, wait for its end or bring it about, and leave no process behind."""
    killed_before = kills()
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    try:
        leader, warden = start(job, step, writing)
        os.close(writing)
        ending, status = watch(job, leader, reading, output, deadline, warden)
        if warden:
            warden.close()
        kill_all()
        while output.read(reading):
            pass
    finally:
        os.close(reading)
    return ("out-of-memory", None) if kills() > killed_before else (ending, status)


def watch(
    job: Message, leader: int, reading: int, output: Bounded, deadline: float, warden: Warden | None
) -> tuple[str, int | None]:
    """Return how the program ended, or why it has to. What it prints comes from the descriptor `reading`."""
    ended, ringing = os.pipe()
    os.set_blocking(ended, False)
    os.set_blocking(ringing, False)
    signal.set_wakeup_fd(ringing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    poll = select.poll()
    for descriptor in (0, reading, ended, *([warden.listener] if warden else [])):
        poll.register(descriptor, select.POLLIN)
    look, begun = 0.0, time.monotonic()
    try:
        while True:
            status = collect(leader)
            now = time.monotonic()
            if status is not None:
                return "exited", status
            ending = over(now - begun, deadline - begun, job["patience"], *waits()) if now >= deadline else ""
            if ending:
                return ending, None
            if now >= look:
                look, fence = now + TICK, job["fence"]
                places = [job["folder"], job["scratch"], SHARED] if alone() else []
                is_measured = alone() or fence  # the disk, too, where it has no file system of its own
                if is_measured and (exceeds(job["memory"], places) or (fence and overflows(job["scratch"], fence))):
                    return "out-of-memory", None
            listen(poll, ended, reading, output, warden)
    finally:
        signal.set_wakeup_fd(-1)
        os.close(ended)
        os.close(ringing)


def over(taken: float, limit: float, patience: float, waited: float, had: float) -> str:
    """Return how a step ends that has reached its limit, "" where the machine still owes it time.

    It owes what a process of it `waited` for a processor, while all of them together `had` one for less than the limit.
    """
    if had >= limit or taken - waited >= limit:
        return "timed-out"
    return "starved" if taken >= limit * patience else ""


def listen(poll: select.poll, ended: int, reading: int, output: Bounded, warden: Warden | None) -> None:
    """Wait a little, or until there is output, a call to answer, or a process has ended. Raises Abandoned."""
    for descriptor, happened in poll.poll(TICK * 1000):
        if descriptor == 0:  # nothing more is ever sent: it was closed
            raise Abandoned
        if descriptor == ended:
            with suppress(BlockingIOError):
                os.read(ended, CHUNK)
        elif descriptor == reading:
            if not output.read(reading):
                poll.unregister(reading)
        elif warden and happened & select.POLLIN:
            warden.answer()
        else:  # no process is left behind the fence
            poll.unregister(descriptor)


def collect(leader: int) -> int | None:
    """Take note of all processes that ended; return the leader's status if it is among them."""
    status = None
    with suppress(ChildProcessError):
        while True:
            pid, value = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            if pid == leader:
                status = os.WEXITSTATUS(value) if os.WIFEXITED(value) else -os.WTERMSIG(value)
    return status


def start(job: Message, step: Message, output: int) -> tuple[int, Warden | None]:
    """Start the program of a step in a session of its own; return its number, and who answers its calls."""
    gate: Gate | None = None
    if job["fence"]:
        from agentless_mini.sandbox.inside.fence import Gate  # here, since to load it takes other boxes time

        gate = Gate()
    pid = os.fork()
    if pid:
        return pid, gate.warden(job) if gate else None
    try:
        become_step(job, output)
        if gate:
            gate.close_in(job["fence"])
        if job["filter"] and os.uname().machine in ("x86_64", "aarch64"):
            refuse(binascii.a2b_base64(job["filter"]))
        variables = environment(job, step)
        os.chdir(os.path.join(job["folder"], step["folder"]))
        os.execvpe(step["argv"][0], step["argv"], variables)  # noqa: S606 - it is the box that is to contain it
    except BaseException as error:  # noqa: BLE001 - two processes must never go on as one
        os.write(2, f"{step['argv'][:1]} cannot be run: {error}\n".encode("utf-8", "replace"))
    finally:
        os._exit(CANNOT_RUN)


def become_step(job: Message, output: int) -> None:
    """Turn this new process from a copy of the runner into what a step starts as."""
    os.setsid()
    prctl(PR_SET_DUMPABLE, 1)
    with suppress(OSError), open("/proc/self/oom_score_adj", "wb") as file:
        file.write(OOM_SCORE)
    os.nice(NICE)
    for number in STOPPING:
        signal.signal(number, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    for name, value in job["rlimits"].items():
        kind = getattr(resource, "RLIMIT_" + name)
        most = resource.getrlimit(kind)[1]
        least = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(kind, (least, least))


def environment(job: Message, step: Message) -> dict[str, str]:
    """Return the variables that a step sees: those of the box, then its own."""
    variables = {name: value for name, value in os.environ.items() if name not in LEFT_BEHIND}
    variables.update(job["variables"])
    path = [os.path.normpath(os.path.join(job["folder"], folder)) for folder in step["python_path"]]
    if path:
        variables["PYTHONPATH"] = os.pathsep.join([*path, *filter(None, [variables.get("PYTHONPATH")])])
    return dict(variables, **dict(step["variables"]))
