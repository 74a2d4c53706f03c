"""How many boxes a machine carries at once."""

import os
from pathlib import Path

from agentless_mini.domain import BoxLimits

MEMORY_SHARE = 0.8
"""Of the memory that is free; the rest is for the run itself and whatever else the machine does."""


def boxes_for(cores: int, memory: int, limits: BoxLimits) -> int:
    """Return how many boxes with these limits fit so many cores and bytes of memory, one at least."""
    return max(1, min(int(cores / limits.cpus), int(memory * MEMORY_SHARE) // limits.memory))


def boxes_here(limits: BoxLimits) -> int:
    """Return how many boxes with these limits fit this machine as it is now."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return boxes_for(cores, _available(), limits)


def _available() -> int:
    meminfo = Path("/proc/meminfo")
    for line in meminfo.read_text().splitlines() if meminfo.exists() else ():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
