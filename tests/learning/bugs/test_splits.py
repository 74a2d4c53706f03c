"""Which packages are never seen in training."""

import pytest

from agentless_mini.learning.bugs.settings import BugsSettings
from agentless_mini.learning.bugs.splits import family, held_out_first, share, split_of, unmatched
from tests.learning.bugs.materials import package


@pytest.mark.parametrize("name", ["httpx", "httpx2", "Httpx", "httpx-sse", "httpx_cache"])
def test_packages_of_one_project_are_one_family(name: str) -> None:
    assert family(name) == "httpx"


def test_a_name_of_digits_is_a_family_too() -> None:
    assert family("7z") == "7z"
    assert family("42") == "42"


def test_what_is_held_out_by_name_takes_its_family_along_and_nothing_else() -> None:
    settings = BugsSettings(held_out=("httpx", "rich"))
    assert [split_of(name, settings) for name in ("httpx2", "Rich", "httpx")] == ["test"] * 3
    assert "test" not in {split_of(f"package{letter}", settings) for letter in "abcdefghijklmnopqrstuvwxyz"}


def test_without_names_a_share_of_the_families_is_held_out() -> None:
    names = [f"p{letter}{other}" for letter in "abcdefghijklmnopqrst" for other in "abcdefghijklmnopqrst"]
    splits = [split_of(name, BugsSettings(test=0.2, valid=0.1)) for name in names]
    assert 0.15 < splits.count("test") / len(names) < 0.25
    assert 0.04 < splits.count("valid") / len(names) < 0.14
    assert splits == [split_of(name, BugsSettings(test=0.2, valid=0.1)) for name in names]
    assert splits != [split_of(name, BugsSettings(test=0.2, valid=0.1, seed=1)) for name in names]


def test_a_share_is_a_number_below_one() -> None:
    assert all(0 <= share(str(number)) < 1 for number in range(100))


def test_what_is_held_out_comes_before_what_may_be_a_copy_of_it() -> None:
    settings = BugsSettings(held_out=("zip",), valid=0.0)
    packages = [package(name) for name in ("app", "base", "zip2")]
    assert [one.name for one in held_out_first(packages, settings)] == ["zip2", "app", "base"]


def test_held_out_names_without_a_source_are_told() -> None:
    settings = BugsSettings(held_out=("pyyaml", "Rich"))
    assert unmatched([package("yaml"), package("rich")], settings) == ("pyyaml",)
