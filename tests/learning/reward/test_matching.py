"""The ratio is difflib's to the bit, whatever the texts, and does not take difflib's time."""

import difflib
import random
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.learning import matching
from agentless_mini.learning.matching import ratio

ALPHABETS = ("a", "ab", "abcd", " \n+-@abcdefgh=()", "ab\u00e9\u8336\U0001f600\udc80\x00\r")


def by_difflib(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a, b, autojunk=False).ratio()


def random_pair(dice: random.Random, longest: int) -> tuple[str, str]:
    """Return two texts, the second one often made of pieces of the first."""
    alphabet = dice.choice(ALPHABETS)
    a = "".join(dice.choices(alphabet, k=dice.randint(0, longest)))
    b = "".join(dice.choices(alphabet, k=dice.randint(0, longest)))
    if dice.random() < 0.7:
        b = "".join(_pieces(dice, a, alphabet))
    return a, b


def _pieces(dice: random.Random, a: str, alphabet: str) -> list[str]:
    pieces = []
    for _ in range(dice.randint(0, 8)):
        start = dice.randint(0, len(a))
        pieces.append(a[start : start + dice.randint(0, 80)])
        pieces.append("".join(dice.choices(alphabet, k=dice.randint(0, 5))))
    return pieces


def test_500_random_pairs_have_difflibs_ratio() -> None:
    dice = random.Random(20_250_218)  # noqa: S311 - drawn again alike, not for secrets
    for number in range(500):
        a, b = random_pair(dice, 600 if number % 100 == 0 else dice.choice([10, 40, 100]))
        assert {ratio(a, b), ratio(a, b, 0), ratio(a, b, 100)} == {by_difflib(a, b)}, (a, b)


@given(st.text("ab\n", max_size=100), st.text("ab\n", max_size=100), st.sampled_from([0, 40, 400]))
def test_any_pair_has_difflibs_ratio(a: str, b: str, small: int) -> None:
    assert ratio(a, b, small) == by_difflib(a, b)


@given(st.integers(1, 20), st.integers(1, 20), st.text("ab", min_size=1, max_size=4), st.text("ab", max_size=4))
def test_repetition_has_difflibs_ratio(m: int, n: int, left: str, right: str) -> None:
    assert ratio(left * m, (left + right) * n, 0) == by_difflib(left * m, (left + right) * n)


def test_autojunk_would_differ() -> None:
    a, b = "ab" * 200, "ba" * 200
    assert ratio(a, b) == by_difflib(a, b) != difflib.SequenceMatcher(None, a, b).ratio()


def test_the_ratio_is_not_symmetric_as_difflibs_is_not() -> None:
    assert ratio("tide", "diet") == by_difflib("tide", "diet") == 0.25
    assert ratio("diet", "tide") == by_difflib("diet", "tide") == 0.5


def test_the_library_in_c_is_taken_where_it_is() -> None:
    assert matching.SequenceMatcher is pytest.importorskip("cydifflib").SequenceMatcher


def test_without_the_library_in_c_the_ratio_is_the_same() -> None:
    a, b = random_pair(random.Random(3), 900)  # noqa: S311 - drawn again alike, not for secrets
    program = (
        "import sys; sys.modules['cydifflib'] = None\n"
        "from agentless_mini.learning import matching\n"
        "import difflib; assert matching.SequenceMatcher is difflib.SequenceMatcher\n"
        f"print(repr(matching.ratio({a!r}, {b!r})))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) == ratio(a, b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("x = 1\n" * 5_000, "x = 1\n" * 4_999 + "y"),
        ("ab" * 15_000, "abb" * 10_000),
        ("".join(f"{'a' * number}b" for number in range(150)), "".join(f"{'a' * number}c" for number in range(150))),
    ],
    ids=["one line", "no end of small matches", "a match of every length"],
)
def test_text_that_repeats_itself_is_compared_in_seconds(a: str, b: str) -> None:
    start = time.process_time()
    assert 0.0 < ratio(a, b) < 1.0
    assert time.process_time() - start < 20
