"""Faults that people make, put into one function as edits of whole lines: every other byte stays as it is.

Ten kinds: an operator, a bound, a condition, an argument, a name, a call, an exception, a return, a default, a missing
guard. Types are not looked at, and some changes change nothing: what a fault does is found out by running it.
"""

import ast
import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from agentless_mini.learning.bugs.harvest import Function


class Kind(enum.StrEnum):
    """What is wrong. The values are stable: records hold them."""

    OPERATOR = "operator"
    BOUND = "bound"
    CONDITION = "condition"
    ARGUMENT = "argument"
    NAME = "name"
    CALL = "call"
    EXCEPTION = "exception"
    RETURN = "return"
    DEFAULT = "default"
    GUARD = "guard"


@dataclass(frozen=True, slots=True)
class Fault:
    """Rows `first` up to, not including, `stop` of a file (0-based), in other words."""

    kind: Kind
    first: int
    stop: int
    rows: tuple[str, ...]

    def of(self, text: str) -> str:
        """Return a file with the fault in it."""
        rows = text.split("\n")
        return "\n".join([*rows[: self.first], *self.rows, *rows[self.stop :]])


@dataclass(frozen=True, slots=True)
class Faulty:
    """A file with a fault, or two at once: `kinds` names them in the order of their rows."""

    kinds: tuple[Kind, ...]
    text: str


def place_of(fault: Fault) -> tuple[int, int, str, tuple[str, ...]]:
    """Return what faults are sorted by."""
    return fault.first, fault.stop, fault.kind, fault.rows


def combined(text: str, chosen: Sequence[Fault]) -> Faulty:
    """Return a file with faults in it whose rows have nothing in common."""
    ordered = sorted(chosen, key=place_of)
    for fault in reversed(ordered):
        text = fault.of(text)
    return Faulty(tuple(fault.kind for fault in ordered), text)


def apart(one: Fault, other: Fault) -> bool:
    """Tell whether two faults have no row in common, and none next to each other."""
    return one.stop < other.first or other.stop < one.first


@dataclass(frozen=True, slots=True)
class Page:
    """The rows of a file, as bytes since the tree counts columns so, and the function that is to be changed."""

    rows: tuple[bytes, ...]
    function: Function

    def of(self, node: ast.expr) -> str:
        """Return the words of a node in one row, without parentheses around it."""
        return self.rows[node.lineno - 1][node.col_offset : node.end_col_offset].decode()

    def gap(self, left: ast.expr, right: ast.expr) -> str:
        """Return what stands between two nodes of one row."""
        return self.rows[left.lineno - 1][left.end_col_offset : right.col_offset].decode()

    def instead(self, kind: Kind, node: ast.expr, text: str) -> Iterator[Fault]:
        """Yield the fault that puts a text in the place of a node in one row, if it changes it."""
        if self.of(node) != text:
            yield self.between(kind, node.lineno - 1, (node.col_offset, node.end_col_offset or 0), text)

    def between(self, kind: Kind, row: int, columns: tuple[int, int], text: str) -> Fault:
        """Return the fault that puts a text between two columns of a row."""
        whole = self.rows[row]
        changed = (whole[: columns[0]] + text.encode() + whole[columns[1] :]).decode().rstrip()
        return Fault(kind, row, row + 1, (changed,))

    def without(self, kind: Kind, statement: ast.stmt) -> Fault:
        """Return the fault that leaves a statement out, with all of its rows."""
        return Fault(kind, statement.lineno - 1, statement.end_lineno or 0, ())

    def body(self) -> Iterator[ast.AST]:
        """Yield the nodes that can be changed: no annotation, docstring, decorator, or f-string's inside.

        Before Python 3.12 the tree does not tell where the parts of an f-string stand.
        """
        function = self.function
        statements = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
        waiting: list[ast.AST] = [*statements[::-1]]
        while waiting:
            node = waiting.pop()
            if isinstance(node, ast.JoinedStr):
                continue
            yield node
            left_out = [getattr(node, name, None) for name in ("annotation", "returns")]
            waiting.extend(inner for inner in [*ast.iter_child_nodes(node)][::-1] if inner not in left_out)

    def names(self) -> tuple[str, ...]:
        """Return the variables of the function: its parameters, then what it assigns, in order."""
        function = self.function
        given = [one.arg for one in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
        stored = [node.id for node in self.body() if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
        return tuple(dict.fromkeys(name for name in (*given, *stored) if name not in {"self", "cls", "_"}))


def is_in_one_row(node: ast.AST) -> bool:
    """Tell whether a node begins and ends in one row."""
    return isinstance(node, ast.expr) and node.lineno == node.end_lineno


def neighbours(nodes: Sequence[ast.expr]) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Yield the pairs of expressions that follow each other in one row."""
    for left, right in pairwise(nodes):
        if left.lineno == left.end_lineno == right.lineno == right.end_lineno:
            yield left, right
