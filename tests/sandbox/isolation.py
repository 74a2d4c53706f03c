"""Attacks on what lies beneath and beside a box: calls to the kernel, keys, sockets, devices, and other boxes.

Each is a Python expression, which a step of its own evaluates. It is contained where it raises. `call` raises where the
kernel refuses a call or does not have it, and not where it only dislikes what it was given: then the call was reached.
"""

import ctypes
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from agentless_mini.domain import Step
from agentless_mini.sandbox.filter import _REFUSED, MACHINES
from tests.sandbox.adapter import Adapter, python

COLUMN = [*MACHINES].index(os.uname().machine) if os.uname().machine in MACHINES else 0
NUMBERS = {name: found[COLUMN] for name, found in _REFUSED.items() if found[COLUMN] >= 0}
SHARED_MEMORY = 0x616D696E
KEY = b"amini-test-key"
PRELUDE = f"""
import ctypes, fcntl, mmap, os, signal, socket, struct, sys, termios, time
libc = ctypes.CDLL(None, use_errno=True)
numbers = {NUMBERS!r}
def call(name, *given):
    as_c = [value if isinstance(value, (bytes, ctypes.Array)) else ctypes.c_long(value) for value in given]
    result = libc.syscall(ctypes.c_long(numbers.get(name, name)), *as_c)
    if result < 0 and ctypes.get_errno() in (1, 13, 38):
        raise OSError(ctypes.get_errno(), name)
    return result
def cloned(name, *given):
    pid = call(name, *given)
    if pid == 0:
        os._exit(0)
    return pid
def fellow():
    pid = os.fork()
    if not pid:
        time.sleep(60)
    return pid
def in_a_child(code):
    pid = os.fork()
    if not pid:
        with mmap.mmap(-1, 4096, prot=7) as page:
            page.write(code)
            run = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
            os._exit(0 if run() >= 0 else 1)
    if os.waitpid(pid, 0)[1]:
        raise OSError
    return pid
zeros = ctypes.create_string_buffer(256)
"""
# keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0), as a program of 32 bits would call it.
INT_80 = b"\x53\xb8\x20\x01\x00\x00\xbb\x00\x00\x00\x00\xb9\xfd\xff\xff\xff\x31\xd2\xcd\x80\x5b\xc3"
ATTACKS = {
    "a key of the user's session cannot be found": f"call('keyctl', 10, -3, b'user', {KEY!r}, 0)",
    "no key can be laid down for the next box": "call('add_key', b'user', b'amini-box', b'x', 1, -3)",
    "the keys of the user's session are not listed": f"[1 for key in open('/proc/keys') if {KEY.decode()!r} in key][0]",
    "the keys of the user's session cannot be revoked": "call('keyctl', 3, -3)",
    "a key cannot be asked for": f"call('request_key', b'user', {KEY!r}, 0, -3)",
    "no user namespace can be made by unshare": "call('unshare', 0x10000000)",
    "no user namespace can be made by clone": f"cloned({(56, 220)[COLUMN]}, 0x10000000 | 17, 0, 0, 0, 0)",
    "no user namespace can be made by clone3": (
        "cloned('clone3', struct.pack('11Q', 0x10000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0), 88)"
    ),
    "no network or mount namespace can be made": "call('unshare', 0x40000000) + call('unshare', 0x20000)",
    "the namespaces of another process cannot be entered": "call('setns', os.open('/proc/1/ns/net', os.O_RDONLY), 0)",
    "a file system cannot be mounted": "call('mount', b'none', b'/tmp', b'tmpfs', 0, 0)",
    "a file system cannot be mounted by the newer calls": "call('fsopen', b'tmpfs', 0)",
    "the tree of mounts cannot be copied": "call('open_tree', -100, b'/', 1)",
    "a mount cannot be taken away": "call('umount2', b'/proc', 2)",
    "the root cannot be changed": "call('pivot_root', b'/', b'/tmp')",
    "a file cannot be opened by its handle": "call('open_by_handle_at', -100, zeros, 0)",
    "the hypervisor cannot be reached by a socket": "socket.socket(40, socket.SOCK_STREAM)",
    "io_uring cannot be used": "call('io_uring_setup', 1, zeros)",
    "page faults cannot be handled (userfaultfd)": "call('userfaultfd', 1)",
    "no program can be put into the kernel (bpf)": "call('bpf', 0, struct.pack('12I', 2, 4, 4, 1, *[0] * 8), 48)",
    "the processor cannot be watched (perf)": (
        "call('perf_event_open', struct.pack('II', 1, 112) + bytes(104), 0, -1, -1, 0)"
    ),
    "no module or other kernel can be loaded": "call('finit_module', 0, b'', 0) + call('kexec_load', 0, 0, 0, 0)",
    "the kernel's log cannot be read": "call('syslog', 3, zeros, 256)",
    "the clock cannot be set": "call('clock_settime', 0, struct.pack('qq', 10**9, 0))",
    "the machine cannot be named or restarted": "call('sethostname', b'x', 1) + call('reboot', 0, 0, 0, 0)",
    "another process of the box cannot be traced": "call('ptrace', 16, fellow(), 0, 0)",
    "another process's memory cannot be read": "call('process_vm_readv', fellow(), 0, 0, 0, 0, 0)",
    "another process's descriptors cannot be taken": "call('pidfd_getfd', os.pidfd_open(fellow()), 0, 0)",
    "an abstract socket of the machine cannot be reached": "socket.socket(socket.AF_UNIX).connect({abstract!r})",
    "shared memory of the machine cannot be seen": f"1 // (1 + libc.shmget({SHARED_MEMORY}, 0, 0))",
    "devices of the machine cannot be opened": (
        "[os.open('/dev/' + name, os.O_RDONLY) for name in ('mem', 'kmsg', 'kvm', 'fuse', 'net/tun', 'loop-control', "
        "'vsock', 'vda', 'sda', 'nvme0n1', 'vhost-vsock', 'userfaultfd') if os.access('/dev/' + name, os.R_OK)][0]"
    ),
    "no control group can be made or changed": (
        "[os.mkdir(path) or path for path in ('/sys/fs/cgroup/amini', '/sys/fs/cgroup/memory/amini')][0]"
    ),
    "no descriptor of the machine is inherited": (
        "[os.readlink(f'/proc/self/fd/{name}') for name in os.listdir('/proc/self/fd') if int(name) > 3][0]"
    ),
    "no letter can be put into a terminal": "fcntl.ioctl(os.open('/dev/tty', os.O_RDWR), termios.TIOCSTI, b'x')",
    "calls of another kind of numbers go nowhere": "call(0x40000000 + numbers['keyctl'], 0, -3, 0)",
    "calls of 32-bit programs go nowhere": f"in_a_child({INT_80!r})" if os.uname().machine == "x86_64" else "1 // 0",
}


@contextmanager
def machine() -> Iterator[bytes]:
    """Lay out on this machine what boxes must not reach; give the name of an abstract socket."""
    libc = ctypes.CDLL(None, use_errno=True)
    name = f"\0amini-test-{os.getpid()}".encode()
    key = libc.syscall(ctypes.c_long(NUMBERS["add_key"]), b"user", KEY, b"secret", 6, -3)
    shared = libc.shmget(SHARED_MEMORY, 4096, 0o1666)
    with socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(name)
        abstract.listen()
        try:
            yield name
            if key > 0:  # where the kernel lets this process have keys
                found = [
                    libc.syscall(ctypes.c_long(NUMBERS["keyctl"]), 10, -3, b"user", at, 0) for at in (KEY, b"amini-box")
                ]
                assert found == [key, -1], "the user's keys are as they were"
        finally:
            libc.shmctl(shared, 0, None)
            with suppress(OSError):
                libc.syscall(ctypes.c_long(NUMBERS["keyctl"]), 9, key, -3)


def attempt(attack: str, abstract: bytes) -> Step:
    code = ATTACKS[attack].replace("{abstract!r}", repr(abstract))
    return python(f"{PRELUDE}\ntry:\n    print('through:', {code})\nexcept BaseException as error:\n    pass")


class IsolationSuite:
    @pytest.mark.skipif(os.uname().machine not in MACHINES, reason="there is no filter for this machine")
    def test_what_lies_beneath_and_beside_cannot_be_reached(self, adapter: Adapter) -> None:
        with machine() as abstract:
            result = adapter.run(*(attempt(attack, abstract) for attack in ATTACKS))
        said = {attack: step.output.text() for attack, step in zip(ATTACKS, result.steps, strict=True)}
        assert {attack: text for attack, text in said.items() if text} == {}
        assert [step.status for step in result.steps] == [0] * len(ATTACKS)
