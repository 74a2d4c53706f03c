"""Near-duplicates by their marks."""

import random
import sqlite3
from contextlib import closing

import pytest

from agentless_mini.learning.curation.duplicates import MarkIndex, mark_of, similarity
from agentless_mini.learning.rows import Row, RowFile


def row(issue: str, before: str = "x = 1\n", after: str = "x = 2\n") -> Row:
    files = (RowFile("a.py", before, after),)
    return Row("a/b#1", "a/b", "t", issue, "", files, "", "", "", "")


def words(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)  # noqa: S311 - not for secrets
    return [f"w{rng.randrange(10**9)}" for _ in range(count)]


@pytest.mark.parametrize("same", [0, 100, 250, 400, 480, 500])
def test_similarity_is_near_the_share_of_shingles_in_common(same: int) -> None:
    first, own, other = words(same, 1), words(500 - same, 2), words(500 - same, 3)
    one, two = (mark_of(row(" ".join(first + rest), "", "")) for rest in (own, other))
    kept = max(same - 2, 0)
    jaccard = kept / (2 * 498 - kept)
    assert similarity(one, two) == pytest.approx(jaccard, abs=0.13)


def test_what_stands_around_a_change_does_not_count() -> None:
    around = "".join(f"line_{number} = {number}\n" for number in range(50))
    one = mark_of(row("halves are wrong in many ways that I tell here"))
    two = mark_of(row("halves are wrong in many ways that I tell here", around + "x = 1\n", around + "x = 2\n"))
    assert similarity(one, two) == 1


def test_an_empty_row_has_a_mark() -> None:
    assert similarity(mark_of(row("", "", "")), mark_of(row("", "", ""))) == 1
    assert len(mark_of(row("one", "", ""))) == 512


def test_the_first_of_near_duplicates_is_kept() -> None:
    said = words(200, 1)
    rows = [row(" ".join(said)), row(" ".join([*said[:-3], "other", "end"])), row(" ".join(words(200, 2)))]
    with closing(sqlite3.connect(":memory:")) as database:
        index = MarkIndex(database, 0.8)
        assert [index.is_new(mark_of(one)) for one in (*rows, rows[0])] == [True, False, True, False]


def test_no_near_duplicate_is_missed() -> None:
    with closing(sqlite3.connect(":memory:")) as database:
        index = MarkIndex(database, 0.8)
        for seed in range(200):
            said = words(100, seed)
            assert index.is_new(mark_of(row(" ".join(said))))
            assert not index.is_new(mark_of(row(" ".join(["changed", *said[1:]]))))
