"""The fence around a step in a box without namespaces: Landlock, seccomp, and the calls that are done for the step.

A step may not make sockets, connect them, change modes and times, or open /dev/shm on its own: the kernel hands these
calls to the runner (seccomp's user notification), which checks what is asked for and does it on the very object that it
checked, so that nothing that a step swaps in between is ever used. It may not fork without the runner either, and so
cannot when its time is over. What is allowed is decided outside: see `sandbox.landlock`.
"""

from __future__ import annotations

import array
import base64
import ctypes
import errno
import fcntl
import os
import socket
import stat
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from agentless_mini.sandbox.inside.processes import NO_NEW_PRIVILEGES, descendants, prctl

if TYPE_CHECKING:
    from agentless_mini.sandbox.inside.files import Message

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
RECEIVE, SEND, ADD_DESCRIPTOR = 0xC0502100, 0xC0182101, 0x40182103
FILE_RIGHTS = 1 | 2 | 4 | 1 << 14 | 1 << 15  # to execute, write, read, cut, and control: what no folder is needed for
HERE = -100  # AT_FDCWD
SHARED = b"/dev/shm/"  # where the C library has semaphores and shared memory
PATIENCE = 2  # seconds that a connection in the box may take
KEPT = 256
NOW, OMIT = (1 << 30) - 1, (1 << 30) - 2


def system(number: int, *arguments: int | bytes) -> int:
    """Make a system call."""
    given = [ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_long(value) for value in arguments]
    result = ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number), *given)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result)


def restrict(handled: list[int], rules: list[tuple[str, int]]) -> None:
    """Give up for good what Landlock handles, save the rights on what lies at or below these paths."""
    prctl(NO_NEW_PRIVILEGES, 1)
    asked = struct.pack("QQQ", *handled)
    ruleset = system(CREATE_RULESET, asked, len(asked), 0)
    for path, rights in rules:
        try:
            opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:  # not on this machine
            continue
        mask = -1 if stat.S_ISDIR(os.fstat(opened).st_mode) else FILE_RIGHTS
        system(ADD_RULE, ruleset, 1, struct.pack("=Qi", rights & handled[0] & mask, opened), 0)
        os.close(opened)
    system(RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


class Gate:
    """The line by which a process that goes behind the fence hands the runner what its calls are heard on."""

    def __init__(self) -> None:
        """Make it before the fork."""
        self.hearing, self.speaking = socket.socketpair()

    def close_in(self, fence: Message) -> None:
        """Put this process behind the fence for good, and send the runner what it hears of the process by."""
        restrict(fence["handled"], fence["rules"])
        code = base64.b64decode(fence["filter"])
        held = ctypes.create_string_buffer(code, len(code))
        program = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(held))
        listener = system(fence["seccomp"], 1, 8, program)
        self.speaking.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listener]))])
        os.close(listener)

    def warden(self, job: Message) -> Warden:
        """Return who answers for the process, once it is behind the fence. Raises OSError where it is not."""
        self.speaking.close()
        with self.hearing:
            _, told, _, _ = self.hearing.recvmsg(1, socket.CMSG_SPACE(4))
        if not told:
            raise OSError(errno.EPERM, "Landlock or seccomp cannot be used")
        return Warden(job, array.array("i", told[0][2][:4])[0])


def begin(job: Message) -> None:
    """Let the runner itself write no more than its steps may. Raise OSError where a fence cannot be put up here."""
    restrict(job["fence"]["kept"], job["fence"]["own"])
    gate = Gate()
    child = os.fork()
    if not child:
        try:
            gate.close_in(job["fence"])
        finally:
            os._exit(0)
    gate.warden(job).close()
    os.waitpid(child, 0)


class Call:
    """A system call that waits to be answered."""

    def __init__(self, request: bytes) -> None:
        """Read the kernel's description."""
        self.id, self.pid, _, self.number, _, _, *self.arguments = struct.unpack("QIIiIQ6Q", request)

    def signed(self, index: int) -> int:
        """Return an argument that is an int."""
        return int(ctypes.c_int(self.arguments[index] & 0xFFFFFFFF).value)

    def memory(self, address: int, size: int) -> bytes:
        """Read from the process, at most so much."""
        with open(f"/proc/{self.pid}/mem", "rb", 0) as file:
            file.seek(address)
            return file.read(size) or b""

    def path(self, index: int) -> bytes:
        """Read an argument that is a path, page by page."""
        address, read = self.arguments[index], b""
        while b"\0" not in read:
            if len(read) > 4096:
                raise OSError(errno.ENAMETOOLONG, "too long")
            more = self.memory(address + len(read), 4096 - (address + len(read)) % 4096)
            if not more:
                raise OSError(errno.EFAULT, "ended")
            read += more
        return read.partition(b"\0")[0]

    def link(self, descriptor: int) -> str:
        """Return where a descriptor of the process leads."""
        return f"/proc/{self.pid}/fd/{descriptor}"


class Warden:
    """Answers the calls of one step that the filter hands over; an OSError that it raises is what the call returns."""

    def __init__(self, job: Message, listener: int) -> None:
        """Begin with the listener of a step that is behind the fence."""
        fence = job["fence"]
        self.listener = listener
        self.calls: dict[int, list[Any]] = {number: call for number, *call in fence["calls"]}
        self.roots: list[str] = [os.path.realpath(path) for path in fence["writable"]]
        self.shared = os.open(job["scratch"] + "/shm", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        self.address: str = fence["address"]
        self.most: int = fence["pids"]
        self.processes, self.begun = 1, 0
        self.sockets: dict[str, socket.socket] = {}
        self.ports: set[int] = set(fence["ports"])

    def answer(self) -> None:
        """Answer one call. Its method is told at which places among the call's arguments those are that it needs."""
        request = bytearray(80)
        with suppress(OSError):  # who called is gone
            fcntl.ioctl(self.listener, RECEIVE, request)
            call = Call(bytes(request))
            value: Any = 0
            error = 0
            try:
                name, *places = self.calls[call.number]
                value = getattr(self, "_" + name)(call, *places)
            except OSError as refused:
                error = refused.errno or errno.EPERM
            except (ValueError, ArithmeticError, struct.error):  # nonsense, or no memory of the process
                error = errno.EFAULT
            if error:
                self._reply(call, 0, -error)
            elif value is not ...:
                self._reply(call, value or 0, 0, go_on=value is None)

    def _reply(self, call: Call, value: int, error: int, go_on: bool = False) -> None:
        fcntl.ioctl(self.listener, SEND, struct.pack("QqiI", call.id, value, error, int(go_on)))

    def _give(self, call: Call, descriptor: int, closes: bool) -> object:
        flags = os.O_CLOEXEC if closes else 0
        fcntl.ioctl(self.listener, ADD_DESCRIPTOR, struct.pack("QIIII", call.id, 2, descriptor, 0, flags))
        return ...

    def close(self) -> None:
        """Answer nothing more: whatever asks now, to fork above all, is refused."""
        os.close(self.listener)
        os.close(self.shared)
        for kept in self.sockets.values():
            kept.close()

    # Processes

    def _fork(self, call: Call) -> None:
        """Let it fork while there are not too many; they are counted only where there might be."""
        self.begun += 1
        if self.processes + self.begun > self.most:
            self.processes, self.begun = len(descendants()), 1
            if self.processes >= self.most:
                raise OSError(errno.EAGAIN, "too many processes")

    def _signal(self, call: Call) -> int | None:
        """Let it signal its own kind, where Landlock does not see to that. To signal all is done for it."""
        target = call.signed(0)
        if target == 0:
            return None
        own = descendants()
        if target == -1:
            for pid in own - {call.pid}:
                os.kill(pid, call.signed(1))
            return 0
        groups = {os.getpgid(pid) for pid in own} if target < 0 else set()
        if target not in own and -target not in groups:
            raise OSError(errno.EPERM, "not of this box")
        return None

    # Sockets

    def _socket(self, call: Call) -> object:
        """Make one that reaches the loopback device alone, or one for paths. A copy is kept until it is connected."""
        family, kind, protocol = (call.signed(index) for index in range(3))
        base = kind & 0xF
        internet = family == socket.AF_INET and base == socket.SOCK_STREAM and protocol in (0, socket.IPPROTO_TCP)
        if not internet and (family != socket.AF_UNIX or base not in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)):
            raise OSError(errno.EAFNOSUPPORT, "not in a box")
        made = socket.socket(family, base)
        if internet:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
        if kind & socket.SOCK_NONBLOCK:
            made.setblocking(False)
        if len(self.sockets) >= KEPT:
            self._forget_closed()
        self.sockets[os.readlink(f"/proc/self/fd/{made.fileno()}")] = made
        return self._give(call, made.fileno(), bool(kind & socket.SOCK_CLOEXEC))

    def _forget_closed(self) -> None:
        """Close the copies of sockets that no process of the box has any more."""
        held = set()
        for pid in descendants():
            try:
                held |= {os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
            except OSError:
                continue
        for name in set(self.sockets) - held:
            self.sockets.pop(name).close()

    def _copy(self, call: Call) -> tuple[str, socket.socket]:
        """Return the copy of the socket that a call names. One of which there is none is in use already."""
        name = os.readlink(call.link(call.signed(0)))
        if name not in self.sockets:
            raise OSError(errno.EISCONN if name.startswith("socket:") else errno.ENOTSOCK, "in use")
        return name, self.sockets[name]

    def _bind(self, call: Call) -> int | None:
        """Give a socket a port of the box's own address; a path is the kernel's to allow."""
        name, copy = self._copy(call)
        if copy.family == socket.AF_INET:
            copy.bind((self.address, self._port(call)))
            self.ports.add(copy.getsockname()[1])
        self.sockets.pop(name).close()
        return 0 if copy.family == socket.AF_INET else None

    def _connect(self, call: Call) -> int:
        """Connect a socket to what listens in the box."""
        name, copy = self._copy(call)
        if copy.family == socket.AF_INET:
            port = self._port(call)
            if port not in self.ports:
                raise OSError(errno.ECONNREFUSED, "not in this box")
            self._join(name, copy, (self.address, port))
        else:
            size = max(0, min(call.signed(2), 110) - 2)
            path = call.memory(call.arguments[1] + 2, size).partition(b"\0")[0]
            handle = self._opened(call, HERE, path, 0)
            try:
                self._join(name, copy, f"/proc/self/fd/{handle}")
            finally:
                os.close(handle)
        return 0

    def _join(self, name: str, copy: socket.socket, address: tuple[str, int] | str) -> None:
        """Connect, but wait for a short time only, since all others of the box wait meanwhile."""
        copy.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", PATIENCE, 0))
        error = copy.connect_ex(address)
        copy.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 0))
        if error in (0, errno.EINPROGRESS):
            self.sockets.pop(name).close()
        if error:
            raise OSError(error, os.strerror(error))

    def _port(self, call: Call) -> int:
        family, port = struct.unpack("=H2s", call.memory(call.arguments[1], 4))
        if family != socket.AF_INET:
            raise OSError(errno.EAFNOSUPPORT, "not in a box")
        return int.from_bytes(port, "big")

    # Files

    def _opened(self, call: Call, folder: int, path: bytes, flags: int) -> int:
        """Open what a path means to the process, as a handle alone. Raises OSError where the box may not write it."""
        base = os.open(call.link(folder) if folder != HERE else f"/proc/{call.pid}/cwd", os.O_PATH | os.O_DIRECTORY)
        try:
            handle = os.open(path, os.O_PATH | flags, dir_fd=base)
        finally:
            os.close(base)
        return self._checked(handle)

    def _held(self, call: Call, descriptor: int) -> int:
        return self._checked(os.open(call.link(descriptor), os.O_PATH))

    def _checked(self, handle: int) -> int:
        """Return a handle of what lies where the box may write."""
        real = os.readlink(f"/proc/self/fd/{handle}")
        if not any(real == root or real.startswith(root + "/") for root in self.roots):
            os.close(handle)
            raise OSError(errno.EPERM, "not of this box")
        return handle

    def _chmod(self, call: Call, path: int, mode: int, folder: int | None = None) -> int:
        base = HERE if folder is None else call.signed(folder)
        return set_mode(self._opened(call, base, call.path(path), 0), call.arguments[mode])

    def _fchmod(self, call: Call) -> int:
        return set_mode(self._held(call, call.signed(0)), call.arguments[1])

    def _utimensat(self, call: Call) -> int:
        """Set the times of a path below a folder, or of an open file."""
        flags = os.O_NOFOLLOW if call.signed(3) & 0x100 else 0
        by_path = bool(call.arguments[1])
        folder = call.signed(0)
        handle = self._opened(call, folder, call.path(1), flags) if by_path else self._held(call, folder)
        try:
            os.utime(f"/proc/self/fd/{handle}", ns=times(call, call.arguments[2], handle))
        finally:
            os.close(handle)
        return 0

    def _in_shared(self, call: Call, index: int) -> bytes | None:
        """Return the name of a file in /dev/shm; None for what the kernel is to decide on: other paths, unread ones."""
        try:
            path = call.path(index)
        except OSError:
            return None
        name = path[len(SHARED) :]
        plain = path.startswith(SHARED) and b"/" not in name and name not in (b"", b".", b"..")
        return name if plain else None

    def _openat(self, call: Call) -> object:
        """Open shared memory in the box's own folder for it."""
        name = self._in_shared(call, 1)
        if name is None:
            return None
        flags = call.signed(2) | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(name, flags, call.arguments[3] & 0o777, dir_fd=self.shared)
        try:
            return self._give(call, handle, bool(call.signed(2) & os.O_CLOEXEC))
        finally:
            os.close(handle)

    def _link(self, call: Call, source: int, target: int) -> int | None:
        old, new = self._in_shared(call, source), self._in_shared(call, target)
        if old is None or new is None:
            return None
        os.link(old, new, src_dir_fd=self.shared, dst_dir_fd=self.shared, follow_symlinks=False)
        return 0

    def _unlink(self, call: Call, path: int) -> int | None:
        name = self._in_shared(call, path)
        if name is None:
            return None
        os.unlink(name, dir_fd=self.shared)
        return 0


def set_mode(handle: int, mode: int) -> int:
    """Set the mode of what a handle is of, and close it."""
    try:
        os.chmod(f"/proc/self/fd/{handle}", mode & 0o7777)
    finally:
        os.close(handle)
    return 0


def times(call: Call, address: int, handle: int) -> tuple[int, int]:
    """Return the times that a call sets, in nanoseconds: given, now, or as they are."""
    now, found = time.time_ns(), os.stat(f"/proc/self/fd/{handle}", follow_symlinks=True)
    given = struct.unpack("4q", call.memory(address, 32)) if address else (0, NOW, 0, NOW)
    said = []
    for seconds, part, old in ((*given[:2], found.st_atime_ns), (*given[2:], found.st_mtime_ns)):
        said.append(now if part == NOW else old if part == OMIT else seconds * 10**9 + part)
    return said[0], said[1]
