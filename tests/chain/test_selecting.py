"""Selectors: the order in which patches are the best, by tests and by a reward model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from agentless_mini.chain.evolve import BestFirst, by_execution, by_reward
from agentless_mini.chain.execute import Batches
from agentless_mini.chain.rank import rank
from agentless_mini.chain.session import Session
from agentless_mini.domain import Candidate, Issue, Method, Patch, Reason, Rejected
from agentless_mini.errors import UsageError
from agentless_mini.settings import Config
from tests.chain import batches, workbench
from tests.chain.workbench import ISSUE, run
from tests.fakes.model import Script, ScriptedSampler


def candidates(*normals: str) -> list[Candidate]:
    return [Candidate("k", n, n, patch(normal) if normal else NOTHING) for n, normal in enumerate(normals)]


NOTHING = Rejected(Reason.NO_EDIT, "nothing")


def best(select: BestFirst, drawn: Sequence[Candidate]) -> list[str]:
    async def selected() -> list[str]:
        return list(await select(drawn))

    return run(selected())


def patch(normal: str) -> Patch:
    return Patch(normal.encode(), normal, ("shop/cart.py",))


class Judge:
    """Scores by a table, and remembers what it was asked."""

    def __init__(self, **scores: float) -> None:
        self.asked: list[tuple[str, ...]] = []
        self._scores = scores

    async def scoring(self, issue: Issue, patches: Sequence[Patch]) -> Mapping[str, float]:
        assert issue == ISSUE
        self.asked.append(tuple(one.normal for one in patches))
        return {one.normal: self._scores[one.normal] for one in patches}


def session(judge: Judge | None) -> Session:
    plain = workbench.Bench(ScriptedSampler(Script.of("x"))).session
    return replace(plain, scoring=judge.scoring if judge else None)


def test_a_reward_model_is_asked_once_for_each_patch_and_the_earliest_of_equals_comes_first() -> None:
    judge = Judge(a=0.5, b=2.0, c=0.5, d=-1.0)
    select = by_reward(ISSUE, session(judge))
    assert best(select, candidates("d", "", "c", "a", "c")) == ["c", "a", "d"]
    assert best(select, candidates("d", "", "c", "a", "c", "b", "a")) == ["b", "c", "a", "d"]
    assert best(select, candidates("d", "", "c", "a", "c", "b", "a")) == ["b", "c", "a", "d"]
    assert judge.asked == [("d", "c", "a"), ("b",)]


def test_without_a_patch_the_reward_model_is_not_asked() -> None:
    judge = Judge()
    assert best(by_reward(ISSUE, session(judge)), candidates("", "")) == []
    assert judge.asked == []


def test_without_a_reward_model_there_is_no_selector() -> None:
    with pytest.raises(UsageError, match=r"\[scorer\]"):
        by_reward(ISSUE, session(None))


@pytest.mark.parametrize("method", list(Method))
def test_the_tests_order_patches_as_the_choice_does(method: Method) -> None:
    bench = batches.Bench()

    async def held() -> Batches:
        return bench.batches

    drawn = batches.candidates(
        batches.cart(13), batches.cart(13), None, batches.cart(1), batches.tax(2), batches.tax(2)
    )
    order = best(by_execution(held, method), drawn)
    assert sorted(order) == ["cart 1", "cart 13", "tax 2"]
    choice = rank(drawn, run(bench.batches.over(drawn)), method)
    assert choice is not None
    assert order[0] == choice.patch.normal


def test_each_patch_meets_the_tests_once_over_all_rounds() -> None:
    bench = batches.Bench()

    async def held() -> Batches:
        return bench.batches

    select = by_execution(held, Config().rank)
    best(select, batches.candidates(batches.cart(1), batches.cart(13)))
    later = batches.candidates(batches.cart(1), batches.cart(13), batches.cart(1), batches.cart(2))
    assert best(select, later)[:2] == ["cart 1", "cart 2"]
    assert len(set(bench.met)) == 3 * 2
    assert len(bench.met) == 3 * 2 + 1  # what a patch breaks is looked at again


def test_without_tests_there_is_no_order() -> None:
    bench = batches.Bench(reproducing=())

    async def nothing() -> None:
        return None

    async def held() -> Batches:
        return bench.batches

    assert best(by_execution(nothing, Method.AGREEMENT), candidates("a")) == []
    lost = batches.candidates(batches.patch("shop/none.py", "x", "none"))
    assert best(by_execution(held, Method.AGREEMENT), lost) == []
