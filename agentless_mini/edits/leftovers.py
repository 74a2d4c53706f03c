"""Lines in a REPLACE that are no code: markers, fences, and words that stand for code which the model left out.

A model that loses the thread leaves a divider or a fence in the new lines, and one that is lazy writes
`# ... rest of the code` where the code should be. Such an edit deletes what it does not repeat, or writes rubbish into
the file. A line counts as left over only if it is new, and the file has none like it.
"""

import re
from collections import Counter
from collections.abc import Sequence

from agentless_mini.domain import Reason, Rejected
from agentless_mini.edits.markers import DIVIDES, marker
from agentless_mini.edits.matching import Lines

# Text for people: a line of equals signs is a heading there, three dots are three dots, and fences come in pairs.
_MARKUP = (".md", ".markdown", ".mdx", ".rst", ".adoc", ".tex")
_TEXT = re.compile(r"(?:.*/)?(?!CMakeLists|requirements|constraints)[^/]*\.txt", re.IGNORECASE)
_PYTHON = (".py", ".pyi", ".pyx")
_CONFLICT = re.compile(r"(?:<{7}|>{7}|\|{7})(?:[ \t].*)?")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})[^`]*")
_TAG = re.compile(r"</?(?:REPLACE|SEARCH|solution|answer)>", re.IGNORECASE)
_OUTER_TAG = re.compile(r"</think(?:ing)?>|<\|(?:im_end|im_start|eot_id|return|end|endoftext)\|>")

_RULE = r"[\s=*~\u2014\u2013\u2193\u2191\u2192\u00b7-]*"  # lines, dashes and arrows around words
_COMMENT = re.compile(
    r"\s*(?P<mark>(?:pass|\.\.\.|raise NotImplementedError(?:\(\))?)\s+\#+"
    r"|\#+|//+|/\*+|\*+|--+|;+|%+|<!--|\{/\*|\{\#|\"\"\"|\'\'\')?"
    rf"{_RULE}(?P<said>.*?){_RULE}(?:\*+/\}}?|-->|\#\}}|\"\"\"|\'\'\')?\s*"
)
_DOTS = r"(?:\.\.\.+|…|⋮|\. \. \.)"
_LEADING = re.compile(rf"[(\[<{{\"']?\s*{_DOTS}\s*(?P<said>.*?)", re.DOTALL)
_TRAILING = re.compile(rf"{_DOTS}\s*[)\]>}}\"']?\Z")
_WORD = re.compile(r"[a-z]+")
_PLAIN = re.compile(r"[A-Za-z\s.,…⋮()\[\]{}<>\"'-]*")
# A comment of nothing but these words stands for code if it has one of the first kind and one of the second, or is one
# of the third.
_KEPT = {
    "rest", "remaining", "remainder", "existing", "unchanged", "omitted", "unmodified", "snip", "snipped", "elided",
    "truncated", "identical",
}  # fmt: skip
_CODE = {
    "code", "file", "function", "functions", "method", "methods", "class", "classes", "implementation", "logic",
    "import", "imports", "body", "content", "contents", "lines", "tests", "module", "statements", "remains",
    "docstring", "docstrings", "documentation", "args", "arguments", "parameters", "comments",
}  # fmt: skip
_ALONE = {"unchanged", "unmodified", "omitted", "snip", "snipped", "elided", "truncated"}
_FILLERS = {
    "the", "of", "other", "as", "before", "above", "below", "here", "stays", "stay", "remains", "remain", "is", "are",
    "and", "your", "keep", "kept", "for", "brevity", "goes", "go", "continues", "everything", "else", "more", "no",
    "changes", "change", "in", "this", "section", "part", "parts", "definitions", "variables", "fields", "attributes",
    "properties", "etc", "all", "from", "with", "without", "any", "modification", "modifications", "to", "be", "it",
    "a", "that", "was", "will", "not", "shown", "way", "exactly", "same", "previous", "original", "line", "test", "so",
    "on", "leave", "continue", "note",
}  # fmt: skip
_VOCABULARY = _KEPT | _CODE | _FILLERS
_SAID_SO = re.compile(
    r"(?:\w+ )?as (?:before|is)|(?:note: )?(?:the )?rest (?:of|is)\b.*|.*\bsnip"
    r"|no (?:further )?changes?(?: here)?|(?:and )?so on|etc|code continues|other code|your code here"
    r"|(?:the )?same(?: (?:code |logic )?as (?:before|above|original|the original))?"
    r"|(?:existing |original )?docstrings?"
    r"|(?:(?:the )?(?:original|previous|same) )?(?:implementation|code|logic)(?: (?:here|continues))?|as above"
    r"|lines? \d+\s?[-\u2013]\s?\d+ (?:are )?unchanged|lines? \d+ (?:to|-) \d+ (?:are )?not shown"
    r"|\d+ (?:more )?lines (?:omitted|not shown)",
    re.IGNORECASE,
)
_EMPTY = re.compile(
    r"(?:#|//|<!--|/\*)?\s*[(\[<]?(?:deleted?|removed?|empty|nothing|none|no code)(?: this line)?[)\]>]?"
    r"\s*(?:-->|\*/)?",
    re.IGNORECASE,
)
_STUBS = {"pass", "...", "return", "return None", ""}


def is_elision(line: str, loses: bool = True) -> bool:
    """Tell whether a line stands for code that is left out: three dots, or a comment that says so.

    Where no line is lost (`loses`) only what can hardly mean anything else counts.
    """
    found = _COMMENT.fullmatch(line[:400])
    text = found["said"] if found else ""
    is_comment = found is not None and found["mark"] is not None
    leading = _LEADING.fullmatch(text)
    if leading:
        return _is_dotted(text, _TRAILING.sub("", leading["said"]).strip("()[]{}<>\"' "), is_comment, loses)
    bare = text.strip("()[]{}<>\"' .,…")
    if not is_comment and text[:1] not in "([<":
        return False
    words = _words(bare)
    said = set(_WORD.findall(bare.lower()))
    if loses and _TRAILING.search(text) and (said & _KEPT or said <= _VOCABULARY):
        return True
    is_said = bool(words & _KEPT) and (bool(words & _CODE) or words <= _ALONE or (loses and words <= _KEPT | _FILLERS))
    return is_said or (loses and _SAID_SO.fullmatch(bare) is not None)


def _is_dotted(text: str, said: str, is_comment: bool, loses: bool) -> bool:
    """Tell whether three dots and what follows them stand for code: a JavaScript spread does not."""
    if not said:
        return True
    if not is_comment:
        return bool(_words(said)) and " " in said
    return loses or bool(_words(said)) or _TRAILING.search(text) is not None


def _words(text: str) -> set[str]:
    """Return the words of a text of which all are such as stand for code, else none."""
    words = set(_WORD.findall(text.lower()))
    return words if _PLAIN.fullmatch(text) and words <= _VOCABULARY else set()


def left_over(path: str, fence: str, search: Sequence[str], replace: Sequence[str], file: Lines) -> Rejected | None:
    """Return why an edit is not to be applied, None where its new lines may be what they say.

    `search` and `replace` are its lines without terminators; `fence` is what opened the fence around them, "" for an
    edit whose text is taken as it is.
    """
    if not fence:
        return None
    unused = Counter(map(str.strip, search))
    gone = unused - Counter(map(str.strip, replace))
    added = Counter(map(str.strip, replace)) - unused
    lost = [line for line in gone.elements() if line and line not in _STUBS]
    loses = len(lost) > sum(1 for line in added.elements() if line and not is_elision(line))
    is_text = path.endswith(_MARKUP) or _TEXT.fullmatch(path) is not None
    spoken = [line for line in replace if line.strip()]
    if len(spoken) == 1 and lost and _EMPTY.fullmatch(spoken[0].strip()) and not spoken[0].strip().isidentifier():
        return Rejected(Reason.PLACEHOLDER, f"{spoken[0].strip()!r} is no code of {path}: leave REPLACE empty")
    for at, line in enumerate(replace):
        bare = line.strip()
        if unused[bare] > 0 and (bare != "..." or line in search):
            unused[bare] -= 1
        elif _is_marker(line, replace[at - 1] if at else "", is_text, line in spoken[-1:]) and not file.holds(line):
            return Rejected(Reason.MALFORMED, f"a marker is left in the new lines of {path}: {bare[:80]!r}")
        elif (
            (loses or not is_text)
            and is_elision(line, loses)
            and _stands_for_code(path, at, replace, is_text, bool(lost))
            and (bare == "..." or lost or not file.holds(line))
        ):
            detail = f"{bare[:80]!r} stands in the new lines of {path} where code should: give it whole"
            return Rejected(Reason.PLACEHOLDER, detail)
    return _fence_left(path, fence, search, replace, file)


def _is_marker(line: str, before: str, is_text: bool, is_last: bool) -> bool:
    """Tell whether a line is a marker or a tag of the format, and no heading's underline."""
    found = marker(line)
    bare = line.strip()
    if found is None or found.prefix.strip():
        return bool(_CONFLICT.fullmatch(line) or _TAG.fullmatch(bare) or (is_last and _OUTER_TAG.fullmatch(bare)))
    title = before.strip().strip("\"'#*/ ")
    is_title = bool(title) if is_text else re.fullmatch(r"[A-Za-z][\w -]*", title) is not None
    fits = is_text or abs(len(title) - found.width) <= 1
    return not (found.kind == DIVIDES and is_title and fits)


def _fence_left(path: str, fence: str, search: Sequence[str], replace: Sequence[str], file: Lines) -> Rejected | None:
    """Return why fences in the new lines are no text: half a pair, or fences where the file has none."""
    fences, there = _fences(replace, fence), _fences(search, fence)
    is_paired = len(fences) % 2 == len(there) % 2
    known = all(line in there or file.holds(line) for line in fences)
    if not fences or (is_paired and (known or path.endswith(_MARKUP) or _TEXT.fullmatch(path))):
        return None
    return Rejected(Reason.MALFORMED, f"a fence is left in the new lines of {path}: {fences[-1].strip()[:80]!r}")


def _fences(lines: Sequence[str], fence: str) -> list[str]:
    """Return the lines that would close the fence around the edit, or open one like it."""
    found = [(line, match[1]) for line in lines if (match := _FENCE.fullmatch(line))]
    return [line for line, mark in found if mark[0] == fence[0] and len(mark) >= len(fence)]


def _stands_for_code(path: str, at: int, replace: Sequence[str], is_text: bool, loses: bool) -> bool:
    """Tell whether three dots alone do: they may be a statement, a prompt of a doctest, a mark of YAML or just text."""
    line = replace[at]
    if line.strip() not in {"...", "…"}:
        return True
    if is_text or (path.endswith((".yaml", ".yml")) and line.rstrip() == "..."):
        return loses and not is_text
    above = next((other for other in reversed(replace[:at]) if other.strip()), "")
    below = next((other for other in replace[at + 1 :] if other.strip()), "")
    if not path.endswith(_PYTHON):
        return True
    if above.lstrip().startswith((">>>", "...", "Traceback")):
        return False
    if above.rstrip().endswith(("[", "(", "{", ",")):
        return loses
    code = re.sub(r"\s+#.*", "", above).rstrip()
    is_body = code.endswith((":", '"""', "'''")) or above.lstrip().startswith("#")
    ends_block = not below or _depth(below) < _depth(line)
    return loses or not (is_body and ends_block)


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())
