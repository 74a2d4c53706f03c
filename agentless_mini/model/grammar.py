"""An edit task -> a grammar under which every complete answer is an edit of the code that is shown.

For models that know what to change but not the format. GBNF, as llama.cpp and xgrammar (vLLM) both read it. It cannot
make an edit right; its size grows linearly with the shown lines.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from agentless_mini.domain import EditTask, ShownFile
from agentless_mini.edits.markers import MOST_WIDTH, WIDTH, marker_width
from agentless_mini.edits.paths import clean_path
from agentless_mini.errors import NothingToEdit

MOST_EDITS = 3
MOST_REASONING_LINES = 4
MOST_REASONING_WIDTH = 200
SEARCH_LINES = 6
MOST_REPLACE_LINES = 40
MOST_WIDTH_OF_LINE = 300
# A run that is still not unique after this many lines starts no SEARCH.
LONGEST_SEARCH = 24

_ESCAPED = {"\\": "\\\\", '"': '\\"', "\t": "\\t", "\r": "\\r", "\n": "\\n"}
# What may stand in a line: everything but control characters; the tabulator may.
_TEXT = r"\u0000-\u0008\u000a-\u001f\u007f"


def edit_grammar(task: EditTask) -> str:
    """Return the GBNF grammar of the answers to a task; its root rule is `root`.

    An answer is a few lines of reasoning, then one fenced block of one to three edits. SEARCH is a run of whole lines
    of the named file, at most six or as many as it takes to stand in the shown text once; REPLACE is free lines, at
    most forty: a small model does not always find an end.
    Raises `NothingToEdit` where the files show no line that an edit can name.
    """
    width = free_width(excerpt.text for file in task.files for excerpt in file.excerpts)
    files = [(file, name) for file in task.files if (name := spoken_path(file.path))]
    rules: list[str] = []
    edits: list[str] = []
    for number, (file, name) in enumerate(files):
        lines = list(_file_rules(f"f{number}", file))
        if lines:
            rules += lines
            edits.append(f"{_literal(f'### {name}' + chr(10))} f{number}")
    if not edits:
        raise NothingToEdit("No shown line can be edited under a grammar: use free decoding or other files.")
    return "\n".join([*_frame(edits, width), *rules]) + "\n"


def spoken_path(path: str) -> str:
    """Return how an answer names a path; empty where the format cannot name it."""
    names = (name for name in (path, f"`{path}`") if clean_path(name) == path and _is_plain(name))
    return next(names, "")


def free_width(texts: Iterable[str]) -> int:
    """Return the width of markers for which no line of the texts can be taken."""
    taken = {marker_width(row) for text in texts for row in text.split("\n")}
    return next((width for width in range(WIDTH, MOST_WIDTH) if width not in taken), MOST_WIDTH)


def _frame(edits: Sequence[str], width: int) -> Iterator[str]:
    more = " (edit" * (MOST_EDITS - 1) + ")?" * (MOST_EDITS - 1)
    yield f'root ::= reasoning "```\\n" edit{more} "```\\n"'
    yield f"reasoning ::= thought{{0,{MOST_REASONING_LINES}}}"
    yield f'thought ::= [^`~<{_TEXT}]{{0,{MOST_REASONING_WIDTH}}} "\\n"'
    yield f"edit ::= ({' | '.join(edits)})"
    yield f"search ::= {_literal('<' * width + ' SEARCH' + chr(10))}"
    yield f"replace ::= {_literal('=' * width + chr(10))} line{{0,{MOST_REPLACE_LINES}}} end"
    yield f"end ::= {_literal('>' * width + ' REPLACE' + chr(10))}"
    yield 'line ::= start "\\n"'
    yield f"start ::= ([^<=>{_TEXT}] text)? | {' | '.join(f'{_literal(mark)} m{n}x1' for n, mark in enumerate('<=>'))}"
    yield f"text ::= [^{_TEXT}]{{0,{MOST_WIDTH_OF_LINE}}}"
    for number, mark in enumerate("<=>"):
        for at in range(1, WIDTH):
            longer = f" | {_literal(mark)} m{number}x{at + 1}" if at + 1 < WIDTH else ""
            yield f"m{number}x{at} ::= ([^{mark}{_TEXT}] text)?{longer}"


def _file_rules(name: str, file: ShownFile) -> Iterator[str]:
    """Yield the rules of one file: a rule for each line's text, one for each line that may start a SEARCH.

    The last is that of the edit itself, called `name`. There are none where no line may start a SEARCH.
    """
    texts: list[str] = []
    starts: dict[str, str] = {}
    for number, excerpt in enumerate(file.excerpts):
        rows = shown_rows(excerpt.text)
        names = [f"{name}e{number}t{at}" for at in range(len(rows))]
        texts += [f"{names[at]} ::= {_literal(row + chr(10))}" for at, row in enumerate(rows) if _is_plain(row)]
        for at, least in enumerate(_unique_lengths(rows, file)):
            if run := _run(rows, at, least):
                starts[f"{name}e{number}s{at}"] = _nested([names[row] for row in run], least)
    if starts:
        yield from texts
        yield from (f"{start} ::= {body}" for start, body in starts.items())
        yield f"{name} ::= search ({' | '.join(starts)}) replace"


def _run(rows: Sequence[str], at: int, least: int) -> range:
    """Return the rows of the longest SEARCH that starts at a row; empty where none may."""
    stop = at
    while stop < min(at + max(SEARCH_LINES, least), len(rows)) and _is_plain(rows[stop]):
        stop += 1
    may_start = rows[at].strip() and 0 < least <= stop - at
    return range(at, stop) if may_start else range(0)


def _nested(texts: Sequence[str], least: int) -> str:
    """Return the run of the texts that may stop after the first `least` and after any later one."""
    optional = [f" ({text}" for text in texts[least:]]
    return " ".join(texts[:least]) + "".join(optional) + ")?" * len(optional)


def _unique_lengths(rows: Sequence[str], file: ShownFile) -> list[int]:
    """Return, for each row, the length of the shortest run from it that is shown once; 0 where there is none."""
    lengths = [0] * len(rows)
    open_rows = list(range(len(rows)))
    for length in range(1, LONGEST_SEARCH + 1):
        counts = Counter(run for other in file.excerpts for run in _runs(other.text, length))
        here = ["\n".join(rows[at : at + length]) for at in open_rows]
        for at, run in zip(open_rows, here, strict=True):
            if at + length <= len(rows) and counts[run] == 1:
                lengths[at] = length
        open_rows = [at for at in open_rows if not lengths[at] and at + length < len(rows)]
        if not open_rows:
            break
    return lengths


def _runs(text: str, length: int) -> Iterator[str]:
    rows = shown_rows(text)
    return ("\n".join(rows[at : at + length]) for at in range(len(rows) - length + 1))


def shown_rows(text: str) -> list[str]:
    """Return the lines of an excerpt without their ends, be they `\\n` or `\\r\\n`."""
    return [row.removesuffix("\r") for row in text.removesuffix("\n").split("\n")]


def _is_plain(row: str) -> bool:
    """Tell whether a model can say the line: surrogates and NUL are no text."""
    return not any(char == "\0" or "\ud800" <= char <= "\udfff" for char in row)


def _literal(text: str) -> str:
    """Return a GBNF string in ASCII. `\\u` has a fixed number of digits for every reader of GBNF, `\\x` has not."""
    return '"' + "".join(_escaped(char) for char in text) + '"'


def _escaped(char: str) -> str:
    if char in _ESCAPED:
        return _ESCAPED[char]
    if " " <= char <= "~":
        return char
    return f"\\u{ord(char):04x}" if ord(char) <= 0xFFFF else f"\\U{ord(char):08x}"
