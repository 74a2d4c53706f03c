import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from agentless_mini.domain import (
    Completion,
    Decoding,
    EditTask,
    Excerpt,
    FileKind,
    Finish,
    Issue,
    Message,
    Patch,
    Reason,
    Rejected,
    Role,
    SampleRequest,
    SamplingParams,
    ShownFile,
    Snapshot,
    SourceFile,
    Stage,
    Usage,
)
from agentless_mini.edits import Tree, apply_edits, parse_edits, read_answer
from agentless_mini.errors import EnvironmentFailed, ServerFailed, UsageError
from agentless_mini.ports import Sampler
from agentless_mini.samplers.embedded import EmbeddedSampler, InProcessSettings
from agentless_mini.serving.weights import Weights
from agentless_mini.templates import load_prompts
from tests.embedded_model import needed_weights
from tests.samplers.contract import SamplerContract, collect, run

pytestmark = pytest.mark.model

CODE = "def is_even(number):\n    return number % 2 == 1\n\n\ndef is_odd(number):\n    return number % 2 == 1\n"
TASK = EditTask("is_even(2) is False and is_even(3) is True.", (ShownFile("even.py", (Excerpt(1, CODE),), whole=True),))
SMALL = InProcessSettings(context=2048, threads=1)


@asynccontextmanager
async def opened(told: list[int] | None = None) -> AsyncIterator[EmbeddedSampler]:
    watch = (lambda tokens: None) if told is None else told.append
    async with EmbeddedSampler(needed_weights(), SMALL, watch) as sampler:
        yield sampler


def ask(
    decoding: Decoding, indices: tuple[int, ...], task: EditTask | None = TASK, params: SamplingParams | None = None
) -> SampleRequest:
    messages = (Message(Role.USER, "Repair is_even: " + CODE),)
    params = params or SamplingParams(max_tokens=64, seed=3)
    return SampleRequest("m", messages, params, indices, Stage.REPAIR, "", decoding, task)


def tree(task: EditTask) -> Tree:
    files = tuple(SourceFile(file.path, "100644", FileKind.TEXT, file.excerpts[0].text.encode()) for file in task.files)
    return Tree.of(Snapshot("", "", "", files))


class TestEmbeddedSampler(SamplerContract):
    def sampler(self) -> AbstractAsyncContextManager[Sampler]:
        return opened()


def test_the_card_says_how_the_model_is_made_to_answer() -> None:
    async def card() -> tuple[str, int, Decoding, str, str]:
        async with opened() as sampler:
            card = await sampler.card()
            return card.name, card.context_window, card.decoding, card.engine, card.revision

    assert run(card()) == ("SmolLM2-135M-Instruct-Q8_0", 2048, Decoding.LINES, "llama.cpp", "2026.10.11549")


def test_the_context_is_never_more_than_the_models_own() -> None:
    async def window() -> int:
        async with EmbeddedSampler(needed_weights(), InProcessSettings(context=100_000)) as sampler:
            return (await sampler.card()).context_window

    assert run(window()) == 8192


def test_sample_i_is_the_rewrite_of_rank_i_and_a_valid_edit() -> None:
    told: list[int] = []

    async def several() -> list[list[Completion]]:
        async with opened(told) as sampler:
            whole = await collect(sampler, ask(Decoding.LINES, tuple(range(12))))
            pieces = [await collect(sampler, ask(Decoding.LINES, (index,))) for index in (0, 11, 5)]
            return [whole, *pieces, await collect(sampler, ask(Decoding.LINES, (100_000,)))]

    whole, *pieces, (beyond,) = run(several())
    outcomes = [read_answer(completion, tree(TASK)) for completion in whole]
    assert all(isinstance(outcome, Patch) for outcome in outcomes)
    assert len({outcome.normal for outcome in outcomes if isinstance(outcome, Patch)}) == 12
    assert [completion.text for (completion,) in pieces] == [whole[index].text for index in (0, 11, 5)]
    prompt, answer = whole[0].usage.prompt_tokens or 0, whole[0].usage.completion_tokens or 0
    assert sum(told) == prompt + answer
    assert all(completion.usage == Usage() for completion in [*whole[1:], *(piece for (piece,) in pieces)])
    assert answer > prompt > 100
    assert beyond.finish is Finish.STOP
    rejected = read_answer(beyond, tree(TASK))
    assert isinstance(rejected, Rejected)
    assert rejected.reason is Reason.NO_EDIT


@pytest.mark.slow
@pytest.mark.thorough
def test_two_processes_rank_alike() -> None:
    async def texts() -> list[str]:
        async with EmbeddedSampler(needed_weights(), InProcessSettings(context=2048, threads=1)) as sampler:
            return [one.text for one in await collect(sampler, ask(Decoding.LINES, tuple(range(400))))]

    first = run(texts())
    assert run(texts()) == first
    assert any("+    return number % 2 == 0" in diff_of(text) for text in first)


def diff_of(text: str) -> str:
    outcome = read_answer(Completion(0, text, Finish.STOP), tree(TASK))
    return outcome.diff.decode() if isinstance(outcome, Patch) else ""


def test_a_task_without_a_line_has_no_rewrites() -> None:
    async def drawn() -> list[Completion]:
        async with opened() as sampler:
            return await collect(sampler, ask(Decoding.LINES, (0, 1), EditTask("nothing", ())))

    assert ["no more rewrites" in completion.text for completion in run(drawn())] == [True, True]


@pytest.mark.slow
def test_closing_a_request_stops_the_work_at_once() -> None:
    async def closed() -> tuple[float, list[Completion]]:
        async with opened() as sampler:
            await sampler.card()
            request = ask(Decoding.LINES, (0,))
            drawing = asyncio.ensure_future(collect(sampler, request))
            waiting = asyncio.ensure_future(collect(sampler, ask(Decoding.LINES, (1,))))
            await asyncio.sleep(0.3)
            started = time.monotonic()
            for task in (drawing, waiting):
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            return time.monotonic() - started, await collect(sampler, ask(Decoding.FREE, (0,), None))

    seconds, completions = run(closed())
    assert seconds < 5
    assert len(completions) == 1


@pytest.mark.slow
def test_the_event_loop_stays_free_while_the_model_works() -> None:
    async def ticks() -> int:
        async with opened() as sampler:
            drawing = asyncio.ensure_future(collect(sampler, ask(Decoding.LINES, (0,))))
            count = 0
            while not drawing.done():
                await asyncio.sleep(0.01)
                count += 1
            return count

    assert run(ticks()) > 20


@pytest.mark.slow
@pytest.mark.thorough
def test_what_a_grammar_lets_through_is_an_edit_of_the_shown_lines() -> None:
    # At temperature 1 this model hardly ever comes to an end; the grammar holds at any.
    params = SamplingParams(max_tokens=400, temperature=0.4, seed=1)
    messages = load_prompts(None).repair(Issue(TASK.issue), "numbers", TASK.files)

    async def drawn() -> list[Completion]:
        async with EmbeddedSampler(needed_weights(), InProcessSettings()) as sampler:
            request = ask(Decoding.GRAMMAR, tuple(range(6)), params=params)
            return await collect(sampler, replace(request, messages=messages))

    finished = [completion for completion in run(drawn()) if completion.finish is Finish.STOP]
    assert finished
    for completion in finished:
        edits = parse_edits(completion.text, tree(TASK).paths)
        assert isinstance(edits, tuple), completion.text
        outcome = apply_edits(edits[:1], tree(TASK))
        assert isinstance(outcome, tuple) or outcome.reason in {Reason.NO_CHANGE, Reason.NO_EFFECT, Reason.SYNTAX}, (
            outcome
        )


def test_a_seed_draws_the_same_answer_and_another_index_another_one() -> None:
    async def drawn() -> list[Completion]:
        async with opened() as sampler:
            wanted = ask(Decoding.FREE, (0, 1, 2), None, SamplingParams(16, seed=3))
            return await collect(sampler, wanted) + await collect(sampler, wanted)

    texts = {(completion.index, completion.text) for completion in run(drawn())}
    assert len(texts) == 3
    assert len({text for _, text in texts}) == 3


def test_without_temperature_every_sample_is_the_likeliest() -> None:
    async def drawn() -> list[str]:
        async with opened() as sampler:
            request = ask(Decoding.FREE, (0, 1), None, SamplingParams(12, temperature=0))
            return [completion.text for completion in await collect(sampler, request)]

    one, other = run(drawn())
    assert one == other


def test_an_answer_ends_before_a_stop_string() -> None:
    async def drawn() -> list[Completion]:
        async with opened() as sampler:
            request = ask(Decoding.FREE, (0,), None, SamplingParams(40, temperature=0))
            (whole,) = await collect(sampler, request)
            stop = whole.text[10:14]
            return [whole, *await collect(sampler, replace(request, params=replace(request.params, stop=(stop,))))]

    whole, cut = run(drawn())
    assert cut.finish is Finish.STOP
    assert cut.text == whole.text[: whole.text.index(whole.text[10:14])]


def test_a_prompt_that_fills_the_context_is_an_error() -> None:
    async def drawn() -> list[Completion]:
        async with opened() as sampler:
            long = replace(ask(Decoding.FREE, (0,), None), messages=(Message(Role.USER, "word " * 3000),))
            return await collect(sampler, long)

    with pytest.raises(ServerFailed, match="fills the context"):
        run(drawn())


@pytest.mark.parametrize("decoding", [Decoding.LINES, Decoding.GRAMMAR])
def test_a_constraint_without_a_task_is_refused(decoding: Decoding) -> None:
    async def drawn() -> list[Completion]:
        async with opened() as sampler:
            return await collect(sampler, ask(decoding, (0,), None))

    with pytest.raises(UsageError, match="Only repairs"):
        run(drawn())


def test_weights_that_cannot_be_loaded_are_an_error_each_time(tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"no")

    async def tried() -> None:
        async with EmbeddedSampler(Weights(path, "bad", Decoding.LINES), SMALL) as sampler:
            for _ in range(2):
                with pytest.raises(EnvironmentFailed, match="cannot load"):
                    await sampler.card()
                with pytest.raises(EnvironmentFailed, match="cannot load"):
                    await collect(sampler, ask(Decoding.LINES, (0,)))

    run(tried())


def test_a_request_may_be_left_while_it_yields() -> None:
    async def left() -> int:
        async with opened() as sampler:
            request = ask(Decoding.FREE, tuple(range(4)), None)
            async with aclosing(sampler.sample(request)) as completions:  # type: ignore[type-var]  # a generator
                async for completion in completions:
                    return completion.index
        return -1

    assert run(left()) in range(4)
