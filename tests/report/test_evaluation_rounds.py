"""Evaluations in rounds, and with an adaptive budget: their results, curves, tables and instances in depth."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentless_mini.record import AttemptRecord, AttemptState, Store
from agentless_mini.report.evaluation_document import Prices, evaluation_document, evaluation_documents, one_instance
from agentless_mini.report.evaluation_tables import IN_ROUNDS, STOPPED, evaluation_tables
from tests.record.building import START
from tests.report.building import shown
from tests.report.evaluated import Ran, evaluate, put_instance
from tests.report.test_evaluation_tables import cells, named

# The chosen patch by round: a (wrong), then b (right, it passes both tests).
BETTER = Ran("i-1", "aa.bbb", right="b", tests="tu", passing=(("a", "t"), ("b", "tu")), per_round=3)
WORSE = Ran("i-2", "acaddd", right="c", per_round=3)
PLAIN = (Ran("i-1", "aabbbbbb", right="b"), Ran("i-2", "ccaaaaaa", right="c"))


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[list[Store]]:
    with ExitStack() as opened:
        yield [opened.enter_context(Store.open(tmp_path / f"{name}.sqlite")) for name in "ab"]


def document(store: Store, *ran: Ran) -> dict[str, Any]:
    evaluate(store, ran)
    return evaluation_document(store)


def rates(told: dict[str, Any], part: str) -> list[tuple[int, float | None]]:
    return [(point.get("n", point.get("k")), point.get("rate", point.get("value"))) for point in told["results"][part]]


def test_rounds_are_averaged_over_instances(stores: Sequence[Store]) -> None:
    found = document(stores[0], BETTER, WORSE)["results"]["evolution"]
    assert (found["instances"], found["score"]) == (2, "tests")
    assert found["rounds"] == [
        {"round": 0, "samples": 3.0, "valid": 2.5, "distinct": 1.5, "new": 1.5, "best": 0.5, "mean": 0.5, "scored": 1},
        {"round": 1, "samples": 3.0, "valid": 3.0, "distinct": 1.0, "new": 1.0, "best": 1.0, "mean": 1.0, "scored": 1},
    ]


def test_best_at_n_of_an_evolution_grows_by_whole_rounds(stores: Sequence[Store]) -> None:
    told = document(stores[0], BETTER, WORSE)
    assert rates(told, "best_at_n") == [(3, 0.0), (6, 0.5)]
    assert rates(told, "vote_at_n") == [(3, 0.0), (6, 0.5)]
    assert rates(told, "oracle_at_n") == [(3, 0.5), (6, 1.0)]


def test_a_run_without_rounds_beside_it_is_told_at_the_same_numbers(stores: Sequence[Store]) -> None:
    evaluate(stores[0], (BETTER, WORSE))
    evaluate(stores[1], PLAIN)
    alone = evaluation_document(stores[1])
    _, beside = evaluation_documents(stores, Prices())
    assert rates(alone, "best_at_n") == [(1, 0.5), (2, 0.5), (5, 0.5), (8, 0.5)]
    assert rates(beside, "best_at_n") == [(1, 0.5), (2, 0.5), (3, 0.5), (5, 0.5), (6, 0.5), (8, 0.5)]
    assert {name: part for name, part in beside["results"].items() if name not in {"best_at_n", "vote_at_n"}} == {
        name: part for name, part in alone["results"].items() if name not in {"best_at_n", "vote_at_n"}
    }


def test_the_rounds_of_an_evaluation_are_those_of_any_instance_that_was_decided(stores: Sequence[Store]) -> None:
    evaluate(stores[0], (BETTER, WORSE))
    broken = stores[0].runs.begin(replace(START, instance="i-0"))
    put_instance(stores[0], Ran("i-0", ""))
    stores[0].evals.put_attempt(AttemptRecord("i-0", broken, AttemptState.FAILED, "context", "Too small."))
    evaluate(stores[1], PLAIN)
    _, beside = evaluation_documents(stores, Prices())
    assert [n for n, _ in rates(beside, "best_at_n")] == [1, 2, 3, 5, 6, 8]


def test_evaluations_without_rounds_are_the_same_beside_each_other_as_alone(stores: Sequence[Store]) -> None:
    evaluate(stores[0], PLAIN)
    put_instance(stores[1], BETTER)
    evaluate(stores[1], PLAIN)
    stores[1].evals.put_attempt(AttemptRecord("i-1", None, AttemptState.FAILED, "context", "Too small."))
    assert evaluation_documents(stores, Prices()) == [evaluation_document(store) for store in stores]
    assert not {"evolution", "stopping", "plain_at_n"} & evaluation_document(stores[0])["results"].keys()


def test_a_point_at_which_a_patch_was_not_graded_is_not_known(stores: Sequence[Store]) -> None:
    half = Ran("i-1", "aabbbb", right="b", graded="b", per_round=2)
    told = document(stores[0], half)
    assert rates(told, "best_at_n") == [(2, None), (4, None), (6, 1.0)]
    assert rates(told, "oracle_at_n") == [(2, None), (4, 1.0), (6, 1.0)]
    assert rates(told, "plain_at_n") == [(1, None), (2, None)]
    assert rates(told, "pass_at_k") == [(1, None), (2, None)]


def test_an_instance_that_failed_counts_as_wrong_at_the_end_of_each_round(stores: Sequence[Store]) -> None:
    evaluate(stores[0], [BETTER])
    put_instance(stores[0], WORSE)
    stores[0].evals.put_attempt(AttemptRecord("i-2", None, AttemptState.FAILED, "context", "Too small."))
    told = evaluation_document(stores[0])
    assert rates(told, "best_at_n") == rates(told, "oracle_at_n") == [(3, 0.0), (6, 0.5)]
    assert rates(told, "plain_at_n") == [(1, 0.0), (2, 0.0), (3, 0.0)]


def test_the_tables_have_rounds_and_say_what_n_means(stores: Sequence[Store]) -> None:
    evaluate(stores[0], (BETTER, WORSE))
    evaluate(stores[1], PLAIN)
    one, other = evaluation_documents(stores, Prices())
    text = shown(evaluation_tables([one, named(other, "plain")]), 200)
    assert cells(text, "6") == ["6", "50.0%", "50.0%", "100.0%", "50.0%", "50.0%", "-"]
    assert cells(text, "3") == ["3", "0.0%", "0.0%", "50.0%", "50.0%", "50.0%", "-"]
    assert cells(text[text.index("samples of round 0: plain sampling") :], "3") == ["3", "0.0%", "50.0%"]
    assert cells(text, "oracle of all samples")[1:] == ["100.0%", "100.0%"]
    assert IN_ROUNDS in " ".join(text.split())
    assert STOPPED not in text
    assert "rounds of small (means; instances: 2; score: share of tests passed" in text
    assert cells(text, "0") == ["0", "3.0", "2.5", "1.5", "1.5", "0.500", "0.500", "1"]
    assert IN_ROUNDS not in " ".join(shown(evaluation_tables([other])).split())


def test_an_instance_in_depth_has_the_round_and_the_score_of_each_patch(stores: Sequence[Store]) -> None:
    evaluate(stores[0], (BETTER, Ran("i-2", "ab")))
    told = json.loads(json.dumps(one_instance(stores[0], "i-1")))
    assert [(one["normal"], one["round"], one["score"]) for one in told["patches"]] == [("b", 1, 1.0), ("a", 0, 0.5)]
    assert [one["new"] for one in told["evolution"]["rounds"]] == [1, 1]
    assert [point["n"] for point in told["best_at_n"]] == [3, 6]
    plain = one_instance(stores[0], "i-2")
    assert "evolution" not in plain
    assert "round" not in plain["patches"][0]
