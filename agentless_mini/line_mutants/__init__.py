"""Changes that people make to one line of Python: operators, constants, names in scope, arguments, calls around it.

Why it exists: a tiny model judges a change better than it comes upon one. So the changes that mutation testing and
studies of one-line fixes name are written down here, as text, and the model ranks them with those it found itself.
Nothing is judged here, and types are not looked at: many mutants are nonsense, and some do not parse.
"""

import ast
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from agentless_mini.line_mutants.changes import changes
from agentless_mini.line_mutants.scopes import Scope, scopes
from agentless_mini.line_mutants.statements import other_statements
from agentless_mini.line_mutants.words import Edit, Words
from agentless_mini.line_regions import Region, parse

# Longer lines are data, or nothing that one change of one expression would put right. In bytes.
WIDEST = 160


@dataclass(frozen=True, slots=True)
class Mutant:
    """A row of a region, 0-based, in other words."""

    row: int
    text: str


def mutants(region: Region) -> tuple[Mutant, ...]:
    """Return the distinct mutants of a region's lines, by row; none where it is no Python that parses.

    Each has the indentation of its line and is in one line, as the expression that it changes is.
    """
    tree = parse(region.text) if region.is_python else None
    if tree is None:
        return ()
    dedented = textwrap.dedent(region.text).split("\n")
    margins = [row.removesuffix(rest) for row, rest in zip(region.text.split("\n"), dedented, strict=True)]
    words = Words(tuple(row.encode(errors="replace") for row in dedented))
    edits = (edit for scope in scopes(tree) for node in scope.nodes for edit in _edits(node, scope, words))
    found = dict.fromkeys(Mutant(edit.row, margins[edit.row] + words.changed(edit)) for edit in edits)
    return tuple(sorted(found, key=lambda mutant: mutant.row))


def _edits(node: ast.AST, scope: Scope, words: Words) -> Iterator[Edit]:
    if isinstance(node, ast.stmt | ast.expr) and len(words.rows[node.lineno - 1]) > WIDEST:
        return
    if isinstance(node, ast.stmt):
        yield from other_statements(node, words)
    elif isinstance(node, ast.expr) and node.lineno == node.end_lineno:
        for text in changes(node, scope, words):
            yield words.instead(node, text)
