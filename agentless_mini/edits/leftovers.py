"""Lines in a REPLACE that are no code: markers, fences, and words that stand for code which the model left out.

A model that loses the thread leaves a divider or a fence in the new lines, and one that is lazy writes
`# ... rest of the code` where the code should be. Such an edit deletes what it does not repeat, or writes rubbish into
the file. A line counts as left over only if neither SEARCH nor the file has one like it.
"""

import re
from collections.abc import Sequence

from agentless_mini.domain import Reason, Rejected
from agentless_mini.edits.markers import DIVIDES, marker
from agentless_mini.edits.matching import Lines

# Text for people, where a line of equals signs is a heading, three dots are three dots, and fences come in pairs.
_PROSE = (".md", ".markdown", ".rst", ".txt", ".adoc", ".tex", ".html")
_CONFLICT = re.compile(r"(?:<{7}|>{7}|\|{7})(?:[ \t].*)?")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})[^`]*")
_COMMENT = re.compile(
    r"\s*(?:#+|//+|/\*+|\*+|--+|;+|%+|<!--|\{/\*|\{#|\"\"\"|''')?\s*(?P<said>.*?)\s*(?:\*+/\}?|-->|#\}|\"\"\"|''')?\s*"
)
_DOTS = re.compile(r"\(?\[?\s*(?:\.\.\.+|…)\s*(?P<said>.*?)\s*(?:\.\.\.+|…)?\s*\]?\)?", re.DOTALL)
_WORD = re.compile(r"[a-z]+")
# A comment of nothing but such words, one of the first kind among them, stands for code.
_CORE = {
    "rest", "remaining", "remainder", "existing", "unchanged", "omitted", "unmodified", "snip", "snipped", "elided",
    "truncated", "same", "previous", "original",
}  # fmt: skip
_FILLERS = {
    "the", "of", "other", "as", "before", "above", "below", "code", "codes", "function", "functions", "method",
    "methods", "class", "classes", "file", "implementation", "logic", "import", "imports", "body", "line", "lines",
    "content", "contents", "test", "tests", "here", "stays", "stay", "remains", "remain", "is", "are", "and", "your",
    "keep", "kept", "for", "brevity", "goes", "go", "continues", "everything", "else", "more", "no", "changes", "in",
    "this", "section", "part", "parts", "module", "definitions", "variables", "fields", "attributes", "properties",
    "statements", "etc", "all", "from", "with", "without", "any", "modification", "modifications", "to", "be", "it",
    "a", "that", "was", "will", "not", "shown", "way", "exactly",
}  # fmt: skip
_STUBS = {"pass", "...", "return", "return None", "raise NotImplementedError", "raise NotImplementedError()"}


def is_elision(line: str) -> bool:
    """Tell whether a line stands for code that is left out: three dots, or a comment that says so."""
    said = _COMMENT.fullmatch(line[:400])
    text = said["said"] if said else ""
    is_comment = said is not None and said.start("said") > len(line) - len(line.lstrip())
    dots = _DOTS.fullmatch(text)
    if dots and (is_comment or not dots["said"] or _is_filler(dots["said"])):
        return True
    return (is_comment or text.startswith(("(", "["))) and _is_filler(text)


def _is_filler(text: str) -> bool:
    words = _WORD.findall(text.lower())
    plain = re.fullmatch(r"[A-Za-z\s.,…()\[\]'-]*", text)
    return bool(plain) and not _CORE.isdisjoint(words) and _CORE.union(_FILLERS).issuperset(words)


def left_over(path: str, fence: str, sides: tuple[Sequence[str], Sequence[str]], file: Lines) -> Rejected | None:
    """Return why an edit is not to be applied, None where its new lines may be what they say.

    `sides` are the lines of SEARCH and REPLACE without terminators; `fence` is what opened the fence around them, ""
    for an edit whose text is taken as it is.
    """
    search, replace = sides
    if not fence:
        return None
    known = frozenset(map(str.strip, search))
    for at, line in enumerate(replace):
        if line.strip() in known:
            continue
        if _is_marker(path, line, replace[at - 1] if at else "") and not file.holds(line):
            return Rejected(Reason.MALFORMED, f"a marker is left in the new lines of {path}: {line.strip()[:80]!r}")
        if is_elision(line) and _stands_for_code(path, at, sides) and not _is_own(line, file):
            detail = f"{line.strip()[:80]!r} stands in the new lines of {path} where code should: give it whole"
            return Rejected(Reason.PLACEHOLDER, detail)
    fences = _fences(replace, fence)
    is_paired = len(fences) % 2 == len(_fences(search, fence)) % 2
    if fences and not (
        is_paired and (path.endswith(_PROSE) or all(line.strip() in known or file.holds(line) for line in fences))
    ):
        return Rejected(Reason.MALFORMED, f"a fence is left in the new lines of {path}: {fences[-1].strip()[:80]!r}")
    return None


def _is_marker(path: str, line: str, before: str) -> bool:
    """Tell whether a line is a marker, and no heading's underline."""
    found = marker(line)
    if found is None or found.prefix or found.width != 7:
        return _CONFLICT.fullmatch(line) is not None
    is_underline = found.kind == DIVIDES and path.endswith(_PROSE) and 0 < len(before.strip()) <= found.width
    return not is_underline


def _fences(lines: Sequence[str], fence: str) -> list[str]:
    """Return the lines that would close the fence around the edit, or open one like it."""
    found = [(line, match[1]) for line in lines if (match := _FENCE.fullmatch(line))]
    return [line for line, mark in found if mark[0] == fence[0] and len(mark) >= len(fence)]


def _is_own(line: str, file: Lines) -> bool:
    return line.strip() != "..." and file.holds(line)


def _stands_for_code(path: str, at: int, sides: tuple[Sequence[str], Sequence[str]]) -> bool:
    """Tell whether an elision is one: three dots alone may be a statement, a prompt of a doctest or a mark of YAML."""
    search, replace = sides
    line = replace[at]
    if path.endswith(_PROSE):
        return False
    if line.strip() != "...":
        return True
    if path.endswith((".yaml", ".yml")):
        return False
    above = [other for other in replace[:at] if other.strip()]
    below = [other for other in replace[at + 1 :] if other.strip()]
    if not path.endswith((".py", ".pyi", ".pyx")):
        return True
    if above and above[-1].lstrip().startswith((">>>", "...")):
        return False
    depth = len(line) - len(line.lstrip())
    ends_block = not below or len(below[0]) - len(below[0].lstrip()) < depth
    is_body = bool(above) and (above[-1].rstrip().endswith((":", '"""')) or above[-1].lstrip().startswith("#"))
    gone = {other.strip() for other in search} - {other.strip() for other in replace} - _STUBS
    return not (ends_block and is_body and not gone)
