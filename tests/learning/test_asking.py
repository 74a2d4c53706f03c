"""What a model writes for rows: reasoning that is believed, parents that are patches, each asked for once."""

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from agentless_mini.chain.templates import load_prompts
from agentless_mini.domain import Completion, Finish, ModelCard
from agentless_mini.learning.asking import in_turn, reasoning_of, synthesize, with_parents
from agentless_mini.learning.rows import Row
from agentless_mini.ports import Sampler
from agentless_mini.record import RecordedSampler, Store
from agentless_mini.settings.learning import SynthesizeSettings
from tests.fakes.model import Script, ScriptedSampler, ready
from tests.gated import GatedSampler
from tests.learning import tiny

ROW = tiny.rows(1)[0]
WHY = "The issue says that doubling is wrong. The factor is 3."


def taught(edits: str, why: str = WHY) -> str:
    return f"<explanation>\n{why}\n</explanation>\n{edits}"


def explained(rows: list[Row], sampler: Sampler, **more: int) -> tuple[list[Row], dict[str, int]]:
    counts: Counter[str] = Counter()
    settings = SynthesizeSettings(**more)

    async def all_rows() -> list[Row]:
        return [row async for row in synthesize(rows, sampler, load_prompts(None), settings, counts)]

    return asyncio.run(all_rows()), dict(counts)


def test_reasoning_is_kept_where_the_edits_come_to_the_oracle() -> None:
    sampler = ScriptedSampler(Script.of(taught(ROW.answer())))
    (row,), counts = explained([ROW], sampler)
    assert row == replace(ROW, reasoning=WHY)
    assert counts == {"reasoning written": 1}
    assert row.answer().startswith(f"<think>\n{WHY}\n</think>\n<solution>\n")


@pytest.mark.parametrize(
    "said",
    [
        ROW.answer(),
        taught(ROW.answer().replace("* 2", "* 4")),
        taught(ROW.answer(), why=" "),
        taught("Nothing to do."),
        taught(taught(ROW.answer())),
        f"<think>{taught(ROW.answer())}</think>",
    ],
)
def test_other_answers_are_not_believed(said: str) -> None:
    assert reasoning_of(ROW, Completion(0, said, Finish.STOP)) == ""
    assert explained([ROW], ScriptedSampler(Script.of(said)), samples=2)[1] == {"not reproduced": 1}


def test_an_answer_that_was_cut_off_is_not_believed() -> None:
    assert reasoning_of(ROW, Completion(0, taught(ROW.answer()), Finish.LENGTH)) == ""


def test_it_is_tried_again_and_what_has_a_reasoning_is_left_alone() -> None:
    sampler = ScriptedSampler(Script.of("No.", taught(ROW.answer())))
    rows, counts = explained([ROW, replace(ROW, reasoning="Mine.")], sampler, samples=2)
    assert [row.reasoning for row in rows] == [WHY, "Mine."]
    assert counts == {"reasoning written": 1, "had a reasoning": 1}


def test_a_prompt_beyond_the_window_is_not_asked() -> None:
    sampler = ScriptedSampler(Script.of("No."), ModelCard("scripted", 16))
    assert explained([ROW], sampler) == ([ROW], {"too long for the teacher": 1})


def test_a_rerun_asks_nothing(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store.sqlite") as store:
        sampler = ScriptedSampler(Script.of(taught(ROW.answer())))
        first = explained([ROW], RecordedSampler(ready(sampler), store, "scripted"))
        assert explained([ROW], RecordedSampler(ready(GatedSampler()), store, "scripted")) == first


def bred(rows: list[Row], sampler: Sampler, samples: int) -> tuple[list[Row], dict[str, int]]:
    counts: Counter[str] = Counter()

    async def all_rows() -> list[Row]:
        return [row async for row in with_parents(rows, sampler, load_prompts(None), counts, samples, 512)]

    return asyncio.run(all_rows()), dict(counts)


def test_parents_are_the_distinct_patches_among_the_answers() -> None:
    wrong = ROW.answer().replace("* 2", "* 4")
    sampler = ScriptedSampler(Script.of(wrong, "No idea.", wrong.replace("* 4", "* 4  # four"), ROW.answer()))
    (row,), counts = bred([replace(ROW, parents=("old",))], sampler, 4)
    assert counts == {"with parents": 1}
    assert len(row.parents) == 2
    assert "+    return number * 4" in row.parents[0]
    assert "+    return number * 2" in row.parents[1]


def test_rows_without_a_patch_have_no_parents() -> None:
    assert bred([ROW], ScriptedSampler(Script.of("No idea.")), 2) == ([ROW], {"no answer was a patch": 1})
    assert bred([ROW], ScriptedSampler(Script.of("x"), ModelCard("scripted", 16)), 2)[1] == {
        "too long for the model": 1
    }


def test_rows_keep_their_order_and_few_are_under_way() -> None:
    under_way: set[str] = set()
    most = 0

    async def ask(row: Row) -> str:
        nonlocal most
        under_way.add(row.id)
        most = max(most, len(under_way))
        await asyncio.sleep(0.002 if row.id.endswith(":0") else 0)
        under_way.discard(row.id)
        return row.id

    async def asked() -> list[str]:
        return [name async for name in in_turn(tiny.rows(9), ask, 3)]

    found = asyncio.run(asked())
    assert found == [row.id for row in tiny.rows(9)]
    assert most == 3


def test_what_is_under_way_ends_with_the_reader() -> None:
    ended: list[str] = []

    async def ask(row: Row) -> str:
        try:
            await asyncio.sleep(0 if row.id.endswith(":0") else 60)
        except asyncio.CancelledError:
            ended.append(row.id)
            raise
        return row.id

    async def first() -> str:
        stream = in_turn(tiny.rows(3), ask, 3)
        name = await anext(stream)
        await stream.aclose()
        return name

    assert asyncio.run(first()).endswith(":0")
    assert len(ended) == 2
