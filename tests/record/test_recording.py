"""What is recorded is not asked again; what is asked is recorded before anybody sees it."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from agentless_mini.domain import Completion, Decoding, Issue, SampleRequest
from agentless_mini.errors import ModelChanged, ServerFailed, ServerUnreachable, StoreError
from agentless_mini.ports import Sampler
from agentless_mini.record import RecordedSampler, RunStart, Store
from agentless_mini.record.effects import chat_key, token_counts
from tests.fakes.model import Outage, Script, ScriptedSampler, ready
from tests.gated import (
    CARD,
    MESSAGES,
    MODEL,
    SCRIPT,
    GatedSampler,
    OffByOne,
    answers,
    collect,
    generator,
    request,
    unreachable,
)
from tests.model.contract import SamplerContract

# --- replay ----------------------------------------------------------------------------------------------------------


def test_a_finished_run_is_answered_again_without_one_question(store: Store) -> None:
    first, second = ScriptedSampler(SCRIPT), unreachable
    recorded = RecordedSampler(ready(first), store, MODEL)
    card, tokens = asyncio.run(recorded.card()), asyncio.run(recorded.count_tokens(MESSAGES))
    texts = answers(recorded, 0, 1, 2)
    again = RecordedSampler(second, store, MODEL)
    assert asyncio.run(again.card()) == card
    assert asyncio.run(again.count_tokens(MESSAGES)) == tokens
    assert answers(again, 0, 1, 2) == texts == {0: "zero", 1: "one", 2: "two"}


def test_only_what_is_owed_is_asked_and_in_one_request(store: Store) -> None:
    inner = ScriptedSampler(SCRIPT)
    answers(RecordedSampler(ready(inner), store, MODEL), 1, 3)
    assert answers(RecordedSampler(ready(inner), store, MODEL), 0, 1, 2, 3, 4) == {
        0: "zero",
        1: "one",
        2: "two",
        3: "three",
        4: "four",
    }
    assert [asked.indices for asked in inner.requests] == [(1, 3), (0, 2, 4)]


def test_each_sample_is_in_the_store_before_it_is_seen(store: Store) -> None:
    async def watch() -> None:
        async for completion in RecordedSampler(ready(ScriptedSampler(SCRIPT)), store, MODEL).sample(request(0, 1, 2)):
            assert store.get_sample(request(0).key(), completion.index) == completion

    asyncio.run(watch())


# --- failure ---------------------------------------------------------------------------------------------------------


def test_a_failure_is_not_recorded_and_what_came_before_it_is_seen_and_kept(store: Store) -> None:
    inner = ScriptedSampler(SCRIPT, outages=(Outage(0, ServerFailed("The server failed."), after=2),))
    recorded, seen = RecordedSampler(ready(inner), store, MODEL), []

    async def watch() -> None:
        async for completion in recorded.sample(request(0, 1, 2, 3)):
            seen.append(completion.index)

    with pytest.raises(ServerFailed):
        asyncio.run(watch())
    assert seen == [0, 1]
    assert store.recorded(request(0).key()) == {0, 1}
    assert answers(recorded, 0, 1, 2, 3) == {0: "zero", 1: "one", 2: "two", 3: "three"}
    assert [asked.indices for asked in inner.requests] == [(0, 1, 2, 3), (2, 3)]


def test_a_store_that_cannot_be_written_is_found_before_anything_is_paid_for(store: Store, path: Path) -> None:
    inner = ScriptedSampler(SCRIPT)
    store.put_card(MODEL, asyncio.run(inner.card()))
    with Store.open_readonly(path) as readonly, pytest.raises(StoreError):
        answers(RecordedSampler(ready(inner), readonly, MODEL), 0)
    assert inner.requests == []


@pytest.mark.parametrize("yielded", [(0,), (0, 0), (0, 7), ()])
def test_a_sampler_that_breaks_its_contract_is_a_bug_and_not_an_endless_loop(
    store: Store, yielded: tuple[int, ...]
) -> None:
    with pytest.raises((RuntimeError, KeyError)):
        answers(RecordedSampler(ready(OffByOne(*yielded)), store, MODEL), 0, 1)
    assert store.recorded(request(0).key()) == frozenset(yielded) & {0}


# --- the model -------------------------------------------------------------------------------------------------------

CHANGES = {"window": replace(CARD, context_window=4096), "decoding": replace(CARD, decoding=Decoding.LINES)}


@pytest.mark.parametrize("changed", CHANGES)
def test_a_changed_model_is_told_before_anything_is_paid_for_until_the_run_is_planned_again(
    store: Store, changed: str
) -> None:
    store.put_card(MODEL, CARD)
    store.put_value(token_counts(MODEL), chat_key(MODEL, MESSAGES), 1)
    inner = ScriptedSampler(SCRIPT, CHANGES[changed])
    recorded = RecordedSampler(ready(inner), store, MODEL)

    async def run() -> None:
        assert await recorded.card() == CARD
        for _ in range(2):
            with pytest.raises(ModelChanged, match="run the same command again"):
                await collect(recorded, request(0))
        with pytest.raises(ModelChanged):
            await recorded.count_tokens(MESSAGES)
        assert inner.requests == []
        assert await recorded.card() == CHANGES[changed]
        assert await recorded.count_tokens(MESSAGES) == await inner.count_tokens(MESSAGES)
        assert await collect(recorded, request(0)) == {0: "zero"}

    asyncio.run(run())
    assert store.card(MODEL) == CHANGES[changed]


def test_a_changed_model_is_told_even_where_nobody_asked_for_the_card(store: Store) -> None:
    store.put_card(MODEL, CARD)
    with pytest.raises(ModelChanged):
        answers(RecordedSampler(ready(ScriptedSampler(SCRIPT, CHANGES["window"])), store, MODEL), 0)


def test_another_revision_of_the_engine_is_recorded_and_no_reason_to_plan_again(store: Store) -> None:
    store.put_card(MODEL, CARD)
    newer = replace(CARD, engine="vllm", revision="2")
    recorded = RecordedSampler(ready(ScriptedSampler(SCRIPT, newer)), store, MODEL)
    assert asyncio.run(recorded.card()) == CARD
    assert answers(recorded, 0) == {0: "zero"}
    assert store.card(MODEL) == newer


def test_a_model_that_is_recorded_in_full_is_not_compared(store: Store) -> None:
    answers(RecordedSampler(ready(ScriptedSampler(SCRIPT)), store, MODEL), 0)
    changed = RecordedSampler(ready(ScriptedSampler(SCRIPT, CHANGES["window"])), store, MODEL)
    assert answers(changed, 0) == {0: "zero"}


# --- a model that must be started ------------------------------------------------------------------------------------


def test_a_model_is_started_once_and_only_when_something_is_owed(store: Store) -> None:
    started: list[ScriptedSampler] = []

    async def start() -> Sampler:
        await asyncio.sleep(0)
        started.append(ScriptedSampler(SCRIPT))
        return started[-1]

    async def run() -> None:
        recorded = RecordedSampler(start, store, MODEL)
        await asyncio.gather(*(collect(recorded, request(0, content=str(i))) for i in range(5)), recorded.card())

    asyncio.run(run())
    assert len(started) == 1
    asyncio.run(run())
    assert len(started) == 1


def test_a_start_that_failed_is_tried_again_by_the_next_call(store: Store) -> None:
    starts: list[Callable[[], Awaitable[Sampler]]] = [unreachable]

    async def start() -> Sampler:
        return await starts.pop()() if starts else ScriptedSampler(SCRIPT)

    async def run() -> None:
        recorded = RecordedSampler(start, store, MODEL)
        with pytest.raises(ServerUnreachable):
            await recorded.card()
        assert await recorded.count_tokens(MESSAGES) == await ScriptedSampler(SCRIPT).count_tokens(MESSAGES)
        assert await collect(recorded, request(1)) == {1: "one"}

    asyncio.run(run())


# --- the trace -------------------------------------------------------------------------------------------------------


def test_a_run_is_linked_with_what_it_used_and_what_was_replayed(store: Store) -> None:
    start = RunStart(MODEL, "local", "project", "c", "t", Issue("It fails."))
    recorded = RecordedSampler(ready(ScriptedSampler(SCRIPT)), store, MODEL)

    async def run(*indices: int) -> list[tuple[int, bool]]:
        number = store.runs.begin(start)
        traced = recorded.of(number)
        assert await traced.card() == await recorded.card()
        assert await traced.count_tokens(MESSAGES) == await recorded.count_tokens(MESSAGES)
        async for completion in traced.sample(request(*indices)):
            assert completion.index in {sample.index for sample in store.runs.trace(number).samples}
        return [(sample.index, sample.replayed) for sample in store.runs.trace(number).samples]

    assert asyncio.run(run(0, 2)) == [(0, False), (2, False)]
    assert asyncio.run(run(0, 1, 2)) == [(0, True), (2, True), (1, False)]


START = RunStart("scripted", "contract", "project", "c", "t", Issue("It fails."))


async def started() -> Sampler:
    return ScriptedSampler(Script.of("first answer", "second answer", "third answer here"))


@asynccontextmanager
async def recording(kind: type[RecordedSampler] = RecordedSampler) -> AsyncIterator[Sampler]:
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "store.db") as store:
        yield kind(started, store, "scripted", store.runs.begin(START))


class TestFresh(SamplerContract):
    @asynccontextmanager
    async def sampler(self) -> AsyncIterator[Sampler]:
        async with recording() as sampler:
            yield sampler


class SecondTime(RecordedSampler):
    """Asks for everything once before it answers: what it answers is a replay."""

    async def sample(self, request: SampleRequest) -> AsyncIterator[Completion]:
        async for _ in super().sample(request):
            pass
        async for completion in super().sample(request):
            yield completion


class TestReplayed(SamplerContract):
    @asynccontextmanager
    async def sampler(self) -> AsyncIterator[Sampler]:
        async with recording(SecondTime) as sampler:
            yield sampler


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
