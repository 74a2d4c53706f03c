"""Where the words of a syntax tree's nodes stand, and rows in which some of them are replaced."""

import ast
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edit:
    """Other words for the bytes `start` to `end` of a row, all 0-based."""

    row: int
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Words:
    """The rows that a tree was parsed from, as bytes: the tree counts columns in UTF-8.

    The nodes that it is asked about stand in one row.
    """

    rows: tuple[bytes, ...]

    def of(self, node: ast.expr) -> str:
        """Return the words of an expression, without parentheses around it."""
        return self.between(node, node.col_offset, end_of(node))

    def between(self, node: ast.expr, start: int, end: int) -> str:
        """Return what stands between two columns of the expression's row."""
        return self.rows[node.lineno - 1][start:end].decode(errors="replace")

    def instead(self, node: ast.expr | ast.stmt, text: str) -> Edit:
        """Return the edit that puts a text in the place of a node."""
        return Edit(node.lineno - 1, node.col_offset, end_of(node), text)

    def changed(self, edit: Edit) -> str:
        """Return a row as an edit leaves it."""
        row = self.rows[edit.row]
        return (row[: edit.start] + edit.text.encode(errors="replace") + row[edit.end :]).decode(errors="replace")


def end_of(node: ast.expr | ast.stmt) -> int:
    """Return the column after a node; parsed nodes have one."""
    return node.end_col_offset or 0
