"""What a model said -> the part of it that is its answer: not its thinking, and nothing where it was cut off.

`<think>...</think>` is dropped, with the drafts in it, and a `</think>` that nothing opened (chat templates open it)
makes all that stands before it thinking. Where there is a `<solution>`, the last one is the answer. An open end of
either means that the answer was cut off.

The repository's own text may hold these tags, and prose may mention them. So a tag counts only outside of complete
edits; an opening one only at the beginning or the end of its line (blanks and other tags aside), a closing one anywhere
but directly after a quote or a back-tick.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from agentless_mini.domain import Reason, Rejected
from agentless_mini.edits.markers import complete_edits

_TAG = re.compile(r"<(/?)(think|solution)>")
_QUOTES = ("`", "'", '"')


class _Tag(NamedTuple):
    """A tag that counts, and its place in the text."""

    name: str
    closes: bool
    start: int
    stop: int


def answer_text(text: str) -> str | Rejected:
    """Return the answer within what a model said, or `Rejected` as TRUNCATED.

    If every line of it ends in `\\r\\n` it is read as if all ended in `\\n`; otherwise a `\\r` is text.
    """
    if text.count("\r\n") == text.count("\n"):
        text = text.replace("\r\n", "\n")
    spoken = _without_thinking(text)
    return spoken if isinstance(spoken, Rejected) else _last_solution(spoken)


def _without_thinking(text: str) -> str | Rejected:
    kept: list[str] = []
    start = 0
    is_open = False
    for tag in _tags(text, "think"):
        if tag.closes:
            kept, start = (kept if is_open else []), tag.stop
        elif not is_open:
            kept.append(text[start : tag.start])
        is_open = not tag.closes
    return _cut_off("think") if is_open else "".join(kept) + text[start:]


def _last_solution(text: str) -> str | Rejected:
    solution = text
    start = 0
    is_open = False
    for tag in _tags(text, "solution"):
        if tag.closes and is_open:
            solution = text[start : tag.start]
        elif not is_open:
            start = tag.stop
        is_open = not tag.closes
    return _cut_off("solution") if is_open else solution


def _cut_off(name: str) -> Rejected:
    return Rejected(Reason.TRUNCATED, f"<{name}> is opened and not closed: the answer was cut off")


def _tags(text: str, name: str) -> list[_Tag]:
    """Return the tags of that name that count."""
    if not _TAG.search(text):
        return []
    lines = text.split("\n")
    in_edit = bytearray(len(lines))
    for first, last in complete_edits(lines):
        in_edit[first : last + 1] = b"\1" * (last + 1 - first)
    found: list[_Tag] = []
    offset = 0
    for line, inside in zip(lines, in_edit, strict=True):
        if not inside:
            found.extend(tag for tag in _tags_of_line(line, offset) if tag.name == name)
        offset += len(line) + 1
    return found


def _tags_of_line(line: str, offset: int) -> Iterator[_Tag]:
    tags = list(_TAG.finditer(line))
    leading = _run(line, [(tag.start(), tag.end()) for tag in tags])
    trailing = _run(line[::-1], [(len(line) - tag.end(), len(line) - tag.start()) for tag in reversed(tags)])
    for index, tag in enumerate(tags):
        closes = bool(tag[1])
        is_quoted = line.startswith(_QUOTES, tag.start() - 1) if tag.start() else False
        at_edge = index < leading or index >= len(tags) - trailing
        if at_edge or (closes and not is_quoted):
            yield _Tag(tag[2], closes, offset + tag.start(), offset + tag.end())


def _run(line: str, places: Iterable[tuple[int, int]]) -> int:
    """Count the tags that only blanks and tags precede."""
    count = end = 0
    for start, stop in places:
        if line[end:start].strip():
            break
        count, end = count + 1, stop
    return count
