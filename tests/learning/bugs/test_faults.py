"""What people get wrong, as edits of lines: each kind before and after."""

import ast

import pytest

from agentless_mini.learning.bugs.faults import Fault, Kind, apart, combined
from agentless_mini.learning.bugs.injection import faults
from tests.learning.bugs.materials import RANGES, subject

BEFORE_AND_AFTER = [
    (Kind.OPERATOR, "return a + b", "return a - b"),
    (Kind.OPERATOR, "return a == b", "return a != b"),
    (Kind.OPERATOR, "return a not in b", "return a in b"),
    (Kind.OPERATOR, "return a is None", "return a is not None"),
    (Kind.OPERATOR, "a += b", "a -= b"),
    (Kind.BOUND, "return a < b", "return a <= b"),
    (Kind.BOUND, "return a >= b", "return a <= b"),
    (Kind.BOUND, "return a[1:]", "return a[2:]"),
    (Kind.BOUND, "return a[:b]", "return a[:b - 1]"),
    (Kind.BOUND, "return a[-1]", "return a[-2]"),
    (Kind.BOUND, "return a + 1", "return a + 2"),
    (Kind.CONDITION, "while a:", "while not a:"),
    (Kind.CONDITION, "if a and b:", "if a or b:"),
    (Kind.CONDITION, "if a == 1 and b:", "if b:"),
    (Kind.CONDITION, "if not a:", "if a:"),
    (Kind.CONDITION, "return [x for x in a if x]", "return [x for x in a if not x]"),
    (Kind.CONDITION, "while 1: break", "while 1: continue"),
    (Kind.ARGUMENT, "return divmod(a, b)", "return divmod(b, a)"),
    (Kind.ARGUMENT, "return pow(a, b)", "return pow(a)"),
    (Kind.ARGUMENT, "return a.split(b, 1)", "return a.split(b, 2)"),
    (Kind.ARGUMENT, "return sorted(a, reverse=True)", "return sorted(a, reverse=False)"),
    (Kind.ARGUMENT, "return sorted(a, key=len)", "return sorted(a)"),
    (Kind.NAME, "return len(a)", "return len(b)"),
    (Kind.CALL, "return min(a)", "return max(a)"),
    (Kind.CALL, "a.append(b)", "a.extend(b)"),
    (Kind.CALL, "return a.strip()", "return a"),
    (Kind.EXCEPTION, "raise ValueError(a)", "raise TypeError(a)"),
    (Kind.EXCEPTION, "raise ValueError(a)", "return None"),
    (Kind.EXCEPTION, "except KeyError:", "except IndexError:"),
    (Kind.EXCEPTION, "except (KeyError, ValueError):", "except ValueError:"),
    (Kind.RETURN, "return True", "return False"),
    (Kind.RETURN, "return a", "return None"),
    (Kind.RETURN, "return a, b", "return b, a"),
    (Kind.RETURN, "return a.get(b)", "a.get(b)"),
    (Kind.GUARD, "return a or []", "return a"),
]


def around(line: str) -> str:
    """Return a function with a statement in it."""
    if line.startswith("except"):
        return f"def f(a, b):\n    try:\n        return a\n    {line}\n        return b\n"
    body = "\n        return 0" if line.endswith(":") else ""
    return f"def f(a, b):\n    {line}{body}\n"


@pytest.mark.parametrize(("kind", "before", "after"), BEFORE_AND_AFTER)
def test_a_line_before_and_after(kind: Kind, before: str, after: str) -> None:
    text = around(before)
    found = [fault.of(text) for fault in faults(subject(text)) if fault.kind is kind]
    assert text.replace(before, after) in found


def test_every_kind_is_there() -> None:
    assert {kind for kind, *_ in BEFORE_AND_AFTER} | {Kind.DEFAULT} == set(Kind)


@pytest.mark.parametrize(
    ("before", "after"),
    [("b=True", "b=False"), ("b=3", "b=4"), ("b=None", "b=()"), ("b='x'", 'b=""'), ("*, b=1", "*, b=0")],
)
def test_a_default_before_and_after(before: str, after: str) -> None:
    text = f"def f(a, {before}):\n    return a\n"
    found = [fault.of(text) for fault in faults(subject(text)) if fault.kind is Kind.DEFAULT]
    assert f"def f(a, {after}):\n    return a\n" in found


def test_a_guard_of_two_lines_goes_as_a_whole() -> None:
    text = "def f(a):\n    if a is None:\n        return 0\n    return a\n"
    found = [fault.of(text) for fault in faults(subject(text)) if fault.kind is Kind.GUARD]
    assert found == ["def f(a):\n    return a\n"]


def test_what_makes_up_for_a_missing_value_goes_too() -> None:
    text = "def f(a, b=None):\n    if b is None:\n        b = []\n    return b\n"
    found = [fault.of(text) for fault in faults(subject(text)) if fault.kind is Kind.GUARD]
    assert found == ["def f(a, b=None):\n    return b\n"]


def test_a_branch_that_others_hang_on_is_no_guard() -> None:
    text = (
        "def f(a):\n    if a:\n        return 0\n    elif a is None:\n        return 1\n    else:\n        return 2\n"
    )
    assert [fault for fault in faults(subject(text)) if fault.kind is Kind.GUARD] == []


@pytest.mark.parametrize("name", ["parse_range", "clamp", "initials"])
def test_all_other_lines_stay_byte_for_byte(name: str) -> None:
    text = RANGES.replace("Ranges of", "Rang\u00e9s of").replace("if word]", "if word]  # \u00fc")
    rows = text.split("\n")
    found = faults(subject(text, name))
    assert len(found) > 10
    for fault in found:
        changed = fault.of(text)
        ast.parse(changed)
        assert changed != text
        assert changed.split("\n")[: fault.first] == rows[: fault.first]
        assert changed.endswith("\n".join(rows[fault.stop :]))
        assert len(fault.rows) <= 1


def test_only_the_function_is_touched() -> None:
    text = "def g(a):\n    return a + 1\n\n\ndef f(a):\n    return a + 2\n"
    assert {fault.first for fault in faults(subject(text))} == {5}


def test_methods_are_found_by_their_class() -> None:
    text = (
        "class A:\n    def f(self, a):\n        return a + 1\n\n\nclass B:\n    def f(self, a):\n        return a - 1\n"
    )
    assert {fault.first for fault in faults(subject(text, owner="B"))} == {7}


def test_f_strings_docstrings_and_annotations_are_let_be() -> None:
    text = 'def f(a: "x < 1", b) -> "a + 1":\n    """a + b"""\n    return f"{a + b}"\n'
    assert {fault.kind for fault in faults(subject(text))} <= {Kind.RETURN}


def test_the_faults_of_a_function_are_always_the_same() -> None:
    assert faults(subject(RANGES, "clamp")) == faults(subject(RANGES, "clamp"))


def test_two_faults_apart_stand_in_one_file() -> None:
    text = "def f(a, b):\n    a = a + 1\n    b = 1\n    return a < b\n"
    one, other = Fault(Kind.OPERATOR, 1, 2, ("    a = a - 1",)), Fault(Kind.BOUND, 3, 4, ("    return a <= b",))
    assert apart(one, other)
    assert not apart(one, one)
    found = combined(text, (other, one))
    assert found.kinds == (Kind.OPERATOR, Kind.BOUND)
    assert found.text == "def f(a, b):\n    a = a - 1\n    b = 1\n    return a <= b\n"
