"""Model text -> a list of files. (Edits have a module of their own: `edits`.)

Answers are matched against the tree, tolerant of how models write lists: bullets, numbers, quotes, back-ticks, a
leading `./`, trailing blanks, line numbers and remarks (mission section 1.1).
"""

import re

from agentless_mini.domain import Completion, Finish, Reason, Rejected
from agentless_mini.edits import answer_text
from agentless_mini.lexical import PathIndex

_BULLET = re.compile(r"^\s*(?:[-*+•>]|\d{1,3}[.):])\s+")
_QUOTES = " \t`'\"*,;:()[]<>"
_LINE_NUMBER = re.compile(r"(?::\d+(?:-\d+)?|#L\d+(?:-L\d+)?)+$")
_FENCE = re.compile(r"^\s*(?:`{3,}|~{3,})")


def read_paths(completion: Completion, tree: PathIndex, most: int) -> tuple[str, ...] | Rejected:
    """Return the distinct paths of the tree that the answer lists, in its order, at most `most` of them.

    The last fenced block that names any file counts; without one, every line of the answer does. An answer that names
    no file of the tree, or was cut off, is `Rejected`.
    """
    if completion.finish is Finish.LENGTH:
        return Rejected(Reason.TRUNCATED, "the list of files was cut off by the token limit")
    text = answer_text(completion.text)
    if isinstance(text, Rejected):
        return text
    for block in [*reversed(_fenced_blocks(text)), text]:
        paths = _paths(block, tree)
        if paths:
            return paths[:most]
    return Rejected(Reason.BAD_PATH, "the answer names no file of the tree")


def _fenced_blocks(text: str) -> list[str]:
    """Return the contents of the closed fences, in order."""
    blocks: list[str] = []
    inside: list[str] | None = None
    for line in text.split("\n"):
        if not _FENCE.match(line):
            if inside is not None:
                inside.append(line)
        elif inside is None:
            inside = []
        else:
            blocks.append("\n".join(inside))
            inside = None
    return blocks


def _paths(text: str, tree: PathIndex) -> tuple[str, ...]:
    found = [path for line in text.split("\n") if (path := _path(line, tree))]
    return tuple(dict.fromkeys(found))


def _path(line: str, tree: PathIndex) -> str | None:
    """Return the path that a line names: all of it, or its first word where a remark follows."""
    said = _BULLET.sub("", line[:1000]).strip().removeprefix("### ").strip(_QUOTES)
    for part in (said, *re.split(r"[\s,`]+", said)[:1]):
        bare = _LINE_NUMBER.sub("", part.strip(_QUOTES)).strip(_QUOTES)
        if bare and (path := tree.find(bare)):
            return path
    return None
