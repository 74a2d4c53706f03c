"""Tables and texts of reports. Foreign text is shown as it is, never as markup or as a control sequence.

Issue texts, model answers, paths and what tests print are not trusted.
"""

import re
import textwrap
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table as Drawn
from rich.text import Text

GAP = 2
LABEL = 11
# The longest words that are shown whole in a table that is too wide: the first of these with which it fits.
WORDS = (24, 16, 10)
SHORT = 5
_PARTS = re.compile(r"[^/]*/|[^/]+")
_NUMBER = re.compile(r"[\d.,:%/+-]{1,32}")


def escaped(text: str) -> str:
    """Return the text with every character that could steer a terminal, or hide, as its escape (`\\x1b`).

    That is all but printable characters, blanks, tabs and ends of lines: controls, marks that turn the direction of
    writing, lone surrogates, and blanks that only look like one (`\\xa0`), at which a SEARCH block fails.
    """
    return "".join(
        letter
        if letter.isprintable() or letter in "\n\t"
        else letter.encode("unicode_escape", "surrogatepass").decode("ascii")
        for letter in text
    )


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of texts that fit the width they are shown in: lines end between words, and no number is cut.

    Where a column is too narrow for a word, the word is shortened in its middle; where there are too many columns, they
    stand in several tables below each other, the first column in each. `right` are the columns of numbers.
    """

    headings: tuple[str, ...]
    right: frozenset[str]
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Yield what the console shows."""
        columns = list(zip(self.headings, *self.rows, strict=True))
        mark = "..." if options.ascii_only else "\u2026"
        for places, widths in _laid_out(columns, options.max_width):
            shown = list(zip(places, widths, strict=True))
            drawn = Drawn(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
            for at, width in shown:
                heading = self.headings[at]
                is_right = heading in self.right
                drawn.add_column(_fitted(heading, width, mark), width=width, justify="right" if is_right else "left")
            for cells in self.rows:
                drawn.add_row(*(_fitted(cells[at], width, mark) for at, width in shown))
            yield drawn


def table(*headings: str, right: Collection[str] = ()) -> Table:
    """Return an empty table with these headings, which are texts as those of `row`."""
    return Table(tuple(map(escaped, headings)), frozenset(right))


def row(table: Table, *cells: str) -> None:
    """Add a row of texts."""
    table.rows.append(tuple(escaped(cell).replace("\t", " ") for cell in cells))


def flowed(line: str, console: Console, indent: int) -> str:
    """Return a line as it is shown: on a terminal broken between words, what follows indented; in a log as it is."""
    if not console.is_terminal or len(line) <= console.width:
        return line
    return _Wrapper(console.width, subsequent_indent=" " * min(indent, console.width // 4)).fill(line)


class _Wrapper(textwrap.TextWrapper):
    """Breaks lines between words. A word that is longer than a line, as a path may be, is broken after a slash."""

    def _split(self, text: str) -> list[str]:
        words = re.findall(r"\s+|\S+", text)
        most = self.width - len(self.subsequent_indent)
        return [part for word in words for part in (_PARTS.findall(word) if len(word) > most else [word])]


@dataclass(frozen=True, slots=True)
class Labelled:
    """Lines that begin with a label of `indent` letters, flowed below their text."""

    lines: tuple[str, ...]
    indent: int = LABEL

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Yield what the console shows."""
        yield from (Text(flowed(line, console, self.indent)) for line in map(escaped, self.lines))


def plain_text(text: str) -> Text:
    """Return what is shown exactly as it is written: no markup, no control sequence."""
    return Text(escaped(text))


def heading(text: str) -> Text:
    """Return the title of what follows, a blank line before it."""
    return Text(f"\n{escaped(text)}", style="bold")


def percent(share: float | None) -> str:
    """Return a share as people read it, to a tenth of a percent."""
    return "-" if share is None else f"{share:.1%}"


# --- widths ----------------------------------------------------------------------------------------------------------


def _laid_out(columns: Sequence[tuple[str, ...]], room: int) -> Iterator[tuple[list[int], list[int]]]:
    """Yield tables: the places of the columns, of which the first is in each, and their widths in cells."""
    for most in WORDS:
        least = [_least(column, most) for column in columns]
        if _width(least) <= room:
            break
    else:
        least = [_least(column, min(WORDS[1], (room - GAP) // 2)) for column in columns]
    shown = [0]
    for at in range(1, len(columns)):
        if len(shown) > 1 and _width([least[one] for one in (*shown, at)]) > room:
            yield shown, _widths(columns, least, shown, room)
            shown = [0]
        shown.append(at)
    yield shown, _widths(columns, least, shown, room)


def _widths(columns: Sequence[tuple[str, ...]], least: Sequence[int], shown: Sequence[int], room: int) -> list[int]:
    """Return the widths of the columns that are shown: the room left goes to those first that want least of it."""
    widths = {at: least[at] for at in shown}
    wanted = {at: max(0, max(map(cell_len, "\n".join(columns[at]).split("\n"))) - least[at]) for at in shown}
    spare = max(0, room - _width(list(widths.values())))
    for left, at in enumerate(sorted(shown, key=lambda at: wanted[at]), -len(shown)):
        more = min(wanted[at], spare // -left)
        widths[at] += more
        spare -= more
    return list(widths.values())


def _width(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _least(column: Sequence[str], most: int) -> int:
    """Return the least width of a column whose words may be shortened to so many cells; numbers may not.

    What fits in `SHORT` cells is one word, such as a number and its mark.
    """
    words = (word for cell in column for word in ([cell] if cell_len(cell) <= SHORT else cell.split()))
    return max((cell_len(word) if _NUMBER.fullmatch(word) else min(cell_len(word), most) for word in words), default=1)


def _fitted(cell: str, width: int, mark: str) -> Text:
    """Return a cell whose longer words have their middle left out, so that each fits; more stays of their end."""

    def shortened(match: re.Match[str]) -> str:
        word = match[0]
        if cell_len(word) <= width:
            return word
        kept = max(0, width - len(mark))
        head, tail = set_cell_size(word, kept // 3), set_cell_size(word[::-1], kept - kept // 3)[::-1]
        return f"{head}{mark}{tail}"[:width]

    return Text(re.sub(r"\S+", shortened, cell))
