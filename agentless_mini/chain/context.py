"""What of a repository fits a prompt: the tree, cut to the likeliest paths, and files, cut by one stated rule.

The rule for files: whole files are left out from the end of the list, the least important first, until the rest fits;
where even the first does not fit alone, it is shown in windows around the places that the issue names. An issue that
takes too much itself loses its middle.

Sizes are in estimated tokens: bytes times a ratio that the caller learns from the server's own count (`Gauge`). This
module never talks to a server.
"""

import ast
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from agentless_mini.chain.lexical import Mentions, terms
from agentless_mini.domain import Excerpt, Issue, Message, ShownFile
from agentless_mini.edits.sources import is_python, parse_python

# A prompt whose only file is a shorter window than this could not hold one function.
LEAST_WINDOW_LINES = 8
# What a heading, its fence and the marks of left-out lines cost a file beside its text.
OVERHEAD_BYTES = 60
# A longer Python file, in characters, is data: to parse it takes half a second and its weight in memory many times.
MOST_PARSED = 1_000_000
FRAME_WEIGHT = 8.0
DEFINITION_WEIGHT = 4.0
NAME_WEIGHT = 2.0


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
    """The files as shown, in the order given, and the paths of those left out or shown in part."""

    files: tuple[ShownFile, ...]
    left_out: tuple[str, ...] = ()
    windowed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """A decoded text file: its path and its text with newlines as `\\n` or `\\r\\n`, as in the file."""

    path: str
    text: str


def fit_issue(issue: Issue, budget: int, gauge: Gauge) -> Issue:
    """Return the issue within `budget` tokens: of a longer one the first two thirds of that and the end are kept.

    The start says what is wrong, and the end is where logs and tracebacks say why.
    """
    total = gauge.tokens(issue.text)
    if total <= budget:
        return issue
    kept = int(len(issue.text) * budget / total)
    head = issue.text[: kept * 2 // 3]
    tail = issue.text[len(issue.text) - kept // 3 :]
    left_out = len(issue.text) - len(head) - len(tail)
    return Issue(f"{head}\n[... {left_out} characters of the issue are not shown ...]\n{tail}", issue.source)


def without_middle(text: str, letters: int) -> str:
    """Return the text, or of a longer one the beginning and the end, half of `letters` each, with a mark between."""
    if len(text) <= letters:
        return text
    half = letters // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters are not shown ...]\n{text[len(text) - half :]}"


def fit_tree(ranked: Sequence[str], budget: int, gauge: Gauge) -> tuple[str, ...]:
    """Return as many paths as fit `budget` tokens, the likeliest ones, sorted: the order in which a tree is read."""
    shown: list[str] = []
    left = budget
    for path in ranked:
        left -= gauge.tokens(path + "\n")
        if left < 0:
            break
        shown.append(path)
    return tuple(sorted(shown))


def fit_files(sources: Sequence[Source], named: Mentions, budget: int, gauge: Gauge) -> Fitted:
    """Show the files within `budget` tokens by the module's rule. Sources are most important first.

    `Fitted.files` is empty where not even a window of the first file fits: the caller decides what that means.
    """
    costs = [gauge.tokens(source.text) + gauge.tokens(source.path + " " * OVERHEAD_BYTES) for source in sources]
    kept = len(sources)
    while kept > 1 and sum(costs[:kept]) > budget:
        kept -= 1
    left_out = tuple(source.path for source in sources[kept:])
    if sum(costs[:kept]) <= budget:
        whole = (ShownFile(source.path, (Excerpt(1, source.text),), whole=True) for source in sources[:kept])
        return Fitted(tuple(whole), left_out)
    first = sources[0]
    excerpts = _windows(first, named, budget, gauge)
    files = (ShownFile(first.path, excerpts, whole=False),) if excerpts else ()
    return Fitted(files, left_out, windowed=(first.path,) if excerpts else ())


@dataclass(frozen=True, slots=True)
class _Lines:
    """A file's lines, how strongly the issue points at each, and its definitions as ranges, the heaviest first."""

    texts: tuple[str, ...]
    weights: tuple[float, ...]
    spans: tuple[range, ...]


@lru_cache(maxsize=4)
def _lines(source: Source, named: Mentions) -> _Lines:
    """Weigh a file's lines by what the issue names in them: a traceback's most, then a definition, then a use.

    Of a file that has no definitions, runs of lines stand for them. It is remembered: a prompt is fitted in several
    rounds, and lists share their files.
    """
    texts = tuple(source.text.split("\n"))
    in_traceback = {number - 1 for where, number in named.lines if where == source.path}
    names = {name.lower() for name in named.identifiers}
    weights = []
    for number, line in enumerate(texts):
        hits = len(names & set(terms(line))) if names else 0
        defines = line.lstrip().startswith(("def ", "class ", "async def "))
        weight = hits * (DEFINITION_WEIGHT if defines else NAME_WEIGHT)
        weights.append(weight + (FRAME_WEIGHT if number in in_traceback else 0.0))
    is_parsed = is_python(source.path) and len(source.text) <= MOST_PARSED
    spans = _definitions(source.text) if is_parsed else []
    spans = spans or [range(start, min(start + 40, len(texts))) for start in range(0, len(texts), 40)]

    def order(span: range) -> tuple[float, int]:
        return (-sum(weights[span.start : span.stop]) / math.sqrt(len(span)), span.start)

    return _Lines(texts, tuple(weights), tuple(sorted(spans, key=order)))


def _windows(source: Source, named: Mentions, budget: int, gauge: Gauge) -> tuple[Excerpt, ...]:
    """Choose whole definitions around the places that the issue names, best first, until the budget is used up."""
    lines = _lines(source, named)
    costs = [gauge.tokens(text + "\n") for text in lines.texts]
    mark = gauge.tokens(" " * OVERHEAD_BYTES)
    left = budget - gauge.tokens(source.path) - mark
    chosen: set[int] = set()
    for span in lines.spans:
        window = _affordable(span, lines.weights, costs, left - mark)
        if window:
            left -= sum(costs[window.start : window.stop]) + mark
            chosen.update(window)
    return _excerpts(sorted(chosen), lines.texts)


def _definitions(text: str) -> list[range]:
    """Split a Python file into functions, class heads and what stands between them; empty where it does not parse."""
    try:
        tree = parse_python(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    starts = {0}
    for node in tree.body:
        starts |= _starts(node)
        if isinstance(node, ast.ClassDef):
            starts |= {start for child in node.body for start in _starts(child)}
    total = text.count("\n") + 1
    ordered = sorted(start for start in starts if start < total)
    return [range(start, end) for start, end in zip(ordered, [*ordered[1:], total], strict=True)]


def _starts(node: ast.stmt) -> set[int]:
    """Return the 0-based first line of a definition, decorators included, and the line after it."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return set()
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
    return {first, node.end_lineno or node.lineno}


def _affordable(span: range, weights: Sequence[float], costs: Sequence[int], purse: int) -> range:
    """Return the span if `purse` tokens pay for it, else what they pay for around its heaviest line, else nothing."""
    centre = max(span, key=weights.__getitem__)
    low, high, spent = centre, centre, 0
    wider = range(centre, centre + 1)
    while wider != range(low, high):
        spent += sum(costs[wider.start : low]) + sum(costs[high : wider.stop])
        if spent > purse:
            break
        low, high = wider.start, wider.stop
        wider = range(max(low - 1, span.start), min(high + 1, span.stop))
    return range(low, high) if high - low >= min(LEAST_WINDOW_LINES, len(span)) else range(0)


def _excerpts(chosen: Sequence[int], lines: Sequence[str]) -> tuple[Excerpt, ...]:
    """Join chosen lines, 0-based and ascending, into runs."""
    runs: list[list[int]] = []
    for number in chosen:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return tuple(Excerpt(run[0] + 1, "\n".join(lines[n] for n in run) + "\n") for run in runs)
