"""Runs jobs on this machine in boxes made by bubblewrap, a fresh one for each. No daemon and no image is needed.

What is guaranteed, as far as the kernel keeps its word:

* Namespaces of its own: processes, network (a loopback alone), IPC, host name, mounts, and users; as root, instead of
  a user namespace, a user number that nobody else has. No capability, no new privilege.
* Of this machine's files the box sees /usr and the like, a few of /etc, the virtual environment and its Python, all
  read-only; no home, no /tmp, no variable of this process, no terminal. What a job writes lies in memory, has a size,
  and is gone with the box: nothing reaches the next box.
* A step ends at its time limit with all processes that it started, whatever session they are in; the box ends at its
  own, and when this process dies.
* A step's status and time are measured by a process that no step can end, trace or write to (see `inside.main`).
  Output is bounded while it is read, and nothing of it is believed.

What is not, beside what `sandboxes.docker` says of kernels, of a test's word about itself, and of fairness:

* Memory is no hard limit of the kernel's: a watch ends a step twenty times a second, at most what is written in such a
  time too late, and four times the limit is the most that one process can have mapped. What is in no process and no
  file system (a memfd that is written to, a detached shared segment) is not seen by the watch.
* CPU time is limited by the wall clock alone: a box may use every core. `BoxLimits.cpus` only counts in how many boxes
  run at once.
* Processes are limited by the user's count: exact in a user namespace on Linux 5.14 or newer, and as root; on older
  kernels processes of the same user outside count too.
* There is no filter on system calls, so that more of the kernel can be reached than from a Docker container.

`UnsafeLocal` runs them without any of this.
"""

import asyncio
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from agentless_mini.domain import Job, JobResult, PackedTree
from agentless_mini.errors import EnvironmentFailed
from agentless_mini.sandbox.bubblewrap import (
    CLOSING,
    Box,
    Bubblewrap,
    VirtualEnvironment,
    command,
    etc_files,
    not_set_up,
    room_for,
)
from agentless_mini.sandbox.children import Child
from agentless_mini.sandbox.inside import program
from agentless_mini.sandbox.packs import Pack
from agentless_mini.sandbox.wire import Room, compose, rlimits


class LocalSandbox:
    """Boxes of bubblewrap, at most `boxes` at once. See the module for what they keep in.

    The event loop must run in the main thread: a box ends with the thread that started it.
    """

    def __init__(
        self,
        bubblewrap: Bubblewrap,
        environments: Mapping[str, VirtualEnvironment],
        packs: Mapping[str, Pack],
        boxes: int,
    ) -> None:
        """Use a program that was found (`find_bubblewrap`). The mappings are by identity and may grow later."""
        self._bubblewrap = bubblewrap
        self._environments = environments
        self._packs = packs
        self._slots = asyncio.Semaphore(boxes)

    async def run(self, job: Job) -> JobResult:
        """Run a job in a fresh box, as `ports.Sandbox` says."""
        pack, environment = lookup(job, self._packs, self._environments)
        async with self._slots:
            return await in_box(self._bubblewrap, job, pack, Box(room_for(job, environment), environment))


async def in_box(bubblewrap: Bubblewrap, job: Job, pack: Pack, box: Box) -> JobResult:
    """Run a job in a box that is made for it. Raises `EnvironmentFailed` where it cannot be made."""
    with ExitStack() as files:
        arguments = [*command(bubblewrap, job, box)]
        made = [(path, files.enter_context(file)) for path, file in etc_files(box)]
        for path, file in made:
            arguments += ["--perms", "0644", "--ro-bind-data", str(file.fileno()), path]
        arguments += [*CLOSING, box.environment.python, "-I", "-S", "-c", program()]
        child = Child(tuple(arguments), tuple(file.fileno() for _, file in made))
        return await child.serve(job, compose(job, pack, box.room), not_set_up, box.room.hear)


class UnsafeLocal:
    """No box at all: steps run as this user, with this user's files and network, and only a time limit.

    Their variables and working folder are their own, their output is bounded, and what they start is ended with them
    unless it gets away. It is for code that is trusted as much as one's own.
    """

    def __init__(
        self,
        environments: Mapping[str, VirtualEnvironment],
        packs: Mapping[str, Pack],
        folder: Path,
        warn: Callable[[str], None],
    ) -> None:
        """Put trees below `folder`, and call `warn` with a sentence before each job."""
        self._environments = environments
        self._packs = packs
        self._folder = folder
        self._warn = warn
        self._started = 0

    async def run(self, job: Job) -> JobResult:
        """Run a job in a new folder, which is removed afterwards, as `ports.Sandbox` says."""
        pack, environment = lookup(job, self._packs, self._environments)
        self._warn("The tests run without a sandbox: they can read, change and send whatever you can.")
        self._started += 1
        scratch = self._folder / f"amini-unsafe-{os.getpid()}-{id(self)}-{self._started}"
        path = f"{environment.folder}/bin{os.pathsep}{os.defpath}"
        room = Room(str(scratch / "tree"), str(scratch), rlimits(job), variables=(("PATH", path),))
        arguments = ("/usr/bin/env", "-i", environment.python, "-I", "-S", "-c", program())
        try:
            return await Child(arguments, ()).serve(job, compose(job, pack, room), _not_started)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)  # the runner does it, unless it was killed


def _not_started(words: str) -> EnvironmentFailed:
    return EnvironmentFailed(f"Steps cannot be run ({words}): see that the virtual environment's python works.")


def lookup(
    job: Job, packs: Mapping[str, Pack], environments: Mapping[str, VirtualEnvironment]
) -> tuple[Pack, VirtualEnvironment]:
    """Return the tree and the environment of a job. Raises `EnvironmentFailed` where they are not to be had here."""
    if sys.platform != "linux":
        raise EnvironmentFailed("Boxes without Docker need Linux: use --sandbox docker.")
    if not isinstance(job.tree, PackedTree):
        raise EnvironmentFailed(f"The tree {job.tree.folder} is in an image: use --sandbox docker.")
    if job.tree.digest not in packs:
        raise EnvironmentFailed(f"There is no tree {job.tree.digest} to put into a box: pack it first.")
    if job.environment.identity not in environments:
        raise EnvironmentFailed(f"There is no virtual environment {job.environment.identity} here: build it first.")
    return packs[job.tree.digest], environments[job.environment.identity]
