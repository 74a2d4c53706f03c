"""Other statements for a statement: another assignment, `break` for `continue`, the negation of a condition."""

import ast
import re
from collections.abc import Iterator

from agentless_mini.line_mutants.words import Edit, Words, end_of

_ASSIGNMENTS = ("=", "+=", "-=", "|=")
_ASSIGNMENT = re.compile(r"[-+*/|]?=")


def other_statements(node: ast.stmt, words: Words) -> Iterator[Edit]:
    """Yield the edits that make another statement of one, in one row."""
    if isinstance(node, ast.Break | ast.Continue):
        yield words.instead(node, "continue" if isinstance(node, ast.Break) else "break")
    elif isinstance(node, ast.If | ast.While):
        yield from _conditions(node.test, words)
    elif isinstance(node, ast.Assign | ast.AugAssign):
        yield from _assignments(node, words)


def _conditions(test: ast.expr, words: Words) -> Iterator[Edit]:
    if test.lineno == test.end_lineno:
        text = words.of(test)
        held = f"({text})" if isinstance(test, ast.BoolOp) else text
        for other in (f"not {held}", f"{text} is None", f"{text} is not None"):
            yield words.instead(test, other)


def _assignments(node: ast.Assign | ast.AugAssign, words: Words) -> Iterator[Edit]:
    target = node.target if isinstance(node, ast.AugAssign) else node.targets[-1]
    start, end = end_of(target), node.value.col_offset
    if target.end_lineno != node.value.lineno:
        return
    gap = words.between(node.value, start, end)
    for other in _ASSIGNMENTS:
        yield Edit(node.value.lineno - 1, start, end, _ASSIGNMENT.sub(other, gap, count=1))
