"""Looser matching, for models that copy carelessly: an option, off in training.

Six levels, each tried only where the one before finds nothing, each of use only where it finds exactly one place:
blanks at the ends of lines are ignored; then blank lines, too; the whole SEARCH is indented otherwise (the replacement
is then indented likewise), without and with blank lines ignored; nearly the same lines; SEARCH and REPLACE leave out
the same code ("...").

Whatever the level, only what differs between SEARCH and REPLACE is changed: the file's other lines, its blank ones
among them, stay as they are. A line that is changed must be the one that is meant: the same up to blanks, or with a
slip of the pen in it and like no other line of the file.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property, partial
from itertools import islice, pairwise, takewhile

from agentless_mini.domain import Reading
from agentless_mini.edits.markers import is_elision
from agentless_mini.edits.sources import (
    Difference,
    FileLines,
    Match,
    content,
    contents,
    differing,
    occurrences,
    shared_ends,
    split_lines,
    terminator,
)

NEAR = 0.9  # length-weighted mean of the lines' difflib ratios
CLEARLY = 0.05  # by which the best place must be nearer than any other
# What bounds the search for near matches, and with it the time that a hostile answer can take.
MOST_WINDOWS, MOST_REPEATS, MOST_NEAR_LINES, LONGEST_NEAR_LINE, MOST_SLIPS = 5, 50, 200, 200, 8
MOST_COMPARED = 50_000  # lines, at all places together where a SEARCH stands up to blanks
MOST_FOUND = 2
FEWEST = 3  # fewer lines say too little where blanks between them are not looked at
FEWEST_DEEPER = 7  # fewer at another depth may well be another place's; without any indentation they have lost it
SHORTEST_SLIP = 4  # a shorter word may well be another one

_TOKEN = re.compile(r"\w+|[^\w\s]")
_SUBWORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^A-Za-z]+")
_WORD = re.compile(r"\w")
_Indent = Callable[[str], str | None]


@dataclass(frozen=True)
class _Search:
    """A reading that is looked for in a file; `search` and `replace` are without terminators."""

    reading: Reading
    file: FileLines

    @cached_property
    def search(self) -> list[str]:
        return contents(split_lines(self.reading.search))

    @cached_property
    def replace(self) -> list[str]:
        return contents(split_lines(self.reading.replace))

    @cached_property
    def spoken(self) -> list[int]:
        """Return which lines of SEARCH are not blank."""
        return [index for index, line in enumerate(self.search) if line.strip()]

    @cached_property
    def there(self) -> list[int]:
        """Return which lines of the file are not blank."""
        return [index for index, line in enumerate(self.file.contents) if line.strip()]

    def regions(self, places: Mapping[int, int]) -> list[Difference]:
        """Return where SEARCH and REPLACE differ, but for blank lines alone where SEARCH has not those of the file."""
        regions = differing(self.search, self.replace)
        if _is_run(places, len(self.search)):
            return regions
        return [
            region
            for region in regions
            if any(map(str.strip, self.search[region.a_start : region.a_stop]))
            or any(map(str.strip, self.replace[region.b_start : region.b_stop]))
        ]

    def match(self, places: Mapping[int, int], indent: _Indent) -> Match | None:
        """Return the match in which the SEARCH lines stand at `places`, by index in SEARCH and in the file.

        None where nothing is changed, where a blank line that the file does not have stands beside a change, and where
        a new line cannot be indented as the file's lines are.
        """
        start, stop = min(places.values()), max(places.values()) + 1
        new: list[str] = []
        at = start
        regions = self.regions(places)
        if not regions:
            return None
        for region in regions:
            for beside in (range(region.a_start - 1, -1, -1), range(region.a_stop, len(self.search))):
                if any(index not in places for index in takewhile(lambda one: not self.search[one].strip(), beside)):
                    return None
            begin, end = self._span(region, places)
            said = self.replace[region.b_start : region.b_stop]
            lines = [line for line in (indent(one) if one.strip() else one for one in said) if line is not None]
            if len(lines) < len(said):
                return None
            new += [*self.file.lines[at:begin], *self._with_blanks(lines, region, begin, places)]
            at = end
        new = [line if terminator(line) else f"{line}\n" for line in (*new, *self.file.lines[at:stop])]
        if new and self.reading.replace and not self.reading.replace.endswith("\n"):
            new[-1] = content(new[-1])
        return self.placed(start, stop, new)

    def placed(self, start: int, stop: int, new: Iterable[str]) -> Match:
        """Return the match that puts new lines in the place of the file's [start, stop)."""
        return Match(start, stop, tuple(new), not self.reading.search.endswith("\n"), self.reading)

    def _span(self, region: Difference, places: Mapping[int, int]) -> tuple[int, int]:
        """Return which lines of the file a region of SEARCH is; an empty run, where nothing of it is in the file."""
        there = [places[index] for index in range(region.a_start, region.a_stop) if index in places]
        if there:
            return there[0], there[-1] + 1
        before = next((places[at] + 1 for at in range(region.a_start - 1, -1, -1) if at in places), None)
        after = next((places[at] for at in range(region.a_stop, len(self.search)) if at in places), None)
        blank_before = region.a_start > 0 and not self.search[region.a_start - 1].strip()
        chosen = after if before is None or (blank_before and after is not None) else before
        return (chosen or 0, chosen or 0)

    def _with_blanks(self, lines: list[str], region: Difference, at: int, places: Mapping[int, int]) -> list[str]:
        """Return new lines that take the place of as many old ones, with the file's blank lines between these."""
        there = [places[index] for index in range(region.a_start, region.a_stop) if index in places]
        if len(there) != region.a_stop - region.a_start or len(there) != len(lines):
            return lines
        mixed: list[str] = []
        for line, place in zip(lines, there, strict=True):
            mixed += [*self.file.lines[at:place], line]
            at = place + 1
        return mixed


# --- the same lines up to blanks -----------------------------------------------------------------------------------


def _alike(wanted: _Search, key: Callable[[str], str], with_blank_lines: bool) -> Iterator[Match | None]:
    """Yield where the lines of SEARCH stand, compared by `key`; with or without the blank lines between them."""
    spoken, there = wanted.spoken, wanted.there
    text = "\n".join(("", *(key(wanted.file.contents[index]) for index in there), ""))
    first: Match | None = None
    for number, start in enumerate(occurrences([key(wanted.search[index]) for index in spoken], text)):
        if number and number * len(spoken) > MOST_COMPARED:
            yield first  # again, if there is one: nobody knows that it is the only one
            return
        places = _placed(wanted, spoken, there[start : start + len(spoken)])
        pairs = [(wanted.search[at], wanted.file.contents[places[at]]) for at in spoken]
        if _is_run(places, len(wanted.search)) == with_blank_lines and _is_whole(wanted, places):
            indent = _indent(pairs)
            if indent and (len(spoken) >= FEWEST or with_blank_lines) and not _is_half_indented(wanted, pairs):
                match = wanted.match(places, indent)
                first = first or match
                yield match


def _is_whole(wanted: _Search, places: Mapping[int, int]) -> bool:
    """Tell whether the file has the blank lines, if any, with which SEARCH begins and ends."""
    ends = {0, len(wanted.search) - 1}
    return ends <= places.keys() and all(
        wanted.search[at].strip() or wanted.search[at] == wanted.file.contents[places[at]] for at in ends
    )


def _is_half_indented(wanted: _Search, pairs: Sequence[tuple[str, str]]) -> bool:
    """Tell whether REPLACE has a line as the file indents it, which SEARCH indents otherwise: which is meant?"""
    shifted = {line for said, line in pairs if said.rstrip() != line.rstrip()}
    return not shifted.isdisjoint(wanted.replace)


def _is_run(places: Mapping[int, int], count: int) -> bool:
    """Tell whether so many lines of SEARCH are as many lines of the file that follow each other."""
    return len(places) == count == max(places.values()) - min(places.values()) + 1


def _placed(wanted: _Search, spoken: Sequence[int], found: Sequence[int]) -> dict[int, int]:
    """Return where in the file each line of SEARCH stands, given where those do that are not blank.

    A blank line of SEARCH is one of the file's between the same two lines, as far as there are any; one at either end
    is the blank line next to it.
    """
    lines = wanted.file.contents
    places = dict(zip(spoken, found, strict=True))
    for (one, other), (begin, end) in zip(pairwise(spoken), pairwise(found), strict=True):
        places.update(zip(range(one + 1, other), range(begin + 1, end), strict=False))
    for step, index, place in ((-1, spoken[0], found[0]), (1, spoken[-1], found[-1])):
        index, place = index + step, place + step
        while 0 <= index < len(wanted.search) and 0 <= place < len(lines) and not lines[place].strip():
            places[index] = place
            index, place = index + step, place + step
    return places


def _indent(pairs: Sequence[tuple[str, str]]) -> _Indent | None:
    """Return what indents a new line as the file is, told from lines of SEARCH and of the file; None for no one way.

    The lines stand deeper or less deep by one prefix, or where one side has tabs the other has blanks, so many a tab.
    """
    known = {(_blanks(said), _blanks(line)) for said, line in pairs}
    if all(said == there for said, there in known):
        return str
    said, there = min(known, key=lambda pair: len(pair[0]))
    words = sum(bool(_WORD.search(line)) for line, _ in pairs)
    if said and len(set(said + there)) == 1 and words < FEWEST_DEEPER:
        return None
    if there.endswith(said) and all(other == there[: len(there) - len(said)] + one for one, other in known):
        return partial(_shifted, "", there[: len(there) - len(said)])
    if said.endswith(there) and all(one == said[: len(said) - len(there)] + other for one, other in known):
        return partial(_shifted, said[: len(said) - len(there)], "")
    said, there = max(known, key=lambda pair: len(pair[0]))
    size = max(len(said), len(there)) // max(min(len(said), len(there)), 1)
    for one, other in (("\t", " "), (" ", "\t")) if size else ():
        take, put = (one, other * size) if one == "\t" else (one * size, other)
        if all(_shifted(take, put, line, every=True) == there for line, there in known):
            return partial(_shifted, take, put, every=True)
    return None


def _blanks(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _shifted(take: str, put: str, line: str, every: bool = False) -> str | None:
    """Return a line with one prefix in the stead of another, or with all of its indentation translated."""
    if not every:
        return put + line[len(take) :] if line.startswith(take) else None
    indentation = _blanks(line)
    count = len(indentation) // len(take)
    return put * count + line[len(indentation) :] if take * count == indentation else None


# --- nearly the same lines -----------------------------------------------------------------------------------------


def _near(wanted: _Search) -> Iterator[Match | None]:
    """Yield the place where nearly the SEARCH stands: half of its lines as they are, and all that are changed."""
    spoken, there = wanted.spoken, wanted.there
    if not FEWEST <= len(spoken) <= MOST_NEAR_LINES or any(
        is_elision(line) and not wanted.file.holds(line) for line in wanted.search
    ):
        return
    said = [wanted.search[index].strip() for index in spoken]
    lines = [wanted.file.contents[index].strip() for index in there]
    starts = _windows(said, lines)
    # Ratios cost far more than equality, and fewer equal lines are refused below in any case.
    least = max((len(said) + 1) // 2, len(said) - MOST_SLIPS)
    if not any(sum(map(str.__eq__, said, lines[start:])) >= least for start in starts):
        return
    rated = sorted(((_similarity(said, lines[start:]), -start) for start in starts), reverse=True)
    if rated[0][0] < NEAR or (len(rated) > 1 and rated[0][0] - rated[1][0] < CLEARLY):
        return
    start = -rated[0][1]
    found = there[start : start + len(spoken)]
    same = [at for at, line in enumerate(said) if line == lines[start + at]]
    places = _placed(wanted, spoken, found)
    if 2 * len(same) < len(said) or not _is_whole(wanted, places) or not _are_meant(wanted, places):
        return
    pairs = [(wanted.search[spoken[at]], wanted.file.contents[found[at]]) for at in same]
    indent = _indent(pairs)
    if indent and not _is_half_indented(wanted, pairs):
        yield wanted.match(places, indent)


def _are_meant(wanted: _Search, places: Mapping[int, int]) -> bool:
    """Tell whether each line that is not the file's own has but a slip in it, and no other line may be meant.

    A line that is changed must say the same word for word: else the slip might be what is to be written.
    """
    slips: list[tuple[str, int]] = []
    changed = {at for region in wanted.regions(places) for at in range(region.a_start, region.a_stop)}
    for index, place in places.items():
        said, line = wanted.search[index].strip(), wanted.file.contents[place].strip()
        if said != line:
            is_slip = _tokens(said) == _tokens(line) if index in changed else _is_slip(said, line)
            if len(slips) == MOST_SLIPS or not is_slip:
                return False
            slips.append((said, place))
    return not slips or not _have_rivals(slips, wanted.file)


def _have_rivals(slips: Sequence[tuple[str, int]], file: FileLines) -> bool:
    """Tell whether for one of the lines with a slip another line of the file may be meant as well."""
    texts = [line.strip() for line in file.contents]
    bares = [_bare(text) for text in texts]
    for said, place in slips:
        bare = _bare(said)
        half = max(len(bare) // 2 - 1, 0)
        head, tail = bare[:half], bare[len(bare) - half :]
        # A slip has two letters at most, so one of the halves is the same; this is all that most lines cost.
        near = (
            at
            for at, other in enumerate(bares)
            if -1 <= len(other) - len(bare) <= 1
            and (other.startswith(head) or other.endswith(tail))
            and at != place
            and sum(shared_ends(bare, other)) >= len(bare) - 2
        )
        if any(_is_slip(said, texts[at]) for at in near):
            return True
    return False


def _bare(line: str) -> str:
    """Return what of a line counts where slips are told: its tokens, joined."""
    return "".join(line.rstrip(",;").split()).replace('"', "'")


def _is_slip(said: str, line: str) -> bool:
    """Tell whether two lines say the same but for blanks, quotes, a comma at the end, or one letter of one word.

    A letter too many, too few, another one, or two in the wrong order, in a word of a name that has no digits: a digit
    never, as `x1` is not `x2`, and no `s` at its end, as `items` is not `item`.
    """
    if max(len(said), len(line)) > LONGEST_NEAR_LINE:
        return said == line
    one, other = _tokens(said.rstrip(",;")), _tokens(line.rstrip(",;"))
    if len(one) != len(other):
        return False
    unlike = [(left, right) for left, right in zip(one, other, strict=True) if left != right]
    if not unlike:
        return True
    words, others = (_SUBWORD.findall(text) for text in unlike[0])
    if len(unlike) > 1 or len(words) != len(others) or any(map(str.isdigit, "".join(unlike[0]))):
        return False
    differing = [(left, right) for left, right in zip(words, others, strict=True) if left != right]
    return len(differing) == 1 and _is_misspelt(*differing[0])


def _tokens(line: str) -> list[str]:
    return _TOKEN.findall(line.replace('"', "'"))


def _is_misspelt(one: str, other: str) -> bool:
    shorter, longer = sorted((one, other), key=len)
    if len(longer) < SHORTEST_SLIP or len(longer) - len(shorter) > 1 or longer in (f"{shorter}s", shorter.swapcase()):
        return False
    begin = next((at for at, (a, b) in enumerate(zip(shorter, longer, strict=False)) if a != b), len(shorter))
    left, right = shorter[begin:], longer[begin:]
    if len(shorter) < len(longer):
        return left == right[1:]
    return left[1:] == right[1:] or (left[:2] == right[1::-1] and left[2:] == right[2:])


def _windows(said: Sequence[str], lines: Sequence[str]) -> list[int]:
    """Return the starts of the windows that share most lines with the SEARCH, lines that stand everywhere aside."""
    places: dict[str, list[int]] = {}
    for index, line in enumerate(lines):
        places.setdefault(line, []).append(index)
    found = ((index, places.get(line, [])) for index, line in enumerate(said))
    votes = Counter(place - index for index, there in found if len(there) <= MOST_REPEATS for place in there)
    inside = [(-count, start) for start, count in votes.items() if 0 <= start <= len(lines) - len(said)]
    return [start for _, start in sorted(inside)[:MOST_WINDOWS]]


def _similarity(said: Sequence[str], lines: Sequence[str]) -> float:
    """Return how alike the SEARCH and the lines that begin there are, in [0, 1]."""
    same = total = 0.0
    for one, other in zip(said, lines, strict=False):
        total += len(one) + len(other)
        if one == other:
            same += len(one) + len(other)
        elif max(len(one), len(other)) <= LONGEST_NEAR_LINE:
            same += (len(one) + len(other)) * SequenceMatcher(None, one, other, autojunk=False).ratio()
    return same / total


# --- code that both sides leave out --------------------------------------------------------------------------------


def _elided(wanted: _Search) -> Iterator[Match | None]:
    """Yield the place of a SEARCH that leaves out code where REPLACE leaves it out, too: what it shows stands once."""
    parts, new_parts = _parts(wanted.search), _parts(wanted.replace)
    has_ends = all(part and part[0].strip() and part[-1].strip() for part in parts)
    if len(parts) != len(new_parts) or len(parts) < 2 or not has_ends:
        return
    text = "\n".join(("", *map(str.rstrip, wanted.file.contents), ""))
    places = [list(islice(occurrences([line.rstrip() for line in part], text), 2)) for part in parts]
    if any(len(found) != 1 for found in places):
        return
    starts = [found[0] for found in places]
    stops = [start + len(part) for start, part in zip(starts, parts, strict=True)]
    if any(start <= stop for start, stop in zip(starts[1:], stops, strict=False)):
        return
    new: list[str] = []
    elisions = [line for line in wanted.search if is_elision(line)]
    for index, part in enumerate(new_parts):
        left_out = wanted.file.lines[stops[index] : starts[index + 1]] if index + 1 < len(parts) else []
        if any(line.strip() and len(_blanks(line)) < len(_blanks(elisions[index])) for line in left_out):
            return  # it would reach from one definition into another
        new += [*(f"{line}\n" for line in part), *left_out]
    yield wanted.placed(starts[0], stops[-1], new)


def _parts(lines: Sequence[str]) -> list[list[str]]:
    """Return the runs of lines between those that stand for code."""
    cuts = [-1, *(at for at, line in enumerate(lines) if is_elision(line)), len(lines)]
    return [[*lines[start + 1 : stop]] for start, stop in pairwise(cuts)]


def _matches(places: Callable[[_Search], Iterator[Match | None]], reading: Reading, file: FileLines) -> list[Match]:
    found = places(_Search(reading, file)) if _WORD.search(reading.search) else iter(())
    return list(islice(filter(None, found), MOST_FOUND))


LOOSE_LEVELS: tuple[Callable[[Reading, FileLines], list[Match]], ...] = (
    partial(_matches, partial(_alike, key=str.rstrip, with_blank_lines=True)),
    partial(_matches, partial(_alike, key=str.rstrip, with_blank_lines=False)),
    partial(_matches, partial(_alike, key=str.strip, with_blank_lines=True)),
    partial(_matches, partial(_alike, key=str.strip, with_blank_lines=False)),
    partial(_matches, _near),
    partial(_matches, _elided),
)
"""The levels in their order; each gives the places that it finds for a SEARCH, two at most."""
