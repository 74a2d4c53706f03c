"""Runs amini as macOS would: without what Python or the kernel has on Linux alone. It is not a Mac."""

import contextlib
import ctypes
import errno
import fcntl
import importlib
import os
import resource
import select
import selectors
import signal
import socket
import sys
import sysconfig
import types
from collections.abc import Callable
from typing import Any

ABSENT = {
    os: "O_DIRECT O_LARGEFILE O_NOATIME O_PATH O_RSYNC O_TMPFILE P_PIDFD copy_file_range eventfd eventfd_read "
    "eventfd_write fdatasync getrandom getresgid getresuid getxattr listxattr memfd_create pidfd_open pipe2 "
    "posix_fadvise posix_fallocate removexattr sched_get_priority_max sched_getaffinity sched_getparam "
    "sched_getscheduler sched_setaffinity sched_setparam sched_setscheduler setns setresgid setresuid setxattr splice "
    "unshare",
    fcntl: "F_ADD_SEALS F_GETPIPE_SZ F_NOTIFY F_OFD_GETLK F_OFD_SETLK F_OFD_SETLKW F_SETPIPE_SZ",
    resource: "RLIMIT_MSGQUEUE RLIMIT_NICE RLIMIT_OFILE RLIMIT_RTPRIO RLIMIT_RTTIME RLIMIT_SIGPENDING prlimit",
    selectors: "EpollSelector",
    select: "epoll " + " ".join(name for name in dir(select) if name.startswith("EPOLL")),
    signal: "SIGCLD SIGPOLL SIGPWR SIGRTMAX SIGRTMIN SIGSTKFLT pidfd_send_signal sigtimedwait sigwaitinfo",
    socket: "AF_ALG AF_NETLINK AF_PACKET AF_VSOCK MSG_CMSG_CLOEXEC SCM_CREDENTIALS SOCK_CLOEXEC SOCK_NONBLOCK "
    "SO_BINDTODEVICE SO_PEERCRED",
}
CALLS = frozenset({"prctl", "syscall", "unshare", "setns", "pidfd_open", "memfd_create", "gnu_get_libc_version"})


def hide() -> None:
    """Take it all away from this process: names of modules, functions of the C library, and /proc."""
    for module, names in ABSENT.items():
        for name in names.split():
            if hasattr(module, name):
                delattr(module, name)
    selectors.DefaultSelector = selectors.SelectSelector  # type: ignore[misc,assignment]
    sysconfig.get_config_vars()  # it reads what this Python was built with once, by the name of the platform
    with contextlib.suppress(ImportError):  # a library of the HTTP client, which loads the Mac's own there
        importlib.import_module("truststore")
    sys.platform = "darwin"
    os.uname = lambda: os.uname_result(("Darwin", "mac", "24", "", "arm64"))
    proxies: Any = types.ModuleType("_scproxy")  # how urllib asks a Mac for its proxies
    proxies._get_proxies = dict
    proxies._get_proxy_settings = lambda: {"exclude_simple": False}
    sys.modules["_scproxy"] = proxies
    known = ctypes.CDLL.__getattr__

    def function(library: ctypes.CDLL, name: str) -> object:
        if name in CALLS:
            raise AttributeError(name)
        return known(library, name)

    ctypes.CDLL.__getattr__ = function  # type: ignore[method-assign,assignment]
    sys.addaudithook(lambda event, args: _refuse(args[0]) if event in {"open", "os.listdir", "os.scandir"} else None)
    for name in ("stat", "lstat", "readlink", "access"):
        setattr(os, name, _blind(getattr(os, name)))


def _blind(call: Callable[..., object]) -> Callable[..., object]:
    def blind(path: object, *args: object, **more: object) -> object:
        _refuse(path)
        return call(path, *args, **more)

    return blind


def _refuse(path: object) -> None:
    if isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(("/proc/", "/sys/")):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


if __name__ == "__main__":
    hide()
    from agentless_mini.cli import main

    main()
