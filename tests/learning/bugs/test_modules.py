"""When two functions count as copies of each other."""

import ast

import pytest

from agentless_mini.learning.bugs.modules import substance

ORIGINAL = """
def f(a: int, b="x") -> str:
    '''Say something.'''
    c: int = a
    return [x for x in b if c < x]
"""


def said(text: str) -> str:
    (function,) = ast.parse(text).body
    assert isinstance(function, ast.FunctionDef)
    return substance(function)


def test_a_docstring_annotations_and_layout_make_no_difference() -> None:
    copied = "def f(a, b='x'):\n    c: 'str' = a\n    return [x for x in b  # why\n            if (c < x)]\n"
    assert said(copied) == said(ORIGINAL)


@pytest.mark.parametrize(
    ("old", "new"), [("def f", "def g"), ('"x"', '"y"'), ("c < x", "c <= x"), ("c < x", "x < c"), ("[x for", "[c for")]
)
def test_what_runs_does(old: str, new: str) -> None:
    assert said(ORIGINAL.replace(old, new)) != said(ORIGINAL)
