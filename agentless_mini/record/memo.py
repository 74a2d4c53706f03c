"""One memo: a value that is recorded is never paid for again.

`Memo` keeps these promises for values of every kind; `ports` puts it before models, reward models and sandboxes.

* A value is in the record before anybody sees it, and stays there when its reader stops.
* Concurrent calls for one key pay once: the later ones wait, and one of them takes over if the payer fails or stops.
* A failure is never recorded. What arrived before it is.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Hashable, Iterable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext
from typing import Generic, Protocol, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Next = Callable[[], Awaitable[tuple[K, V] | None]]
Pay = Callable[[tuple[K, ...]], AsyncGenerator[tuple[K, V], None]]
"""Pays for values and yields each as it arrives, in any order."""


class Shelf(Protocol[K, V]):
    """Where values of one kind are recorded."""

    def there(self, keys: Collection[K]) -> Collection[K]:
        """Return those of the keys whose values are recorded."""
        ...

    def get(self, key: K) -> V:
        """Return a value that is there."""
        ...

    def put(self, key: K, value: V) -> None:
        """Record a value. One that the next run should pay for again is passed over: only who waits now sees it."""
        ...


class Memo(Generic[K, V]):
    """What is being paid for in this process. Calls that share a memo share their payments."""

    def __init__(self) -> None:
        """Begin with nothing in flight."""
        self._in_flight: dict[K, asyncio.Future[V]] = {}

    async def one(self, shelf: Shelf[K, V], key: K, pay: Callable[[], Awaitable[V]]) -> V:
        """Return the value of a key, which `pay` is asked for where it is not recorded."""

        async def paid(keys: tuple[K, ...]) -> AsyncGenerator[tuple[K, V], None]:
            yield keys[0], await pay()

        async with aclosing(self.each(shelf, [key], paid)) as found:
            return (await anext(found))[1]

    async def each(self, shelf: Shelf[K, V], keys: Iterable[K], pay: Pay[K, V]) -> AsyncGenerator[tuple[K, V], None]:
        """Yield the value of each key once: what is recorded in the order of the keys, then the others as they arrive.

        Closing it early stops what it pays for. Raises what `pay` raises, once all before it has been yielded.
        """
        owed = list(dict.fromkeys(keys))
        while owed:
            there = shelf.there(owed)
            mine = tuple(key for key in owed if key not in there and key not in self._in_flight)
            async with self._paying(shelf, mine, pay) if mine else _nothing() as following:
                for key in owed:
                    if key in there:
                        yield key, shelf.get(key)
                while (arrived := await following()) is not None:
                    yield arrived
            owed = [key for key in owed if key not in there and key not in mine]
            waited = {key: self._in_flight[key] for key in owed if key in self._in_flight}
            if waited:
                await asyncio.wait(waited.values(), return_when=asyncio.FIRST_COMPLETED)
            for key, future in waited.items():
                if future.done() and not future.cancelled():
                    owed.remove(key)
                    yield key, future.result()

    @asynccontextmanager
    async def _paying(self, shelf: Shelf[K, V], keys: tuple[K, ...], pay: Pay[K, V]) -> AsyncIterator[Next[K, V]]:
        """Pay in a task of its own, so that values are recorded however slow their reader is."""
        arrived: asyncio.Queue[tuple[K, V] | None] = asyncio.Queue()
        claimed = {key: asyncio.get_running_loop().create_future() for key in keys}
        self._in_flight |= claimed

        def end(_: asyncio.Task[None]) -> None:  # runs even where the task was cancelled before its first step
            for key, future in claimed.items():
                if self._in_flight.get(key) is future:
                    del self._in_flight[key]
                future.cancel()  # wakes who waits, to take over; does nothing where there is a value
            arrived.put_nowait(None)

        async def following() -> tuple[K, V] | None:
            if (found := await arrived.get()) is None:
                await task
            return found

        task = asyncio.create_task(self._pay(shelf, keys, pay, arrived))
        task.add_done_callback(end)
        try:
            yield following
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _pay(
        self, shelf: Shelf[K, V], keys: tuple[K, ...], pay: Pay[K, V], arrived: asyncio.Queue[tuple[K, V] | None]
    ) -> None:
        left = set(keys)
        async with aclosing(pay(keys)) as paid:
            async for key, value in paid:
                left.remove(key)  # a KeyError here is an adapter that breaks its contract
                shelf.put(key, value)
                self._in_flight.pop(key).set_result(value)
                arrived.put_nowait((key, value))
        if left:
            raise RuntimeError(f"{len(left)} of {len(keys)} values that were asked for did not come")


async def _none() -> None:
    return None


def _nothing() -> AbstractAsyncContextManager[Next[K, V]]:
    return nullcontext(_none)


class Once(Generic[V]):
    """Something that is made when it is first asked for: a model to be started, a server to be reached.

    `start` is called once, however many calls wait for it; if it raises, the next call tries again. Who makes the thing
    also ends it.
    """

    def __init__(self, start: Callable[[], Awaitable[V]]) -> None:
        """Make it with `start`."""
        self._start = start
        self._made: list[V] = []
        self._making = asyncio.Lock()

    async def __call__(self) -> V:
        """Return the thing, which is made if it is not there."""
        async with self._making:
            if not self._made:
                self._made.append(await self._start())
            return self._made[0]
