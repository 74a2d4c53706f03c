"""The example of style: which file it is."""

from agentless_mini.chain.generated_tests import first_with_tests, style_examples
from agentless_mini.chain.lexical import survey
from agentless_mini.domain import Issue, Runner, SourceFile
from tests.chain.workbench import ISSUE, shop, text_file

CART = text_file(
    "tests/test_cart.py", "from shop.cart import total\n\n\ndef test_total():\n    assert total([0, 1]) == 1\n"
)
TAX = text_file("tests/test_tax.py", "from shop.tax import RATE\n\n\ndef test_rate():\n    assert RATE == 0.2\n")


def chosen(*files: SourceFile, issue: Issue = ISSUE, runner: Runner = Runner.PYTEST) -> list[str]:
    snapshot = shop(*files)
    held = snapshot.by_path()
    likely = [held[path] for path in style_examples(issue, snapshot, survey(issue, snapshot), runner)]
    first = first_with_tests(likely, runner)
    assert first is None or first in likely
    return [first.path] if first else []


def test_it_is_the_test_of_the_file_that_the_issue_is_about() -> None:
    assert chosen(TAX, CART) == ["tests/test_cart.py"]
    assert chosen(TAX, CART, issue=Issue("The RATE of the tax should be 0.25.")) == ["tests/test_tax.py"]


def test_a_test_file_that_the_issue_names_comes_first() -> None:
    assert chosen(TAX, CART, issue=Issue("total leaves out a price, unlike what tests/test_tax.py says")) == [TAX.path]


def test_it_is_of_the_language_of_the_runner() -> None:
    script = text_file("test/cart.test.js", "test('total of a cart', () => {});\n")
    assert chosen(script, CART, runner=Runner.NODE) == [script.path]
    assert chosen(script, CART) == [CART.path]


def test_files_without_tests_for_the_runner_are_passed_over() -> None:
    broken = text_file("tests/test_cart_total.py", "total total cart def test_total(:\n")
    helper = text_file("tests/cart.py", "from shop.cart import total  # total of a cart, first price\n")
    assert chosen(broken, helper, CART) == [CART.path]
    assert chosen(CART, runner=Runner.UNITTEST) == []
    assert chosen(text_file("tests/conftest.py", "def test_total(): ...\n")) == []
    assert chosen() == []


def test_in_another_language_it_is_of_that() -> None:
    script = text_file("web/cart.test.js", "test('total of a cart', () => {});\n")
    assert chosen(CART, script, runner=Runner.JEST) == [script.path]
    assert chosen(CART, script) == [CART.path]


PLACES = ("tests/test_total.py", "tests/gis_tests/cart/tests.py", "tests/cart/tests.py", "docs/tests/x/test_a.py")


def test_for_django_it_lies_in_the_folder_of_an_app() -> None:
    text = "from django.test import TestCase\n\n\nclass T(TestCase):\n    def test_total(self): ...\n"
    files = [text_file(path, text) for path in PLACES]
    assert chosen(*files, runner=Runner.DJANGO) == ["tests/cart/tests.py"]
