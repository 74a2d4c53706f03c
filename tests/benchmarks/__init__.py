"""What the benchmarks share: how they print, intervals of means, and trees of files of Python's library."""

import math
import random
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path

from agentless_mini.domain import FileKind, Snapshot, SourceFile

RESAMPLES = 2000


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def bootstrapped(values: Sequence[float], seed: object = 0) -> tuple[float, float, float]:
    """Return the mean of some values with its 95 % percentile bootstrap interval (Efron 1979)."""
    dice, size = random.Random(str(seed)), len(values)  # noqa: S311 - drawn again alike, not for secrets
    means = sorted(math.fsum(dice.choices(values, k=size)) / size for _ in range(RESAMPLES))
    return math.fsum(values) / size, means[RESAMPLES // 40], means[-1 - RESAMPLES // 40]


def library(names: Iterable[str], **more: bytes) -> Snapshot:
    """Return files of Python's library as a repository."""
    folder = Path(sysconfig.get_path("stdlib"))
    contents = {name: (folder / name).read_bytes() for name in sorted({*names})} | more
    files = (SourceFile(name, "100644", FileKind.TEXT, data) for name, data in sorted(contents.items()))
    return Snapshot("library", "0" * 40, "0" * 64, tuple(files))
