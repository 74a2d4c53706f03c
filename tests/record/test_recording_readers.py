"""Several readers of one recorded sampler: each sample is paid for once, and nobody waits for a reader."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentless_mini.errors import ServerFailed
from agentless_mini.record import RecordedSampler, Store
from tests.fakes.model import Outage, ScriptedSampler, ready
from tests.gated import MODEL, SCRIPT, GatedSampler, collect, generator, request


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store.db") as opened:
        yield opened


# --- several readers -------------------------------------------------------------------------------------------------


def test_concurrent_calls_for_one_sample_pay_once(store: Store) -> None:
    async def both() -> None:
        inner = GatedSampler(0, 1, 2)
        recorded = RecordedSampler(ready(inner), store, MODEL)
        one = asyncio.create_task(collect(recorded, request(0, 1)))
        await inner.asked.get()
        two = asyncio.create_task(collect(recorded, request(0, 1, 2)))
        await inner.asked.get()
        inner.open(0, 1, 2)
        assert await one == {0: "answer 0", 1: "answer 1"}
        assert await two == {0: "answer 0", 1: "answer 1", 2: "answer 2"}
        assert [asked.indices for asked in inner.requests] == [(0, 1), (2,)]

    asyncio.run(both())


def test_a_call_that_has_nothing_to_pay_for_waits_for_the_one_that_pays(store: Store) -> None:
    async def waiting() -> None:
        inner = GatedSampler(0, 1)
        recorded = RecordedSampler(ready(inner), store, MODEL)
        payer = asyncio.create_task(collect(recorded, request(0, 1)))
        await inner.asked.get()
        first, both = (asyncio.create_task(collect(recorded, request(*indices))) for indices in ((0,), (0, 1)))
        await asyncio.wait([first, both], timeout=0.02)
        assert not first.done()
        inner.open(0)
        assert await first == {0: "answer 0"}
        assert not payer.done()
        inner.open(1)
        assert await both == await payer == {0: "answer 0", 1: "answer 1"}
        assert len(inner.requests) == 1

    asyncio.run(waiting())


def test_many_readers_of_overlapping_samples_get_all_and_pay_each_once(store: Store) -> None:
    async def many() -> None:
        inner = ScriptedSampler(SCRIPT)
        recorded = RecordedSampler(ready(inner), store, MODEL)
        wanted = [tuple(sorted({i % 5, (i * 3) % 5, (i * 7 + 2) % 5})) for i in range(30)]
        got = await asyncio.gather(*(collect(recorded, request(*indices)) for indices in wanted))
        assert [tuple(sorted(answer)) for answer in got] == wanted
        assert sorted(index for asked in inner.requests for index in asked.indices) == [0, 1, 2, 3, 4]

    asyncio.run(many())


def test_a_reader_that_pauses_holds_nobody_up_and_loses_nothing(store: Store) -> None:
    async def pausing() -> None:
        inner = GatedSampler(0, 1, 2)
        inner.open(0, 1, 2)
        recorded = RecordedSampler(ready(inner), store, MODEL)
        slow = generator(recorded, request(0, 1, 2))
        assert (await anext(slow)).index == 0
        assert await collect(recorded, request(1, 2)) == {1: "answer 1", 2: "answer 2"}
        assert [completion.index async for completion in slow] == [1, 2]
        assert len(inner.requests) == 1

    asyncio.run(pausing())


def test_closing_early_stops_what_is_in_flight_and_another_reader_takes_over(store: Store) -> None:
    async def closing() -> None:
        inner = GatedSampler(0, 1)
        recorded = RecordedSampler(ready(inner), store, MODEL)
        first = generator(recorded, request(0, 1))
        inner.open(0)
        assert (await anext(first)).index == 0
        second = asyncio.create_task(collect(recorded, request(0, 1)))
        await asyncio.sleep(0)
        await first.aclose()
        assert inner.closed == 1
        inner.open(1)
        assert await second == {0: "answer 0", 1: "answer 1"}
        assert [asked.indices for asked in inner.requests] == [(0, 1), (1,)]

    asyncio.run(closing())


def test_closing_while_replaying_stops_what_is_in_flight(store: Store) -> None:
    async def closing() -> None:
        inner = GatedSampler(0, 1)
        inner.open(0)
        recorded = RecordedSampler(ready(inner), store, MODEL)
        await collect(recorded, request(0))
        stream = generator(recorded, request(0, 1))
        await anext(stream)
        assert [(await inner.asked.get()).indices for _ in range(2)] == [(0,), (1,)]
        await stream.aclose()
        assert inner.closed == 2

    asyncio.run(closing())


@pytest.mark.parametrize("steps", range(8))
def test_a_cancelled_reader_leaves_nothing_claimed(store: Store, steps: int) -> None:
    async def cancelling() -> None:
        inner = GatedSampler(0, 1)
        recorded = RecordedSampler(ready(inner), store, MODEL)
        reader = asyncio.create_task(collect(recorded, request(0, 1)))
        for _ in range(steps):
            await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        inner.open(0, 1)
        async with asyncio.timeout(5):
            assert await collect(recorded, request(0, 1)) == {0: "answer 0", 1: "answer 1"}

    asyncio.run(cancelling())


def test_a_reader_that_waited_for_a_call_that_failed_asks_itself(store: Store) -> None:
    async def failing() -> None:
        inner = ScriptedSampler(SCRIPT, outages=(Outage(0, ServerFailed("The server failed.")),))
        recorded = RecordedSampler(ready(inner), store, MODEL)
        one, two = await asyncio.gather(
            collect(recorded, request(0)), collect(recorded, request(0)), return_exceptions=True
        )
        assert isinstance(one, ServerFailed)
        assert two == {0: "zero"}

    asyncio.run(failing())
