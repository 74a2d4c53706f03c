"""Rewritten lines -> ordinary answers in the edit format, those first that the model finds likeliest.

Where a rewrite says nothing new it is dropped here. Which rewrites there are, and their scores, come from elsewhere
(`line_rewriting`, `serving.line_scoring`).
"""

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agentless_mini.domain import EditTask, ShownFile
from agentless_mini.grammar import free_width, spoken_path
from agentless_mini.line_regions import Region, parse, shown_rows

NO_MORE = "There are no more rewrites of a line."


@dataclass(frozen=True, slots=True)
class Rewrite:
    """One line of one region in new words, and how much likelier the model finds them than the old ones (log)."""

    region: Region
    row: int
    text: str
    score: float = 0.0


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
        return self._form_of(rewrite) is not None

    def admits(self, rewrite: Rewrite) -> bool:
        """Say whether the rewrite parses and is the first of its form; remember its form."""
        form = self._form_of(rewrite)
        if form is None or form in self._seen:
            return False
        self._seen.add(form)
        return True

    def _form_of(self, rewrite: Rewrite) -> tuple[Region, str] | None:
        rows = rewrite.region.text.split("\n")
        rows[rewrite.row] = rewrite.text
        return self._form(rewrite.region, "\n".join(rows))

    def _form(self, region: Region, text: str) -> tuple[Region, str] | None:
        if region not in self._defined:
            return region, "\n".join(" ".join(line.split()) for line in text.split("\n"))
        tree = parse(text)
        renamed = tree is None or _defined(tree) != self._defined[region]
        return None if tree is None or renamed else (region, ast.dump(tree))


def _defined(tree: ast.Module) -> list[str]:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return [node.name for node in ast.walk(tree) if isinstance(node, kinds)]


def ranked(rewrites: Iterable[Rewrite]) -> tuple[Rewrite, ...]:
    """Return the rewrites by score, the best first; equal ones in order of place and text."""
    return tuple(sorted(rewrites, key=lambda one: (-one.score, one.region.path, one.region.first + one.row, one.text)))


def render(task: EditTask, rewrite: Rewrite) -> str:
    """Return the rewrite as an answer in the edit format (mission section 2).

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
    return "\n".join(["```", f"### {spoken_path(file.path)}", head, *rows[low:high], divider, *new, foot, "```", ""])


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
