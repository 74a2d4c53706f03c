"""Lines that are no text of a file: the markers that structure an answer, and what a model left in a REPLACE.

An edit's markers are `<<<<<<< SEARCH`, `=======` and `>>>>>>> REPLACE`, at the start of their lines, seven characters
wide. Where the text of an edit itself holds such lines the markers may be wider, all three alike, as fences may be in
Markdown: markers of another width are text, and so are markers that are indented otherwise than the one that opens.
Models write them carelessly: in a list, with words after them, of unequal widths. Such markers are read where the edit
has no better ones, and only if they leave one way to read it.

A model that loses the thread leaves a divider or a fence in the new lines, and one that is lazy writes
`# ... rest of the code` where the code should be. Such an edit deletes what it does not repeat, or writes rubbish into
the file. A line counts as left over only if it is new, and the file has none like it.
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

from agentless_mini.domain import Edit, Reading, Reason, Rejected
from agentless_mini.edits.sources import FileLines, contents, split_lines

WIDTH = 7
MOST_WIDTH = 32
NO_NEWLINE = "\\ No newline at end of file"

OPENS, DIVIDES, CLOSES = "<", "=", ">"
_MARK = re.compile(
    r"(?P<prefix>[ \t]*+(?:(?:[-*+•]|\d{1,3}[.)])[ \t]++|(?:> )++)?[ \t]*+)"
    r"(?P<mark><{5,32}|={5,32}|>{5,32})(?P<word>[ \t]*+(?:SEARCH|REPLACE)(?![A-Za-z0-9_]))?(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_RUNS = ("<<<<<", "=====", ">>>>>")
_WORDS = {OPENS: "SEARCH", DIVIDES: "", CLOSES: "REPLACE"}


class Marker(NamedTuple):
    """A line that looks like a marker: where it stands, which kind and how wide, and what is before and after it."""

    at: int
    kind: str
    width: int
    prefix: str
    rest: str

    @property
    def beside(self) -> str:
        """Return the prefix that the lines below a marker have: where that is a list's bullet, as many blanks."""
        return self.prefix if ">" in self.prefix else re.sub(r"\S", " ", self.prefix)

    def matches(self, opening: "Marker") -> bool:
        """Tell whether it belongs to the marker that opens an edit by its width and its place in the line."""
        return self.width == opening.width and self.prefix in (opening.prefix, opening.beside)


def markers(lines: Sequence[str]) -> list[Marker]:
    """Return all lines that may be markers, in order."""
    return [found for at, line in enumerate(lines) if (found := marker(line, at))]


def marker(line: str, at: int = 0) -> Marker | None:
    """Return the marker in a line, None for any other line."""
    found = _MARK.fullmatch(line) if any(run in line for run in _RUNS) else None
    if not found:
        return None
    kind, word = found["mark"][0], (found["word"] or "").strip().upper()
    rest = found["rest"].strip(" \t\r")
    fits = word == _WORDS[kind] and not (kind == DIVIDES and rest)
    return Marker(at, kind, len(found["mark"]), found["prefix"], rest) if fits else None


def marker_width(line: str) -> int:
    """Return the width of a marker as models are asked for it, or a wider one; 0 for any other line."""
    found = marker(line)
    return found.width if found and not found.prefix and found.width >= WIDTH else 0


def closing(found: Sequence[Marker], place: int) -> int:
    """Return the place among the markers of the one that closes the edit that `found[place]` opens, 0 for none.

    It is the next one like it, unless another edit like it begins before. Where there is none, but exactly one other
    before any edit begins, it is that.
    """
    behind = range(place + 1, len(found))
    first = next((at for at in behind if found[at].kind != DIVIDES and found[at].matches(found[place])), 0)
    if first and found[first].kind == CLOSES:
        return first
    before_next = takewhile(lambda at: found[at].kind != OPENS, behind)
    unlike = [at for at in before_next if found[at].kind == CLOSES]
    return unlike[0] if len(unlike) == 1 else 0


def dividers(found: Sequence[Marker], place: int, last: int) -> tuple[list[Marker], bool]:
    """Return what may divide the edit between two markers, and whether it is like the marker that opens it."""
    inside = [marker for marker in found[place + 1 : last] if marker.kind == DIVIDES]
    alike = [marker for marker in inside if marker.matches(found[place])]
    return (alike, True) if alike else (inside, False)


# --- what is left over -----------------------------------------------------------------------------------------------


# Words of languages that put no blanks between them: what keeps code, code, and the rest.
_KEPT_THERE = "其余|剩余|现有|原有|不变|省略|未修改|既存|残り|変更なし|そのまま"
_CODE_THERE = "代码|方法|函数|实现|逻辑|コード|処理|実装|メソッド"
_FILLERS_THERE = "保持|其他|此处|以上|以下|部分|的|都|均|その他|の|は|も|を"
_WORD = re.compile(rf"{_KEPT_THERE}|{_CODE_THERE}|{_FILLERS_THERE}|[a-zß-ÿа-я가-힣]+|[^\W\d_]")


def _words_of(said: str) -> set[str]:
    return set(_WORD.findall(said.lower()))


# Text for people: a line of equals signs is a heading there, three dots are three dots, and fences come in pairs.
_MARKUP = (".md", ".markdown", ".mdx", ".rst", ".adoc", ".tex")
_TEXT = re.compile(r"(?:.*/)?(?!CMakeLists|requirements|constraints)[^/]*\.txt", re.IGNORECASE)
_PYTHON = (".py", ".pyi", ".pyx")
_CONFLICT = re.compile(r"(?:<{7}|>{7}|\|{7})(?:[ \t].*)?")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})[^`]*")
_TAG = re.compile(r"</?(?:REPLACE|SEARCH|solution|answer)>", re.IGNORECASE)
_OUTER_TAG = re.compile(r"</think(?:ing)?>|<\|(?:im_end|im_start|eot_id|return|end|endoftext)\|>")

_RULE = r"[\s=*~#\u2014\u2013\u2193\u2191\u2192\u00b7-]*"  # lines, dashes and arrows around words
_COMMENT = re.compile(
    r"\s*(?P<mark>(?:pass|\.\.\.|raise NotImplementedError(?:\(\))?)\s+\#+"
    r"|\#+|//+|/\*+|\*+|--+|;+|%+|<!--|\{/\*|\{\#|\"\"\"|\'\'\')?"
    rf"{_RULE}(?P<said>.*?){_RULE}(?:\*+/\}}?|-->|\#\}}|\"\"\"|\'\'\')?\s*"
)
_DOTS = r"(?:\.\.\.+|…|⋮|\. \. \.)"
_LEADING = re.compile(rf"[(\[<{{\"']?\s*{_DOTS}\s*(?P<said>.*?)", re.DOTALL)
_TRAILING = re.compile(rf"{_DOTS}\s*[)\]>}}\"']?\Z")
_PLAIN = re.compile(r"(?:[^\W\d_]|[\s.,:…⋮()\[\]{}<>\"'\uff08\uff09\uff0c\u3002-])*")
# A comment of nothing but these words stands for code if it has one of the first kind and one of the second, or is one
# of the third.
_ALONE = {"unchanged", "unmodified", "omitted", "snip", "snipped", "elided", "truncated"}
_KEPT = _ALONE | _words_of(
    "rest remaining remainder existing identical reste restant existant inchangé resto restante existente inalterado "
    f"bestehender restlicher unverändert остальной остальные существующий 나머지 기존 생략 {_KEPT_THERE}"
)
_CODE = _words_of(
    "code file function functions method methods class classes implementation logic import imports body content "
    "contents lines tests module statements remains docstring docstrings documentation args arguments parameters "
    f"comments codes código métodos méthodes код кода методы 코드 코드는 {_CODE_THERE}"
)
_FILLERS = _words_of(
    "the of other as before above below here stays stay remains remain is are and your keep kept for brevity goes go "
    "continues everything else more no changes change in this section part parts definitions variables fields "
    "attributes properties etc all from with without any modification modifications to be it a that was will not "
    "shown way exactly same previous original line test so on leave continue note todo insert placeholder needed "
    f"du de la del do sin sem cambios igual des der bleibt без изменений остается 동일 그대로 {_FILLERS_THERE}"
)
_VOCABULARY = _KEPT | _CODE | _FILLERS
_SAID_SO = re.compile(
    r"(?:\w+ )?as (?:before|is)|(?:note: )?(?:the )?rest (?:of|is)\b.*|.*\bsnip"
    r"|no (?:further )?changes?(?: needed)?(?: here)?"
    r"|(?:everything else|(?:all )?other code|previous code) (?:stay|remain)s?\b.*"
    r"|(?:and )?so on|etc|code continues|other code|your (?:code|implementation) here"
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
    if leading:  # a JavaScript spread stands for no code
        said = _TRAILING.sub("", leading["said"]).strip("()[]{}<>\"' ")
        if not said or is_comment:
            return not said or loses or bool(_words(said)) or _TRAILING.search(text) is not None
        return bool(_words(said)) and " " in said
    bare = text.strip("()[]{}<>\"' .,…")
    if not is_comment and text[:1] not in "([<":
        return False
    words, spoken = _words(bare), _words_of(bare)
    if loses and _TRAILING.search(text) and (spoken & _KEPT or spoken <= _VOCABULARY):
        return True
    is_said = bool(words & _KEPT) and (bool(words & _CODE) or words <= _ALONE or (loses and words <= _KEPT | _FILLERS))
    return is_said or (loses and _SAID_SO.fullmatch(bare) is not None)


def _words(text: str) -> set[str]:
    """Return the words of a text of which all are such as stand for code, else none."""
    words = _words_of(text)
    return words if _PLAIN.fullmatch(text) and words <= _VOCABULARY else set()


def left_over(edit: Edit, reading: Reading, file: FileLines) -> Rejected | None:
    """Return why an edit, read so, is not to be applied; None where its new lines may be what they say."""
    if not edit.fence:  # its text is taken as it is
        return None
    path, search, replace = edit.path, contents(split_lines(reading.search)), contents(split_lines(reading.replace))
    unused = Counter(map(str.strip, search))
    added = Counter(map(str.strip, replace))
    lost = [line for line in (unused - added).elements() if line and line not in _STUBS]
    loses = len(lost) > sum(1 for line in (added - unused).elements() if line and not is_elision(line))
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
    fences, there = _fences(replace, edit.fence), _fences(search, edit.fence)
    is_paired = len(fences) % 2 == len(there) % 2
    if not fences or (is_paired and (is_text or all(line in there or file.holds(line) for line in fences))):
        return None
    return Rejected(Reason.MALFORMED, f"a fence is left in the new lines of {path}: {fences[-1].strip()[:80]!r}")


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
    depth, under = (len(text) - len(text.lstrip()) for text in (line, below))
    return loses or not (is_body and (not below or under < depth))
