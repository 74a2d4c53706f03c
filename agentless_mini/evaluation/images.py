"""The images of instances: found on this machine, or pulled; and removed when room is short, if amini pulled them.

A registry that limits its requests is waited for by all pulls together. Only an image that is on the record of what was
pulled, that still has the recorded id and that nobody holds is ever removed.
"""

import asyncio
import concurrent.futures
import fcntl
import shutil
import threading
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pydantic

from agentless_mini.domain import MIB, Note
from agentless_mini.errors import EnvironmentFailed, ImageUnavailable, boundary, printable
from agentless_mini.ports import Watch
from agentless_mini.sandbox import host
from agentless_mini.sandbox.daemon import Image, Obstacle, PullFailed, data_root, find_image, pull_image, remove_image
from agentless_mini.sandbox.host import uninterrupted
from agentless_mini.settings.run import ImageSettings

if TYPE_CHECKING:
    from docker import DockerClient

GIB = 1024 * MIB
RECORD = "images.json"


@dataclass(frozen=True, slots=True)
class PullPatience:
    """Seconds before each retry, before each that the registry limits, between two reports, and without progress."""

    again: tuple[float, ...] = (2.0, 10.0, 60.0)
    limited: tuple[float, ...] = (60.0, 300.0, 900.0, *(1800.0,) * 12)  # Docker Hub counts over six hours
    told: float = 30.0
    silent: float = 600.0


@dataclass(eq=False)
class Images:
    """The images of a Docker daemon, for one evaluation. All of it is used from one event loop."""

    client: "DockerClient"
    settings: ImageSettings
    pulled: "PulledImages"
    patience: PullPatience = PullPatience()
    _wanted: Counter[str] = field(default_factory=Counter)
    _ours: set[str] = field(default_factory=set)
    """Images on the record that are in use here: they may go when they are released."""
    _each: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    """Held while an image is found, pulled or released."""
    _released: asyncio.Event = field(default_factory=asyncio.Event)
    _limited_until: float = 0.0
    """When the registry may be asked again, by the clock of the event loop."""

    def __post_init__(self) -> None:
        """Let so many pull at once."""
        self._pulls = asyncio.Semaphore(self.settings.pulls)

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
        await asyncio.to_thread(self.pulled.derive, name, derived)

    async def _find(self, name: str) -> Image | None:
        # First, lest another evaluation remove it meanwhile; to its end, lest it come after the release.
        holding = asyncio.ensure_future(asyncio.to_thread(self.pulled.hold, name))
        await uninterrupted(holding)
        if holding.result():
            self._ours.add(name)
        return await asyncio.to_thread(find_image, self.client, name)

    async def _let_go(self, name: str) -> None:
        if self._wanted[name]:  # whoever wants it may hold the lock for as long as a pull takes
            return
        async with self._each[name]:
            if self._wanted[name]:
                return
            await asyncio.to_thread(self.pulled.release, name)
            self._ours.discard(name)
        self._released.set()
        self._released = asyncio.Event()
        keep = self.settings.keep_images
        if keep is not None:
            with suppress(EnvironmentFailed):  # the daemon is gone: whoever needs it says so
                await asyncio.to_thread(self.pulled.evict, lambda left: left <= keep, self._remove)

    def _remove(self, name: str, identity: str | None) -> bool:
        found = find_image(self.client, name)
        if found is None or identity not in {None, found.id}:  # what has the name now was not pulled here: it stays
            return True
        return remove_image(self.client, name)

    async def _fetch(self, name: str, watch: Watch) -> Image:
        """Pull an image, again and again where that may help."""
        again, limited = iter(self.patience.again), iter(self.patience.limited)
        clock = asyncio.get_running_loop().time
        shown = printable(name)
        while True:
            while (left := self._limited_until - clock()) > 0:  # noqa: ASYNC110 - it may be put off
                await asyncio.sleep(left)
            async with self._pulls:
                await self._require_room(name, watch)
                try:
                    return await self._pull(name, watch)
                except PullFailed as error:
                    failed = error
                except EnvironmentFailed as error:  # the daemon broke off
                    failed = PullFailed(name, str(error), Obstacle.OTHER)
            is_limited, why = failed.obstacle is Obstacle.LIMITED, f"({failed.reason})"
            pause = next(limited if is_limited else again, None)
            if pause is None or failed.obstacle in {Obstacle.UNKNOWN, Obstacle.FULL}:
                advice = _ADVICE[failed.obstacle]
                raise ImageUnavailable(f"The image {shown} is not here and cannot be pulled {why}: {advice}.")
            if not is_limited:
                watch(Note(f"The image {shown} could not be pulled {why}: trying again in {pause:g} s."))
                await asyncio.sleep(pause)
            elif clock() >= self._limited_until:  # else another pull has said so
                self._limited_until = clock() + pause
                told = f"{pause / 60:g} minutes" if pause >= 60 else f"{pause:g} s"
                refused = f"The registry takes no more requests at the moment {why}"
                watch(Note(f"{refused}: trying again in {told}; `docker login` raises the limit."))

    async def _pull(self, name: str, watch: Watch) -> Image:
        watch(Note(f"Pulling the image {printable(name)}."))
        stopped, progress = threading.Event(), _PullProgress()

        def pull_and_record() -> Image:
            image = pull_image(self.client, name, stopped, progress)
            self.pulled.add(name, image.id)
            return image

        # On the record before it comes: another evaluation that finds the image must be able to hold it.
        await uninterrupted(asyncio.ensure_future(asyncio.to_thread(self.pulled.hold, name, coming=True)))
        pulling = _in_thread(pull_and_record)
        pause = min(self.patience.told, self.patience.silent)
        try:
            while not (await asyncio.wait([pulling], timeout=pause))[0]:
                if time.monotonic() - progress.heard > self.patience.silent:
                    raise PullFailed(name, f"nothing came for {self.patience.silent:g} s", Obstacle.OTHER)
                watch(Note(f"Pulling the image {printable(name)}: {progress}."))
            image = await pulling
        finally:
            stopped.set()
            pulling.cancel()
        self._ours.add(name)
        return image

    async def _require_room(self, name: str, watch: Watch) -> None:
        """Make room for an image: remove unused ones, then wait for those that are in use here."""
        while await asyncio.to_thread(self._is_short):
            released = self._released
            removed = await asyncio.to_thread(self.pulled.evict, lambda _: not self._is_short(), self._remove)
            if removed:
                watch(Note(f"Removed unused images that amini had pulled, to make room: {removed}."))
            if not await asyncio.to_thread(self._is_short):
                return
            if not self._ours - {name}:
                raise ImageUnavailable(
                    f"The image {printable(name)} is not pulled because less than {self.settings.min_free_gib:g} GiB "
                    "are free on Docker's disk: make room (see `docker system df`), or lower --min-free."
                )
            await released.wait()

    def _is_short(self) -> bool:
        """Return whether room is short, as far as this machine can see the daemon's disk."""
        root = Path(data_root(self.client))
        if not root.is_absolute():
            return False
        with suppress(OSError):  # it is another machine's
            return shutil.disk_usage(root).free < self.settings.min_free_gib * GIB
        return False


_ADVICE = {
    Obstacle.LIMITED: "log in with `docker login`, or try later",
    Obstacle.UNKNOWN: "see that the name is right, or build the image on this machine",
    Obstacle.FULL: "make room on Docker's disk",
    Obstacle.OTHER: "see that the registry can be reached, and try again",
}


class _PullProgress:
    """How far a pull has come, and when it was last heard of; it is called as `sandbox.daemon.Tell`."""

    def __init__(self) -> None:
        self._began = self.heard = time.monotonic()
        self._came = self._known = 0

    def __call__(self, came: int, known: int) -> None:
        self.heard, self._came, self._known = time.monotonic(), came, known

    def __str__(self) -> str:
        seconds = time.monotonic() - self._began
        return f"{self._came / GIB:.1f} of {self._known / GIB:.1f} GiB, {seconds:.0f} s"


def _in_thread(work: Callable[[], Image]) -> "asyncio.Future[Image]":
    """Do blocking work in a thread that does not keep this process from ending, as those of asyncio do."""
    done: concurrent.futures.Future[Image] = concurrent.futures.Future()

    def run() -> None:
        try:
            tell = partial(done.set_result, work())
        except BaseException as error:  # noqa: BLE001 - it is raised where the work is awaited
            tell = partial(done.set_exception, error)
        with suppress(concurrent.futures.InvalidStateError):  # nobody waits any more
            tell()

    threading.Thread(target=run, name="amini-pull", daemon=True).start()
    return asyncio.wrap_future(done)


# --- the record of pulled images -------------------------------------------------------------------------------------


class PulledImage(pydantic.BaseModel):
    """When an image was last wanted (seconds since 1970), the processes that hold it, and the images made from it.

    `id` is the daemon's, "" until the image has come.
    """

    id: str = ""
    used: float = 0.0
    holders: list[str] = []
    derived: list[str] = []


_Records = dict[str, PulledImage]
_FORMAT: pydantic.TypeAdapter[_Records] = pydantic.TypeAdapter(_Records)

Remove = Callable[[str, str | None], bool]
"""Removes the image of a name if it has this id (None: any), and returns whether there is no such image then."""


class PulledImages:
    """The record, one JSON file in a folder of the user's. Its methods wait for its lock, which is held for seconds.

    An image is removed under that lock. A holder that died no longer counts, and a file that cannot be read is taken
    for an empty one: the images stay then.
    """

    def __init__(self, folder: Path) -> None:
        """Touch nothing yet."""
        self._folder = folder
        self._owner = host.myself()

    def add(self, name: str, identity: str) -> None:
        """Record the daemon's id of an image that was pulled. Who gave up waiting for it no longer holds it."""
        with self._locked() as records:
            image = records.setdefault(name, PulledImage())
            image.id, image.used = identity, time.time()

    def hold(self, name: str, *, coming: bool = False) -> bool:
        """Keep an image that is here or `coming` from being removed. False where it is on no record: nobody would."""
        with self._locked() as records:
            image = records.setdefault(name, PulledImage()) if coming else records.get(name)
            if image is None:
                return False
            image.used = time.time()
            image.holders = sorted({*image.holders, self._owner})
            return True

    def release(self, name: str) -> None:
        """Let it be removed again, if it is held."""
        with self._locked() as records:
            if name in records and self._owner in records[name].holders:
                records[name].used = time.time()
                records[name].holders.remove(self._owner)

    def derive(self, name: str, derived: str) -> None:
        """Take note of an image that was made from one, and goes with it."""
        with self._locked() as records:
            if name in records and derived not in records[name].derived:
                records[name].derived.append(derived)

    def evict(self, enough: Callable[[int], bool], remove: Remove) -> int:
        """Remove images that nobody holds, the least recently wanted first, until it is `enough`; return how many."""
        with self._locked() as records:
            before = len(records)
            for name in sorted(records, key=lambda name: records[name].used):
                if enough(len(records)):
                    break
                image = records[name]
                may_go = not image.holders and all(remove(derived, None) for derived in image.derived)
                if may_go and remove(name, image.id):
                    del records[name]
            return before - len(records)

    @contextmanager
    def _locked(self) -> Iterator[_Records]:
        with boundary({OSError: _refused}):
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / f"{RECORD}.lock").open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                records = self._read()
                yield records
                half = self._folder / f"{RECORD}.half"
                half.write_bytes(_FORMAT.dump_json(records))
                half.replace(self._folder / RECORD)

    def _read(self) -> _Records:
        try:
            records = _FORMAT.validate_json((self._folder / RECORD).read_bytes())
        except (FileNotFoundError, pydantic.ValidationError):
            return {}
        for image in records.values():
            image.holders = [holder for holder in image.holders if not host.is_dead(holder)]
        # What was expected and never came is forgotten.
        return {name: image for name, image in records.items() if image.id or image.holders}


def _refused(error: BaseException) -> EnvironmentFailed:
    return EnvironmentFailed(
        f"The record of pulled images cannot be kept ({printable(str(error))}): make room, or set XDG_STATE_HOME to "
        "another place."
    )
