"""What of a repository fits a prompt: the tree, cut to the likeliest paths, and files, cut by one stated rule.

The rule for files: a part of the room is dealt to them, the first of the list gets most; for the rest the functions of
all are bought, those most alike to the issue first. What a file does not need of its share goes to the others. One that
needs more than its share is shown in part: its best functions, and an outline of others. A file is left out only where
its share is too small for any part. Sizes are in estimated tokens: bytes times a ratio that the caller learns from the
server's own count (`Gauge`).
"""

import ast
import itertools
import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from agentless_mini.chain.lexical import Mentions, alike
from agentless_mini.domain import Excerpt, Issue, Message, ShownFile
from agentless_mini.edits.forms import Parsed, language_of, parsed
from agentless_mini.edits.sources import is_python, parse_python

# A prompt whose only file is a shorter window than this could not hold one function.
LEAST_WINDOW_LINES = 8
BLOCK_LINES = 40  # stand for a function where a file has none, or its language is not known
# What a heading and its fence, or a mark of left-out lines, cost a file beside its text.
OVERHEAD_BYTES = 64
# A share that pays for less shows next to nothing of a file.
LEAST_BYTES = 600
# A longer Python file, in characters, is data: to parse it takes half a second and its weight in memory many times.
MOST_PARSED = 1_000_000
# What a function, and a file's part of what is dealt, is worth beside one as good in the file before it in the list.
DECAY = 0.8
# The part of the room that is dealt to the files whatever they hold, so that an issue of few words shows of all.
DEALT = 0.3
# What another prompt shows of a file is shown again where it is at most so many times its share, or its share of it.
REUSED = 1.3
# A new part takes this much of its share, so that it fits where another prompt has a little less room.
SLACK = 0.98
# The outline may take this part of a file's share.
OUTLINE_SHARE = 8
# What an issue says of a function beside words, in units of the BM25 score of the best one of all files.
TITLE_COUNTS = 0.5  # of the score for the words of the title alone, which is added
HEAD = 0.5  # of what stands before the first function: imports
DEFINES_NAMED = 0.5
IN_TRACEBACK = 1.0
# How much less a long block is worth, which takes the room of several others: by this power of its lines.
SIZE_COUNTS = 0.3
MOST_SIGNATURE = 100  # letters; of a docstring's first line too


@dataclass(frozen=True, slots=True)
class Gauge:
    """Estimates tokens from text. `tokens_per_byte` is in (0, 1]; a tokenizer of code needs about 0.25 to 0.4."""

    tokens_per_byte: float = 0.3

    def tokens(self, text: str) -> int:
        """Return the estimated number of tokens of a text, rounded up."""
        size = len(text) if text.isascii() else len(text.encode(errors="replace"))
        return math.ceil(size * self.tokens_per_byte)

    def of(self, messages: Iterable[Message]) -> int:
        """Return the estimated number of tokens of messages, each rounded up."""
        return sum(self.tokens(message.content) for message in messages)

    def corrected(self, estimated: int, counted: int) -> "Gauge":
        """Return a gauge that would have estimated what the server counted, and a little more."""
        return Gauge(min(1.0, self.tokens_per_byte * max(counted, 1) / max(estimated, 1) * 1.02))


@dataclass(frozen=True, slots=True)
class Fitted:
    """The files as shown, in the order given, and the paths of those left out."""

    files: tuple[ShownFile, ...]
    left_out: tuple[str, ...]

    @property
    def windowed(self) -> tuple[str, ...]:
        """Return the paths of those shown in part."""
        return tuple(file.path for file in self.files if not file.whole)


@dataclass(frozen=True, slots=True)
class Source:
    """A decoded text file: its path and its text with newlines as `\\n` or `\\r\\n`, as in the file."""

    path: str
    text: str


def fit_issue(issue: Issue, budget: int, gauge: Gauge) -> Issue:
    """Return the issue within `budget` tokens: of a longer one two thirds from the start, and the end."""
    total = gauge.tokens(issue.text)
    if total <= budget:
        return issue
    text, kept = issue.text, int(len(issue.text) * budget / total)
    head, tail = text[: kept * 2 // 3], text[len(text) - kept // 3 :]
    left_out = len(text) - len(head) - len(tail)
    return Issue(f"{head}\n[... {left_out} characters of the issue are not shown ...]\n{tail}", issue.source)


def without_middle(text: str, letters: int) -> str:
    """Return the text, or of a longer one the beginning and the end, half of `letters` each, with a mark between."""
    if len(text) <= letters:
        return text
    half = letters // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters are not shown ...]\n{text[len(text) - half :]}"


def fit_tree(ranked: Sequence[str], budget: int, gauge: Gauge) -> tuple[str, ...]:
    """Return as many paths as fit `budget` tokens, the likeliest ones, sorted: the order in which a tree is read."""
    totals = itertools.accumulate(gauge.tokens(path + "\n") for path in ranked)
    return tuple(sorted(path for path, total in zip(ranked, totals, strict=True) if total <= budget))


def fit_files(
    sources: Sequence[Source], issue: Issue, named: Mentions, budget: int, gauge: Gauge, shown: Mapping[str, ShownFile]
) -> Fitted:
    """Show the files within `budget` tokens by the module's rule. Sources are most important first.

    `shown` are files as other prompts show them, by path: what suits a file's share is shown again, so that prompts
    share their beginning. `Fitted.files` is empty where no part of any file fits: the caller decides what that means.
    """
    costs = {one.path: gauge.tokens(one.text) + _heading(one.path, gauge) for one in sources}
    ranked = _ranked(tuple(sources), issue, named)
    weights = _bought(ranked, [one.path for one in sources], budget, gauge)
    files: dict[str, ShownFile] = {}
    waiting, left = [*sources], budget
    while waiting:
        total = sum(weights[one.path] for one in waiting) or 1.0
        shares = {one.path: int(left * weights[one.path] / total) for one in waiting}
        last = waiting[-1].path
        if len(waiting) > 1 and shares[last] < min(costs[last], LEAST_BYTES * gauge.tokens_per_byte):
            waiting.pop()
            continue
        # Those that are whole come first: what they leave is for the others.
        source = next((one for one in waiting if costs[one.path] <= shares[one.path]), waiting[0])
        waiting.remove(source)
        path, share = source.path, shares[source.path]
        if costs[path] <= share:
            files[path] = ShownFile(path, (Excerpt(1, source.text),), whole=True)
            left -= costs[path]
            continue
        part = shown.get(path)
        if part is None or not share / REUSED <= _cost(part, gauge) <= min(share * REUSED, left):
            spans = [block.span for block in ranked if block.path == path]
            part = _part(source, issue, named, spans, int(share * SLACK), gauge)
        if part.excerpts:
            files[path] = part
            left -= _cost(part, gauge)
    paths = [one.path for one in sources]
    return Fitted(tuple(files[path] for path in paths if path in files), tuple(p for p in paths if p not in files))


def _heading(path: str, gauge: Gauge) -> int:
    return gauge.tokens(path + " " * OVERHEAD_BYTES)


def _cost(part: ShownFile, gauge: Gauge) -> int:
    """Return the most tokens that a file in part takes, with a mark before each excerpt and after the last."""
    marks = " " * OVERHEAD_BYTES * (len(part.excerpts) + 1)
    return _heading(part.path, gauge) + gauge.tokens(marks + "".join(one.text for one in part.excerpts + part.outline))


def _part(source: Source, issue: Issue, named: Mentions, spans: Sequence[range], share: int, gauge: Gauge) -> ShownFile:
    """Choose from the spans, the best first, until `share` tokens are used up."""
    lines, frames = _lines(source), _frames(source.path, named)
    sizes = [len(text.encode(errors="replace")) + 1 for text in lines.texts]
    left = (share - _heading(source.path, gauge)) / gauge.tokens_per_byte - 2 * OVERHEAD_BYTES
    outlined = {one.rows.start: f"{one.line}\n" for one in lines.definitions}
    for_outline = min(left / OUTLINE_SHARE, sum(len(line.encode(errors="replace")) for line in outlined.values()))
    left -= max(for_outline, 0)
    chosen: set[int] = set()
    for span in spans:
        window = _affordable(span, lines.texts, frames, issue, sizes, left - OVERHEAD_BYTES)
        if window:
            marks = 1 - (window.start - 1 in chosen) - (window.stop in chosen)
            left -= sum(sizes[window.start : window.stop]) + marks * OVERHEAD_BYTES
            chosen.update(window)
    excerpts = _excerpts(sorted(chosen), lines.texts, sizes)
    covered = {one.first - 1 + row for one in excerpts for row in range(one.text.count("\n"))}
    rows = [span.start for span in spans if span.start in outlined and span.start not in covered]
    costs = itertools.accumulate(len(outlined[row].encode(errors="replace")) for row in rows)
    afforded = sorted(row for row, cost in zip(rows, costs, strict=True) if cost <= for_outline)
    outline = tuple(Excerpt(row + 1, outlined[row]) for row in afforded)
    return ShownFile(source.path, excerpts, whole=False, outline=outline, lines=len(lines.texts))


@dataclass(frozen=True, slots=True)
class Definition:
    """A function or class: its rows, counted from 0, decorators included; its name, and its line in an outline."""

    rows: range
    name: str
    line: str


@dataclass(frozen=True, slots=True)
class _Lines:
    """A file's lines, its definitions, and the rows from 0, ascending, at which its blocks begin."""

    texts: tuple[str, ...]
    definitions: tuple[Definition, ...]
    starts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Block:
    """A block of a file: its rows, its size in bytes, and its worth, which is 0 where the issue says nothing of it."""

    path: str
    span: range
    size: int
    worth: float


@lru_cache(maxsize=32)
def _lines(source: Source) -> _Lines:
    """Split a file into its blocks. It is remembered, as lists share their files."""
    texts = tuple(source.text.removesuffix("\n").split("\n"))
    found = definitions(source)
    bounds = sorted({0, *(row for one in found for row in (one.rows.start, one.rows.stop) if row < len(texts))})
    pieces = zip(bounds, [*bounds[1:], len(texts)], strict=True)
    starts = [first for first, end in pieces if not first or any(map(str.strip, texts[first:end]))]
    return _Lines(texts, found, tuple(starts if found else range(0, len(texts), BLOCK_LINES)))


@lru_cache(maxsize=8)
def _ranked(sources: tuple[Source, ...], issue: Issue, named: Mentions) -> tuple[_Block, ...]:
    """Return the blocks of all files, the best first, by what the issue says. A prompt is fitted in several rounds."""
    blocks, texts, said = list[_Block](), list[str](), list[float]()
    for place, source in enumerate(sources):
        lines, frames = _lines(source), _frames(source.path, named)
        first = {0: HEAD} | {
            one.rows.start: DEFINES_NAMED for one in lines.definitions if one.name in named.identifiers
        }
        for span in itertools.starmap(range, itertools.pairwise([*lines.starts, len(lines.texts)])):
            texts.append("\n".join(lines.texts[span.start : span.stop]))
            said.append(first.get(span.start, 0.0) + IN_TRACEBACK * any(row in span for row in frames))
            size = len(texts[-1].encode(errors="replace")) + 1
            blocks.append(_Block(source.path, span, size, DECAY**place / len(span) ** SIZE_COUNTS))
    scores = zip(blocks, alike(issue, texts, TITLE_COUNTS), said, strict=True)
    weighed = [replace(block, worth=block.worth * (words + more)) for block, words, more in scores]
    return tuple(sorted(weighed, key=lambda block: -block.worth))


def _frames(path: str, named: Mentions) -> frozenset[int]:
    """Return the rows of a file, from 0, that tracebacks name."""
    return frozenset(number - 1 for of, number in named.lines if of == path)


def _bought(ranked: Sequence[_Block], paths: Sequence[str], budget: int, gauge: Gauge) -> Mapping[str, float]:
    """Return what each file gets, in tokens: its part of what is dealt, and of the rest what its best blocks cost."""
    total = sum(DECAY**place for place in range(len(paths)))
    spent = {path: DEALT * budget * DECAY**place / total for place, path in enumerate(paths)}
    left = budget * (1 - DEALT)
    for block in ranked:
        cost = (block.size + OVERHEAD_BYTES) * gauge.tokens_per_byte
        if block.worth and cost <= left:
            left -= cost
            spent[block.path] += cost
    return spent


def definitions(source: Source) -> tuple[Definition, ...]:
    """Return the functions and classes of a file, and those in its classes, in order of line.

    Empty where it has none, does not parse, or is in no language whose grammar is there.
    """
    if len(source.text) > MOST_PARSED:
        return ()
    try:
        if is_python(source.path):
            return tuple(_of_python(parse_python(source.text).body))
        language = language_of(source.path)
        tree = parsed(language, source.text.encode(errors="replace")) if language else None
        return tuple(_of_grammar(tree.tree.root_node, tree.data)) if isinstance(tree, Parsed) else ()
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()


def _of_python(body: Sequence[ast.stmt], indent: str = "") -> Iterator[Definition]:
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
        if isinstance(node, ast.ClassDef):
            head = f"class {node.name}({', '.join(map(ast.unparse, node.bases))})".removesuffix("()")
        else:
            head = f"{'async ' * isinstance(node, ast.AsyncFunctionDef)}def {node.name}({ast.unparse(node.args)})"
        said = (ast.get_docstring(node) or "").partition("\n")[0]
        head = f"{head[:MOST_SIGNATURE]} ..." if len(head) > MOST_SIGNATURE else f"{head}:"
        line = f"{indent}{head}{f'  # {said[:MOST_SIGNATURE]}' if said else ''}"
        yield Definition(range(first, node.end_lineno or node.lineno), node.name, line)
        if isinstance(node, ast.ClassDef) and not indent:
            yield from _of_python(node.body, "    ")


def _of_grammar(node: Any, data: bytes, indent: str = "") -> Iterator[Definition]:  # noqa: ANN401 - tree-sitter's
    """Yield what has a body and a name, or a declarator as in C: that is what grammars call the parts of functions."""
    for child in node.named_children:
        body = child.child_by_field_name("body")
        name = child.child_by_field_name("name") or child.child_by_field_name("declarator")
        rows = range(child.start_point.row, child.end_point.row + 1)
        if body and name and len(rows) > 1:
            head = " ".join(data[child.start_byte : body.start_byte].decode(errors="replace").split())
            yield Definition(rows, name.text.decode(errors="replace"), f"{indent}{head[:MOST_SIGNATURE]}")
            if not indent:
                yield from _of_grammar(body, data, "    ")
        elif child.type == "export_statement":
            yield from _of_grammar(child, data, indent)


def _affordable(
    span: range, texts: Sequence[str], frames: Container[int], issue: Issue, sizes: Sequence[int], purse: float
) -> range:
    """Return the span if `purse` bytes pay for it, else what they pay for around its heaviest line, else nothing."""
    if sum(sizes[span.start : span.stop]) <= purse:
        return span
    if sum(sorted(sizes[span.start : span.stop])[:LEAST_WINDOW_LINES]) > purse:
        return range(0)
    words = alike(issue, texts[span.start : span.stop])
    centre = max(span, key=lambda row: words[row - span.start] + IN_TRACEBACK * (row in frames))
    low, high, spent = centre, centre, sizes[centre]
    wider = range(centre, centre + 1)
    while spent <= purse:  # it ends before the whole span, which costs more
        low, high = wider.start, wider.stop
        wider = range(max(low - 1, span.start), min(high + 1, span.stop))
        spent += sum(sizes[wider.start : low]) + sum(sizes[high : wider.stop])
    return range(low, high) if high - low >= min(LEAST_WINDOW_LINES, len(span)) else range(0)


def _excerpts(chosen: Sequence[int], lines: Sequence[str], sizes: Sequence[int]) -> tuple[Excerpt, ...]:
    """Join chosen rows, ascending, into runs; a gap whose mark would be as long as its lines is no gap."""
    runs: list[list[int]] = []
    for row in chosen:
        if runs and sum(sizes[runs[-1][1] : row]) <= OVERHEAD_BYTES:
            runs[-1][1] = row + 1
        else:
            runs.append([row, row + 1])
    return tuple(Excerpt(first + 1, "\n".join(lines[first:end]) + "\n") for first, end in runs)
