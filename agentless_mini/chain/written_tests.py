"""Model text -> a reproduction test, placed where the repository's own tests lie.

Tests that differ in comments, docstrings and formatting alone have one name and are one test: its name is made of its
normal form. What the model says is parsed and never imported or run here, and never chooses a path.
"""

import ast
import hashlib
import itertools
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from agentless_mini.domain import Case, Completion, Finish, Origin, Reason, Rejected, Runner
from agentless_mini.edits import KNOWN, Marks, answer_text
from agentless_mini.edits.paths import TakenNames
from agentless_mini.edits.sources import parse_python

PREFIX = "test_amini_"
# So many hex digits of the digest are in the name, more where a file of the tree has it already.
NAME_DIGITS = (10, 20, 64)
# No honest answer has so many fences, the last of which are looked at, or so many ways to pair them.
MOST_FENCES = 64
MOST_TRIES = 64

_FENCE = re.compile(r"([ \t]*)(`{3,}|~{3,})[ \t]*([^`]*?)[ \t]*")
_PYTHON_INFO = re.compile(r"(?:(?:python|py)[\d.]*\b.*)?", re.IGNORECASE)
_Definition = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where new tests are put: a folder of the tree ("" is its top), the names that are taken, and what runs them."""

    folder: str
    taken: TakenNames
    runner: Runner


def read_test(completion: Completion, shelf: Shelf, marks: Marks = KNOWN) -> Case | Rejected:
    """Return the test file that a completion holds, with one vote, or why it holds none.

    It is the last fenced block that parses as Python and holds a test for the runner. An answer without any fence is
    such a block itself.
    """
    if completion.finish is Finish.LENGTH:
        return Rejected(Reason.TRUNCATED, "the test was cut off by the token limit")
    if completion.finish is Finish.FILTER:
        return Rejected(Reason.WITHHELD, "the server withheld the answer")
    text = answer_text(completion.text, marks)
    if isinstance(text, Rejected):
        return text
    found = _last_test(text, shelf.runner)
    return found if isinstance(found, Rejected) else _placed(found, shelf)


def holds_test(data: bytes, runner: Runner) -> bool:
    """Tell whether a Python file defines a test that the runner finds. What does not parse holds none."""
    tree = _parsed(data)
    return not isinstance(tree, str) and _has_test(tree, runner)


# --- the block -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Found:
    data: bytes
    tree: ast.Module


@dataclass(frozen=True, slots=True)
class _Fence:
    line: int
    indent: str
    mark: str
    info: str

    def may_close(self, opening: "_Fence") -> bool:
        return not self.info and self.mark.startswith(opening.mark)


def _last_test(text: str, runner: Runner) -> _Found | Rejected:
    problem = ""
    has_python = False
    for block in itertools.islice(_blocks(text.split("\n")), MOST_TRIES):
        data = block.encode("utf-8", "surrogatepass")  # what is no Unicode does not parse
        tree = _parsed(data)
        if isinstance(tree, str):
            problem = problem or tree
        elif _has_test(tree, runner):
            return _Found(data, tree)
        else:
            has_python = has_python or bool(tree.body)
    if problem and not has_python:
        return Rejected(Reason.SYNTAX, problem)
    return Rejected(Reason.NO_TEST, f"no block of the answer holds a test for {runner.value}")


def _blocks(lines: list[str]) -> Iterator[str]:
    """Yield what may be the blocks of Python, the last first.

    A docstring may hold fences too, so every fence may open a block, and every later one like it may close that: the
    nearest is tried first. One that nothing closes goes on to the end.
    """
    fences = [_Fence(number, *match.groups()) for number, line in enumerate(lines) if (match := _FENCE.fullmatch(line))]
    if not fences:
        text = "\n".join(lines) + "\n"
        if not isinstance(_parsed(text.encode("utf-8", "surrogatepass")), str):  # prose is no broken Python
            yield text
    fences = fences[-MOST_FENCES:]
    for place in reversed(range(len(fences))):
        opening = fences[place]
        if _PYTHON_INFO.fullmatch(opening.info):
            closing = [fence.line for fence in fences[place + 1 :] if fence.may_close(opening)]
            for end in closing or [len(lines)]:
                if any(line.strip() for line in lines[opening.line + 1 : end]):
                    yield textwrap.dedent("\n".join(lines[opening.line + 1 : end])) + "\n"


def _parsed(data: bytes) -> ast.Module | str:
    """Return the syntax tree, or in one line why there is none."""
    try:
        return parse_python(data)
    except SyntaxError as error:
        return f"line {error.lineno or 1}: {error.msg}"
    except (ValueError, RecursionError, MemoryError) as error:
        return f"the parser refuses the test ({type(error).__name__})"


def _has_test(tree: ast.Module, runner: Runner) -> bool:
    nodes = list(ast.walk(tree))
    if runner in {Runner.SCRIPT, Runner.COMMAND}:  # they fail by whatever they do
        return any(isinstance(node, ast.Call | ast.Assert | ast.Raise) for node in nodes)
    has_function = runner is Runner.PYTEST and any(_is_test_function(node) for node in nodes)
    return has_function or any(_is_test_case(node) for node in nodes)


def _is_test_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test")


def _is_test_case(node: ast.AST) -> bool:
    """Tell whether it may be a `unittest.TestCase`: a class with a test method and a base, which may be the tree's."""
    return isinstance(node, ast.ClassDef) and bool(node.bases) and any(_is_test_function(child) for child in node.body)


# --- the place -----------------------------------------------------------------------------------------------------


def _placed(found: _Found, shelf: Shelf) -> Case | Rejected:
    digest = _digest(found)
    names = [f"{shelf.folder}/{PREFIX}{digest[:digits]}.py".lstrip("/") for digits in NAME_DIGITS]
    refusals = [shelf.taken.refusal(name) for name in names]
    free = [name for name, refusal in zip(names, refusals, strict=True) if refusal is None]
    if free:
        return Case(free[0], Origin.GENERATED, free[0], found.data)
    return next(refusal for refusal in refusals if refusal is not None)


def _digest(found: _Found) -> str:
    """Return the SHA-256 of what the test says without comments, docstrings and formatting, in hex."""
    for node in ast.walk(found.tree):
        if isinstance(node, _Definition) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    try:
        said = ast.dump(found.tree).encode("utf-8", "surrogatepass")
    except RecursionError:  # an expression of a thousand terms is valid all the same
        said = found.data
    return hashlib.sha256(said).hexdigest()
