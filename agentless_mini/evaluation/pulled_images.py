"""The record of the images that were pulled for evaluations, and who holds them: only what is in it is ever removed.

One JSON file in a folder of the user's, shared by all evaluations on a daemon: it is locked while it is read and
written, an image is removed under that lock, and a holder that died no longer counts. A file that cannot be read is
taken for an empty one: the images stay then. So does an image that got the name of a pulled one later: ids are kept.
"""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pydantic

from agentless_mini.errors import EnvironmentFailed, boundary, printable
from agentless_mini.sandbox import host

RECORD = "images.json"


class PulledImage(pydantic.BaseModel):
    """When an image was last wanted (seconds since 1970), the processes that hold it, and the images made from it.

    `id` is the daemon's, "" in a record that an older version wrote.
    """

    id: str = ""
    used: float = 0.0
    holders: list[str] = []
    derived: list[str] = []


_Records = dict[str, PulledImage]
_FORMAT: pydantic.TypeAdapter[_Records] = pydantic.TypeAdapter(_Records)

Enough = Callable[[int], bool]
"""Says of the number of images that are left whether no more has to go."""
Remove = Callable[[str, str | None], bool]
"""Removes the image of a name if it has this id (None: any), and says whether there is no such image then."""


class PulledImages:
    """The record in one folder. Its methods wait for the lock, which is held for seconds at most."""

    def __init__(self, folder: Path) -> None:
        """Touch nothing yet."""
        self._folder = folder
        self._owner = host.myself()

    def add(self, name: str, identity: str) -> None:
        """Take note of an image that was pulled, by its name and the daemon's id, and hold it."""
        with self._locked() as records:
            records.setdefault(name, PulledImage()).id = identity
            self._hold(records[name])

    def hold(self, name: str) -> bool:
        """Keep an image from being removed. False where it is not in the record: no one here would remove it."""
        with self._locked() as records:
            if name in records:
                self._hold(records[name])
            return name in records

    def release(self, name: str) -> None:
        """Let it be removed again."""
        with self._locked() as records:
            if name in records:
                self._hold(records[name])
                records[name].holders.remove(self._owner)

    def derive(self, name: str, derived: str) -> None:
        """Take note of an image that was made from one, and goes with it."""
        with self._locked() as records:
            if name in records and derived not in records[name].derived:
                records[name].derived.append(derived)

    def evict(self, enough: Enough, remove: Remove) -> int:
        """Remove images that nobody holds, the one that was not wanted for longest first, and return how many."""
        with self._locked() as records:
            before = len(records)
            for name in sorted(records, key=lambda name: records[name].used):
                if enough(len(records)):
                    break
                if not records[name].holders and _goes(name, records[name], remove):
                    del records[name]
            return before - len(records)

    def _hold(self, image: PulledImage) -> None:
        image.used = time.time()
        if self._owner not in image.holders:
            image.holders.append(self._owner)

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
        return records


def _goes(name: str, image: PulledImage, remove: Remove) -> bool:
    return all(remove(derived, None) for derived in image.derived) and remove(name, image.id)


def _refused(error: BaseException) -> EnvironmentFailed:
    return EnvironmentFailed(
        f"The record of pulled images cannot be kept ({printable(str(error))}): make room, or set XDG_STATE_HOME to "
        "another place."
    )
