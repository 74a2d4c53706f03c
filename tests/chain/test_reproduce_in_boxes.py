"""Reproduction tests and the user's own, for real: in boxes of bubblewrap, with pytest and unittest."""

from dataclasses import replace
from pathlib import Path

import pytest

from agentless_mini.chain.generated_tests import read_test
from agentless_mini.chain.given import named_cases, own_cases
from agentless_mini.chain.reproduce import confirm, reproduce
from agentless_mini.chain.session import Boxes
from agentless_mini.domain import (
    Case,
    Completion,
    Event,
    Finish,
    GeneratedCase,
    GivenTests,
    Harness,
    Issue,
    Note,
    Reason,
    Rejected,
    Runner,
)
from agentless_mini.edits.paths import TakenNames
from agentless_mini.errors import EnvironmentFailed, UsageError
from agentless_mini.sandbox.bubblewrap import find_bubblewrap
from agentless_mini.settings.run import ReproduceSettings
from tests.chain.workbench import CART, run
from tests.testing.boxes import RealBoxes

pytestmark = pytest.mark.slow

FILES = {
    "shop/__init__.py": "",
    "shop/cart.py": CART + "\n\ndef parse(text):\n    from decimal import Decimalx\n    return Decimalx(text)\n",
    "tests/__init__.py": "",
    "tests/conftest.py": "import pytest\n\n\n@pytest.fixture\ndef prices():\n    return [1, 2]\n",
    "tests/test_cart.py": "from shop.cart import total\n\n\ndef test_none():\n    assert total([]) == 0\n\n\n"
    "def test_all(prices):\n    assert total(prices) == 3\n",
}
ISSUE = Issue("total() leaves out the first price; test_all shows it. Also parse('1') ends with an ImportError.")
HEAD = "import pytest\nfrom shop import cart\nfrom shop.cart import total\n\n\n"


def in_test(*lines: str) -> str:
    return HEAD + "def test_it(prices):\n" + "".join(f"    {line}\n" for line in lines)


# Each box starts a runner of its own, so only that is tried here which a runner decides.
REPRODUCING = {
    "an assertion": in_test("assert total(prices) == 3"),
    "nothing raised": in_test("with pytest.raises(IndexError):", "    total([])"),
    "an import error of the code's that the issue names": in_test("assert cart.parse('1') == 1"),
    "one of several": in_test("assert True") + "\n\ndef test_more():\n    assert total([1]) == 1\n",
}
PASSING = {
    "it is skipped": in_test("pytest.skip('not now')"),
    "an expected failure": HEAD + "@pytest.mark.xfail\ndef test_it():\n    assert total([1]) == 1\n",
}
OTHERWISE = {
    "a missing module": "import shopping\n\n\ndef test_it():\n    assert shopping.total([1]) == 1\n",
    "a missing name": "from shop.cart import sum_up\n\n\ndef test_it():\n    assert sum_up([1]) == 1\n",
    "an unknown fixture": HEAD + "def test_it(basket):\n    assert total(basket) == 3\n",
    "a broken fixture": HEAD + "@pytest.fixture\ndef cart():\n    raise ValueError\n\n\ndef test_it(cart):\n    pass\n",
    "a strict surprise": HEAD + "@pytest.mark.xfail(strict=True)\ndef test_it():\n    assert total([]) == 0\n",
    "no end": in_test("while True: pass"),
    "the end of its process": "import os\nfrom shop.cart import total\n\n\ndef test_it():\n    os._exit(1)\n",
    "nothing to collect": HEAD + "def make():\n    def test_it():\n        assert total([1]) == 1\n",
    "a coroutine": HEAD + "async def test_it():\n    assert total([1]) == 1\n",
}
CLASS = (
    "import unittest\nfrom shop.cart import total\n\n\nclass IssueTests(unittest.TestCase):\n    def test_it(self):\n"
)


@pytest.fixture
def boxes(tmp_path: Path) -> RealBoxes:
    try:
        find_bubblewrap("bwrap")
    except EnvironmentFailed as error:
        pytest.skip(str(error))
    return RealBoxes(tmp_path, case_seconds=1.0)


def drafts(bench: Boxes, codes: dict[str, str]) -> dict[str, Case | Rejected]:
    taken, runner = TakenNames.of(bench.snapshot), bench.harness.runner
    answers = [Completion(number, f"```python\n{code}```", Finish.STOP) for number, code in enumerate(codes.values())]
    read = [GeneratedCase("r", one.index, one.index, read_test(one, "tests", taken, runner)) for one in answers]
    assert all(isinstance(one.outcome, Case) for one in read), read
    settled = run(reproduce(read, ISSUE, bench, ReproduceSettings()))
    return dict(zip(codes, (one.outcome for one in settled), strict=True))


def test_what_fails_because_of_the_issue_is_told_from_what_fails_otherwise(boxes: RealBoxes) -> None:
    found = drafts(boxes.bench(FILES), REPRODUCING | PASSING | OTHERWISE)
    reasons = {name: one.reason if isinstance(one, Rejected) else None for name, one in found.items()}
    assert reasons == {
        **dict.fromkeys(REPRODUCING),
        **dict.fromkeys(PASSING, Reason.NOT_REPRODUCED),
        **dict.fromkeys(OTHERWISE, Reason.OTHER_FAULT),
    }


def test_with_unittest_it_is_the_same(boxes: RealBoxes) -> None:
    boxes.harness = Harness(Runner.UNITTEST, ("python", "-m", "unittest"))
    found = drafts(
        boxes.bench(FILES),
        {
            "fails": CLASS + "        self.assertEqual(total([1]), 1)\n",
            "passes": CLASS + "        self.assertEqual(total([]), 0)\n",
            "unknown": CLASS + "        self.assertEqual(totals([1]), 1)\n",
        },
    )
    reasons = [one.reason if isinstance(one, Rejected) else None for one in found.values()]
    assert reasons == [None, Reason.NOT_REPRODUCED, Reason.OTHER_FAULT]


def test_given_and_named_tests_are_confirmed(boxes: RealBoxes) -> None:
    bench = boxes.bench(FILES)
    settings = GivenTests(
        tests=("tests/test_cart.py", "tests/test_cart.py::test_none"), commands=("python -c 'import shop.gone'",)
    )
    runner, notes = bench.harness.runner, list[Event]()
    own, named = own_cases(settings, bench.snapshot, runner), named_cases(ISSUE, bench.snapshot, runner)
    kept = run(confirm(own, named, replace(bench, watch=notes.append)))
    assert [case.id for case in kept] == ["tests/test_cart.py", settings.commands[0], "tests/test_cart.py::test_all"]
    (note,) = (event for event in notes if isinstance(event, Note))
    assert "tests/test_cart.py::test_none passes already" in note.text


def test_a_given_test_that_is_not_there_is_told(boxes: RealBoxes) -> None:
    bench = boxes.bench(FILES)
    cases = own_cases(GivenTests(tests=("tests/test_cart.py::test_gone",)), bench.snapshot, bench.harness.runner)
    with pytest.raises(UsageError, match="test_gone"):
        run(confirm(cases, (), bench))
