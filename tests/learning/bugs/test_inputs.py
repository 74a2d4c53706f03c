"""Calls that suit a function."""

import ast

import pytest

from agentless_mini.learning.bugs.inputs import make_calls
from agentless_mini.learning.bugs.parameters import parameters_of
from tests.learning.bugs.materials import subject


def kinds(text: str) -> tuple[str, ...]:
    function = ast.parse(text).body[0]
    assert isinstance(function, ast.FunctionDef)
    (parameter,) = parameters_of(function, None)
    return parameter.kinds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def f(a: int): ...", ("int",)),
        ("def f(a: str | None): ...", ("string", "none")),
        ("def f(a: Optional[str] = None): ...", ("string", "none")),
        ("def f(a: typing.Union[str, bytes]): ...", ("string", "bytes")),
        ("def f(a: list[str]): ...", ("strings",)),
        ("def f(a: Sequence[int]): ...", ("ints",)),
        ("def f(a: Iterable[tuple[str, int]]): ...", ("pairs",)),
        ("def f(a: dict[str, int]): ...", ("dict",)),
        ("def f(a: 'Mapping[str, str]'): ...", ("dict",)),
        ("def f(a: set[str]): ...", ("set",)),
        ("def f(a=3): ...", ("int",)),
        ("def f(a=''): ...", ("string",)),
        ("def f(a=False): ...", ("bool",)),
        ("def f(is_open): ...", ("bool",)),
        ("def f(max_width): ...", ("int",)),
        ("def f(prefix): ...", ("string",)),
        ("def f(user_names): ...", ("strings",)),
        ("def f(a):\n    return a.strip()", ("string", "string")),
        ("def f(a):\n    return a.items()", ("dict", "dict")),
        ("def f(a):\n    return range(a)", ("int", "int")),
    ],
)
def test_what_a_parameter_takes_is_guessed(text: str, expected: tuple[str, ...]) -> None:
    assert kinds(text) == expected


def test_calls_parse_and_are_distinct_and_always_the_same() -> None:
    text = "def f(text, width=70, *, strict=False):\n    return text == 'abc' or width\n"
    calls = make_calls(subject(text), 60, 0)
    assert len(set(calls)) == len(calls) == 60
    for call in calls:
        ast.parse(call, mode="eval")
    assert calls == make_calls(subject(text), 60, 0)
    assert calls != make_calls(subject(text), 60, 1)
    assert any("abc" in call for call in calls)


def test_what_follows_a_parameter_that_is_left_out_is_named() -> None:
    for call in make_calls(subject("def f(a, b=1, c=2):\n    return a\n"), 60, 0):
        node = ast.parse(call, mode="eval").body
        assert isinstance(node, ast.Call)
        assert len(node.args) + len(node.keywords) <= 3
        assert len(node.args) < 3 or not node.keywords


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("def f(self, b: int)", "A(a="),
        ("@staticmethod\n    def f(b: int)", "A.f("),
        ("@classmethod\n    def f(cls, b: int)", "A.f("),
    ],
)
def test_methods_are_called_on_new_objects(head: str, expected: str) -> None:
    text = f"class A:\n    a: int\n\n    {head}:\n        return b\n"
    assert all(call.startswith(expected) for call in make_calls(subject(text, owner="A"), 20, 0))


def test_properties_are_read() -> None:
    made = "class A:\n    def __init__(self, a: int):\n        self.a = a\n\n"
    text = f"{made}    @property\n    def f(self):\n        return self.a\n"
    assert all(call.endswith(").f") for call in make_calls(subject(text, owner="A"), 20, 0))


def test_a_function_without_parameters_has_one_call() -> None:
    assert make_calls(subject("def f():\n    return 1\n"), 20, 0) == ("f()",)
