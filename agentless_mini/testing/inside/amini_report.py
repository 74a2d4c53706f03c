"""Starts runners of other languages in a box, one group of files after the other, and passes on what they report.

The plan says how. What a runner prints or leaves is passed on as it is, in pieces, with a line that tells how its
process ended; it is read outside. Nothing that lay where a report is to be counts. To each file tests of ours are added
for the time of its run. `amini_run` starts this, and keeps the record.
"""

import base64
import glob
import hashlib
import os
import re
import selectors
import shutil
import signal
import stat
import subprocess
import time
from contextlib import suppress
from typing import Any

Foreign = Any
PIECE = 40 * 1024
DRAIN = 1.0  # seconds in which what is printed is read after a process ended
MOST = 6 * 1024 * 1024  # bytes of a report, and of what a runner prints
MODULE = re.compile(rb"^\s*(?:import\s[^(]|import[{*'\"]|export\s)", re.MULTILINE)
PACKAGE = re.compile(r"^package (\w+)", re.MULTILINE)
DEFINES = re.compile(r"^func ((?:Test|Example|Fuzz)\w*)\(", re.MULTILINE)


def go(ledger: Foreign) -> None:
    """Run what the plan of a ledger of `amini_run` wants."""
    plan, root, spent = ledger.plan, str(ledger.folder), 0.0
    ledger.take({"event": "begun", "id": "", "root": root})
    held = {file: plain(os.path.join(root, file)) for group in plan["groups"] for file in group["files"]}
    for number, group in enumerate(plan["groups"]):
        if spent < float(plan["budget"] or "inf"):
            spent += max(0.0, Run(plan, group, root, number, held).go(ledger) - plan["free"])
            continue
        for file in group["files"]:
            ledger.take({"event": "left", "id": file})


def passed_on(ledger: Foreign, name: str, data: bytes) -> bool:
    """Write down what was reported; return whether there was room for it."""
    has_room = len(data) * 3 // 2 <= ledger.room - PIECE
    for start in range(0, len(data), PIECE) if has_room else ():
        piece = base64.b64encode(data[start : start + PIECE]).decode()
        ledger.take({"event": "part", "id": name, "data": piece})
    return bool(has_room)


class Run:
    """One process of a runner."""

    def __init__(self, plan: Foreign, group: Foreign, root: str, number: int, held: "dict[str, bytes]") -> None:
        """Look at what there is."""
        self.plan, self.group, self.root = plan, group, root
        self.cwd = os.path.join(root, group["cwd"])
        self.files = [file for file in group["files"] if os.path.isfile(os.path.join(root, file))]
        temporary = os.environ.get("TMPDIR", "/tmp")  # noqa: S108 - the box's own
        self.folder = os.path.join(temporary, "amini-" + os.urandom(8).hex())
        os.mkdir(self.folder, 0o700)
        self.seed = f"{plan['seed']} {number}"
        self.changed = [file for file in self.files if plain(os.path.join(root, file)) != held[file]]
        self.canaries = []  # type: list[list[str]]
        self.kept = {}  # type: dict[str, bytes | None]

    def go(self, ledger: Foreign) -> float:
        """Do it; return the seconds that it took."""
        began, ended, reports = time.monotonic(), (0, False), []  # type: float, tuple[int, bool], list[str]
        parts = {}  # type: dict[str, bytes]
        try:
            self.put_aside()
            names = self.names()
            for file in self.files if self.plan["canaries"] else ():
                self.add_canaries(file)
            names.update((name, file) for file, name, _ in self.canaries)
            for path in self.left():
                with suppress(OSError):
                    os.unlink(path)
            if self.files:
                ended = self.start(parts)
            reports = self.left()
            for number, path in enumerate([os.path.join(self.folder, "report"), *reports]):
                parts[f"report{number}"] = plain(path)
        finally:
            self.put_back()
        whole = not [name for name, data in parts.items() if data and not passed_on(ledger, name, data)]
        seconds = time.monotonic() - began
        ledger.take({
            "event": "ran", "id": "", "files": self.files, "wanted": self.group["files"], "status": ended[0],
            "hung": ended[1], "cut": not whole, "seconds": round(seconds, 3), "names": names,
            "canaries": self.canaries, "changed": self.changed, "left": len(reports),
        })  # fmt: skip
        shutil.rmtree(self.folder, ignore_errors=True)
        return seconds

    def left(self) -> "list[str]":
        """Return the reports that lie in the tree."""
        pattern = self.plan["left"]
        return sorted(glob.glob(os.path.join(glob.escape(self.cwd), pattern), recursive=True)) if pattern else []

    def names(self) -> "dict[str, str]":
        """Return in which files tests are defined, where a runner tells them by their names alone."""
        found = {}  # type: dict[str, str]
        for file in self.files if self.plan["runner"] == "go test" else ():
            text = plain(os.path.join(self.root, file)).decode("utf-8", "replace")
            found.update(dict.fromkeys(DEFINES.findall(text), file))
        return found

    def put_aside(self) -> None:
        """Take away the new tests of other groups, which may not even compile."""
        for file in self.plan["apart"]:
            path = os.path.join(self.root, file)
            if file not in self.group["files"] and os.path.isfile(path):
                self.kept[path] = plain(path)
                os.unlink(path)

    def put_back(self) -> None:
        """Leave the tree as it was."""
        for path, data in self.kept.items():
            with suppress(OSError):
                os.unlink(path)
            if data is not None:
                with suppress(OSError), open(path, "xb") as file:
                    file.write(data)

    def add_canaries(self, file: str) -> None:
        """Add tests of ours to a file, or beside it: one that passes and one that fails."""
        path = os.path.join(self.root, file)
        data = plain(path)
        draw = int.from_bytes(hashlib.sha256(f"{self.seed} {file}".encode()).digest()[:12], "big")
        first, second, number = draw % 89 + 2, draw // 89 % 89 + 2, draw // 8000 % 10**9
        names = {"go": ("TestHolds{}", "TestKeeps{}"), "cargo": ("holds_{}", "keeps_{}")}
        both = [name.format(number) for name in names.get(self.plan["format"], ("holds {}", "keeps {}"))]
        passing, failing = reversed(both) if draw >> 40 & 1 else both
        package = (PACKAGE.findall(data.decode("utf-8", "replace")) or [""])[0]
        kind = "esm" if is_module(path, data) else ""
        where, text = next(one for one in self.plan["canary"] if one[0] in {"", kind} or "{" in one[0])
        if "{" in where:
            path, data = os.path.join(os.path.dirname(path), where.format(digest=f"{number:09d}")), b""
        numbers = {"first": first, "second": second, "right": first + second, "wrong": first + second + 1 + draw % 7}
        made = text.format(name=passing, other=failing, package=package, **numbers).encode()
        self.canaries += [[file, passing, "pass"], [file, failing, "fail"]]
        self.kept.setdefault(path, data or None)
        with suppress(OSError):
            os.unlink(path) if data else None
            with open(path, "xb") as opened:
                opened.write(data + b"\n" + made if data else made)

    def start(self, parts: "dict[str, bytes]") -> "tuple[int, bool]":
        """Start the runner, see it to its end, and take what it prints."""
        environment = dict(os.environ, CI="1", NO_COLOR="1", FORCE_COLOR="0")
        bins = [os.path.join(place, "node_modules", ".bin") for place in dict.fromkeys([self.cwd, self.root])]
        environment["PATH"] = os.pathsep.join([*bins, "/node_modules/.bin", environment.get("PATH", os.defpath)])
        for name, value in self.plan["env"]:
            if value.startswith("?"):  # an option of node's, if it knows that
                tried = subprocess.run(["node", value[1:], "-e", "0"], stderr=subprocess.DEVNULL, check=False)  # noqa: S603, S607
                known = [environment.get(name, ""), value[1:] if tried.returncode == 0 else ""]
                environment[name] = " ".join(filter(None, known))
            elif value.startswith("~"):
                environment[name] = os.path.join(os.path.dirname(self.folder), "amini-" + value[1:])
                if environment.get("AMINI_" + name):
                    farm(environment["AMINI_" + name], environment[name])
            else:
                environment.setdefault(name, value)
        command = list(self.words())
        try:
            child = subprocess.Popen(  # type: Foreign # noqa: S603 - the runner's
                command, cwd=self.cwd, env=environment, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            parts["err"] = f"{command[0]} cannot be run: {error.strerror}".encode()
            return 127, False
        try:
            return self.see(child, parts)
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            child.stdout.close()
            child.stderr.close()

    def see(self, child: Foreign, parts: "dict[str, bytes]") -> "tuple[int, bool]":
        """Take what a process prints until it ended, or its time is over."""
        looking, end, limit = selectors.DefaultSelector(), 0.0, time.monotonic() + self.group["seconds"]
        for name, stream in (("out", child.stdout), ("err", child.stderr)):
            looking.register(stream, selectors.EVENT_READ, name)
        while looking.get_map():
            now = time.monotonic()
            if child.poll() is not None:
                end = end or now + DRAIN
            if now > limit or (end and now > end):
                break
            for key, _ in looking.select(0.1):
                data = os.read(key.fd, 1 << 16)
                if not data:
                    looking.unregister(key.fileobj)
                parts[key.data] = parts.get(key.data, b"") + (data if len(parts.get(key.data, b"")) < MOST else b"")
        looking.close()
        with suppress(subprocess.TimeoutExpired):
            return child.wait(max(0.0, limit - time.monotonic())), False
        os.killpg(child.pid, signal.SIGKILL)
        return child.wait(), True

    def words(self) -> "Foreign":
        """Yield the words of the command."""
        files = [os.path.relpath(file, self.group["cwd"]) for file in self.files]
        stems = [os.path.splitext(os.path.basename(file))[0] for file in files]
        folder = os.path.dirname(files[0]) or "."
        put = {
            "{report}": os.path.join(self.folder, "report"),
            "{build}": os.path.join(os.path.dirname(self.folder), "amini-build"),
            "{stems}": ",".join(stems),
            "{folder}": "./" + folder if folder != "." else ".",
        }
        for word in self.plan["command"]:
            if word == "{files}":
                yield from files
                continue
            for mark, value in put.items():
                word = word.replace(mark, value)
            yield word.replace("{tests}", files[0])


def is_module(path: str, data: bytes) -> bool:
    """Tell whether a script is a module, which has `import` and no `require`."""
    if path.endswith((".cjs", ".cts")):
        return False
    return path.endswith((".mjs", ".mts")) or MODULE.search(data) is not None


def plain(path: str) -> bytes:
    """Return the beginning of what a regular file holds, nothing of any other."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        return file.read(MOST) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""


def farm(source: str, place: str) -> None:
    """Make a folder that can be written of one that cannot: its files are links."""
    if os.path.isdir(place):
        return
    for folder, _, names in os.walk(source):
        inner = os.path.join(place, os.path.relpath(folder, source))
        os.makedirs(inner, exist_ok=True)
        for name in names:
            os.symlink(os.path.join(folder, name), os.path.join(inner, name))
