"""Who owns a box: the run that made it, named so that a later run can tell whether it is still alive.

A process number alone says little; with the boot, the time of its birth and its process namespace it names one process
for good. What another machine or namespace owns is never judged.
"""

import os
from pathlib import Path

from agentless_mini.model.process_table import find_process

LABEL = "amini"
OWNER = "amini.owner"


def myself() -> str:
    """Return the name of this process."""
    process = find_process(os.getpid())
    return f"{_namespace()} {os.getpid()} {process.birth if process else ''}"


def is_dead(owner: str) -> bool:
    """Return whether the owner ended: it was a process here, and is none now."""
    namespace, _, rest = owner.partition(" ")
    number, _, birth = rest.partition(" ")
    if namespace != _namespace() or not number.isdecimal():
        return False
    process = find_process(int(number))
    return process is None or process.birth != birth


def _namespace() -> str:
    """Name the machine and, on it, the process namespace. A machine is known by its boot."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    inside = Path("/proc/self/ns/pid")
    if not boot.exists():  # no Linux: there is one namespace, and births tell boots apart
        return os.uname().nodename.replace(" ", "-")
    return f"{boot.read_text().strip()}/{inside.readlink()}"
