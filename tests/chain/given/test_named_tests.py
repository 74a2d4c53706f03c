"""Tests that an issue names: by path and name, or by a name that is there once."""

import pytest

from agentless_mini.chain.given import MOST_NAMED, named_cases
from agentless_mini.domain import Issue, Runner, Snapshot
from tests.chain.workbench import shop, text_file

CART = text_file(
    "tests/test_cart.py",
    "import pytest\n\n\ndef test_total(): ...\n\n\nclass TestCart:\n    def test_total(self): ...\n\n"
    "    async def test_first_price(self): ...\n\n    class TestDeep:\n        def testDeepest(self): ...\n",
)
TAX = text_file("tests/test_tax.py", "def test_rate(): ...\n\n\ndef test_total(): ...\n")
BROKEN = text_file("tests/test_broken.py", "def test_first_price(:\n")
TREE = shop(CART, TAX, BROKEN)


def named_tests(issue: Issue, tree: Snapshot) -> tuple[str, ...]:
    return tuple(case.id for case in named_cases(issue, tree, Runner.PYTEST))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FAILED tests/test_cart.py::test_total - assert 1 == 2", ["::test_total"]),
        ("See tests/test_cart.py::TestCart::test_total.", ["::TestCart::test_total"]),
        ("test_cart.py::TestCart::test_total[a-1] fails", ["::TestCart::test_total[a-1]"]),
        ("E:\\shop\\tests\\test_cart.py::test_total", ["::test_total"]),
        ("run test_first_price", ["::TestCart::test_first_price"]),
        ("FAIL: test_first_price (tests.test_cart.TestCart.test_first_price)", ["::TestCart::test_first_price"]),
        ("`testDeepest` fails", ["::TestCart::TestDeep::testDeepest"]),
        ("test_total fails", []),
        ("test_first fails; test_first_price_again too", []),
        ("see test_first_price.py and test_first_price/", []),
        ("tests/test_cart.py::test_nowhere, tests/test_gone.py::test_total, shop/cart.py::total", []),
        ("tests/test_broken.py::test_first_price(", ["::TestCart::test_first_price"]),
        ("nothing", []),
    ],
)
def test_an_issue_names_tests(text: str, expected: list[str]) -> None:
    assert list(named_tests(Issue(text), TREE)) == [f"tests/test_cart.py{way}" for way in expected]


def test_a_name_that_a_path_has_said_is_not_looked_for_again() -> None:
    text = "tests/test_tax.py::test_rate[x]: test_rate is wrong"
    assert named_tests(Issue(text), TREE) == ("tests/test_tax.py::test_rate[x]",)


def test_the_log_of_a_broken_build_names_no_tests() -> None:
    names = [f"test_number_{n}" for n in range(MOST_NAMED + 1)]
    tree = shop(text_file("tests/test_many.py", "".join(f"def {name}(): ...\n" for name in names)))
    assert named_tests(Issue(" ".join(names)), tree) == ()
    assert len(named_tests(Issue(" ".join(names[1:])), tree)) == MOST_NAMED


def test_a_long_hostile_issue_is_read_quickly() -> None:
    assert named_tests(Issue("a/" * 50_000 + "::test_" * 20_000 + "[" * 10_000), TREE) == ()
