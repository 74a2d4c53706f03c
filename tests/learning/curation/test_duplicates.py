"""Near-duplicates by their shingles."""

import random

import pytest

from agentless_mini.learning.curation.collecting import NearDuplicates, shingles_of
from agentless_mini.learning.rows import Row, RowFile

pytest.importorskip("datasketch", reason="datasketch is not installed (the extra 'train')")
numpy = pytest.importorskip("numpy")


def row(issue: str, before: str = "x = 1\n", after: str = "x = 2\n") -> Row:
    files = (RowFile("a.py", before, after),)
    return Row("a/b#1", "a/b", "t", issue, "", files, "", "", "", "")


def words(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)  # noqa: S311 - not for secrets
    return [f"w{rng.randrange(10**9)}" for _ in range(count)]


def new(*rows: Row, similar: float = 0.8) -> list[bool]:
    """Tell of each row whether none before it that was new is similar."""
    found = NearDuplicates(similar)
    return [found.is_new(shingles_of(row)) for row in rows]


@pytest.mark.parametrize("same", [420, 450, 480, 500])
def test_rows_are_near_duplicates_from_their_exact_share_of_shingles_in_common_on(same: int) -> None:
    first, own, other = words(same, 1), words(500 - same, 2), words(500 - same, 3)
    rows = [row(" ".join(first + rest), "", "") for rest in (own, other)]
    jaccard = (same - 2) / (2 * 498 - same + 2)
    assert new(*rows, similar=jaccard) == [True, False]
    assert new(*rows, similar=min(jaccard + 0.001, 1)) == [True, jaccard < 1]


def test_what_stands_around_a_change_does_not_count() -> None:
    around = "".join(f"line_{number} = {number}\n" for number in range(50))
    told = "halves are wrong in many ways that I tell here"
    changed = row(told, around + "x = 1\n", around + "x = 2\n")
    assert numpy.array_equal(shingles_of(row(told)), shingles_of(changed))


def test_empty_rows_are_alike() -> None:
    assert new(row("", "", ""), row("", "", ""), row("one", "", "")) == [True, False, True]


def test_no_near_duplicate_is_missed() -> None:
    said = [words(100, seed) for seed in range(200)]
    rows = [row(" ".join(one)) for words in said for one in (words, ["changed", *words[1:]])]
    assert new(*rows) == [True, False] * 200
