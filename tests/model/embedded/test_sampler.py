import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.domain import (
    Completion,
    Decoding,
    EditTask,
    Excerpt,
    FileKind,
    Finish,
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
from agentless_mini.edits import Tree, changed_files, read_answer
from agentless_mini.errors import UsageError
from agentless_mini.model.embedded.regions import Region, choose_regions
from agentless_mini.model.embedded.sampler import EmbeddedSampler, render
from agentless_mini.model.embedded.scoring import Rewrite
from agentless_mini.ports import Sampler
from agentless_mini.settings.model import InProcessSettings
from tests.embedded_model import needed_weights
from tests.model.contract import SamplerContract, collect, run

pytestmark = pytest.mark.model

CODE = "def is_even(number):\n    return number % 2 == 1\n"
TASK = EditTask("is_even(2) is False and is_even(3) is True.", (ShownFile("even.py", (Excerpt(1, CODE),), whole=True),))
SMALL = InProcessSettings(context=2048, threads=1)


@asynccontextmanager
async def opened(told: list[int] | None = None) -> AsyncIterator[EmbeddedSampler]:
    watch = (lambda tokens: None) if told is None else told.append
    async with EmbeddedSampler(needed_weights(), SMALL, watch) as sampler:
        yield sampler


def ask(
    indices: tuple[int, ...], task: EditTask | None = TASK, decoding: Decoding = Decoding.LINES, max_tokens: int = 64
) -> SampleRequest:
    messages = (Message(Role.USER, "Repair is_even: " + CODE),)
    return SampleRequest("m", messages, SamplingParams(max_tokens), indices, Stage.REPAIR, "", decoding, task)


def tree(task: EditTask) -> Tree:
    files = tuple(SourceFile(file.path, "100644", FileKind.TEXT, file.excerpts[0].text.encode()) for file in task.files)
    return Tree.of(Snapshot("", "", "", files))


class TestEmbeddedSampler(SamplerContract):
    """Two tests say what holds of ranked rewrites in the place of what holds of drawn answers."""

    def sampler(self) -> AbstractAsyncContextManager[Sampler]:
        return opened()

    def request(self, text: str, indices: tuple[int, ...] = (0,), max_tokens: int = 16) -> SampleRequest:
        return ask(
            indices, EditTask(text, (ShownFile("a.py", (Excerpt(1, "x = 1\n"),), whole=True),)), max_tokens=max_tokens
        )

    def test_an_answer_cut_off_by_the_token_limit_is_a_result(self) -> None:
        (completion,) = self.draw(self.request("No token limit cuts a rewrite off.", max_tokens=1))
        assert completion.finish is Finish.STOP
        assert completion.text.endswith(">>>>>>> REPLACE\n```\n")

    def test_tokens_are_booked(self) -> None:
        first, *others = self.draw(self.request("the first pays for all", (0, 1, 2)))
        assert (first.usage.prompt_tokens or 0) > 0
        assert (first.usage.completion_tokens or 0) > 0
        assert [other.usage for other in others] == [Usage(), Usage()]


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
            whole = await collect(sampler, ask(tuple(range(12))))
            pieces = [await collect(sampler, ask((index,))) for index in (0, 11, 5)]
            return [whole, *pieces, await collect(sampler, ask((100_000,)))]

    whole, *pieces, (beyond,) = asyncio.run(several())
    outcomes = [read_answer(completion, tree(TASK)) for completion in whole]
    assert all(isinstance(outcome, Patch) for outcome in outcomes)
    assert len({outcome.normal for outcome in outcomes if isinstance(outcome, Patch)}) == 12
    assert [completion.text for (completion,) in pieces] == [whole[index].text for index in (0, 11, 5)]
    prompt, answer = whole[0].usage.prompt_tokens or 0, whole[0].usage.completion_tokens or 0
    assert sum(told) == prompt + answer
    assert all(completion.usage == Usage() for completion in [*whole[1:], *(piece for (piece,) in pieces)])
    assert answer > prompt > 50
    assert beyond.finish is Finish.STOP
    rejected = read_answer(beyond, tree(TASK))
    assert isinstance(rejected, Rejected)
    assert rejected.reason is Reason.NO_EDIT


@pytest.mark.slow
@pytest.mark.thorough
def test_two_processes_rank_alike() -> None:
    async def texts() -> list[str]:
        async with EmbeddedSampler(needed_weights(), InProcessSettings(context=2048, threads=1)) as sampler:
            return [one.text for one in await collect(sampler, ask(tuple(range(400))))]

    first = asyncio.run(texts())
    assert asyncio.run(texts()) == first
    assert any("+    return number % 2 == 0" in diff_of(text) for text in first)


def diff_of(text: str) -> str:
    outcome = read_answer(Completion(0, text, Finish.STOP), tree(TASK))
    return outcome.diff.decode() if isinstance(outcome, Patch) else ""


def test_a_task_without_a_line_has_no_rewrites() -> None:
    async def drawn() -> list[Completion]:
        async with opened() as sampler:
            return await collect(sampler, ask((0, 1), EditTask("nothing", ())))

    assert ["no more rewrites" in completion.text for completion in run(drawn())] == [True, True]


@pytest.mark.thorough
def test_closing_a_request_stops_the_work_at_once() -> None:
    async def closed() -> tuple[float, list[Completion]]:
        async with opened() as sampler:
            await sampler.card()
            request = ask((0,))
            drawing = asyncio.ensure_future(collect(sampler, request))
            waiting = asyncio.ensure_future(collect(sampler, ask((1,))))
            await asyncio.sleep(0.3)
            started = time.monotonic()
            for task in (drawing, waiting):
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            return time.monotonic() - started, await collect(sampler, ask((2,)))

    seconds, completions = asyncio.run(closed())
    assert seconds < 5
    assert len(completions) == 1


@pytest.mark.parametrize(
    ("decoding", "task"), [(Decoding.LINES, None), (Decoding.FREE, TASK), (Decoding.GRAMMAR, TASK)]
)
def test_what_is_no_repair_is_refused(decoding: Decoding, task: EditTask | None) -> None:
    async def drawn() -> list[Completion]:
        async with opened() as sampler:
            return await collect(sampler, ask((0,), task, decoding))

    with pytest.raises(UsageError, match="repairs alone"):
        run(drawn())


# --- a rewrite as an answer ------------------------------------------------------------------------------------------

ADDS = "def f(a):\n    return a + 1\n"


def applied(task: EditTask, rewrite: Rewrite, data: bytes) -> bytes:
    """Apply a rendered rewrite with the project's parser and applier to the file's real bytes."""
    path = rewrite.region.path
    tree = Tree.of(Snapshot("", "", "", (SourceFile(path, "100644", FileKind.TEXT, data),)))
    outcome = read_answer(Completion(0, render(task, rewrite), Finish.STOP), tree)
    assert isinstance(outcome, Patch), outcome
    (change,) = changed_files(outcome, tree.entries)
    assert change.after is not None
    return change.after


def shown(path: str, text: str) -> EditTask:
    return EditTask("", (ShownFile(path, (Excerpt(1, text),), whole=True),))


def test_a_rewrite_becomes_an_ordinary_edit() -> None:
    task = shown("m.py", ADDS)
    rewrite = Rewrite(Region("m.py", 1, ADDS), 1, "    return a - 1")
    assert render(task, rewrite) == (
        "```\n### m.py\n<<<<<<< SEARCH\n    return a + 1\n=======\n    return a - 1\n>>>>>>> REPLACE\n```\n"
    )
    assert applied(task, rewrite, ADDS.encode()) == ADDS.replace("+", "-").encode()


def test_of_a_file_shown_in_part_the_neighbours_are_always_taken() -> None:
    excerpts = (Excerpt(1, "one\nx\ntwo\n"), Excerpt(9, "x\nthree\n"))
    task = EditTask("", (ShownFile("m.txt", excerpts, whole=False),))
    data = b"one\nx\ntwo\n4\n5\n6\n7\n8\nx\nthree\n"
    rewrite = Rewrite(Region("m.txt", 9, "x\nthree\n"), 0, "y")
    assert "SEARCH\nx\nthree\n=" in render(task, rewrite)
    assert applied(task, rewrite, data) == data.replace(b"8\nx", b"8\ny")


@pytest.mark.parametrize(
    ("path", "text", "row", "new"),
    [
        ("m.txt", "one\r\ntwo\r\n", 1, "three"),
        ("m.txt", "one\ntwo", 1, "three"),
        ("a b.txt", "```\n=======\nx\n=======\n", 2, "y"),
        ("m.txt", "<<<<<<< SEARCH\nx\n", 0, "========"),
        ("m.txt", "same\nsame\nsame\n", 1, "other"),
        (" odd .txt", "x\n", 0, "y"),
    ],
)
def test_the_edit_changes_that_line_and_not_one_byte_more(path: str, text: str, row: int, new: str) -> None:
    task = shown(path, text)
    (region,) = choose_regions(task, 1000, len)
    rows = text.split("\n")
    rows[row] = new + ("\r" if rows[row].endswith("\r") else "")
    assert applied(task, Rewrite(region, row, new), text.encode()) == "\n".join(rows).encode()


@given(st.lists(st.sampled_from(["a", "b", "", "=======", " x", "```"]), min_size=1, max_size=12), st.data())
def test_every_line_of_any_file_can_be_rewritten(rows: list[str], data: st.DataObject) -> None:
    row = data.draw(st.integers(0, len(rows) - 1))
    text = "".join(one + "\n" for one in rows)
    wanted = "".join(("new" if at == row else one) + "\n" for at, one in enumerate(rows))
    assert (
        applied(shown("m.txt", text), Rewrite(Region("m.txt", 1, text), row, "new"), text.encode()) == wanted.encode()
    )
