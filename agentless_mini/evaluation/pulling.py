"""What the pulling of images is paced by: patience, progress, and the time for which a registry is left alone."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from agentless_mini.domain import MIB
from agentless_mini.sandbox.images import Image

GIB = 1024 * MIB


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: before each further try, before each one while the registry is limited, and between two reports.

    A pull of which nothing is heard for `silent` seconds is given up.
    """

    again: tuple[float, ...] = (2.0, 10.0, 60.0)
    limited: tuple[float, ...] = (60.0, 300.0, 900.0, *(1800.0,) * 12)  # Docker Hub counts over six hours
    told: float = 30.0
    silent: float = 600.0


PATIENT = Patience()


class Progress:
    """How far a pull has come."""

    def __init__(self) -> None:
        """Begin to count."""
        self._began = self._last = time.monotonic()
        self._came = self._known = 0

    def __call__(self, came: int, known: int) -> None:
        """Take note, as `sandboxes.pulls.Tell`."""
        self._last, self._came, self._known = time.monotonic(), came, known

    def __str__(self) -> str:
        """Return it for people."""
        seconds = time.monotonic() - self._began
        return f"{self._came / GIB:.1f} of {self._known / GIB:.1f} GiB, {seconds:.0f} s"

    def silence(self) -> float:
        """Return for how many seconds nothing was heard."""
        return time.monotonic() - self._last


class Limit:
    """Until when the registry is left alone, by the clock of the event loop."""

    def __init__(self) -> None:
        """Leave it alone no longer."""
        self._until = 0.0

    def extend(self, pause: float) -> bool:
        """Wait so long from now, and return whether that is news: another pull may have said so already."""
        now = asyncio.get_running_loop().time()
        is_news = now >= self._until
        if is_news:
            self._until = now + pause
        return is_news

    async def over(self) -> None:
        """Wait until then."""
        while (left := self._until - asyncio.get_running_loop().time()) > 0:  # noqa: ASYNC110 - it may be put off
            await asyncio.sleep(left)


def in_thread(work: Callable[[], Image]) -> "asyncio.Future[Image]":
    """Do blocking work in a thread that does not keep this process from ending."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Image] = loop.create_future()

    def settle(image: Image | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if image is not None:
            done.set_result(image)
        elif error is not None:
            done.set_exception(error)

    def run() -> None:
        image, failed = None, None
        try:
            image = work()
        except BaseException as error:  # noqa: BLE001 - it is raised where the work is awaited
            failed = error
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle, image, failed)

    threading.Thread(target=run, name="amini-pull", daemon=True).start()
    return done
