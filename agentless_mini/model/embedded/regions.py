"""Which code the model reads twice: all that is shown where it fits, else what the issue points at."""

import ast
import math
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from agentless_mini.chain.lexical import mentions, terms
from agentless_mini.domain import EditTask, Issue
from agentless_mini.edits.sources import parse_python
from agentless_mini.model.grammar import shown_rows, spoken_path

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

    @property
    def functions(self) -> Iterator[tuple[str, int, int]]:
        """Yield (name, first row, row after the last) of the functions, 0-based, those of classes one by one."""
        tree = parse(self.text) if self.is_python else None
        waiting = tree.body[::-1] if tree else []
        while waiting:
            node = waiting.pop()
            if isinstance(node, ast.ClassDef):
                waiting += node.body[::-1]
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                yield node.name, first - 1, node.end_lineno or node.lineno

    def part(self, start: int, end: int) -> "Region":
        """Return some of its rows, 0-based, without the one at `end`."""
        return Region(self.path, self.first + start, "\n".join(self.text.split("\n")[start:end]) + "\n")

    def parts(self) -> Iterator[tuple[str, "Region"]]:
        """Split it into its functions, with their names; one that has none into nameless runs of 40 lines."""
        rows = self.text.count("\n")
        spans = list(self.functions) or [("", at, min(at + RUN, rows)) for at in range(0, rows, RUN)]
        yield from ((name, self.part(start, end)) for name, start, end in spans)


def parse(text: str) -> ast.Module | None:
    """Return the syntax tree of a module, or of a function cut out of a class; None where it is no Python."""
    try:
        return parse_python(textwrap.dedent(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def named_rows(region: Region, issue: str) -> frozenset[int]:
    """Return the rows, 0-based, of the functions that the issue names, as `choose_regions` understands it."""
    named = frozenset(_NAME.findall(issue))
    return frozenset(row for name, start, end in region.functions if name in named for row in range(start, end))


def choose_regions(task: EditTask, budget: int, count: Count) -> tuple[Region, ...]:
    """Return what to copy within `budget` tokens, in order of file and line; `count` counts the tokens of a text.

    The files share the budget in their order. A file that does not fit is copied function by function: first those that
    the issue names, then by the telling words that they share with it. Where it writes names as code, these and those
    that they speak of are all. Where not one fits, the first lines of the best are copied.
    """
    chosen: list[Region] = []
    for file in task.files:
        if not spoken_path(file.path):
            continue
        whole = [Region(file.path, one.first, "\n".join(shown_rows(one.text)) + "\n") for one in file.excerpts]
        if sum(count(region.text) for region in whole) > budget:
            parts = [part for region in whole for part in region.parts()]
            whole = _fitting(_by_weight(parts, task.issue), budget, count, reserve=not chosen)
        chosen += whole
        budget -= sum(count(region.text) for region in whole)
    return tuple(chosen)


def _fitting(ordered: Sequence[Region], budget: int, count: Count, *, reserve: bool) -> list[Region]:
    chosen: list[Region] = []
    for region in ordered:
        if (cost := count(region.text)) <= budget:
            chosen.append(region)
            budget -= cost
    if not chosen and reserve:
        starts = (ordered[0].part(0, rows) for rows in range(ordered[0].text.count("\n"), 0, -1))
        chosen = [start for start in starts if count(start.text) <= budget][:1]
    return sorted(chosen, key=lambda region: region.first)


def _by_weight(functions: Sequence[tuple[str, Region]], issue: str) -> list[Region]:
    named = frozenset(_NAME.findall(issue))
    wanted = frozenset(terms(issue))
    shares = [frozenset(terms(region.text)) & wanted for _, region in functions]
    common = Counter(term for share in shares for term in share)
    as_code = mentions(Issue(issue), ()).identifiers  # "update" in a sentence need not be the function
    spoken_of = {word for name, region in functions if name in as_code for word in _NAME.findall(region.text)}

    def order(place: int) -> tuple[bool, float, int]:
        weight = sum(math.log(1 + len(functions) / common[term]) for term in sorted(shares[place]))
        return functions[place][0] not in named, -weight, place

    meant = [place for place, (name, _) in enumerate(functions) if name in spoken_of]
    return [functions[place][1] for place in sorted(meant or range(len(functions)), key=order)]
