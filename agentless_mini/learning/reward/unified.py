"""A unified diff as an answer -> a patch, or why it is none: the other format that a model can be trained in.

`unidiff` parses it; where its hunks belong is settled here; the applier of edits does the rest, so paths, encodings,
terminators and Python that must parse are judged as they are in the edit format. Strict as that is: a hunk's counts
are right, its old lines stand where it says or at one other place, and one bad hunk rejects the answer. Renames,
binary files and changes of mode are not read.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from agentless_mini.domain import Completion, Edit, FileKind, Finish, Patch, Reading, Reason, Rejected
from agentless_mini.edits import Tree, answer_text, apply_edits, candidate_patch
from agentless_mini.edits.paths import clean_path
from agentless_mini.edits.sources import content, contents, decode, split_lines

if TYPE_CHECKING:
    from unidiff.patch import Hunk, PatchedFile

_FENCE = re.compile(r"( {0,3})(?:(`{3,})[^`]*|(~{3,}).*)")
_BEGIN = re.compile(r"^(?:diff --git |--- )", re.MULTILINE)
_NOTE = "\\"
_ESCAPE = re.compile(r"\\([0-3][0-7]{2}|[abfnrtv\"\\])")
_LETTERS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", '"': '"', "\\": "\\"}


def read_diff(completion: Completion, tree: Tree) -> Patch | Rejected:
    """Return the patch that a completion asks for on a tree by unified diffs, or why it is no patch.

    Fenced blocks that hold a diff are read, one after another; without any, the answer from where a diff begins.
    """
    if completion.finish is Finish.LENGTH:
        return Rejected(Reason.TRUNCATED, "the answer was cut off by the token limit")
    if completion.finish is Finish.FILTER:
        return Rejected(Reason.WITHHELD, "the server withheld the answer")
    answer = answer_text(completion.text)
    if isinstance(answer, Rejected):
        return answer
    blocks = [block for block in _blocks(answer) if _BEGIN.search(block)]
    return apply_diff("".join(blocks) or answer, tree)


def _blocks(answer: str) -> Iterator[str]:
    """Yield what stands in fenced blocks that are closed.

    A fence is closed at the column where it opens: a diff's own lines begin with a sign, so a fence in a file that is
    patched closes nothing.
    """
    indent, mark, inside = "", "", list[str]()
    for line in answer.split("\n"):
        if mark:
            closing = line.removeprefix(indent).rstrip(" \t") if line.startswith(indent) else ""
            if closing.startswith(mark) and not closing.strip(mark[0]):
                yield "".join(inside)
                mark, inside = "", []
            else:
                inside.append(f"{line}\n")
        elif fence := _FENCE.fullmatch(line):
            indent, mark = fence[1], fence[2] or fence[3]


def apply_diff(text: str, tree: Tree) -> Patch | Rejected:
    """Return the patch that the unified diffs in a text make of a tree, or why they make none."""
    files = _parsed(text)
    if isinstance(files, Rejected):
        return files
    edits: list[Edit] = []
    for file in files:
        edit = _edit(file, tree)
        if isinstance(edit, Rejected):
            return edit
        edits.append(edit)
    if len({edit.path for edit in edits}) < len(edits):
        return _malformed("a file is named twice")
    changes = apply_edits(edits, tree) if edits else Rejected(Reason.NO_EDIT, "the answer holds no diff")
    return changes if isinstance(changes, Rejected) else candidate_patch(changes, tree.forms)


def _malformed(detail: str) -> Rejected:
    return Rejected(Reason.MALFORMED, detail)


def _parsed(text: str) -> "Sequence[PatchedFile] | Rejected":
    """Return the files of the diffs."""
    from unidiff.errors import UnidiffParseError
    from unidiff.patch import PatchSet

    begin = _BEGIN.search(text)
    try:
        return PatchSet(split_lines(text[begin.start() :])) if begin else ()
    except (UnidiffParseError, ValueError) as error:  # a number of thousands of digits is a ValueError
        return _malformed(" ".join(str(error).split())[:200])


def _edit(file: "PatchedFile", tree: Tree) -> Edit | Rejected:
    """Return the edit of a whole file that says what the hunks say."""
    path = clean_path(_unquoted(file.path))
    if isinstance(path, Rejected):
        return path
    if file.is_rename or file.is_binary_file or not (file or _is_said(file)):
        return _malformed(f"{path} is renamed, binary, or has no hunk")
    entry = tree.entries.get(path)
    if file.source_file == "/dev/null" or entry is None:
        lines: list[str] = []
    elif entry.kind is FileKind.TEXT:
        lines = split_lines(decode(entry).text)
    else:
        return Edit(path, (Reading("x\n", ""),))  # which the applier refuses, and says why
    reading = _reading(file, lines)
    return reading if isinstance(reading, Rejected) else Edit(path, (reading,))


def _unquoted(path: str) -> str:
    """Return a path as it is in the tree: git writes bytes beyond ASCII, quotes and tabs as C does."""
    said = _ESCAPE.sub(lambda found: _LETTERS.get(found[1]) or chr(int(found[1], 8)), path)
    try:
        return said.encode("latin-1").decode() if said != path else path
    except UnicodeError:
        return path


def _is_said(file: "PatchedFile") -> bool:
    """Tell whether the header says that an empty file comes or goes."""
    return "/dev/null" in (file.source_file, file.target_file)


def _reading(file: "PatchedFile", lines: Sequence[str]) -> Reading | Rejected:
    """Return the whole file before and after, as an edit says it."""
    old_file = _Lines.of(contents(lines))
    whole = [line + "\n" for line in old_file.lines]
    before: list[str] = []
    after: list[str] = []
    passed = 0
    for hunk in file:
        old, new = _side(hunk, " -"), _side(hunk, " +")
        place = _place(hunk, contents(old), old_file, passed)
        if isinstance(place, Rejected):
            return Rejected(place.reason, f"{place.detail} in {file.path[:200]!r}")
        before += [*whole[passed:place], *old]
        after += [*whole[passed:place], *new]
        passed = place + len(old)
    before, after = before + whole[passed:], after + whole[passed:]
    if _has_early_end(before) or _has_early_end(after):
        return _malformed(f"a note says that {file.path[:200]!r} ends where more lines follow")
    if file.target_file == "/dev/null" and after:
        return _malformed(f"{file.path[:200]!r} is deleted, but has more lines")
    return Reading("".join(before), "".join(after))


@dataclass(frozen=True, slots=True)
class _Lines:
    """The lines of a file, and the text in which runs of them are looked for: line n follows the newline at ends[n]."""

    lines: Sequence[str]
    text: str
    ends: Sequence[int]

    @classmethod
    def of(cls, lines: Sequence[str]) -> "_Lines":
        return cls(lines, "".join(f"\n{line}" for line in (*lines, "")), [0, *accumulate(len(x) + 1 for x in lines)])

    def places(self, wanted: Sequence[str], passed: int) -> list[int]:
        """Return the first two places of a run of lines, those that are passed left out."""
        run = "".join(f"\n{line}" for line in (*wanted, ""))
        found: list[int] = []
        at = self.text.find(run, self.ends[passed])
        while at >= 0 and len(found) < 2:
            found.append(bisect_left(self.ends, at))
            at = self.text.find(run, at + 1)
        return found


def _place(hunk: "Hunk", wanted: Sequence[str], file: _Lines, passed: int) -> int | Rejected:
    """Return where in a file a hunk begins, the passed lines left out: where it says, else at the one other place."""
    stated = hunk.source_start - (1 if wanted else 0)
    if passed <= stated <= len(file.lines) and [*file.lines[stated : stated + len(wanted)]] == [*wanted]:
        return stated
    places = file.places(wanted, passed) if wanted else []
    if len(places) == 1:
        return places[0]
    reason, where = (Reason.AMBIGUOUS, "several places") if places else (Reason.NOT_FOUND, "no place")
    return Rejected(reason, f"the old lines of a hunk stand at {where}, and not where it says,")


def _side(hunk: "Hunk", signs: str) -> list[str]:
    """Return the lines of a hunk with one of these signs; one that is said to have no newline has none."""
    said: list[str] = []
    sign = ""
    for line in hunk:
        if line.line_type == _NOTE and sign in signs and said:
            said[-1] = said[-1].removesuffix("\n")
        elif line.line_type and line.line_type in signs:
            said.append(content(line.value) + "\n")
        sign = line.line_type
    return said


def _has_early_end(lines: Sequence[str]) -> bool:
    return any(not line.endswith("\n") for line in lines[:-1])
