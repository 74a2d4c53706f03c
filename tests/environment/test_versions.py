import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.environment.pythons import Wish, classified_minors


@pytest.mark.parametrize(
    ("specifier", "allowed"),
    [
        ("", range(6, 15)),
        (">=3.8", range(8, 15)),
        (">=3.8.1,<3.12", range(8, 12)),
        (">= 3.8, < 4", range(8, 15)),
        (">=3.8 <3.11", range(8, 11)),
        ("<=3.9", range(6, 10)),
        ("<3.9.5", range(6, 10)),
        (">=3.7,!=3.8.*", [7, *range(9, 15)]),
        (">=3.7,!=3.8.1", range(7, 15)),
        ("~=3.9", range(9, 15)),
        ("~=3.9.2", [9]),
        ("==3.10.*", [10]),
        ("==3.*", range(6, 15)),
        ("^3.8", range(8, 15)),
        ("~3.8", [8]),
        ("3.9.*", [9]),
        ("^2.7 || ^3.10", range(10, 15)),
        (">=2.7", range(6, 15)),
        ("<3", []),
        ("*", range(6, 15)),
        ("nonsense", range(6, 15)),
    ],
)
def test_a_specifier_allows(specifier: str, allowed: object) -> None:
    wish = Wish((specifier,))
    assert isinstance(allowed, (range, list))
    assert [minor for minor in range(6, 15) if wish.allows(minor)] == list(allowed)


def test_this_python_comes_first_unless_the_project_is_tested_on_others() -> None:
    available = range(7, 15)
    assert Wish().ordered(available, 11)[0] == 11
    assert Wish((">=3.8",), (9, 11)).ordered(available, 11)[0] == 11
    assert Wish((">=3.8",), (8, 9)).ordered(available, 11)[:4] == (9, 8, 10, 11)
    assert Wish(("<3.9",)).ordered(available, 11) == (8, 7)
    assert Wish((">=3.20",)).ordered(available, 11) == ()


def test_classifiers_tell_what_it_is_tested_on() -> None:
    lines = ("Programming Language :: Python :: 3.9", "Programming Language :: Python :: 3.10 ", "Programming :: 3.8")
    assert classified_minors(
        (*lines, "Programming Language :: Python :: 3", "Programming Language :: Python :: 2.7")
    ) == (
        9,
        10,
    )


@given(st.text(alphabet="<>=!~^|*., 0123456789xab"), st.integers(0, 20))
def test_any_text_is_taken_for_a_specifier(specifier: str, minor: int) -> None:
    assert isinstance(Wish((specifier,)).allows(minor), bool)
