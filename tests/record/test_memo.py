"""What `Memo` promises, of values of any kind; the ports' own tests show the same of models, sandboxes and scorers."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from agentless_mini.errors import StoreError
from agentless_mini.ports import Find
from agentless_mini.record import Store, recorded_derive
from agentless_mini.record.effects import PATHS, Kind, stable_key
from agentless_mini.record.memo import Memo, code_state, values_of


def test_what_the_same_code_derived_from_the_same_is_not_found_again(path: Path) -> None:
    asked: list[str] = []

    def find(*paths: str) -> Find:
        def found() -> tuple[str, ...]:
            asked.append(paths[0])
            return paths

        return found

    async def derived(store: Store) -> list[tuple[str, ...]]:
        derive = recorded_derive(store)
        found = await asyncio.gather(
            derive("related tests", ("tree", "a.py"), find("b.py", "\udcff.py")),
            derive("related tests", ("tree", "a.py"), find("b.py", "\udcff.py")),
            derive("related tests", ("tree", "c.py"), find("d.py")),
            derive("candidate files", ("tree", "a.py"), find("e.py")),
        )
        return [*found]

    for _ in range(2):
        with Store.open(path) as store:
            found = asyncio.run(derived(store))
        assert found == [("b.py", "\udcff.py")] * 2 + [("d.py",), ("e.py",)]
        assert sorted(asked) == ["b.py", "d.py", "e.py"]


def test_of_a_kind_with_a_limit_the_newest_are_kept(store: Store) -> None:
    few, other = Kind[int]("few", most=2), Kind[int]("other")
    store.put_value(other, "key", 0)
    for number in range(4):
        store.put_value(few, f"key {number}", number)
    assert [store.value(few, f"key {number}") for number in range(4)] == [None, None, 2, 3]
    assert store.value(other, "key") == 0


def test_what_other_code_derived_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    first = code_state(tmp_path)
    assert code_state(tmp_path) == first
    (tmp_path / "a.py").write_text("x = 22\n")
    code_state.cache_clear()
    assert code_state(tmp_path) != first


def test_what_arrives_is_recorded_and_seen_before_the_failure_that_follows(store: Store) -> None:
    shelf, seen = values_of(store, Kind[int]("number")), []

    async def pay(keys: tuple[str, ...]) -> AsyncGenerator[tuple[str, int], None]:
        yield keys[0], 1
        raise ValueError("no more")

    async def scene() -> None:
        async for key, _ in Memo[str, int]().each(shelf, ["a", "b", "a"], pay):
            seen.append(key)

    with pytest.raises(ValueError, match="no more"):
        asyncio.run(scene())
    assert seen == ["a"]
    assert (shelf.get("a"), shelf.get("b")) == (1, None)


def test_a_value_that_cannot_be_recorded_is_not_seen(path: Path) -> None:
    Store.open(path).close()

    async def compute() -> int:
        return 1

    with Store.open_readonly(path) as store, pytest.raises(StoreError):
        asyncio.run(Memo[str, int]().one(values_of(store, Kind[int]("number")), "key", compute))


def test_what_is_found_counts_for_this_code_alone(store: Store) -> None:
    given = ("tree", "a.py")
    store.put_value(PATHS, stable_key("rule", code_state(), given), ("kept.py",))
    store.put_value(PATHS, stable_key("other rule", "other code", given), ("stale.py",))

    async def derived(rule: str) -> tuple[str, ...]:
        return await recorded_derive(store)(rule, given, lambda: ("new.py",))

    assert asyncio.run(derived("rule")) == ("kept.py",)
    assert asyncio.run(derived("other rule")) == ("new.py",)
