"""Work that a cancellation must not cut short: ending a box."""

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine


async def uninterrupted(work: "Coroutine[Any, Any, None] | asyncio.Future[Any]") -> None:
    """Wait until it is done, however often this is cancelled meanwhile, and only then pass that on."""
    running = asyncio.ensure_future(work)
    cancelled = False
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
    running.result()
