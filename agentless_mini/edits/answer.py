"""What a model said -> the part of it that is its answer: not its thinking, and nothing where it was cut off.

Thinking is dropped, with the drafts in it, whatever marks it: `<think>`, `<thought>`, `<reasoning>` and their like,
`◁think▷` (Kimi), `[THINK]` (Magistral, Devstral), `<seed:think>`, the channels of gpt-oss (also where the server left
out their marks), Gemma 4 and Kimi K3, or marks of the user's own. A closing mark that nothing opened (chat templates
open it) makes all that stands before it thinking; an opening one that nothing closes means that the answer was cut off.
Where there is a `<solution>`, `<answer>` or the like, the last one is the answer, up to the end if it is not closed.

The repository's own text may hold these marks, and prose may mention them. So a mark counts only outside of complete
edits; an opening one only at the beginning or the end of its line (blanks and other marks aside), a closing one
anywhere but directly after a quote or a back-tick.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from agentless_mini.domain import Reason, Rejected
from agentless_mini.edits.markers import edit_bodies

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
_FIRST_TOKENS = re.compile(rf"\ufeff?(?:{_TOKEN}\s*)+")


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


class _Mark(NamedTuple):
    """A mark that counts, and its place in the text."""

    closes: bool
    start: int
    stop: int


def answer_text(text: str, marks: Marks = KNOWN) -> str | Rejected:
    """Return the answer within what a model said; `Rejected` as TRUNCATED, or as NO_EDIT where its mark is missing.

    If every line of it ends in `\\r\\n` it is read as if all ended in `\\n`; otherwise a `\\r` is text.
    """
    spoken = without_thinking(text, marks)
    return spoken if isinstance(spoken, Rejected) else solution(spoken, marks)


def without_thinking(text: str, marks: Marks = KNOWN) -> str | Rejected:
    """Return what a model said without its thinking, and without the tokens at both ends that no reader should see."""
    if text.count("\r\n") == text.count("\n"):
        text = text.replace("\r\n", "\n")
    final = _final_channel(text)
    if isinstance(final, Rejected):
        return final
    text = final
    kept: list[str] = []
    start = 0
    is_open = False
    for mark in _marks_in(text, _thinking(marks.think_start, marks.think_end)):
        if mark.closes:
            kept, start = (kept if is_open else []), mark.stop
        elif not is_open:
            kept.append(text[start : mark.start])
        is_open = not mark.closes
    if is_open:
        return Rejected(Reason.TRUNCATED, "its thinking is opened and not closed: the answer was cut off")
    return _trimmed(_first_turn(_after_headings("".join(kept) + text[start:])))


def solution(text: str, marks: Marks = KNOWN) -> str | Rejected:
    """Return the last part of the text that is marked as the answer, all of it where none is.

    `Rejected` as NO_EDIT where the user's own mark of the answer is missing.
    """
    if marks.answer_start:
        _, found, answer = text.rpartition(marks.answer_start)
        if not found:
            return Rejected(Reason.NO_EDIT, f"the answer has no {marks.answer_start!r} (answer.start)")
        return answer.partition(marks.answer_end)[0] if marks.answer_end else answer
    last = text
    start = 0
    is_open = False
    for mark in _marks_in(text, _ANSWERS):
        if mark.closes and is_open:
            last = text[start : mark.start]
        elif not is_open:
            start = mark.stop
        is_open = not mark.closes
    return text[start:] if is_open else last


def _first_turn(text: str) -> str:
    """Return what stands before the first token that ends a turn: what follows it is made up."""
    if not _TURN_END.search(text):
        return text
    inside = _Inside(text)
    ends = (end.start() for end in _TURN_END.finditer(text) if inside.counts(end.start()))
    return next((text[:end] for end in ends if text[:end].strip()), text)


def _trimmed(text: str) -> str:
    end = _LAST_TOKENS.search(text[-2000:])
    if end and end[0].strip():
        text = text[: len(text[:-2000]) + end.start()] + "\n"
    begin = _FIRST_TOKENS.match(text)
    return (text[begin.end() :] if begin else text).removeprefix("\ufeff")


# --- channels --------------------------------------------------------------------------------------------------------


def _final_channel(text: str) -> str | Rejected:
    """Return the messages of gpt-oss's final channel, or the text where it has no channels."""
    if not _CHANNELLED.search(text):
        return text
    inside = _Inside(text)
    found = [match for match in _HARMONY.finditer(text) if inside.counts(match.start())]
    if found:
        ends = [*(match.start() for match in found[1:]), len(text)]
        finals = [text[match.end() : end] for match, end in zip(found, ends, strict=True) if match[1] == "final"]
        if not finals:
            return Rejected(Reason.TRUNCATED, f"the answer ends in the channel {found[-1][1]}: it was cut off")
        return "\n".join(map(_message, finals))
    marks = (_BARE_FINAL, _SPACED_FINAL) if _SPACED_ANALYSIS.match(text) else (_BARE_FINAL,)
    places = sorted((match.start(), match.end()) for mark in marks for match in mark.finditer(text))
    inside = _Inside(text)
    bare = [stop for start, stop in places if inside.counts(start)]
    if bare:
        return text[bare[-1] :]
    if _BARE_ANALYSIS.match(text):
        return Rejected(Reason.TRUNCATED, "the answer ends in the channel analysis: it was cut off")
    return text


_CHANNELLED = re.compile(r"<\|channel\|>|assistant\s*final|\A\s*analysis")


def _after_headings(text: str) -> str:
    """Return what stands below the last heading of an answer, where one of thinking stands above it."""
    thought = _THOUGHT_HEADING.search(text)
    if not thought:
        return text
    inside = _Inside(text)
    answers = [match for match in _ANSWER_HEADING.finditer(text) if inside.counts(match.start())]
    later = [match.end() for match in answers if match.start() > thought.end()]
    return text[later[-1] :] if later and _Inside(text).counts(thought.start()) else text


def _message(text: str) -> str:
    """Return a message without the marks at its end; those in its text stand before the last line of it."""
    inside = _Inside(text)
    return next((text[: end.start()] for end in _MESSAGE_END.finditer(text) if inside.counts(end.start())), text)


class _Inside:
    """Tells places in a text that lie in the body of a complete edit, or directly after a quote, from others."""

    def __init__(self, text: str) -> None:
        self._text = text
        lines = text.split("\n")
        self.lines = lines
        self.in_edit = bytearray(len(lines))
        for first, last in edit_bodies(lines):
            self.in_edit[first : last + 1] = b"\1" * (last + 1 - first)
        self._line = self._at = 0

    def counts(self, place: int) -> bool:
        """Tell whether a mark at the place counts. Places must be asked for in ascending order."""
        self._line += self._text.count("\n", self._at, place)
        self._at = place
        return not self.in_edit[self._line] and not _is_quoted(self._text, place)


# --- marks -----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def _thinking(start: str, end: str) -> re.Pattern[str]:
    never = "(?!)"
    own = (re.escape(start) or never, re.escape(end) or never)
    return _marks_of(_THINKING, *_MORE_WAYS, own)


def _marks_of(name: str, *more: tuple[str, str]) -> re.Pattern[str]:
    """Return what finds the marks of these names, and more; those that close are in the group `closes`."""
    opening, closing = zip(*_WAYS, *more, strict=True)
    pattern = f"(?P<closes>{'|'.join(closing)})|{'|'.join(opening)}"
    return re.compile(pattern.replace("NAME", name), re.IGNORECASE | re.MULTILINE)


_ANSWERS = _marks_of(_ANSWER)


def _marks_in(text: str, pattern: re.Pattern[str]) -> list[_Mark]:
    """Return the marks that count."""
    if not pattern.search(text):
        return []
    inside = _Inside(text)
    found: list[_Mark] = []
    offset = 0
    for line, in_edit in zip(inside.lines, inside.in_edit, strict=True):
        if not in_edit:
            found.extend(_marks_of_line(line, offset, pattern))
        offset += len(line) + 1
    return found


def _marks_of_line(line: str, offset: int, pattern: re.Pattern[str]) -> Iterator[_Mark]:
    marks = list(pattern.finditer(line))
    leading = _run(line, [(mark.start(), mark.end()) for mark in marks])
    trailing = _run(line[::-1], [(len(line) - mark.end(), len(line) - mark.start()) for mark in reversed(marks)])
    for index, mark in enumerate(marks):
        closes = mark["closes"] is not None
        at_edge = index < leading or index >= len(marks) - trailing
        if at_edge or (closes and not _is_quoted(line, mark.start())):
            yield _Mark(closes, offset + mark.start(), offset + mark.end())


def _is_quoted(text: str, place: int) -> bool:
    """Tell whether a quote or a back-tick stands directly before a place; a fence is none."""
    return text[place - 1 : place] in _QUOTES and not text.startswith("```", max(place - 3, 0))


def _run(line: str, places: Iterable[tuple[int, int]]) -> int:
    """Count the marks that only blanks and marks precede."""
    count = end = 0
    for start, stop in places:
        if line[end:start].strip():
            break
        count, end = count + 1, stop
    return count
