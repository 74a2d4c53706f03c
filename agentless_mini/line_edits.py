"""Rewritten lines -> ordinary answers in the edit format, those first that the model finds likeliest.

Where a rewrite says nothing new it is dropped here. Which rewrites there are, and their scores, come from elsewhere
(`line_rewriting`, `serving.line_scoring`).
"""

import ast
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter

from agentless_mini.domain import EditTask, ShownFile
from agentless_mini.grammar import free_width, spoken_path
from agentless_mini.line_regions import Region, parse, shown_rows
from agentless_mini.line_rewriting import Kind

NO_MORE = "There are no more rewrites of a line."

# How many mutants come before the next rewrite that the model came upon itself. Those are many and score well, but
# pass seldom: in one order with the mutants they crowd them out.
MUTANTS_PER_FIND = 3
# How many rewrites of one line come before the next ones of it have to wait for those of the other lines.
PER_LINE = 8


@dataclass(frozen=True, slots=True)
class Rewrite:
    """One line of one region in new words, what they come from, and how much likelier the model finds them than the
    old ones (log), with what else speaks for them."""

    region: Region
    row: int
    text: str
    score: float = 0.0
    kind: Kind = Kind.MUTANT


class Novelty:
    """Tells rewrites that parse and differ from the code and from each other by more than formatting.

    One that gives a function or class another name is left out: others call it by its name.
    """

    def __init__(self, regions: Iterable[Region]) -> None:
        """Begin with the code as it is."""
        trees = {region: parse(region.text) if region.is_python else None for region in regions}
        self._defined = {region: _defined(tree) for region, tree in trees.items() if tree is not None}
        self._seen = {self._form(region, region.text) for region in trees}

    def parses(self, rewrite: Rewrite) -> bool:
        """Say whether the region still parses, if it did and is Python, and defines the same names."""
        return rewrite.region not in self._defined or bool(self._tree(rewrite.region, _rewritten(rewrite)))

    def admits(self, rewrite: Rewrite) -> bool:
        """Say whether the rewrite parses and is the first of its form; remember its form."""
        form = self._form(rewrite.region, _rewritten(rewrite))
        if form is None or form in self._seen:
            return False
        self._seen.add(form)
        return True

    def _form(self, region: Region, text: str) -> tuple[Region, str] | None:
        if region not in self._defined:
            return region, "\n".join(" ".join(line.split()) for line in text.split("\n"))
        tree = self._tree(region, text)
        return (region, ast.dump(tree)) if tree else None

    def _tree(self, region: Region, text: str) -> ast.Module | None:
        tree = parse(text)
        return tree if tree and _defined(tree) == self._defined[region] else None


def _rewritten(rewrite: Rewrite) -> str:
    rows = rewrite.region.text.split("\n")
    rows[rewrite.row] = rewrite.text
    return "\n".join(rows)


def _defined(tree: ast.Module) -> list[str]:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return [node.name for node in ast.walk(tree) if isinstance(node, kinds)]


def ranked(regions: Iterable[Region], rewrites: Iterable[Rewrite]) -> tuple[Rewrite, ...]:
    """Return the rewrites that parse, each form of one once, the best first.

    Mutants and what the model came upon take turns. Each are in order of score, equal ones of place and text, but
    that of every line only so many come in one round.
    """
    novelty = Novelty(regions)
    ordered = _in_rounds(sorted(set(rewrites), key=lambda one: (-one.score, *_place(one), one.text, one.kind.name)))
    mutants = (one for one in ordered if one.kind is Kind.MUTANT and novelty.admits(one))
    found = (one for one in ordered if one.kind is not Kind.MUTANT and novelty.admits(one))
    chosen: list[Rewrite] = []
    while turn := [*islice(mutants, MUTANTS_PER_FIND), *islice(found, 1)]:
        chosen += turn
    return tuple(chosen)


def _place(rewrite: Rewrite) -> tuple[str, int]:
    return rewrite.region.path, rewrite.region.first + rewrite.row


def _in_rounds(rewrites: Iterable[Rewrite]) -> list[Rewrite]:
    """Return the rewrites of each line and origin by the PER_LINE, otherwise in their order."""
    counts = Counter[tuple[tuple[str, int], bool]]()
    rounds: list[tuple[int, Rewrite]] = []
    for one in rewrites:
        drawer = (_place(one), one.kind is Kind.MUTANT)
        rounds.append((counts[drawer] // PER_LINE, one))
        counts[drawer] += 1
    return [one for _, one in sorted(rounds, key=itemgetter(0))]


def render(task: EditTask, rewrite: Rewrite) -> str:
    """Return the rewrite as an answer in the edit format.

    SEARCH is the old line, with as many neighbouring lines as it takes to stand in the shown file once.
    """
    file = next(file for file in task.files if file.path == rewrite.region.path)
    number = rewrite.region.first + rewrite.row
    excerpt = next(one for one in file.excerpts if one.first <= number < one.first + one.text.count("\n") + 1)
    rows = shown_rows(excerpt)
    low, high = _unique_run(rows, number - excerpt.first, file)
    new = [*rows[low : number - excerpt.first], rewrite.text, *rows[number - excerpt.first + 1 : high]]
    width = free_width([*rows[low:high], *new])
    head, divider, foot = "<" * width + " SEARCH", "=" * width, ">" * width + " REPLACE"
    fence = "`" * max([3, *(1 + len(line.strip()) for line in new if line.strip().startswith("```"))])
    return "\n".join([fence, f"### {spoken_path(file.path)}", head, *rows[low:high], divider, *new, foot, fence, ""])


def _unique_run(rows: Sequence[str], row: int, file: ShownFile) -> tuple[int, int]:
    """Return the run of rows around `row` that stands once in what is shown of the file.

    Of a file that is shown in part it has at least a neighbour on each side: what is not shown may repeat the line.
    """
    least = 0 if file.whole else 1
    low, high = max(row - least, 0), min(row + 1 + least, len(rows))
    while _occurrences(rows[low:high], file) > 1 and (low, high) != (0, len(rows)):
        low, high = max(low - 1, 0), min(high + 1, len(rows))
    return low, high


def _occurrences(run: Sequence[str], file: ShownFile) -> int:
    count = 0
    for excerpt in file.excerpts:
        rows = shown_rows(excerpt)
        count += sum(rows[at : at + len(run)] == list(run) for at in range(len(rows) - len(run) + 1))
    return count
