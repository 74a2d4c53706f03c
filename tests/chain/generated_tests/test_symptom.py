"""Which failures show the issue, and which are the test's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.chain.generated_tests import described, symptom
from agentless_mini.domain import Case, CaseResult, Fault, Issue, Origin, Outcome, Reason, Rejected, Runner

OWN = "tests/test_amini_0123456789.py"
LIBRARY = "shop/cart.py"
CASE = Case(OWN, Origin.GENERATED, OWN, b"")
ISSUE = Issue("Cart.total() leaves out the first price. It should take `currency`, too.")


def judged(
    outcome: Outcome, fault: Fault | None = None, issue: Issue = ISSUE, runner: Runner = Runner.PYTEST
) -> str | Rejected:
    return symptom(CaseResult(OWN, outcome, 0.1, fault), CASE, issue, runner)


def counts(kind: str, message: str, path: str = OWN, issue: Issue = ISSUE) -> bool:
    judgement = judged(Outcome.FAIL, Fault(kind, message, path, 3), issue)
    if isinstance(judgement, Rejected):
        assert judgement.reason is Reason.OTHER_FAULT
        assert judgement.detail.startswith(f"{kind}: ")
    return isinstance(judgement, str)


@pytest.mark.parametrize("outcome", [Outcome.PASS, Outcome.SKIP])
def test_what_passes_or_is_skipped_does_not_show_it(outcome: Outcome) -> None:
    judgement = judged(outcome, Fault("Skipped", "no"))
    assert isinstance(judgement, Rejected)
    assert judgement.reason is Reason.NOT_REPRODUCED


@pytest.mark.parametrize("outcome", [Outcome.TIMEOUT, Outcome.NOT_COLLECTED, Outcome.ERROR, Outcome.FAIL])
@pytest.mark.parametrize("fault", [None, Fault("", "[XPASS(strict)] done")])
def test_what_ends_without_an_exception_does_not_show_it(outcome: Outcome, fault: Fault | None) -> None:
    judgement = judged(outcome, fault)
    assert isinstance(judgement, Rejected)
    assert judgement.reason is Reason.OTHER_FAULT


def test_a_command_says_no_more_than_that_it_fails() -> None:
    assert isinstance(judged(Outcome.FAIL, Fault("", "It ended with status 1"), runner=Runner.COMMAND), str)
    assert isinstance(judged(Outcome.ERROR, Fault("", "It ended with status 127"), runner=Runner.COMMAND), Rejected)


@pytest.mark.parametrize("path", [OWN, LIBRARY, ""])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("AssertionError", "assert 5 == 6"),
        ("Failed", "DID NOT RAISE <class 'ValueError'>"),
        ("ValueError", "bad price"),
        ("KeyError", "'first'"),
        ("ZeroDivisionError", "division by zero"),
    ],
)
def test_most_failures_show_it_wherever_they_come_from(kind: str, message: str, path: str) -> None:
    assert counts(kind, message, path)


@pytest.mark.parametrize(
    "kind", ["ImportError", "ModuleNotFoundError", "SyntaxError", "IndentationError", "NameError", "FixtureLookupError"]
)
def test_what_a_wrong_test_ends_with_counts_only_where_the_code_raises_it_and_the_issue_says_so(kind: str) -> None:
    assert not counts(kind, "x", OWN)
    assert not counts(kind, "x", LIBRARY)
    assert not counts(kind, "x", "")
    said = Issue(f"Reading a price ends with {kind}: x")
    assert counts(kind, "x", LIBRARY, said)
    assert not counts(kind, "x", OWN, said)
    assert not counts(kind, "x", "tests/helpers.py", said)


@pytest.mark.parametrize(
    ("kind", "message", "expected"),
    [
        ("AttributeError", "'Basket' object has no attribute 'sum'", False),
        ("AttributeError", "'Basket' object has no attribute 'total'", True),
        ("AttributeError", "module 'shop' has no attribute 'Basket'", False),
        ("AttributeError", "'NoneType' object has no attribute 'totals'", False),
        ("TypeError", "Cart.total() got an unexpected keyword argument 'currency'", True),
        ("TypeError", "Cart.total() got an unexpected keyword argument 'rate'", False),
        ("TypeError", "Cart.__init__() missing 1 required positional argument: 'owner'", False),
        ("TypeError", "Cart.total() takes 1 positional argument but 2 were given", False),
        ("TypeError", "'Cart' object is not iterable", True),
        ("TypeError", "'Basket' object is not iterable", False),
        ("TypeError", "unsupported operand type(s) for +: 'Cart' and 'int'", True),
        ("FileNotFoundError", "[Errno 2] No such file or directory: 'prices.csv'", False),
    ],
)
def test_a_wrong_use_counts_only_where_the_issue_says_the_name(kind: str, message: str, *, expected: bool) -> None:
    assert counts(kind, message, OWN) is expected
    assert counts(kind, message, LIBRARY)


def test_an_issue_about_none_or_about_the_exception_itself_names_it() -> None:
    message = "'NoneType' object is not iterable"
    assert not counts("TypeError", message)
    assert counts("TypeError", message, issue=Issue("split() returns None"))
    assert counts("TypeError", "f() takes 0 positional arguments but 1 was given", issue=Issue("f raises TypeError"))
    assert counts("FileNotFoundError", "x", issue=Issue("open_cart ends with a FileNotFoundError"))


@pytest.mark.parametrize(
    "message", ["Timeout >10.0s", "async def functions are not natively supported.", 'Fixture "cart" called directly.']
)
def test_what_pytest_itself_complains_about_does_not_show_it(message: str) -> None:
    assert not counts("Failed", message)


def test_a_test_that_cannot_begin_counts_only_by_the_repositorys_own_code() -> None:
    assert isinstance(judged(Outcome.ERROR, Fault("ValueError", "x", OWN)), Rejected)
    assert isinstance(judged(Outcome.ERROR, Fault("ValueError", "x", "tests/conftest.py")), Rejected)
    assert isinstance(judged(Outcome.ERROR, Fault("ValueError", "x", LIBRARY)), str)


def test_failures_that_differ_in_values_alone_look_alike() -> None:
    one = judged(Outcome.FAIL, Fault("AssertionError", "assert 5 == 6\n +  where <Cart at 0x7f> 'a'", OWN, 3))
    other = judged(Outcome.FAIL, Fault("AssertionError", "assert 7.5 == 6\n +  where <Cart at 0x8e> 'b'", OWN, 9))
    assert one == other
    assert one != judged(Outcome.FAIL, Fault("ValueError", "assert 5 == 6", OWN, 3))


@given(st.text(), st.text(), st.sampled_from(["", OWN, LIBRARY]), st.sampled_from(list(Outcome)), st.text())
def test_whatever_a_test_says_the_answer_is_one_line(
    kind: str, message: str, path: str, outcome: Outcome, said: str
) -> None:
    fault = Fault(kind, message, path, 1)
    judgement = judged(outcome, fault, Issue(said))
    line = judgement.detail if isinstance(judgement, Rejected) else judgement
    assert line.isprintable()
    assert line
    assert described(fault).isprintable()


@pytest.mark.parametrize(
    ("outcome", "kind", "message", "expected"),
    [
        (Outcome.FAIL, "AssertionError", "1 !== 2", True),
        (Outcome.FAIL, "failure", "got 2, want 3", True),
        (Outcome.FAIL, "", "", True),
        (Outcome.FAIL, "TypeError", "cart.pay is not a function", False),
        (Outcome.FAIL, "TypeError", "cart.currency is not a function", True),
        (Outcome.FAIL, "ReferenceError", "it failed", False),
        (Outcome.ERROR, "", "./a_test.go:3: undefined: shop.Pay", False),
        (Outcome.ERROR, "", "./a_test.go:3: undefined: shop.currency", True),
        (Outcome.ERROR, "", "it broke", False),
    ],
)
def test_a_lack_in_another_language_counts_if_the_issue_names_it(
    outcome: Outcome, kind: str, message: str, expected: bool
) -> None:
    fault = Fault(kind, message) if kind or message else None
    assert isinstance(judged(outcome, fault, runner=Runner.JEST), str) is expected
