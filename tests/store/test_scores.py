"""Scores come back as they were recorded, under the identity of what was scored."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentless_mini.errors import StoreError
from agentless_mini.store import Store
from tests.store.building import HOSTILE


def test_a_score_comes_back_and_others_are_owed(store: Store) -> None:
    store.scores.put("model", {"a": 0.1, "b": -3.0})
    assert store.scores.recorded(["b", "c", "a", "a"]) == {"a": 0.1, "b": -3.0}
    assert store.scores.recorded([]) == {}


def test_a_recorded_score_stays_as_it_is_whatever_the_model_is_called(store: Store) -> None:
    store.scores.put(HOSTILE, {"a": 1.0})
    store.scores.put("model", {"a": 2.0, "b": 3.0})
    assert store.scores.recorded(["a", "b"]) == {"a": 1.0, "b": 3.0}


def test_scores_are_there_when_the_store_is_opened_again(path: Path) -> None:
    with Store.open(path) as store:
        store.scores.put("model", {"a": 1e-300})
    with Store.open_readonly(path) as store:
        assert store.scores.recorded(["a"]) == {"a": 1e-300}


def test_what_is_no_number_is_recorded_neither_alone_nor_in_part(store: Store) -> None:
    with pytest.raises(StoreError):
        store.scores.put("model", {"a": 1.0, "b": float("nan")})
    assert store.scores.recorded(["a", "b"]) == {}


@settings(max_examples=20)  # each opens a store
@given(st.dictionaries(st.text("abc", min_size=1), st.floats(allow_nan=False, allow_infinity=False), max_size=5))
def test_every_finite_number_comes_back(scores: dict[str, float]) -> None:
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "store.db") as store:
        store.scores.put("model", scores)
        assert store.scores.recorded(scores) == scores
