"""Which code line rewriting copies: all that is shown where it fits, else the functions that the issue points at.

A copy is read twice by the model and forked at every token, so it must be short. This module only chooses; the text
around the copy is `line_rewriting`'s.
"""

import ast
import math
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from agentless_mini.domain import EditTask, Excerpt, Issue, ShownFile
from agentless_mini.grammar import spoken_path
from agentless_mini.lexical import mentions, terms
from agentless_mini.sources import parse_python

RUN = 40

_NAME = re.compile(r"[A-Za-z_]\w*")

Count = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Region:
    """A run of whole lines that is copied; `first` is the 1-based number of its first line in the file."""

    path: str
    first: int
    text: str

    @property
    def is_python(self) -> bool:
        """Say whether the lines are Python, by the name of the file."""
        return self.path.endswith((".py", ".pyi"))


@dataclass(frozen=True, slots=True)
class _Function:
    region: Region
    name: str


def choose_regions(task: EditTask, budget: int, count: Count) -> tuple[Region, ...]:
    """Return what to copy within `budget` tokens, in order of file and line; `count` counts the tokens of a text.

    The files share the budget in their order. A file that does not fit is copied function by function: first those
    that the issue names (a traceback's "in name" does), then those that share the most telling words with it. Where it
    writes names as code, these functions and those that they speak of are all. Where not even one function fits, the
    first lines of the best one are copied, as many as fit.
    """
    chosen: list[Region] = []
    for file in task.files:
        if not spoken_path(file.path):
            continue
        whole = [_region(file.path, excerpt) for excerpt in file.excerpts]
        cost = sum(count(region.text) for region in whole)
        if cost > budget:
            whole = _best_functions(file, task.issue, budget, count, reserve=not chosen)
            cost = sum(count(region.text) for region in whole)
        chosen += whole
        budget -= cost
    return tuple(chosen)


def named_rows(region: Region, issue: str) -> frozenset[int]:
    """Return the rows, 0-based, of the functions that the issue names, as `choose_regions` understands it."""
    named = frozenset(_NAME.findall(issue))
    tree = parse(region.text) if region.is_python else None
    spans = _spans(tree.body if tree else [])
    return frozenset(row for name, start, end in spans if name in named for row in range(start, end))


def shown_rows(excerpt: Excerpt) -> list[str]:
    """Return the lines of an excerpt without their ends, be they `\\n` or `\\r\\n`."""
    return [row.removesuffix("\r") for row in excerpt.text.removesuffix("\n").split("\n")]


def parse(text: str) -> ast.Module | None:
    """Return the syntax tree of a module, or of a function cut out of a class; None where it is no Python."""
    try:
        return parse_python(textwrap.dedent(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _region(path: str, excerpt: Excerpt) -> Region:
    return Region(path, excerpt.first, "\n".join(shown_rows(excerpt)) + "\n")


def _best_functions(file: ShownFile, issue: str, budget: int, count: Count, *, reserve: bool) -> list[Region]:
    functions = [function for excerpt in file.excerpts for function in _functions(_region(file.path, excerpt))]
    chosen: list[Region] = []
    ordered = _by_weight(functions, issue)
    left = budget
    for region in ordered:
        cost = count(region.text)
        if cost <= left:
            chosen.append(region)
            left -= cost
    if not chosen and reserve:
        chosen = list(_start(ordered[0], budget, count))
    return sorted(chosen, key=lambda region: region.first)


def _by_weight(functions: Sequence[_Function], issue: str) -> list[Region]:
    named = frozenset(_NAME.findall(issue))
    wanted = frozenset(terms(issue))
    shares = [frozenset(terms(function.region.text)) & wanted for function in functions]
    common = Counter(term for share in shares for term in share)
    as_code = mentions(Issue(issue), ()).identifiers  # "update" in a sentence need not be the function
    spoken_of = {word for one in functions if one.name in as_code for word in _NAME.findall(one.region.text)}
    meant = [place for place, one in enumerate(functions) if one.name in spoken_of]

    def order(place: int) -> tuple[bool, float, int]:
        weight = sum(math.log(1 + len(functions) / common[term]) for term in sorted(shares[place]))
        return (functions[place].name not in named, -weight, place)

    return [functions[place].region for place in sorted(meant or range(len(functions)), key=order)]


def _functions(region: Region) -> Iterable[_Function]:
    """Split a region into its functions; one that does not parse, or has none, into runs of 40 lines."""
    rows = region.text.removesuffix("\n").split("\n")
    tree = parse(region.text) if region.is_python else None
    spans = list(_spans(tree.body if tree else []))
    spans = spans or [("", at, min(at + RUN, len(rows))) for at in range(0, len(rows), RUN)]
    for name, start, end in spans:
        yield _Function(Region(region.path, region.first + start, "\n".join(rows[start:end]) + "\n"), name)


def _spans(body: Sequence[ast.stmt]) -> Iterator[tuple[str, int, int]]:
    """Yield (name, first row, row after the last) of the functions, those of classes one by one."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _spans(node.body)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            yield node.name, first - 1, node.end_lineno or node.lineno


def _start(region: Region, budget: int, count: Count) -> Iterator[Region]:
    rows = region.text.removesuffix("\n").split("\n")
    while rows and count("\n".join(rows) + "\n") > budget:
        rows.pop()
    if rows:
        yield Region(region.path, region.first, "\n".join(rows) + "\n")
