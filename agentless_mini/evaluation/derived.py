"""Derives an image in which the tests of an instance can be started, where its own lacks what runs them.

SWE-bench's images have what its evaluation scripts call, and that is not pytest everywhere. The build has the network
and finds packages as the user's pip does; what it brings is kept by the daemon, named by what went into it.
"""

import asyncio
import hashlib
from typing import TYPE_CHECKING

from agentless_mini.domain import MIB, BoxLimits, BoxUser, Environment, ImageTree, Job, JobResult, Step
from agentless_mini.domain.canonical import canonical_json
from agentless_mini.environment.index import CERTIFICATES, Index
from agentless_mini.errors import BuildFailed, printable
from agentless_mini.evaluation.conda import ACTIVATE
from agentless_mini.evaluation.copied_tree import FOLDER
from agentless_mini.sandbox.docker import DockerSandbox
from agentless_mini.sandbox.images import Image, find_image

if TYPE_CHECKING:
    from docker import DockerClient

VERSION = "1"
# When new major versions of pytest came. A project is written for the one of its time, and 7 is the oldest that works
# with all of Python 3.7 to 3.12.
_MAJORS = (("2024-01-27", "pytest<8"), ("2025-11-08", "pytest<9"))
REPOSITORY = "amini-testbed"
_BUNDLE = ".amini-build/certificates.pem"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LIMITS = BoxLimits(memory=4096 * MIB, pids=1024, disk=2048 * MIB, seconds=605.0)
_SECONDS = 600.0


class Deriver:
    """Derives images, each once however many ask for it."""

    def __init__(self, client: "DockerClient", sandbox: DockerSandbox, index: Index) -> None:
        """Build with the boxes of `sandbox`, a sandbox of the same daemon."""
        self._client = client
        self._sandbox = sandbox
        self._index = index
        self._lock = asyncio.Lock()

    async def with_pytest(self, base: Image, python: str, day: str) -> tuple[str, str]:
        """Return the name and the id of the image with the pytest of a day in it. `python` starts boxes there.

        Raises `BuildFailed` where it cannot be installed, and `EnvironmentFailed`.
        """
        wanted = wanted_pytest(day)
        name = f"{REPOSITORY}:{_key(base, wanted)}"
        async with self._lock:
            found = await asyncio.to_thread(find_image, self._client, name)
            if found is not None:
                return name, found.id
            job = self._job(base, python, wanted)
            result, image = await self._sandbox.build(job, name, base.path or _PATH, is_worth)
        if not image:
            raise _failed(result)
        return name, image

    def _job(self, base: Image, python: str, wanted: str) -> Job:
        told = {**dict(self._index.variables()), "PIP_ROOT_USER_ACTION": "ignore", "PIP_NO_CACHE_DIR": "1"}
        if self._index.certificates:
            told |= dict.fromkeys(CERTIFICATES, f"{FOLDER}/{_BUNDLE}")
        command = f"{ACTIVATE} && python -m pip install '{wanted}'"
        step = Step(("bash", "-c", command), seconds=_SECONDS, variables=tuple(sorted(told.items())))
        environment = Environment(base.id, python, BoxUser.ROOT)
        return Job(environment, ImageTree(FOLDER), self._index.placed(_BUNDLE), (step,), _LIMITS)


def is_worth(result: JobResult) -> bool:
    """Tell whether a build is worth keeping."""
    return not result.refusal and result.steps[0].succeeded


def wanted_pytest(day: str) -> str:
    """Return which pytest is installed for a tree of that day (ISO form), as pip has it; "" is taken for long ago."""
    return next((wanted for came, wanted in _MAJORS if day < came), "pytest")


def _key(base: Image, wanted: str) -> str:
    return hashlib.sha256(canonical_json([VERSION, base.id, wanted]).encode()).hexdigest()[:32]


def _failed(result: JobResult) -> BuildFailed:
    said = result.refusal or result.steps[0].output.text()
    lines = [line for line in said.splitlines() if line.strip()]
    reason = printable(lines[-1].strip()[:200]) if lines else "it says nothing"
    return BuildFailed(
        f"pytest could not be installed in the image ({reason}): see that a package index can be reached, or install "
        "it in the image."
    )
