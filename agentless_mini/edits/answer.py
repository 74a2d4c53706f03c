"""What a model said -> its answer, without its thinking -> the edits that it asks for.

Thinking is dropped, with the drafts in it, whatever marks it: `<think>`, `<thought>`, `<reasoning>` and their like,
`◁think▷` (Kimi), `[THINK]` (Magistral, Devstral), `<seed:think>`, the channels of gpt-oss (also where the server left
out their marks), Gemma 4 and Kimi K3, or marks of the user's own. A closing mark that nothing opened (chat templates
open it) makes all that stands before it thinking; an opening one that nothing closes means that the answer was cut off.
Where there is a `<solution>`, `<answer>` or the like, the last one is the answer, up to the end if it is not closed.

The repository's own text may hold these marks, and prose may mention them. So a mark counts only outside of complete
edits; an opening one only at the beginning or the end of its line (blanks and other marks aside), a closing one
anywhere but directly after a quote or a back-tick.

An edit is a line `### path`, `<<<<<<< SEARCH`, the lines to find, `=======`, the lines to put there,
`>>>>>>> REPLACE`. It is read inside a fenced block, as models are asked, and outside of one; one without a path of its
own has that of the edit before. What stands between the markers is text, fences and `###` lines included. One
incomplete edit makes the whole answer malformed: half a change is worse than none.

Where what looks alike may mean two things, the file decides, so an edit may have several readings: which of several
divider lines divides, whether a last line `\\ No newline at end of file` is text or says, as in a unified diff, that
the line before it has no terminator, and whether blanks before the markers stand before its text, too.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from agentless_mini.domain import Edit, Reading, Reason, Rejected
from agentless_mini.edits.markers import CLOSES, NO_NEWLINE, OPENS, WIDTH, Marker, closing, dividers, markers
from agentless_mini.edits.paths import Lead, Paths

MOST_DIVIDERS = 64
MOST_EDITS = 1000
MOST_NAMES = 8
"""Lines before an edit, the nearest ones, that may say its path."""

_THINKING = (
    r"(?:\w+[_-])?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflect(?:ion|ing)?|analysis|scratch_?pad|cot|plan(?:ning)?"
    r"|draft|internal|monologue|brainstorm(?:ing)?|rationale|critique|deliberation|hypothesis|antthinking)(?:[_-]\w+)?"
)
_ANSWER = r"(?:solution|(?:final_?)?answer|response)"
# What opens and what closes, as regular expressions; NAME stands for one of the names.
_WAYS = (
    (r"<\s?(?:\w{1,20}:)?NAME(?:\s[^<>\n]{0,200})?>", r"<\s?/\s?(?:\w{1,20}:)?NAME\s?>"),
    (r"◁NAME▷", r"◁/NAME▷"),
    (r"<\|(?:begin_of_|start_of_|start_|begin_)?NAME\|>", r"<\|(?:/|end_of_|end_)NAME\|>"),
    (r"<\|open\|>NAME<\|sep\|>", r"<\|close\|>NAME<\|sep\|>"),  # Kimi K3
)
_MORE_WAYS = (
    (r"\[(?:THINK(?:ING)?|REASONING)\](?![(:\[])", r"\[/(?:THINK(?:ING)?|REASONING)\]"),  # Magistral, Devstral
    (r"<details>\s*<summary>[^<\n]*(?:think|reason)[^<\n]*</summary>", r"</details>"),
    (r"<unused94>\s*thought", r"<unused95>"),  # MedGemma
    (r"^Thinking\.\.\.$", r"^\.\.\.done thinking\.$"),  # what ollama prints
    (r"<\|channel>[ \t]*\w+", r"<channel\|>"),  # Gemma 4
    (r"<\|inner_prefix\|>", r"<\|inner_suffix\|>"),  # Apertus
    (r"^Here is my thought process:", r"^Here is my response:"),  # Granite
)
_QUOTES = ("`", "'", '"')

_HARMONY = re.compile(r"(?:<\|start\|>\w*)?<\|channel\|>\s*(\w+)[^\n]{0,200}?<\|message\|>")
_MESSAGE_END = re.compile(r"<\|(?:end|return|call|start|channel)\|>")
_BARE_FINAL = re.compile(r"assistantfinal(?=\W|[A-Z]|\Z)")
_BARE_ANALYSIS = re.compile(r"\s*analysis(?=[A-Z\"'`(*])")
_SPACED_FINAL = re.compile(r"(?:(?<=[.!?`])\s*|^)assistant\s+final\b", re.MULTILINE)
_SPACED_ANALYSIS = re.compile(r"\s*analysis\s")
# Headings that part thinking from the answer, where both are there.
_THOUGHT_HEADING = re.compile(
    r"^(?:#{1,6}[ \t]*|\*\*)?(?:thinking|reasoning|thoughts?)(?: process)?\b[: \t*]*$", re.IGNORECASE | re.MULTILINE
)
_ANSWER_HEADING = re.compile(
    r"^(?:#{1,6}[ \t]*|\*\*)?(?:(?:final )?(?:answer|response|solution))\b[: \t*]*$", re.IGNORECASE | re.MULTILINE
)
# What a server should have taken off the end or the beginning of an answer.
_TOKEN = r"(?:<[|\uff5c][^<>\n]{1,40}[|\uff5c]>|</?s>|<eos>|<bos>|<(?:end|start)_of_turn>|<turn\|>|\[/?INST\])"  # noqa: S105 - of a tokenizer
_TURN_END = re.compile(
    r"<\|(?:im_end|eot_id|endoftext|end_of_text)\|>|<end_of_turn>|<turn\|>|</s>|<\uff5cend[^<>\n]{1,30}\uff5c>"
)
_LAST_TOKENS = re.compile(rf"(?:\s|{_TOKEN})+\Z")
_FIRST_TOKENS = re.compile(rf"\A\ufeff?(?:{_TOKEN}\s*)+")
_CHANNELLED = re.compile(r"<\|channel\|>|assistant\s*final|\A\s*analysis")

_FENCE = re.compile(r"(`{3,}|~{3,})([^`]*)")
# What may follow SEARCH on its line without being code: "(lines 3-5)", ":", ">", a fence, a special token.
_REMARK = re.compile(
    r"[\s>:*`.\-]*|\((?:lines?|block|old|original|existing|current)\b[^()]*\)|<\|.*\|>|(?:lines?|block)\s+\d[\d\s,\u2013-]*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Marks:
    """Marks of the user's own around the answer and around thinking, beside those that are known; "" for none.

    Where `answer_start` is set, only what follows its last place counts, up to `answer_end` or the end.
    """

    answer_start: str = ""
    answer_end: str = ""
    think_start: str = ""
    think_end: str = ""


KNOWN = Marks()


def answer_text(text: str, marks: Marks = KNOWN) -> str | Rejected:
    """Return the answer within what a model said; `Rejected` as TRUNCATED, or as NO_EDIT where its mark is missing.

    If every line of it ends in CR LF it is read as if all ended in LF; otherwise a CR is text.
    """
    spoken = _without_thinking(text, marks)
    return spoken if isinstance(spoken, Rejected) else _solution(spoken, marks)


def parse_edits(text: str, paths: Paths, marks: Marks = KNOWN) -> tuple[Edit, ...] | Rejected:
    """Return the edits of an answer in its order, at least one.

    `Rejected` as TRUNCATED, NO_EDIT, MALFORMED or BAD_PATH. The time that it takes grows linearly with the answer.
    """
    spoken = _without_thinking(text, marks)
    if isinstance(spoken, Rejected):
        return spoken
    answer = _solution(spoken, marks)
    if isinstance(answer, Rejected):
        return answer
    edits = _EditReader(answer, paths).edits()
    if not edits and not marks.answer_start:  # what is marked as the answer may be an example in prose
        edits = _EditReader(spoken, paths).edits()
    return edits or Rejected(Reason.NO_EDIT, "the answer holds no edit")


# --- the answer ------------------------------------------------------------------------------------------------------


def _without_thinking(text: str, marks: Marks) -> str | Rejected:
    """Return what a model said without its thinking, and without the tokens at both ends that no reader should see."""
    if text.count("\r\n") == text.count("\n"):
        text = text.replace("\r\n", "\n")
    final = _final_channel(text)
    if isinstance(final, Rejected):
        return final
    text, kept, start, is_open = final, list[str](), 0, False
    own = (re.escape(marks.think_start) or "(?!)", re.escape(marks.think_end) or "(?!)")
    for closes, begin, stop in _marks_in(text, _marks_of(_THINKING, *_MORE_WAYS, own)):
        if closes:
            kept, start = (kept if is_open else []), stop
        elif not is_open:
            kept.append(text[start:begin])
        is_open = not closes
    if is_open:
        return Rejected(Reason.TRUNCATED, "its thinking is opened and not closed: the answer was cut off")
    text = _after_headings("".join(kept) + text[start:])
    turns = (text[: end.start()] for end in _counted(_TURN_END, text))
    text = next(filter(str.strip, turns), text)  # what follows a turn is made up
    last = _LAST_TOKENS.search(text[-2000:])
    if last and last[0].strip():
        text = text[: len(text[:-2000]) + last.start()] + "\n"
    return _FIRST_TOKENS.sub("", text).removeprefix("\ufeff")


def _solution(text: str, marks: Marks) -> str | Rejected:
    """Return the last part of the text that is marked as the answer, all of it where none is.

    `Rejected` as NO_EDIT where the user's own mark of the answer is missing.
    """
    if marks.answer_start:
        _, found, answer = text.rpartition(marks.answer_start)
        if not found:
            return Rejected(Reason.NO_EDIT, f"the answer has no {marks.answer_start!r} (answer.start)")
        return answer.partition(marks.answer_end)[0] if marks.answer_end else answer
    last, start, is_open = text, 0, False
    for closes, begin, stop in _marks_in(text, _marks_of(_ANSWER)):
        if closes and is_open:
            last = text[start:begin]
        elif not is_open:
            start = stop
        is_open = not closes
    return text[start:] if is_open else last


def _final_channel(text: str) -> str | Rejected:
    """Return the messages of gpt-oss's final channel, or the text where it has no channels."""
    if not _CHANNELLED.search(text):
        return text
    if found := _counted(_HARMONY, text):
        ends = [*(match.start() for match in found[1:]), len(text)]
        finals = [text[match.end() : end] for match, end in zip(found, ends, strict=True) if match[1] == "final"]
        if not finals:
            return Rejected(Reason.TRUNCATED, f"the answer ends in the channel {found[-1][1]}: it was cut off")
        # The marks of a message's end stand in its text before the last line of it.
        stops = [next((end.start() for end in _counted(_MESSAGE_END, said)), len(said)) for said in finals]
        return "\n".join(said[:stop] for said, stop in zip(finals, stops, strict=True))
    marks = (_BARE_FINAL, _SPACED_FINAL) if _SPACED_ANALYSIS.match(text) else (_BARE_FINAL,)
    if bare := [match.span() for mark in marks for match in _counted(mark, text)]:
        return text[max(bare)[1] :]
    if _BARE_ANALYSIS.match(text):
        return Rejected(Reason.TRUNCATED, "the answer ends in the channel analysis: it was cut off")
    return text


def _after_headings(text: str) -> str:
    """Return what stands below the last heading of an answer, where one of thinking stands above it."""
    first = _THOUGHT_HEADING.search(text)
    thought = next(iter(_counted(_THOUGHT_HEADING, text)), None)
    if not first or not thought or first.start() < thought.start():
        return text
    later = [match.end() for match in _counted(_ANSWER_HEADING, text) if match.start() > thought.end()]
    return text[later[-1] :] if later else text


# --- marks -----------------------------------------------------------------------------------------------------------


def _in_edits(lines: Sequence[str]) -> bytearray:
    """Return for each line whether it lies in the body of a complete edit."""
    inside, found, place = bytearray(len(lines)), markers(lines), 0
    while place < len(found):
        last = closing(found, place) if found[place].kind == OPENS else 0
        if last and dividers(found, place, last)[0]:
            first, stop = found[place].at + 1, found[last].at
            inside[first:stop] = b"\1" * (stop - first)
            place = last
        place += 1
    return inside


def _counted(pattern: re.Pattern[str], text: str) -> list[re.Match[str]]:
    """Return the matches in a text that count: outside of complete edits, and not directly after a quote."""
    counted, line, at = [], 0, 0
    inside = _in_edits(text.split("\n")) if pattern.search(text) else bytearray()
    for match in pattern.finditer(text):
        line, at = line + text.count("\n", at, match.start()), match.start()
        if not inside[line] and not _is_quoted(text, at):
            counted.append(match)
    return counted


def _is_quoted(text: str, place: int) -> bool:
    """Tell whether a quote or a back-tick stands directly before a place; a fence is none."""
    return text[place - 1 : place] in _QUOTES and not text.startswith("```", max(place - 3, 0))


@lru_cache(maxsize=16)
def _marks_of(name: str, *more: tuple[str, str]) -> re.Pattern[str]:
    """Return what finds the marks of these names, and more; those that close are in the group `closes`."""
    opening, closing = zip(*_WAYS, *more, strict=True)
    pattern = f"(?P<closes>{'|'.join(closing)})|{'|'.join(opening)}"
    return re.compile(pattern.replace("NAME", name), re.IGNORECASE | re.MULTILINE)


def _marks_in(text: str, pattern: re.Pattern[str]) -> Iterator[tuple[bool, int, int]]:
    """Yield the marks that count: whether each closes, and where it begins and ends."""
    lines, offset = (text.split("\n") if pattern.search(text) else []), 0
    for line, in_edit in zip(lines, _in_edits(lines), strict=True):
        bare = "" if in_edit else pattern.sub(lambda mark: " " * len(mark[0]), line)
        leading, trailing = len(bare) - len(bare.lstrip()), len(bare.rstrip())
        for mark in () if in_edit else pattern.finditer(line):
            closes = mark["closes"] is not None
            at_edge = mark.start() < leading or mark.end() > trailing
            if at_edge or (closes and not _is_quoted(line, mark.start())):
                yield closes, offset + mark.start(), offset + mark.end()
        offset += len(line) + 1


# --- edits -----------------------------------------------------------------------------------------------------------


class _EditReader:
    """Reads the edits of an answer, each under the path that stands before it."""

    def __init__(self, answer: str, paths: Paths) -> None:
        self._lines, self._paths = answer.split("\n"), paths
        self._path = self._fence = ""
        self._created: set[str] = set()
        self._block = 0

    def edits(self) -> tuple[Edit, ...] | Rejected:
        found = markers(self._lines)
        edits: list[Edit] = []
        place = passed = 0
        while place < len(found):
            marker = found[place]
            if marker.kind == OPENS:
                last = closing(found, place)
                if not last:
                    return _malformed(f"the edit in line {marker.at + 1} is not closed by {'>' * marker.width} REPLACE")
                names = self._pass(passed, marker)
                if not self._paths.is_example(names):  # the prompt's own, quoted
                    edit = self._edit(found, place, last, names)
                    if isinstance(edit, Rejected):
                        return edit
                    edits.append(edit)
                if len(edits) > MOST_EDITS:
                    return _malformed(f"the answer has more than {MOST_EDITS} edits")
                place, passed = last, found[last].at + 1
            elif marker.kind == CLOSES and not marker.prefix and marker.width >= WIDTH:
                return _malformed(f"line {marker.at + 1} closes an edit that nothing opened")
            place += 1
        return tuple(edits)

    def _pass(self, first: int, opening: Marker) -> list[Lead]:
        """Take note of the lines before an edit; return those that may say its path, the nearest first.

        Code that is shown in a fence of its own is none of them.
        """
        names: list[Lead] = []
        shown, has_prose = 0, False
        for raw in self._lines[first : opening.at]:
            line = raw.removeprefix(opening.beside).strip()
            if fence := _FENCE.fullmatch(line):
                has_prose = True
                closes = bool(self._fence) and not fence[2].strip() and fence[1].startswith(self._fence)
                if closes and not (len(names) == shown + 1 and names[-1].line.startswith("#")):
                    del names[max(shown - 1, 0) :]
                elif not closes:
                    names.append(Lead(fence[2], is_info=True))
                    shown = len(names)
                self._fence = "" if closes else fence[1]
            elif line:
                has_prose = has_prose or not line.startswith("#")
                names.append(Lead(line))
        self._block += has_prose
        headings = [one for one in names[:-MOST_NAMES] if one.line.startswith("#")]
        rest = [Lead(opening.rest)] if opening.rest else []
        return [*rest, *reversed(names[-MOST_NAMES:]), *reversed(headings)]

    def _edit(self, found: Sequence[Marker], place: int, last: int, names: list[Lead]) -> Edit | Rejected:
        """Return the edit between two markers."""
        opening, lines = found[place], self._lines
        inside, alike = dividers(found, place, last)
        if not 0 < len(inside) <= (MOST_DIVIDERS if alike else 1):
            return _malformed(f"the edit in line {opening.at + 1} has {len(inside)} lines {'=' * opening.width}")
        at, stop = opening.at + 1, found[last].at
        readings = [
            reading
            for divider in inside
            for search, replace in _sides(lines[at : divider.at], lines[divider.at + 1 : stop], opening)
            for reading in _readings(search, replace, () if alike else (lines[divider.at],))
        ]
        creates = any(not reading.search.strip() for reading in readings)
        path = self._paths.of(names, creates, self._created, self._path)
        if isinstance(path, Rejected):
            return path
        if opening.rest and not _REMARK.fullmatch(opening.rest) and not _is_path(opening.rest, path):
            return _malformed(f"line {opening.at + 1} has text after SEARCH: {opening.rest[:80]!r}")
        self._path = path
        if creates:
            self._created.add(path)
        is_wide = opening.width > WIDTH + 1 or any(marker.width == WIDTH for marker in found[place + 1 : last])
        is_literal = opening.width > WIDTH and is_wide and found[last].matches(opening)
        return Edit(path, tuple(readings), self._block, "" if is_literal else self._fence or "```")


def _sides(search: list[str], replace: list[str], opening: Marker) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the two sides of an edit as they stand, and without what stands before each line and each marker."""
    beside = opening.beside
    indented = bool(beside) and all(line.startswith(beside) for line in (*search, *replace) if line.strip())
    creates = not any(map(str.strip, search))
    if not indented or not (beside.strip() or creates):
        yield search, replace
    if indented:
        yield [line.removeprefix(beside) for line in search], [line.removeprefix(beside) for line in replace]


def _is_path(rest: str, path: str) -> bool:
    """Tell whether what follows SEARCH is the path of the edit, or ends in it after a word such as "in"."""
    *before, last = rest.replace("\\", "/").strip("`'\"()[]:").split() or [path]
    return last.endswith(path) and {"in", "of", "for", "from", "file"}.issuperset(map(str.lower, before))


def _readings(search: Sequence[str], replace: Sequence[str], unless: tuple[str, ...]) -> Iterator[Reading]:
    """Yield the ways to read the two sides: the note on the missing newline as text, if that may be, and as a note.

    Alone it is text: there is no line of which it says something.
    """
    texts = ["".join(f"{line}\n" for line in side) for side in (search, replace)]
    noted = [
        "\n".join(side[:-1]) if len(side) > 1 and side[-1] == NO_NEWLINE else text
        for side, text in zip((search, replace), texts, strict=True)
    ]
    if noted[0] != texts[0]:
        yield Reading(texts[0], texts[1], unless)
    yield Reading(noted[0], noted[1], unless)


def _malformed(detail: str) -> Rejected:
    return Rejected(Reason.MALFORMED, detail)
