"""Which calls to the kernel a step may make: programs for seccomp, in every box that isolates.

What is refused to every box is named here; Landlock's fence adds what namespaces keep in elsewhere. It is what the
profile of Docker 28 refuses to a container without capabilities (that of an older Docker refuses less), io_uring,
tracing, kinds of sockets that no test needs, and what a kernel has that is newer than Linux 6.18, known by its number,
so that no call is open that nobody looked at. 32-bit programs can make no call at all. For machines other than x86_64
and aarch64 there is no filter. One program is for both, since an emulator tells a box another kind than the kernel's.
"""

import base64
import ctypes
import errno
import functools
import os
import socket
import struct
from collections.abc import Iterable, Mapping
from typing import Any

ALLOW, ASK, _ERROR = 0x7FFF0000, 0x7FC00000, 0x00050000
REFUSE, ABSENT, NO_FAMILY = _ERROR | errno.EPERM, _ERROR | errno.ENOSYS, _ERROR | errno.EAFNOSUPPORT
UNSUPPORTED = _ERROR | errno.EOPNOTSUPP
MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""The kinds of machine that a filter is for, as the kernel names each, in the order of tables of numbers."""
WHOLE = 0xFFFFFFFF
FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, 16)
"""The sockets of a box with a network of its own. By the last, netlink, the C library looks up addresses."""
_NEWER = 470
"""The number of the first call that came after Linux 6.18, on both kinds of machine."""
_JOIN = 1

Rule = tuple[str, int, *tuple[Any, ...]]
"""A call and what becomes of it, where the lower half of an argument has one of the values under a mask, or always."""


def numbers(table: str) -> dict[str, tuple[int, int]]:
    """Read the numbers of system calls, x86_64's and aarch64's; -1 where a machine lacks one."""
    return {name: (int(x86), int(arm)) for name, x86, arm in map(str.split, table.split(","))}


# Refused as by a kernel that lacks them, which programs know how to do without.
_REFUSED = numbers(
    """add_key 248 217, request_key 249 218, keyctl 250 219, unshare 272 97, setns 308 268, clone3 435 435,
    mount 165 40, umount2 166 39, pivot_root 155 41, chroot 161 51, open_tree 428 428, move_mount 429 429,
    fsopen 430 430, fsconfig 431 431, fsmount 432 432, fspick 433 433, mount_setattr 442 442, statmount 457 457,
    listmount 458 458, open_tree_attr 467 467, open_by_handle_at 304 265,
    fanotify_init 300 262, quotactl 179 60, quotactl_fd 443 443, swapon 167 224, swapoff 168 225, acct 163 89,
    io_uring_setup 425 425, io_uring_enter 426 426, io_uring_register 427 427, userfaultfd 323 282, bpf 321 280,
    perf_event_open 298 241, ptrace 101 117, process_vm_readv 310 270, process_vm_writev 311 271, kcmp 312 272,
    pidfd_getfd 438 438, process_madvise 440 440, move_pages 279 239, migrate_pages 256 238, mbind 237 235,
    set_mempolicy 238 237, get_mempolicy 239 236, set_mempolicy_home_node 450 450, kexec_load 246 104,
    kexec_file_load 320 294, init_module 175 105, finit_module 313 273, delete_module 176 106, reboot 169 142,
    settimeofday 164 170, clock_settime 227 112, sethostname 170 161, setdomainname 171 162, syslog 103 116,
    vhangup 153 58, lookup_dcookie 212 18, iopl 172 -1, ioperm 173 -1, create_module 174 -1, query_module 178 -1,
    get_kernel_syms 177 -1, uselib 134 -1, ustat 136 -1, sysfs 139 -1, _sysctl 156 -1, nfsservctl 180 42"""
)
_CALLS = numbers("clone 56 220, socket 41 198, personality 135 92")
# No process gets a namespace, or runs as a program of another system.
_RULES: tuple[Rule, ...] = (
    *(("clone", REFUSE, 0, 1 << bit, (1 << bit,)) for bit in (17, *range(25, 31))),
    ("personality", ALLOW, 0, WHOLE, (0, 0x8, 0x20000, 0x20008, WHOLE)),
    ("personality", REFUSE),
)


def filter_of(calls: Mapping[str, tuple[int, int]], rules: Iterable[Rule]) -> bytes:
    """Return the program that decides on calls: first what every box is refused, then rules.

    `calls` are the numbers of those that the rules are about. The first rule that holds decides, and what none is about
    is allowed.
    """
    code, named, listed = [(0x20, 0, 0, 4)], {**_CALLS, **calls}, (*_RULES, *rules)
    for column, kind in enumerate(MACHINES.values()):
        refused = [found[column] for found in _REFUSED.values() if found[column] >= 0]
        block = [(0x20, 0, 0, 0), (0x35, len(refused) + 1, 0, _NEWER)]
        block += [(0x15, len(refused) - place, 0, number) for place, number in enumerate(refused)]
        block += [(0x05, 0, 0, 1), (0x06, 0, 0, ABSENT)]
        for call, action, *condition in listed:
            after = [(0x06, 0, 0, action)]
            if condition:
                argument, mask, values = condition
                last = len(values) - 1
                tests = [(0x15, last - place, int(place == last), value) for place, value in enumerate(values)]
                after = [(0x20, 0, 0, 16 + 8 * argument), (0x54, 0, 0, mask), *tests, *after]
            if (number := named[call][column]) >= 0:
                block += [(0x20, 0, 0, 0), (0x15, 0, len(after), number), *after]
        code += [(0x15, 1, 0, kind), (0x05, 0, 0, len(block) + 1), *block, (0x06, 0, 0, ALLOW)]
    return b"".join(struct.pack("=HBBI", *line) for line in (*code, (0x06, 0, 0, ABSENT)))


@functools.cache
def filter_of_namespaces() -> str:
    """Return the program, as base64, for boxes whose namespaces keep in the rest."""
    rules: list[Rule] = [("socket", ALLOW, 0, WHOLE, FAMILIES), ("socket", NO_FAMILY)]
    return base64.b64encode(filter_of({}, rules)).decode()


def join_keyring() -> None:
    """Give this thread, and with it the processes that it starts from now on, a session keyring of its own.

    Else a box had that of the user, with whatever keys lie there. Where the kernel refuses, in a container, it refuses
    all calls about keys.
    """
    if (machine := os.uname().machine) in MACHINES:
        number = _REFUSED["keyctl"][[*MACHINES].index(machine)]
        ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number), ctypes.c_long(_JOIN), None)
