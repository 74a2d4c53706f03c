"""What is told of the rounds of one run, and of what an adaptive budget saved: in the summary, by show, as JSON."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agentless_mini.record import RunTrace, Store
from agentless_mini.report.document import run_document
from agentless_mini.report.rounds import evolved
from agentless_mini.report.show import run_view
from agentless_mini.report.summary import stopping, summary
from tests.report.building import shown
from tests.report.evaluated import Ran, put_run

TESTED = Ran("i", "a.bbbc", tests="tu", passing=(("a", "t"), ("b", "tu")), per_round=2)
PLAIN = Ran("i", "ab")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "s.sqlite") as opened:
        yield opened


def trace(store: Store, ran: Ran) -> RunTrace:
    return store.runs.trace(put_run(store, ran))


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_the_summary_has_a_row_for_each_round(store: Store) -> None:
    told = lines(shown(summary(trace(store, TESTED), 1.0)))
    at = told.index("rounds 3; score: share of tests passed, the mean over reproducing and regression tests")
    assert told[at + 1] == "round samples valid distinct new best mean"
    assert told[at + 3 : at + 6] == ["0 2 1 1 1 0.500 0.500", "1 2 2 1 1 1.000 1.000", "2 2 2 2 1 1.000 0.500"]
    assert max(len(line) for line in shown(summary(trace(store, TESTED), 1.0)).splitlines()[at + 1 : at + 6]) <= 80


def test_what_a_reward_model_gave_counts_before_the_tests_and_is_not_known_of_the_last_round(store: Store) -> None:
    scored = Ran("i", "abb.bc", tests="t", passing=(("a", "t"),), per_round=2, scores=(("a", -1.5), ("b", 3.0)))
    found = evolved(trace(store, scored))
    assert found is not None
    assert found.scale == "reward-model"
    assert [(one.best, one.mean) for one in found.rounds] == [(3.0, 0.75), (3.0, 3.0), (None, None)]
    assert "0 2 2 2 2 3.000 0.750" in lines(shown(run_view(trace(store, scored)), 120))


def test_large_scores_take_no_more_room_than_small_ones(store: Store) -> None:
    scored = Ran("i", "abab", per_round=2, scores=(("a", -3.4e38), ("b", 12345.678)))
    assert "0 2 2 2 2 1.235e+04 -1.7e+38" in lines(shown(summary(trace(store, scored), 1.0)))


def test_without_tests_and_reward_model_there_is_no_score(store: Store) -> None:
    found = evolved(trace(store, Ran("i", "abca", per_round=2)))
    assert found is not None
    assert found.values() == {
        "score": "none",
        "rounds": [
            {"round": 0, "samples": 2, "valid": 2, "distinct": 2, "new": 2, "best": None, "mean": None},
            {"round": 1, "samples": 2, "valid": 2, "distinct": 2, "new": 1, "best": None, "mean": None},
        ],
    }
    assert "1 2 2 2 1 - -" in lines(shown(summary(trace(store, Ran("i", "abca", per_round=2)), 1.0)))


def test_a_run_of_one_round_says_nothing_of_rounds(store: Store) -> None:
    plain = trace(store, PLAIN)
    assert (evolved(plain), stopping(plain)) == (None, None)
    assert "round" not in shown(summary(plain, 1.0)) + shown(run_view(plain), 120)
    assert run_document(plain).keys() == {"schema", "run", "prompts", "samples", "boxes", "prediction", "trust"}


def test_what_stopping_early_saved_is_told(store: Store) -> None:
    ended = trace(store, Ran("i", "aaaa", stop_when=0.95, wanted=16))
    assert "saved 12 of 16 samples: sampling stops once the vote is 95% sure" in lines(shown(summary(ended, 1.0)))
    assert "saved 12 of 16 samples: sampling stops once the vote is 95% sure" in lines(shown(run_view(ended)))
    assert run_document(ended)["stopping"] == {"bound": 0.95, "wanted": 16, "drawn": 4, "saved": 12}


def test_of_a_run_that_was_to_draw_no_sample_nothing_is_told(store: Store) -> None:
    assert stopping(trace(store, Ran("i", "", stop_when=0.95, wanted=16))) is None
