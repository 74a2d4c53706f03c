"""How probable it is that a patch is right, and whether it has shown enough to be printed: of its votes and tests.

Log odds are a sum: of votes, likeness to the other samples and size; of the tests that pass, each worth as much as
the others agree with it; and of the regression tests that break, less those that pin the fault. docs/experiments.md
("The probability that a patch is right") has the outcomes behind the numbers, and how well it is calibrated.

Of the levels `tests` and `given` are each enough for `agreement`. Neither is enough for the other: tests of the
user's own say nothing of what a patch breaks, and those of a model say less than the user's.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentless_mini.domain import Execution, Level, Origin
from agentless_mini.errors import printable

if TYPE_CHECKING:
    from agentless_mini.chain.rank import Standing, Totals

MOST_WORDS = 256  # of a patch that are compared, the first: a pair takes a tenth of a millisecond at most
# Fitted on django's 97 issues in two public pools with official outcomes; 69 of other repositories tested them.
BASE, VOTES, LIKENESS, SIZE = 0.0, 0.35, 1.15, -0.01
UNDEFINED = -1.5  # a guess
# Guesses: a right patch passes 85 % of the generated tests, and a wrong one 35 % before others were seen, which count
# as those of PRIOR patches. Of official tests, which are better, wrong patches passed 22 %.
RIGHT, WRONG, PRIOR, MOST = 0.85, 0.35, 4, 0.6
UNPASSED = 0.3  # a guess: what a test is worth that no patch passes, since it may be wrong itself
GIVEN_FAILING, GIVEN_PASSING = math.log(0.03 / 0.65), math.log(0.97 / 0.35)  # guesses
CORRELATION = 0.3  # of two tests' results on wrong patches, in 141 official reports: ten tests are worth 2.7
AGREED, AGREED_OF = 3, 4  # in how many results a test agreed with others before any was seen, and of how many: a guess
# Of 500 true fixes 14 % need old tests changed, 0.8 % more than three; 24 % of wrong patches break some. By what the
# odds are divided for one that does not pin the fault, and the log odds that one does before others were seen: guesses.
HARM, PINS, PINNED, MOST_PINS = 8, math.log(0.8 / 0.2), 4.4, 3

UNTESTED = "The vote alone chooses the patch."
"""The beginning of the note that says why no test was run."""
DOUBTFUL = 4
"""Without a test that reproduces the issue, a patch that less than one in so many votes agree on is not trusted."""

_HEADER = re.compile(rb"(?:---|\+\+\+) ")
_WORD = re.compile(rb"\w+|[^\w\s]")


# --- the probability -------------------------------------------------------------------------------------------------


def probability(odds: float) -> float:
    """Return the probability, in [0, 1], of log odds."""
    return (1 + math.tanh(odds / 2)) / 2


def log_odds(known: Sequence["Standing"], count: "Totals") -> dict[str, float]:
    """Return the log odds that each patch is right, by normal form.

    More votes, more tests that pass, and fewer that break never lower a patch. The order of `known` does not matter.
    """
    tried = [one for one in known if not one.untried and not one.refused]
    worth, unpassed = _worth(tried, count)
    passing = Counter(place for one in tried for place in one.generated)
    pins, pin = _pins(tried, count)

    def told(one: "Standing", place: int) -> float:
        passes = place in one.generated  # that says the less, the more of the others pass
        wrong = min(MOST, (PRIOR * WRONG + passing[place] - passes) / (PRIOR + max(1, len(tried)) - 1))
        return worth[place] * (math.log(RIGHT / wrong) if passes else math.log((1 - RIGHT) / (1 - wrong)))

    def odds(one: "Standing") -> float:
        own = GIVEN_FAILING * count.given + (GIVEN_PASSING - GIVEN_FAILING) * len(one.given)
        new = math.fsum([unpassed, *(told(one, place) for place in passing)])
        tests = own / _dependence(count.given) + new / _dependence(count.generated)
        broken = count.regressions - len(one.kept)
        pinned = math.fsum(share for place, share in pins.items() if place not in one.kept)
        pinned += (count.regressions - len(pins)) * pin
        return _voted(one) + tests - math.log1p(HARM * (broken - min(MOST_PINS, pinned)))

    return {one.normal: odds(one) for one in known}


def _voted(one: "Standing") -> float:
    """Return the log odds without tests. The share of the votes is that of the urn of `stopping`."""
    share = math.log((one.votes - 0.5) / (one.of + 1.5 - one.votes))
    size = SIZE * math.log(max(1, one.lines)) + (UNDEFINED if one.undefined else 0)
    return BASE + VOTES * share + LIKENESS * one.likeness + size


def _dependence(tests: int) -> float:
    """Return by what the evidence of so many tests is divided, since wrong patches fail them together."""
    return 1 + CORRELATION * max(0, tests - 1)


def _worth(tried: Sequence["Standing"], count: "Totals") -> tuple[dict[int, float], float]:
    """Return the share of results in which other tests agree with each test that passes with some patch.

    And what the generated tests say of each patch that pass with none.
    """
    places = frozenset[int]().union(*(one.reproducing for one in tried))
    passing = {place: frozenset(n for n, one in enumerate(tried) if place in one.reproducing) for place in places}
    columns = [*passing.values(), *[frozenset[int]()] * (count.reproducing - len(places))]
    pairs = len(tried) * max(0, len(columns) - 1)

    def share(column: frozenset[int]) -> float:
        return (AGREED + pairs - sum(len(column ^ other) for other in columns)) / (AGREED_OF + pairs)

    unpassed = count.generated - len(frozenset[int]().union(*(one.generated for one in tried)))
    fails = math.log((1 - RIGHT) / (1 - WRONG))
    return {place: share(column) for place, column in passing.items()}, UNPASSED * unpassed * share(frozenset()) * fails


def _pins(tried: Sequence["Standing"], count: "Totals") -> tuple[dict[int, float], float]:
    """Return the probability that a regression test pins the fault, for each that passes with some patch.

    And that for each that passes with none. Those that break it speak for it as far as more reproducing tests pass with
    them than with any that keeps it; such a one speaks against it.
    """
    fixed = [(len(one.reproducing) / max(1, count.reproducing), one.kept) for one in tried]

    def pin(place: int) -> float:
        best = max((share for share, kept in fixed if place in kept), default=0.0)
        more = math.fsum(max(0.0, share - best) for share, kept in fixed if place not in kept)
        return probability(PINS + PINNED * (3 * more - best))

    return {place: pin(place) for place in frozenset[int]().union(*(kept for _, kept in fixed))}, pin(-1)


# --- likeness --------------------------------------------------------------------------------------------------------


class Likeness:
    """How much a patch is like the other samples: the mean of its similarities to them, each two compared once.

    A similarity is Levenshtein's ratio (twice the longest common subsequence, over both lengths) of the words of what
    two diffs add and remove. SWE-Swiss ("enhanced self-consistency"; github.com/zhenyuhe00/SWE-Swiss,
    evaluation/agentless/repair/rerank.py) takes that of characters, to the half of all samples most alike.
    """

    def __init__(self) -> None:
        """Begin with nothing compared."""
        self._words: dict[bytes, tuple[bytes, ...]] = {}
        self._pairs: dict[tuple[bytes, bytes], float] = {}

    def of(self, diff: bytes, votes: Mapping[bytes, int]) -> float:
        """Return the mean similarity, in [0, 1], of a diff to all other samples; `votes` has those of each diff.

        A sole sample has 1/2.
        """
        others = sum(votes.values()) - 1
        every = math.fsum(self._ratio(diff, one) * count for one, count in votes.items())
        return (every - 1) / others if others else 0.5

    def _ratio(self, one: bytes, other: bytes) -> float:
        if one == other:
            return 1.0
        key = min(one, other), max(one, other)
        if key not in self._pairs:
            a, b = self._said(one), self._said(other)
            self._pairs[key] = 2 * _common(a, b) / (len(a) + len(b)) if a or b else 1.0
        return self._pairs[key]

    def _said(self, diff: bytes) -> tuple[bytes, ...]:
        """Return the words that a diff adds and removes, after the names of the files."""
        if diff not in self._words:
            words = (word for line in changed_lines(diff) for word in _WORD.findall(line))
            self._words[diff] = tuple(word for word, _ in zip(words, range(MOST_WORDS), strict=False))
        return self._words[diff]


def changed_lines(diff: bytes) -> list[bytes]:
    """Return the lines that a diff adds and removes, and those that say that a file goes."""
    return [line for line in diff.split(b"\n") if line[:1] in (b"+", b"-", b"d") and not _HEADER.match(line)]


def _common(a: tuple[bytes, ...], b: tuple[bytes, ...]) -> int:
    """Return the length of the longest common subsequence, a bit for each word of `a` (Hyyro 2004)."""
    places: dict[bytes, int] = {}
    for place, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(a)) - 1
    open_places = full
    for word in b:
        if matches := open_places & places.get(word, 0):
            open_places = (open_places + matches | open_places - matches) & full
    return len(a) - open_places.bit_count()


# --- the levels ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chosen:
    """The chosen patch by its normal form, with `votes` of all `valid` ones."""

    normal: str
    votes: int
    valid: int


@dataclass(frozen=True, slots=True)
class Trust:
    """What a patch lacks for each level, as a clause for people; "" where it lacks nothing.

    What it lacks for `any` is what speaks against it: that keeps no patch from being printed where any will do.
    """

    any: str
    agreement: str
    tests: str
    given: str

    def lacks(self, level: Level) -> str:
        """Return what the patch lacks for a level."""
        said: str = getattr(self, level.value)
        return said

    def suffices(self, level: Level) -> bool:
        """Return whether the patch has shown enough to be printed."""
        return level is Level.ANY or not self.lacks(level)


def trust(chosen: Chosen, execution: Execution | None, own: Sequence[str] = (), notes: Sequence[str] = ()) -> Trust:
    """Return what a patch has shown. `own` are the ids of the user's failing tests.

    `notes` are those of the run: they say why one of `own` was not run, or tells nothing.
    """
    found = next((one for one in execution.verdicts if one.normal == chosen.normal), None) if execution else None
    passing = found.passed() if found else frozenset()
    results = {origin: dict[str, bool]() for origin in Origin}
    for case in execution.cases if execution and found else ():
        results[case.origin][case.id] = case.id in passing
    given, kept = results[Origin.GIVEN], list(results[Origin.REGRESSION].values())
    fixed = [*given.values(), *results[Origin.GENERATED].values()]

    doubt = _doubt(chosen, fixed, kept, is_refused=bool(found and found.refusal))
    of_own = _own(given, own, notes)
    of_tests = doubt or _tests(list(given.values()), fixed, kept)
    divided = chosen.votes < 2 or 2 * chosen.votes <= chosen.valid
    of_votes = doubt or (_share(chosen) if divided and of_tests and of_own else "")
    return Trust(doubt or (of_own if own else ""), of_votes, of_tests, of_own)


def _doubt(chosen: Chosen, fixed: Sequence[bool], kept: Sequence[bool], *, is_refused: bool) -> str:
    if is_refused:
        return "it cannot be put over the tree that the tests run on"
    if fixed:
        return "" if any(fixed) else f"it passes none of {_counted(fixed, 'reproduction')}"
    if kept and not any(kept):
        return f"it passes none of {_counted(kept, 'regression')}"
    if DOUBTFUL * chosen.votes < chosen.valid:
        return f"no test shows that it repairs the issue, and {_share(chosen)}"
    return ""


def _tests(given: Sequence[bool], fixed: Sequence[bool], kept: Sequence[bool]) -> str:
    if not fixed:
        return "no test that was run reproduces the issue"
    if not all(given):
        return f"it passes {sum(given)} of {_counted(given, 'given')}"
    if 2 * sum(fixed) <= len(fixed):
        return f"it passes {sum(fixed)} of {_counted(fixed, 'reproduction')}"
    return "" if all(kept) else f"it breaks {len(kept) - sum(kept)} of {_counted(kept, 'regression')}"


def _own(given: dict[str, bool], own: Sequence[str], notes: Sequence[str]) -> str:
    if not own:
        return "no failing test was given"
    silent, failing = (
        ", ".join(printable(test) for test in own if given.get(test) is state) for state in (None, False)
    )
    if silent:
        telling = [note for note in notes if note.startswith(UNTESTED) or any(printable(test) in note for test in own)]
        why = f" ({' '.join(telling)})" if telling else ""
        return f"your test {silent} shows nothing{why}"
    return f"your test {failing} does not pass with it" if failing else ""


def _share(chosen: Chosen) -> str:
    verb = "has" if chosen.votes == 1 else "agree on"
    return f"{chosen.votes} of {chosen.valid} valid samples {verb} it"


def _counted(tests: Sequence[bool], kind: str) -> str:
    return f"{len(tests)} {kind} test{'s' * (len(tests) != 1)}"
