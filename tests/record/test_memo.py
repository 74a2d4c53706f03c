"""What `Memo` promises, of values of any kind; the ports' own tests show the same of models, sandboxes and scorers."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentless_mini.domain import Decoding, ModelCard
from agentless_mini.errors import StoreError
from agentless_mini.record import Kind, Memo, Store, Values, stable_key
from agentless_mini.record.database import Database
from agentless_mini.record.effects import SCORE, token_counts
from agentless_mini.record.schema import MIGRATIONS
from tests.record.building import HOSTILE

RANKING = Kind[tuple[str, ...]]("ranking", list, tuple)


def test_a_derived_value_is_computed_once_and_comes_back_as_it_was(path: Path) -> None:
    computed: list[str] = []

    async def compute() -> tuple[str, ...]:
        computed.append(HOSTILE)
        return "a.py", HOSTILE

    def ranked(store: Store, issue: str) -> tuple[str, ...]:
        async def both() -> tuple[tuple[str, ...], ...]:
            memo = Memo[str, tuple[str, ...]]()
            shelf, key = Values(store, RANKING), stable_key(issue, "digest of the tree")
            return tuple(await asyncio.gather(*(memo.one(shelf, key, compute) for _ in range(2))))

        one, other = asyncio.run(both())
        assert one == other
        return one

    for _ in range(2):
        with Store.open(path) as store:
            assert ranked(store, "It fails.") == ("a.py", HOSTILE)
    assert len(computed) == 1
    with Store.open(path) as store:
        ranked(store, "Another issue.")
    assert len(computed) == 2


def test_kinds_do_not_mix(store: Store) -> None:
    store.put_value(RANKING, "key", ("a",))
    assert store.value(Kind[int]("number"), "key") is None
    with pytest.raises(KeyError):
        Values(store, Kind[int]("number")).get("key")


def test_what_arrives_is_recorded_and_seen_before_the_failure_that_follows(store: Store) -> None:
    shelf, seen = Values(store, Kind[int]("number")), []

    async def pay(keys: tuple[str, ...]) -> AsyncGenerator[tuple[str, int], None]:
        yield keys[0], 1
        raise ValueError("no more")

    async def scene() -> None:
        async for key, _ in Memo[str, int]().each(shelf, ["a", "b", "a"], pay):
            seen.append(key)

    with pytest.raises(ValueError, match="no more"):
        asyncio.run(scene())
    assert seen == shelf.there(["a", "b"]) == ["a"]


def test_a_value_that_cannot_be_recorded_is_not_seen(path: Path) -> None:
    Store.open(path).close()

    async def compute() -> int:
        return 1

    with Store.open_readonly(path) as store, pytest.raises(StoreError):
        asyncio.run(Memo[str, int]().one(Values(store, Kind[int]("number")), "key", compute))


@settings(deadline=None, max_examples=20)  # each opens a store
@given(st.dictionaries(st.text("abc", min_size=1), st.floats(allow_nan=False, allow_infinity=False), max_size=5))
def test_every_finite_number_comes_back(scores: dict[str, float]) -> None:
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "store.db") as store:
        for key, score in scores.items():
            store.put_value(SCORE, key, score)
        assert {key: store.value(SCORE, key) for key in scores} == scores


def test_what_an_older_amini_kept_in_tables_of_its_own_is_still_there(path: Path) -> None:
    database = Database.create(path, MIGRATIONS[:6])
    card = '{"context_window":4096,"decoding":"lines","engine":"e","exact_counts":true,"name":"m","revision":""}'
    database.write("INSERT INTO token_counts VALUES ('digest', 'm', 17)")
    database.write("INSERT INTO token_counts VALUES ('other', ?, 18)", ("m \ud800",))
    database.write("INSERT INTO cards VALUES ('m', ?)", (card,))
    database.write("INSERT INTO endpoints VALUES ('http://h/v1', 'a \"model\"')")
    database.write("INSERT INTO endpoints VALUES ('http://i/v1', ?)", ("\ud800",))
    database.write("INSERT INTO scores VALUES ('key', 'm', ?, 5.0)", (0.1 + 0.2,))
    database.close()
    with Store.open(path) as store:
        assert store.value(token_counts("m"), "digest") == 17
        assert store.card("m") == ModelCard("m", 4096, Decoding.LINES, "e")
        assert store.endpoint_model("http://h/v1") == 'a "model"'
        assert store.endpoint_model("http://i/v1") is None
        assert store.value(SCORE, "key") == 0.1 + 0.2
