"""Several servers as one sampler: the contract, who is asked what, and that no death of a server loses a sample."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, ExitStack, aclosing, asynccontextmanager
from dataclasses import replace

import pytest

from agentless_mini.domain import Completion, Decoding, Message, ModelCard, Role, SampleRequest
from agentless_mini.errors import AminiError, ServerFailed, ServerUnreachable, UsageError
from agentless_mini.ports import Sampler
from agentless_mini.samplers.balanced import FIRST_REST, LONGEST_REST, OPENING, BalancedSampler, affinity
from agentless_mini.samplers.scripted import SCRIPTED_CARD, Outage, Script, ScriptedSampler
from agentless_mini.samplers.scripted_faults import Fault, FaultKind
from agentless_mini.samplers.scripted_server import ScriptedServer
from tests.samplers.contract import SamplerContract, ask, collect, run, until_error
from tests.samplers.served import SCRIPT, TEXTS, opened, served

GONE = ServerUnreachable("Nothing answers.")


class Time:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Held(ScriptedSampler):
    """Gives no sample before the gate is open."""

    def __init__(self) -> None:
        super().__init__(SCRIPT)
        self.gate = asyncio.Event()

    async def sample(self, request: SampleRequest) -> AsyncIterator[Completion]:
        self.requests.append(request)
        await self.gate.wait()
        async for completion in ScriptedSampler(SCRIPT).sample(request):
            yield completion


def scripted(count: int, *outages: Outage) -> dict[str, ScriptedSampler]:
    return {f"server-{number}": ScriptedSampler(SCRIPT, outages=outages) for number in range(count)}


def prompt(number: int, instance: str = "", indices: tuple[int, ...] = (0, 1)) -> SampleRequest:
    return replace(ask(f"prompt {number}", indices), instance=instance or f"instance-{number}")


def who_got_it(servers: Mapping[str, ScriptedSampler], request: SampleRequest) -> str:
    """Return the only server that is asked."""
    before = {name: len(server.requests) for name, server in servers.items()}
    run(collect(BalancedSampler(servers), request))
    (name,) = [name for name, server in servers.items() if len(server.requests) > before[name]]
    return name


@asynccontextmanager
async def over(*servers: ScriptedServer) -> AsyncIterator[BalancedSampler]:
    async with AsyncExitStack() as stack:
        samplers = {server.url: await stack.enter_async_context(opened(server, retries=1)) for server in servers}
        yield BalancedSampler(samplers)


class TestOverOneServer(SamplerContract):
    count = 1

    @asynccontextmanager
    async def sampler(self) -> AsyncIterator[Sampler]:
        with ExitStack() as stack:
            servers = [stack.enter_context(ScriptedServer(served())) for _ in range(self.count)]
            async with over(*servers) as balanced:
                yield balanced


class TestOverThreeServers(TestOverOneServer):
    count = 3


class TestOverADeadServerToo(SamplerContract):
    @asynccontextmanager
    async def sampler(self) -> AsyncIterator[Sampler]:
        with ScriptedServer(served()) as dead:
            pass
        with ScriptedServer(served()) as first, ScriptedServer(served()) as second:
            async with over(first, dead, second) as balanced:
                yield balanced


def test_the_same_prompt_goes_to_the_same_server_in_every_run() -> None:
    first = [who_got_it(scripted(3), prompt(number)) for number in range(20)]
    assert first == [who_got_it(scripted(3), prompt(number)) for number in range(20)]
    assert set(first) == {"server-0", "server-1", "server-2"}


def test_a_server_that_comes_or_goes_moves_no_prompt_between_the_others() -> None:
    three = [who_got_it(scripted(3), prompt(number)) for number in range(40)]
    four = [who_got_it(scripted(4), prompt(number)) for number in range(40)]
    assert {now for before, now in zip(three, four, strict=True) if now != before} == {"server-3"}


def test_the_prompts_of_an_instance_that_begin_alike_meet_on_one_server() -> None:
    issue = "It fails. " * 200
    system = Message(Role.SYSTEM, "You repair.")
    prompts = [
        replace(prompt(0), messages=(system, Message(Role.USER, f"{issue} File list {number}."))) for number in range(9)
    ]
    servers = scripted(4)
    assert len({who_got_it(servers, request) for request in prompts}) == 1


def test_the_key_is_the_instance_and_how_the_prompt_begins() -> None:
    def key(instance: str, text: str, system: str = "You repair.") -> str:
        return affinity(instance, (Message(Role.SYSTEM, system), Message(Role.USER, text)))

    issue = "x" * OPENING
    assert key("a", issue + "one") == key("a", issue + "two", "You locate.")
    assert len({key("a", issue), key("b", issue), key("a", "y" + issue)}) == 3


def test_a_busy_server_passes_prompts_on_and_idle_ones_take_them() -> None:
    async def together() -> list[int]:
        servers = {name: Held() for name in "abc"}
        sampler = BalancedSampler(servers)
        request = prompt(0, "one instance", (0, 1, 2, 3))
        drawing = [asyncio.create_task(collect(sampler, request)) for _ in range(9)]
        await asyncio.sleep(0.01)
        for server in servers.values():
            server.gate.set()
        drawn = await asyncio.gather(*drawing)
        assert all(len(completions) == 4 for completions in drawn)
        return sorted(len(server.requests) for server in servers.values())

    assert run(together()) == [3, 3, 3]


def test_what_was_finished_or_given_up_is_no_load() -> None:
    async def after() -> set[str]:
        servers = scripted(3)
        sampler = BalancedSampler(servers)
        request = prompt(0, indices=tuple(range(10)))
        for _ in range(5):
            await collect(sampler, request)
            async with aclosing(sampler.sample(request)) as completions:  # type: ignore[type-var]  # a generator
                await anext(completions)
        return {name for name, server in servers.items() if server.requests}

    assert len(run(after())) == 1


def test_what_a_server_leaves_owing_is_asked_of_the_next_and_nothing_twice() -> None:
    servers = scripted(3, Outage(0, GONE, after=2))
    completions, error = run(until_error(BalancedSampler(servers), prompt(0, indices=(0, 1, 2, 3, 4, 5, 6))))
    assert error is None
    assert [completion.index for completion in completions] == [0, 1, 2, 3, 4, 5, 6]
    assert [completion.text for completion in completions] == [TEXTS[(7 + i) % 4] for i in range(7)]
    asked = sorted((request.indices for server in servers.values() for request in server.requests), key=len)
    assert asked == [(6,), (4, 5, 6), (2, 3, 4, 5, 6), (0, 1, 2, 3, 4, 5, 6)]


def test_an_error_that_every_server_would_give_is_given_at_once() -> None:
    servers = scripted(3, Outage(0, ServerFailed("The prompt is too long.")))
    completions, error = run(until_error(BalancedSampler(servers), prompt(0)))
    assert (completions, str(error)) == ([], "The prompt is too long.")
    assert sum(len(server.requests) for server in servers.values()) == 1


def test_only_when_all_are_gone_nothing_answers() -> None:
    said: list[str] = []
    servers = scripted(3, Outage(0, GONE))
    completions, error = run(until_error(BalancedSampler(servers, said.append), prompt(0)))
    assert completions == []
    assert isinstance(error, ServerUnreachable)
    assert str(error) == "None of the 3 model servers is left: see their logs. (Nothing answers.)"
    assert len(said) == 3


def with_favourite(sampler: ScriptedSampler) -> tuple[dict[str, ScriptedSampler], SampleRequest]:
    """Return two servers and a prompt that goes to the given one of them first."""
    request = prompt(0)
    return {**scripted(2), who_got_it(scripted(2), request): sampler}, request


def gone_for(calls: int) -> ScriptedSampler:
    return ScriptedSampler(SCRIPT, outages=tuple(Outage(call, GONE) for call in range(calls)))


def test_a_server_that_was_gone_is_tried_again_by_one_request_after_a_while() -> None:
    favourite = gone_for(2)
    servers, request = with_favourite(favourite)

    async def later() -> list[int]:
        clock = Time()
        sampler = BalancedSampler(servers, clock=clock)
        tries = []
        for moment in (0.0, FIRST_REST - 1, FIRST_REST, FIRST_REST * 2, FIRST_REST * 3, FIRST_REST * 3 + 1):
            clock.now = moment
            assert len(await collect(sampler, request)) == 2
            tries.append(len(favourite.requests))
        return tries

    assert run(later()) == [1, 1, 2, 2, 3, 4]


def test_a_server_that_stays_gone_is_asked_ever_more_rarely() -> None:
    favourite = gone_for(1000)
    servers, request = with_favourite(favourite)

    async def hours() -> int:
        clock = Time()
        sampler = BalancedSampler(servers, clock=clock)
        while clock.now < 3600:
            await collect(sampler, request)
            clock.now += 10
        return len(favourite.requests)

    assert 5 < run(hours()) < 3600 / LONGEST_REST + 7


def test_many_requests_that_meet_the_same_death_tell_it_once() -> None:
    said: list[str] = []
    servers, request = with_favourite(gone_for(1000))

    async def many() -> None:
        sampler = BalancedSampler(servers, said.append)
        await asyncio.gather(*(collect(sampler, request) for _ in range(6)))

    run(many())
    assert len(said) == 1


def cards(*given: ModelCard) -> BalancedSampler:
    return BalancedSampler({f"server-{number}": ScriptedSampler(SCRIPT, card) for number, card in enumerate(given)})


def test_the_card_has_the_smallest_window() -> None:
    card = run(cards(SCRIPTED_CARD, replace(SCRIPTED_CARD, context_window=4096, exact_counts=False)).card())
    assert card == replace(SCRIPTED_CARD, context_window=4096, exact_counts=False)


@pytest.mark.parametrize(
    "other", [replace(SCRIPTED_CARD, name="another"), replace(SCRIPTED_CARD, decoding=Decoding.GRAMMAR)]
)
def test_servers_that_serve_different_things_are_refused(other: ModelCard) -> None:
    with pytest.raises(UsageError, match=r"The model servers differ: server-0 serves 'scripted' \(free\), server-1"):
        run(cards(SCRIPTED_CARD, other).card())


def test_no_server_is_refused() -> None:
    with pytest.raises(UsageError, match="--base-url"):
        BalancedSampler({})


class Late(ScriptedSampler):
    """Answers from its second call on, with another card."""

    calls = 0

    async def card(self) -> ModelCard:
        self.calls += 1
        if self.calls == 1:
            raise GONE
        return await super().card()


@pytest.mark.parametrize(("window", "asked"), [(8192, 1), (16384, 1), (4096, 0)])
def test_a_server_that_answers_late_must_agree_with_the_others(window: int, asked: int) -> None:
    favourite = Late(SCRIPT, replace(SCRIPTED_CARD, context_window=window))
    servers, request = with_favourite(favourite)

    async def late() -> int:
        clock = Time()
        sampler = BalancedSampler(servers, clock=clock)
        assert (await sampler.card()).context_window == 8192
        clock.now = FIRST_REST
        assert len(await collect(sampler, request)) == 2
        assert (await sampler.card()).context_window == 8192
        return len(favourite.requests)

    assert run(late()) == asked


def test_tokens_are_counted_by_any_server_that_lives() -> None:
    async def count(*servers: ScriptedServer) -> int:
        async with over(*servers) as balanced:
            await balanced.card()
            await asyncio.to_thread(servers[0].__exit__, None, None, None)
            return await balanced.count_tokens((Message(Role.USER, "one two three"),))

    with ExitStack() as stack:
        dying = ScriptedServer(served()).__enter__()
        living = stack.enter_context(ScriptedServer(served()))
        assert run(count(dying, living)) > 3


def stop_in_the_middle(server: ScriptedServer) -> None:
    while not server.log.deliveries:
        time.sleep(0.01)
    server.__exit__(None, None, None)


def test_one_of_three_servers_dies_in_the_middle_and_no_sample_is_lost_or_given_twice() -> None:
    async def draw(*servers: ScriptedServer) -> list[list[Completion]]:
        async with over(*servers) as balanced:
            drawing = [asyncio.create_task(collect(balanced, prompt(i, indices=tuple(range(8))))) for i in range(12)]
            await asyncio.to_thread(stop_in_the_middle, servers[0])
            return await asyncio.gather(*drawing)

    with ExitStack() as stack:
        dying = ScriptedServer(served(), delay=0.02).__enter__()
        others = [stack.enter_context(ScriptedServer(served(), delay=0.02)) for _ in range(2)]
        drawn = run(draw(dying, *others))
        logs = [server.log for server in (dying, *others)]
    for completions in drawn:
        assert sorted(completion.index for completion in completions) == list(range(8))
        assert all(completion.text == TEXTS[(7 + completion.index) % 4] for completion in completions)
    assert all(log.chats() for log in logs)
    delivered = Counter((done.prompt, done.sample) for log in logs for done in log.deliveries)
    assert len(delivered) == 12 * 8


def test_a_server_that_fails_until_its_retries_are_used_up_is_left_for_another() -> None:
    async def draw(*servers: ScriptedServer) -> tuple[list[Completion], AminiError | None]:
        async with over(*servers) as balanced:
            return await until_error(balanced, prompt(0))

    broken = (Fault(kind=FaultKind.ERROR, times=99),)
    with ScriptedServer(served(), broken) as one, ScriptedServer(served(), broken) as other:
        completions, error = run(draw(one, other))
        assert (completions, type(error)) == ([], ServerUnreachable)
        assert "answered 500" not in str(error)
    with ScriptedServer(served(), broken) as one, ScriptedServer(served(script=Script.of("a"))) as other:
        completions, error = run(draw(one, other))
        assert ([completion.text for completion in completions], error) == (["a", "a"], None)
