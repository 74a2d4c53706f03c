"""Starts the runner of the tests in a box, sees it to its end, and writes down what it says of each test.

The runner's process says it on a connection of its own, with a word that it alone was told, and the kernel tells who
sent each message: what a test forks has another number, and what it starts instead of itself has no connection. Every
line of the record is sealed, together with the one before, with a key that this process alone was given. The last word
is this process's: a record without it was cut short.

The runner is started again where a test ended its process. It is given up where it says nothing for longer than a test
may take. It is first started with nothing of the tree on its path, then with that, then without the project's own
options: they may be a missing plugin's.
"""

import glob
import hashlib
import json
import os
import select
import shutil
import signal
import struct
import subprocess
import sys
import time
from _socket import AF_UNIX, CMSG_SPACE, SO_PASSCRED, SOCK_SEQPACKET, SOL_SOCKET, socket
from contextlib import suppress
from pathlib import Path
from typing import Any

Foreign = Any
STARTUP = 120.0  # seconds until a runner must have begun
DATABASE = 360.0  # and one of django's, whose database a project's migrations may make one by one
GRACE = 5.0  # seconds for a test to end after its clock rang
TICK = 0.1
MOST_PROCESSES = 20
MOST_MESSAGE = 128 * 1024
MARGIN = 64 * 1024
# The statuses of pytest where it does not like its options, which it may find out late, or a plugin broke it.
NOT_RUN = {3, 4}
NOT_DUMPABLE = 4, 0, 0, 0, 0  # PR_SET_DUMPABLE: no other process may read this one's memory and variables
CREDENTIALS = 2  # SCM_CREDENTIALS
SAID = frozenset({"begun", "start", "read", "end", "late", "stopped", "collected", "canary", "over", "done"})
FILES = globals().get("FILES", {})  # type: dict[str, bytes]
"""What was read and checked before anything foreign ran: the programs by their names, and the plan."""
_QUIET = ("-q", "--tb=native", "-p", "amini_pytest", "-p", "no:cacheprovider")
_PLAIN = ("-q", "--tb=native", "-p", "amini_pytest", "-o", "addopts=", "-o", "required_plugins=")
WAYS = (_QUIET, _QUIET, _PLAIN, _PLAIN)
"""The arguments that pytest is tried with, one after the other until it begins: first apart from the tree."""


class Ledger:
    """What was recorded so far. It is written line by line, so that whatever ends this process leaves what came."""

    def __init__(self, plan: Foreign, box: Path, key: str) -> None:
        """Begin the record that the plan names; `box` is the folder in the tree that our files are in."""
        self.plan, self.key, self.seal = plan, key.encode(), ""
        self.room = int(plan["room"]) - MARGIN
        self.seen = set()  # type: set[str]
        self.events = {}  # type: dict[str, int]
        self.spent = {}  # type: dict[str, float]
        self.limit = float(plan["seconds"])
        self.folder = box.resolve().parent
        files = {wanted.partition("::")[0] for wanted in plan["wanted"]}
        self.held = {file: read_with(self.folder, file) for file in files}
        self.met = set()  # type: set[str]
        self.roots = [str(self.folder), os.path.abspath(str(box / ".."))]  # noqa: PTH100 - no link is followed
        self.file = os.open(str(self.folder / plan["record"]), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def take(self, event: Foreign) -> None:
        """Write an event down, and note what it says of what is left."""
        kind, name = str(event["event"]), str(event["id"])
        line = json.dumps(event)
        self.seal = hashlib.blake2b((self.seal + line).encode(), digest_size=32, key=self.key).hexdigest()
        data = f"{self.seal} {line}\n".encode("ascii")
        self.room -= len(data)
        if self.room > -MARGIN // 2:
            os.write(self.file, data)
        self.events[kind] = self.events.get(kind, 0) + 1
        if kind == "start":
            self.seen.add(name)
            self.limit = float(event["limit"])
            self.meet(name.partition("::")[0])
        elif kind == "read":
            self.seen.discard(name)
        elif kind == "end":
            file = name.partition("::")[0]
            self.spent[file] = self.spent.get(file, 0.0) + float(event["seconds"])

    def meet(self, file: str) -> None:
        """A process begins to read a file, or the first test of one: note if something has changed it."""
        if file not in self.met and self.held.get(file, "") not in ("", read_with(self.folder, file)):
            self.take({"event": "changed", "id": file})
        self.met.add(file)

    @property
    def full(self) -> bool:
        """Tell whether nothing more can be recorded, or the tests have used up their budget."""
        return self.room < 0 or sum(self.spent.values()) >= float(self.plan["budget"] or "inf")

    def files(self) -> "list[str]":
        """Return the absolute paths of the files that have something wanted and have not stopped a process before."""
        paths = dict.fromkeys(wanted.partition("::")[0] for wanted in self.plan["wanted"])
        full = [str(self.folder / path) for path in paths if path not in self.seen]
        return [path for path in full if Path(path).is_file()]


class Reports:
    """Where the runner's process says what comes of the tests."""

    def __init__(self, ledger: Ledger) -> None:
        """Listen for processes."""
        self.ledger = ledger
        self.folder = made(os.environ.get("TMPDIR", "/tmp"))  # noqa: S108 - the box's own
        self.address = self.folder + "/line"
        self.listener = socket(AF_UNIX, SOCK_SEQPACKET)
        self.listener.bind(self.address)
        self.listener.listen(8)
        self.lines = []  # type: list[socket]
        self.expect()

    def expect(self) -> None:
        """Get ready for another process. It will be told a word of its own."""
        self.word, self.process = os.urandom(16).hex(), 0

    def hear(self, seconds: float) -> bool:
        """Take what is said within this time; return whether somebody hung up."""
        for one in select.select([self.listener, *self.lines], [], [], seconds)[0]:
            if one is self.listener:
                joined = socket(AF_UNIX, SOCK_SEQPACKET, 0, one._accept()[0])  # type: ignore[attr-defined]
                joined.setsockopt(SOL_SOCKET, SO_PASSCRED, 1)
                self.lines.append(joined)
                continue
            data, about, _, _ = one.recvmsg(MOST_MESSAGE, CMSG_SPACE(12))
            if not data:
                self.lines.remove(one)
                one.close()
                return True
            sender = next((struct.unpack("3i", told)[0] for _, kind, told in about if kind == CREDENTIALS), 0)
            if not self._took(data, sender) and "foreign" not in self.ledger.events:
                self.ledger.take({"event": "foreign", "id": ""})
        return False

    def drain(self) -> None:
        """Take what was said before the process ended; something that it started may still hold its connection."""
        end = time.monotonic() + 1
        while self.lines and time.monotonic() < end:
            self.hear(TICK)
        self.lines = []  # which closes them

    def _took(self, data: bytes, sender: int) -> bool:
        """Take a message of the process that is expected; the first one tells which that is."""
        word, _, line = data.partition(b" ")
        if word != self.word.encode() or sender != (self.process or sender):
            return False
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            event = json.loads(line.decode("ascii"))
            if event["event"] in SAID:
                self.process = sender
                self.ledger.take(event)
                return True
        return False


def read_with(tree: Path, file: str) -> str:
    """Return the digest of a file of Python's tests, of what is read with it, and of bytecode that stands for these."""
    found = hashlib.sha256()
    folders = Path(file).parents if file.endswith(".py") else ()
    for path in (Path(file), *(folder / name for folder in folders for name in ("__init__.py", "conftest.py"))):
        kept = Path(tree, path).parent.glob(f"__pycache__/{glob.escape(path.stem)}.*")
        for one in (tree / path, *sorted(kept)):
            with suppress(OSError):
                if one.is_file():
                    found.update(b"%s %s" % (os.fsencode(str(one)), hashlib.sha256(one.read_bytes()).digest()))
    return found.hexdigest()


def made(where: str) -> str:
    """Make a folder of a new name."""
    path = os.path.join(where, "amini-" + os.urandom(8).hex())  # noqa: PTH118 - it is quicker
    os.mkdir(path, 0o700)  # noqa: PTH102
    return path


def main() -> None:
    """Run what the plan wants, whose path in the box is the last argument."""
    plan = json.loads(FILES.pop(sys.argv[-1]).decode("utf-8"))
    Path(sys.argv[-1]).unlink()
    ledger = Ledger(plan, Path(sys.argv[-1]).parent, os.environ.pop("AMINI_KEY", ""))
    if os.getppid() == 1:  # elsewhere the warden of the box has to read what this process asks for
        with suppress(ImportError, OSError, AttributeError):
            import ctypes

            ctypes.CDLL(None).prctl(*NOT_DUMPABLE)
    if "groups" in plan:
        ((name, program),) = FILES.items()  # amini_report, for runners of other languages
        space = {"__name__": "amini_report"}  # type: Foreign
        exec(compile(program, name, "exec"), space)  # noqa: S102 - it is ours, and was checked
        space["go"](ledger)
    else:
        line = Reports(ledger)
        try:
            repeat(ledger, line)
        finally:
            shutil.rmtree(line.folder, ignore_errors=True)
    ledger.take({"event": "closed", "id": ""})


def repeat(ledger: Ledger, line: Reports) -> None:
    """Start the runner until nothing is left, or it does not go on."""
    way, left = 0, MOST_PROCESSES + len(ledger.plan["wanted"])
    while left > 0 and way < len(WAYS):
        left -= 1
        if not ledger.files():
            for event in ("begun", "done"):
                ledger.take({"event": event, "id": ""})
            return
        seen, begun_before = len(ledger.seen), ledger.events.get("begun", 0)
        status, hung = run(ledger, line, way)
        begun = ledger.events.get("begun", 0) > begun_before
        if begun:
            ledger.take({"event": "ended", "id": "", "status": status, "hung": hung})
        if ledger.full or (hung and not begun) or any(map(ledger.events.get, ("done", "stopped"))):
            return
        if begun and len(ledger.seen) > seen:
            continue  # with what is left
        if ledger.plan["runner"] != "pytest" or (begun and status not in NOT_RUN):
            return
        way += 1


def run(ledger: Ledger, line: Reports, way: int) -> "tuple[int, bool]":
    """Run the runner once; return its status, and whether it was ended because nothing more came of it."""
    line.expect()
    ledger.met.clear()
    folder = Path(made(str(Path(sys.argv[-1]).resolve().parent)))
    for name, data in FILES.items():
        (folder / Path(name).name).write_bytes(data)
    tree = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    apart = way == 0 or ledger.plan["runner"] != "pytest"
    state = {
        "plan": ledger.plan, "files": ledger.files(), "seen": sorted(ledger.seen), "spent": ledger.spent,
        "room": ledger.room, "roots": ledger.roots, "address": line.address, "word": line.word,
        "path": tree if apart else [],
    }  # fmt: skip
    (folder / "state").write_text(json.dumps(state))
    path = os.pathsep.join([str(folder), *([] if apart else tree)])
    environment = dict(os.environ, PYTHONPATH=path, PYTHONNOUSERSITE="1")
    child = subprocess.Popen(words(ledger, folder, way), start_new_session=True, env=environment)  # noqa: S603
    try:
        return watch(child, ledger, line)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        line.drain()
        shutil.rmtree(str(folder), ignore_errors=True)


def words(ledger: Ledger, folder: Path, way: int) -> "list[str]":
    """Return the command line that runs what is left."""
    command, runner = ledger.plan["command"], ledger.plan["runner"]
    if runner != "pytest":
        return [*interpreter(command), str(folder / "amini_unittest.py"), str(folder / "state")]
    start, options = interpreter(command), WAYS[way]
    if way == 0 and command[len(start) : len(start) + 2] == ["-m", "pytest"]:  # which would put the tree on the path
        command = [*start, str(folder / "amini_pytest.py"), *command[len(start) + 2 :]]
    if way == len(WAYS) - 1:
        (folder / "empty.ini").write_text("")
        options = (*options, "-c", str(folder / "empty.ini"), "--rootdir", str(ledger.folder))
    # A path with one of these means something else to pytest.
    plain = [path for path in ledger.files() if "[" not in path and "::" not in path]
    return [*command, *options, "--amini-plan", str(folder / "state"), *plain]


def interpreter(command: "list[str]") -> "list[str]":
    """Return the part of a command line that starts Python: what comes before a module or a program."""
    ends = [place for place, word in enumerate(command) if word == "-m" or word.endswith(".py")]
    return command[: ends[0]] if ends else command


def watch(child: Foreign, ledger: Ledger, line: Reports) -> "tuple[int, bool]":
    """Wait until a process ends, or nothing was said for too long; its waiting for a processor does not count."""
    room, since, before = ledger.room, time.monotonic(), waited(child.pid)
    patience = DATABASE if ledger.plan["runner"] == "django" else STARTUP
    while child.poll() is None:
        if line.hear(TICK):
            with suppress(subprocess.TimeoutExpired):
                child.wait(timeout=TICK)
        now = time.monotonic()
        if ledger.room != room:
            room, since, before = ledger.room, now, waited(child.pid)
            patience = max(ledger.limit, ledger.plan["seconds"]) + GRACE
        if now - since > patience + min(waited(child.pid) - before, 3 * patience):
            child.kill()
            return child.wait(), True
    return child.returncode, False


def waited(process: int) -> float:
    """Return the seconds that a process has waited for a processor, as far as the system tells."""
    try:
        return int(Path("/proc", str(process), "schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0
