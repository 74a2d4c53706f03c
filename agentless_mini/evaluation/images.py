"""Gets the images of instances: found on this machine, or pulled; and removes those that it pulled, when room is short.

A pull is tried again, and a registry that takes no more requests for a while is waited for, by all pulls together. An
image that is held is never removed, and neither is one that this did not pull: see `pulled_images`.
"""

import asyncio
import shutil
import threading
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from agentless_mini.domain import Note
from agentless_mini.errors import EnvironmentFailed, ImageUnavailable, printable
from agentless_mini.evaluation.pulled_images import PulledImages
from agentless_mini.evaluation.pulling import GIB, PATIENT, Limit, Patience, Progress, in_thread
from agentless_mini.ports import Watch
from agentless_mini.sandbox.images import Image, data_root, find_image, remove_image
from agentless_mini.sandbox.pulls import Obstacle, PullFailed, Tell, pull_image
from agentless_mini.sandbox.uninterrupted import uninterrupted
from agentless_mini.settings.run import ImageSettings

if TYPE_CHECKING:
    from docker import DockerClient


class Images:
    """The images of a Docker daemon, for one evaluation. All of it is used from one event loop."""

    def __init__(
        self, client: "DockerClient", settings: ImageSettings, pulled: PulledImages, patience: Patience = PATIENT
    ) -> None:
        """Use a client that answers."""
        self._client = client
        self._settings = settings
        self._pulled = pulled
        self._patience = patience
        self._wanted: Counter[str] = Counter()
        self._ours: set[str] = set()
        self._each: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._pulls = asyncio.Semaphore(settings.pulls)
        self._released = asyncio.Event()
        self._limit = Limit()

    @asynccontextmanager
    async def held(self, name: str, watch: Watch) -> AsyncIterator[Image]:
        """Keep an image for as long as this is open. Raises `ImageUnavailable`, and `EnvironmentFailed`."""
        self._wanted[name] += 1
        try:
            async with self._each[name]:
                image = await self._find(name) or await self._fetch(name, watch)
            yield image
        finally:
            self._wanted[name] -= 1
            await uninterrupted(self._let_go(name))

    async def note_derived(self, name: str, derived: str) -> None:
        """Let an image that was made from a pulled one go when that goes."""
        await asyncio.to_thread(self._pulled.derive, name, derived)

    async def _find(self, name: str) -> Image | None:
        if await asyncio.to_thread(self._pulled.hold, name):  # first, lest another evaluation remove it meanwhile
            self._ours.add(name)
        return await asyncio.to_thread(find_image, self._client, name)

    async def _let_go(self, name: str) -> None:
        if self._wanted[name]:
            return
        if name in self._ours:
            self._ours.discard(name)
            await asyncio.to_thread(self._pulled.release, name)
        self._released.set()
        self._released = asyncio.Event()
        keep = self._settings.keep_images
        if keep is not None:
            with suppress(EnvironmentFailed):  # the daemon is gone: whoever needs it says so
                await asyncio.to_thread(self._pulled.evict, lambda left: left <= keep, self._remove)

    def _remove(self, name: str, identity: str | None) -> bool:
        if identity is not None:
            found = find_image(self._client, name)
            if found is None or found.id != identity:  # what has the name now was not pulled here: it stays
                return True
        return remove_image(self._client, name)

    async def _fetch(self, name: str, watch: Watch) -> Image:
        """Pull an image, again and again where that may help."""
        again, limited = iter(self._patience.again), iter(self._patience.limited)
        while True:
            await self._limit.over()
            async with self._pulls:
                await self._require_room(name, watch)
                try:
                    return await self._pull(name, watch)
                except PullFailed as error:
                    failed = error
                except EnvironmentFailed as error:  # the daemon broke off
                    failed = PullFailed(name, str(error), Obstacle.OTHER)
            pause = next(limited if failed.obstacle is Obstacle.LIMITED else again, None)
            if pause is None or failed.obstacle in {Obstacle.UNKNOWN, Obstacle.FULL}:
                raise _unavailable(name, failed)
            self._say_waiting(failed, pause, (name, watch))
            await asyncio.sleep(0 if failed.obstacle is Obstacle.LIMITED else pause)

    def _say_waiting(self, failed: PullFailed, pause: float, what: tuple[str, Watch]) -> None:
        name, watch = what
        if failed.obstacle is not Obstacle.LIMITED:
            watch(Note(f"The image {printable(name)} did not come ({failed.reason}): trying again in {pause:g} s."))
        elif self._limit.extend(pause):
            watch(
                Note(
                    f"The registry takes no more requests for now ({failed.reason}): trying again in "
                    f"{_duration(pause)}; `docker login` raises the limit."
                )
            )

    async def _pull(self, name: str, watch: Watch) -> Image:
        watch(Note(f"Pulling the image {printable(name)}."))
        stopped, progress = threading.Event(), Progress()
        pulling = in_thread(lambda: self._pull_and_record(name, stopped, progress))
        pause = min(self._patience.told, self._patience.silent)
        try:
            while not (await asyncio.wait([pulling], timeout=pause))[0]:
                if progress.silence() > self._patience.silent:
                    raise PullFailed(name, f"nothing came for {self._patience.silent:g} s", Obstacle.OTHER)
                watch(Note(f"Pulling the image {printable(name)}: {progress}."))
            image = await pulling
        finally:
            stopped.set()
            pulling.cancel()
        self._ours.add(name)
        return image

    def _pull_and_record(self, name: str, stopped: threading.Event, tell: Tell) -> Image:
        image = pull_image(self._client, name, stopped, tell)
        self._pulled.add(name, image.id)
        return image

    async def _require_room(self, name: str, watch: Watch) -> None:
        """Return when there is room for an image. Waits for held ones where that may make some."""
        while await asyncio.to_thread(self._is_short):
            released = self._released
            removed = await asyncio.to_thread(self._pulled.evict, lambda _: not self._is_short(), self._remove)
            if removed:
                watch(Note(f"Images that were pulled before and are not in use were removed, to make room: {removed}."))
            if not await asyncio.to_thread(self._is_short):
                return
            if not self._ours - {name}:
                raise ImageUnavailable(
                    f"The image {printable(name)} is not pulled, for less than {self._settings.min_free_gib:g} GiB are "
                    "free on Docker's disk: make room (`docker system df` shows what takes it), or lower min_free_gib."
                )
            await released.wait()

    def _is_short(self) -> bool:
        """Return whether room is short, as far as this machine can see the daemon's disk."""
        root = Path(data_root(self._client))
        if not root.is_absolute():
            return False
        with suppress(OSError):  # it is another machine's
            return shutil.disk_usage(root).free < self._settings.min_free_gib * GIB
        return False


def _unavailable(name: str, failed: PullFailed) -> ImageUnavailable:
    advice = {
        Obstacle.LIMITED: "log in with `docker login`, or try later",
        Obstacle.UNKNOWN: "see that the name is right, or build the image on this machine",
        Obstacle.FULL: "make room on Docker's disk",
        Obstacle.OTHER: "see that the registry can be reached, and try again",
    }[failed.obstacle]
    return ImageUnavailable(
        f"The image {printable(name)} is not here and cannot be pulled ({failed.reason}): {advice}."
    )


def _duration(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds >= 60 else f"{seconds:g} s"
