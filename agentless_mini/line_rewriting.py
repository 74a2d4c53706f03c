"""Line rewriting: the parts that need no model. It lets a tiny model repair one line where it cannot write an edit.

A text shows the code "before the fix", the issue, and the same code again "after the fix". Wherever a model likes
another token nearly as well as the one in the second copy, a fork starts that rewrites the rest of that line. So does
one for each mutant that people would try. The rewrites are ranked by how much likelier the model finds them than the
old line, and each becomes an ordinary edit.

This module writes the text and picks the forks. `line_regions` picks the code to copy, `line_mutants` writes mutants
down, `serving.line_scoring` asks the model, `line_edits` makes edits of what it likes.
"""

import ast
import enum
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter

from agentless_mini.line_regions import Region, parse

# Of the rest of a line that a fork keeps, what lies more tokens on than this says next to nothing about the fork: the
# ranks hardly change, and the rests would cost more than what is new.
HORIZON = 4

# Up to here a line names what it defines: a fork would give it another name.
_NAMING = re.compile(rb"\s*(?:async\s+)?(?:def|class)\b\s*\w*")


class Kind(enum.Enum):
    """How a fork goes on after the place where it starts; the value is how many forks of the kind are kept."""

    GREEDY = 64  # another token, then what the model finds likeliest, to the end of the line
    REPLACE = 40  # another token instead, the rest of the line kept
    INSERT = 16  # another token before, the rest of the line kept
    DELETE = 20  # the token left out
    MUTANT = 480  # a change that people make, written down in `line_mutants`


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the second copy that may be rewritten: where it is, in the text's bytes and in its region."""

    region: int
    row: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Passage:
    """The text that the model reads, and the lines in it that may be rewritten, in order."""

    text: str
    regions: tuple[Region, ...]
    lines: tuple[Line, ...]


def write_passage(issue: str, regions: Sequence[Region]) -> Passage:
    """Write the regions before the fix, the issue as comments, and the same regions after the fix."""
    before = "".join(f"# {region.path} before the fix:\n{region.text}\n" for region in regions)
    said = "".join(f"# {line}".rstrip() + "\n" for line in ["Issue:", *issue.strip().splitlines()])
    text = _speakable(before + said)
    lines: list[Line] = []
    for number, region in enumerate(regions):
        text += _speakable(f"\n# {region.path} after the fix:\n")
        lines += _lines_of(region, number, len(text.encode()))
        text += _speakable(region.text)
    return Passage(text + "\n# The end.\n", tuple(regions), tuple(lines))


def _speakable(text: str) -> str:
    """Return the text with what no tokenizer takes (surrogates stand for undecodable bytes) as question marks."""
    return text.encode(errors="replace").decode()


def _lines_of(region: Region, number: int, offset: int) -> Iterator[Line]:
    silent = _silent_rows(region)
    for row, line in enumerate(region.text.removesuffix("\n").split("\n")):
        end = offset + len(_speakable(line).encode())
        if line.strip() and row not in silent and _speakable(line) == line:
            yield Line(number, row, offset, end)
        offset = end + 1


def _silent_rows(region: Region) -> frozenset[int]:
    """Return the rows of comments and free-standing strings: nothing that is done depends on them."""
    tree = parse(region.text) if region.is_python else None
    if tree is None:
        return frozenset()
    rows = {row for row, line in enumerate(region.text.split("\n")) if line.lstrip().startswith("#")}
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            rows |= set(range(node.lineno - 1, node.end_lineno or node.lineno))
    return frozenset(rows)


# --- tokens and forks ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TokenLine:
    """The tokens of one line: places `first` to `last` in the text's tokens; the last one holds the line end.

    `kept` is what of the line (blanks of the indentation) belongs to the token before the first.
    """

    line: Line
    first: int
    last: int
    kept: bytes


@dataclass(frozen=True, slots=True)
class Step:
    """What the model thinks at one place of the second copy, in log-probabilities.

    `here` of the token that is there, `after` of the one after it (as if this one were left out), `end` of the token
    that ends the line; `others` are the likeliest tokens but the one that is there, as (token, log-probability), and
    `asked` those with which a spelling goes on from here, whether likely or not.
    """

    here: float
    after: float
    end: float
    others: tuple[tuple[int, float], ...]
    asked: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Spelling:
    """A mutant as tokens: from `place` on, line number `line` goes on with `tokens`, to its end.

    The first `written` of them are new, the others are those that end the old line.
    """

    line: int
    place: int
    tokens: tuple[int, ...]
    written: int


@dataclass(frozen=True, slots=True)
class Fork:
    """A rewrite to be scored: at `place` in line number `line`, the line goes on with `tokens`.

    The first `written` of them are new, the others are kept. Where `kind` is GREEDY and `open` is set, the model goes
    on from there itself. `odds` compares its first token with the one that is there, and `opening` is the
    log-probability of that first token.
    """

    kind: Kind
    line: int
    place: int
    tokens: tuple[int, ...]
    odds: float
    opening: float
    written: int = 1
    open: bool = False

    @property
    def scored(self) -> tuple[int, ...]:
        """The tokens that count: all that the model wrote, else those up to the horizon."""
        return self.tokens if self.kind is Kind.GREEDY else self.tokens[: self.written + HORIZON]


@dataclass(frozen=True, slots=True)
class Tokens:
    """The text as tokens with their bytes, and the lines that may be rewritten."""

    ids: tuple[int, ...]
    pieces: tuple[bytes, ...]
    lines: tuple[TokenLine, ...]

    def rewritten(self, fork: Fork, piece: Callable[[int], bytes]) -> str | None:
        """Return the line as a fork has it, without its end; None where its bytes are no text or hold a line end."""
        line = self.lines[fork.line]
        kept = line.kept + b"".join(self.pieces[line.first : fork.place])
        text, end, _ = (kept + b"".join(piece(token) for token in fork.tokens)).partition(b"\n")
        try:
            return text.decode() if end else None
        except UnicodeDecodeError:
            return None


def align(passage: Passage, ids: Sequence[int], pieces: Sequence[bytes]) -> Tokens | None:
    """Find each line's tokens; None where the pieces do not add up to the text (a tokenizer that normalises)."""
    if b"".join(pieces) != passage.text.encode():
        return None
    starts = [0]
    for piece in pieces:
        starts.append(starts[-1] + len(piece))
    data = passage.text.encode()
    lines = []
    place = 0
    for line in passage.lines:
        while starts[place] < line.start:
            place += 1
        first = place
        while starts[place + 1] <= line.end:
            place += 1
        if starts[first] <= line.end:
            lines.append(TokenLine(line, first, place, data[line.start : starts[first]]))
    return Tokens(tuple(ids), tuple(pieces), tuple(lines))


def propose(
    tokens: Tokens,
    steps: Sequence[Step],
    spellings: Iterable[Spelling],
    piece: Callable[[int], bytes],
    fits: Callable[[Fork], bool],
) -> tuple[Fork, ...]:
    """Return the forks worth scoring: of each kind the best by the odds of their first token, among those that fit.

    `steps[i]` belongs to the token at `tokens.lines[0].first + i`. `fits` is asked about complete forks only, the best
    first and no more of them than it takes.
    """
    start = tokens.lines[0].first if tokens.lines else 0
    forks: dict[Kind, list[Fork]] = {kind: [] for kind in Kind}
    for number, line in enumerate(tokens.lines):
        for place in range(line.first, line.last + 1):
            if _NAMING.fullmatch(line.kept + b"".join(tokens.pieces[line.first : place])):
                continue
            for fork in _forks_at(tokens, number, place, steps[place - start], piece):
                forks[fork.kind].append(fork)
    forks[Kind.MUTANT] += (_mutant(spelling, steps[spelling.place - start]) for spelling in spellings)
    chosen: list[Fork] = []
    for kind, every in forks.items():
        every.sort(key=lambda fork: (-fork.odds, fork.place, fork.tokens))
        ordered = _spread(every, kind.value // 2) if kind is Kind.MUTANT else every
        chosen += islice((fork for fork in ordered if fork.open or fits(fork)), kind.value)
    return tuple(chosen)


def _spread(forks: Sequence[Fork], first: int) -> list[Fork]:
    """Return the first so many forks, then the others by their place among those of their line.

    A copying model is so sure of some lines that none of their mutants is among the likeliest of all.
    """
    places = Counter[int]()
    later: list[tuple[int, Fork]] = []
    for fork in forks[first:]:
        later.append((places[fork.line], fork))
        places[fork.line] += 1
    return [*forks[:first], *(fork for _, fork in sorted(later, key=itemgetter(0)))]


def _forks_at(tokens: Tokens, number: int, place: int, step: Step, piece: Callable[[int], bytes]) -> Iterator[Fork]:
    line = tokens.lines[number]
    rest = tokens.ids[place : line.last + 1]
    is_end = place == line.last
    for token, logp in step.others:
        text, odds = piece(token), logp - step.here
        if b"\n" in text:
            if not is_end:
                yield Fork(Kind.GREEDY, number, place, rest[-1:], odds, step.end)
        elif text:
            yield Fork(Kind.GREEDY, number, place, (token,), odds, logp, open=True)
            yield Fork(Kind.INSERT, number, place, (token, *rest), odds, logp)
            if not is_end:
                yield Fork(Kind.REPLACE, number, place, (token, *rest[1:]), odds, logp)
    if not is_end:
        yield Fork(Kind.DELETE, number, place, rest[1:], step.after - step.here, step.after, written=0)


def _mutant(spelling: Spelling, step: Step) -> Fork:
    opening = dict(step.asked)[spelling.tokens[0]]
    odds = opening - step.here
    return Fork(Kind.MUTANT, spelling.line, spelling.place, spelling.tokens, odds, opening, spelling.written)


def old_score(tokens: Tokens, steps: Sequence[Step], fork: Fork) -> float:
    """Return the log-probability of what the fork's `scored` tokens replace: the old rest of its line, as far."""
    start = tokens.lines[0].first
    end = tokens.lines[fork.line].last + 1 - (len(fork.tokens) - len(fork.scored))
    return sum(step.here for step in steps[fork.place - start : end - start])
