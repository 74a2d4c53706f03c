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
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

from agentless_mini.domain import Choice, Execution, Level, Origin
from agentless_mini.errors import counted, printable

if TYPE_CHECKING:
    from agentless_mini.chain.rank import Standing, Totals

SUREST = 0.99  # is told at most, and 1 less it at least: of no kind of patches was it measured that more are right
MOST_WORDS = 256  # of a patch that are compared, the first: a pair takes a tenth of a millisecond at most
# Fitted on django's 97 issues in two public pools with official outcomes; 69 of other repositories tested them.
BASE, VOTES, LIKENESS, SIZE = 0.0, 0.35, 1.15, -0.01
UNDEFINED = -1.5  # a guess
SUSPICIOUS = -4.0  # where tests were run: more than votes and likeness can make up for
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
    """Return the log odds that each patch is right, by normal form; the order of `known` does not matter.

    More votes, more tests that pass, and fewer that break never lower a patch's own odds.
    """
    tried = [one for one in known if not one.untried and not one.refused]
    passed = [one.reproducing for one in tried]
    passing = Counter(place for one in tried for place in one.generated)
    pins, pin = _pins(tried, count)
    pairs = len(tried) * max(0, count.reproducing - 1)

    def worth(place: int) -> float:
        """Return the share of results in which other tests agree with this one."""
        contrary = sum(count.reproducing - len(places) if place in places else len(places) for places in passed)
        return (AGREED + pairs - contrary) / (AGREED_OF + pairs)

    def told(place: int) -> tuple[float, float]:
        """Return what a test says of a patch that fails it, and of one that passes: the less, the more others pass."""
        prior = PRIOR + max(1, len(tried)) - 1
        wrong = [min(MOST, (PRIOR * WRONG + passing[place] - itself) / prior) for itself in (0, 1)]
        return worth(place) * math.log((1 - RIGHT) / (1 - wrong[0])), worth(place) * math.log(RIGHT / wrong[1])

    def odds(one: "Standing") -> float:
        share = math.log((one.votes - 0.5) / (one.of + 1.5 - one.votes))  # that of the urn of `stopping`
        size = SIZE * math.log(max(1, one.lines)) + (UNDEFINED if one.undefined else 0)
        voted = BASE + VOTES * share + LIKENESS * one.likeness + size
        own = GIVEN_FAILING * count.given + (GIVEN_PASSING - GIVEN_FAILING) * len(one.given)
        new = math.fsum([unpassed, *(each[place in one.generated] for place, each in said.items())])
        tests = own / _dependence(count.given) + new / _dependence(count.generated)
        broken = count.regressions - len(one.kept)
        pinned = math.fsum(share for place, share in pins.items() if place not in one.kept)
        pinned += (count.regressions - len(pins)) * pin
        suspected = SUSPICIOUS if one.suspicious and count.reproducing + count.regressions else 0
        return voted + suspected + tests - math.log1p(HARM * (broken - min(MOST_PINS, pinned)))

    said = {place: told(place) for place in passing}
    unpassed = (count.generated - len(passing)) * UNPASSED * worth(-1) * math.log((1 - RIGHT) / (1 - WRONG))
    return {one.normal: odds(one) for one in known}


def _dependence(tests: int) -> float:
    """Return by what the evidence of so many tests is divided, since wrong patches fail them together."""
    return 1 + CORRELATION * max(0, tests - 1)


def _pins(tried: Sequence["Standing"], count: "Totals") -> tuple[dict[int, float], float]:
    """Return the probability that a regression test pins the fault, for each that passes with some patch.

    And that for each that passes with none. Those that break it speak for it as far as more reproducing tests pass with
    them than with any that keeps it.
    """
    fixed = [(len(one.reproducing) / max(1, count.reproducing), one.kept) for one in tried]

    def pin(place: int) -> float:
        best = max((share for share, kept in fixed if place in kept), default=0.0)
        more = math.fsum(max(0.0, share - best) for share, kept in fixed if place not in kept)
        return probability(PINS + PINNED * (3 * more - best))

    return {place: pin(place) for place in frozenset[int]().union(*(kept for _, kept in fixed))}, pin(-1)


# --- likeness --------------------------------------------------------------------------------------------------------


def mean_likeness(diff: bytes, votes: Mapping[bytes, int]) -> float:
    """Return how much a diff is like the other samples, in [0, 1]; `votes` has those of each. A sole one has 1/2.

    It is the mean of Levenshtein's ratios (twice the longest common subsequence, over both lengths) of the words of
    what two diffs add and remove. SWE-Swiss ("enhanced self-consistency"; github.com/zhenyuhe00/SWE-Swiss,
    evaluation/agentless/repair/rerank.py) takes that of characters, to the half of all samples most alike.
    """
    others = sum(votes.values()) - 1
    every = math.fsum(_ratio(min(diff, one), max(diff, one)) * count for one, count in votes.items())
    return (every - 1) / others if others else 0.5


@lru_cache(1 << 17)
def _ratio(one: bytes, other: bytes) -> float:
    a, b = _words(one), _words(other)
    return 2 * _common(a, b) / (len(a) + len(b)) if one != other and (a or b) else 1.0


@lru_cache(1024)
def _words(diff: bytes) -> tuple[bytes, ...]:
    words = (word for line in changed_lines(diff) for word in _WORD.findall(line))
    return tuple(islice(words, MOST_WORDS))


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
        return str(getattr(self, level.value))

    def suffices(self, level: Level) -> bool:
        """Return whether the patch has shown enough to be printed."""
        return level is Level.ANY or not self.lacks(level)


def trust(
    choice: Choice,
    execution: Execution | None,
    own: Sequence[str] = (),
    notes: Sequence[str] = (),
    *,
    allows_suspicious: bool = False,
) -> Trust:
    """Return what the chosen patch has shown. `own` are the ids of the user's failing tests.

    `notes` are those of the run: they say why one of `own` was not run, or tells nothing. What is suspicious shows
    nothing by tests, unless it is allowed.
    """
    found = next((one for one in execution.verdicts if one.normal == choice.patch.normal), None) if execution else None
    passing = found.passed() if found else frozenset()
    results = {origin: dict[str, bool]() for origin in Origin}
    for case in execution.cases if execution and found else ():
        results[case.origin][case.id] = case.id in passing
    given, kept = results[Origin.GIVEN], list(results[Origin.REGRESSION].values())
    fixed = [*given.values(), *results[Origin.GENERATED].values()]

    doubt = _doubt(choice, fixed, kept, found.refusal if found else "")
    suspected = ""
    if choice.patch.suspicious and not allows_suspicious:
        suspected = f"its tests show nothing: {', '.join(choice.patch.suspicious)} (--allow-suspicious takes it)"
    of_own = _own(given, own, notes) or suspected
    of_tests = doubt or _tests(list(given.values()), fixed, kept) or suspected
    divided = choice.votes < 2 or 2 * choice.votes <= choice.valid
    of_votes = doubt or (agreement(choice.votes, choice.valid) if divided and of_tests and of_own else "")
    return Trust(doubt or (of_own if own else ""), of_votes, of_tests, of_own)


def _doubt(choice: Choice, fixed: Sequence[bool], kept: Sequence[bool], refusal: str) -> str:
    if refusal:
        return f"the tests' boxes refuse it: {refusal}"
    if fixed:
        return "" if any(fixed) else f"it passes none of {counted(len(fixed), 'reproduction test')}"
    if kept and not any(kept):
        return f"it passes none of {counted(len(kept), 'regression test')}"
    if DOUBTFUL * choice.votes < choice.valid:
        return f"no test shows that it repairs the issue, and {agreement(choice.votes, choice.valid)}"
    return ""


def _tests(given: Sequence[bool], fixed: Sequence[bool], kept: Sequence[bool]) -> str:
    if not fixed:
        return "no test that was run reproduces the issue"
    if not all(given):
        return f"it passes {sum(given)} of {counted(len(given), 'given test')}"
    if 2 * sum(fixed) <= len(fixed):
        return f"it passes {sum(fixed)} of {counted(len(fixed), 'reproduction test')}"
    return "" if all(kept) else f"it breaks {len(kept) - sum(kept)} of {counted(len(kept), 'regression test')}"


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


def agreement(votes: int, valid: int) -> str:
    """Return how many samples agree on a patch, as a clause."""
    return f"{votes} of {counted(valid, 'valid sample')} {'has' if votes == 1 else 'agree on'} it"
