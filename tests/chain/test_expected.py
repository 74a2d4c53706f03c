"""The model may say which regression tests a right fix must break: these do not count."""

from dataclasses import replace

import pytest

from agentless_mini.chain.reproduce import without_expected
from agentless_mini.domain import Case, Decoding, ModelCard, Note, Origin, Stage
from agentless_mini.settings.run import ReproduceSettings
from tests.chain import batches
from tests.chain.batches import CART_TEST, SHOWS_IT, TAX_TEST, cart, ids, tax
from tests.chain.workbench import Bench, run, shop, subject
from tests.fakes.model import Answer, Rule, Script, ScriptedSampler

CASES = tuple(Case(name, Origin.REGRESSION, name.partition("::")[0]) for name in (CART_TEST, TAX_TEST))
CARD = ModelCard("m", 8192)
PINNED = f"It pins the fault.\n\n```\n{CART_TEST}\ntests/nowhere.py::test_x\n```\n"


def kept(answer: str, card: ModelCard = CARD) -> tuple[list[str], Bench, ScriptedSampler]:
    sampler = ScriptedSampler(Script(rules=(Rule(stage="regress", answers=(Answer(text=answer),)),)), card)
    bench = Bench(sampler)
    left = run(without_expected(CASES, subject(shop()), bench.session, ReproduceSettings()))
    return [case.id for case in left], bench, sampler


def test_a_test_that_the_model_names_is_left_out_and_told() -> None:
    left, bench, sampler = kept(PINNED)
    assert left == [TAX_TEST]
    assert any(isinstance(event, Note) and CART_TEST in event.text for event in bench.events)
    (asked,) = sampler.requests
    assert (asked.stage, asked.indices, asked.params.temperature) == (Stage.REGRESS, (0,), 0.0)
    assert all(case.id in asked.messages[-1].content for case in CASES)


@pytest.mark.parametrize("answer", ["None of them.", "```\n```\n", f"<think>```\n{CART_TEST}\n```\n"])
def test_an_answer_that_names_none_leaves_all(answer: str) -> None:
    left, bench, _ = kept(answer)
    assert left == [CART_TEST, TAX_TEST]
    assert not any(isinstance(event, Note) for event in bench.events)


def test_a_model_that_rewrites_lines_is_not_asked() -> None:
    left, _, sampler = kept(PINNED, ModelCard("m", 8192, Decoding.LINES))
    assert left == [CART_TEST, TAX_TEST]
    assert not sampler.requests


def test_what_does_not_fit_is_not_asked_about() -> None:
    many = tuple(replace(CASES[0], id=f"tests/test_cart.py::test_{n:04}") for n in range(900))
    sampler = ScriptedSampler(Script(rules=(Rule(answers=(Answer(text="```\n```"),)),)), ModelCard("m", 4096))
    assert run(without_expected(many, subject(shop()), Bench(sampler).session, ReproduceSettings())) == many
    assert 100 < sampler.requests[0].messages[-1].content.count("::test_") < 900


def test_the_tests_that_are_spared_meet_no_patch() -> None:
    async def spare(cases: tuple[Case, ...]) -> tuple[Case, ...]:
        return tuple(case for case in cases if case.id != CART_TEST)

    bench = batches.Bench(spare=spare)
    assert ids(bench.over(cart(1), tax(1))) == [SHOWS_IT.id, TAX_TEST]
    assert CART_TEST not in {name for _, name in bench.met}
