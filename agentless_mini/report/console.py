"""What is written on a console: texts, tables, and progress in lines that move. Nothing here writes to stdout.

Foreign text is shown as it is, never as markup or as a control sequence: issue texts, model answers, paths and what
tests print are not trusted. Without a terminal (or on a dumb one) lines fit for a log are written, one every half
minute at least. A note is written once, however often it is made.
"""

import re
import textwrap
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, Group, JustifyMethod, RenderableType
from rich.live import Live
from rich.table import Table as Drawn
from rich.text import Text

GAP = 2
LABEL = 11
# The longest words that are shown whole in a table that is too wide: the first of these with which it fits.
WORDS = (24, 16, 10)
SHORT = 5
_PARTS = re.compile(r"[^/]*/|[^/]+")
_NUMBER = re.compile(r"[\d.,:%/+-]{1,32}")
SILENCE = 25.0
"""Seconds without a line after which a log gets one."""
BAR, ROOMY, TITLE = 10, 60, 23
"""Cells of a bar, of a console that has room for one, and of the longest title."""
_RECORDED, _SETTLED = 0.5, 2.0
"""What is done within so many seconds of the beginning came from the record; a pace is told so many after the first."""


def escaped(text: str) -> str:
    """Return the text with every character that could steer a terminal, or hide, as its escape (`\\x1b`).

    That is all but printable characters, blanks, tabs and ends of lines; blanks that only look like one (`\\xa0`), too.
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

    A word is shortened in its middle where its column is too narrow; where there are too many columns, they stand in
    several tables below each other, the first column in each. `right` are the columns of numbers.
    """

    headings: tuple[str, ...]
    right: frozenset[str]
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Yield what the console shows."""
        columns = list(zip(self.headings, *self.rows, strict=True))
        mark = "..." if options.ascii_only else "\u2026"
        for widths in _laid_out(columns, options.max_width):
            drawn = Drawn(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
            for at, width in widths.items():
                justify: JustifyMethod = "right" if self.headings[at] in self.right else "left"
                drawn.add_column(_fitted(self.headings[at], width, mark), width=width, justify=justify)
            for cells in self.rows:
                drawn.add_row(*(_fitted(cells[at], width, mark) for at, width in widths.items()))
            yield drawn


def table(*headings: str, right: Collection[str] = ()) -> Table:
    """Return an empty table with these headings, which are texts as those of `row`."""
    return Table(tuple(map(escaped, headings)), frozenset(right))


def row(table: Table, *cells: str) -> None:
    """Add a row of texts."""
    table.rows.append(tuple(escaped(" ".join(cell.splitlines())).replace("\t", " ") for cell in cells))


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
        lines = (escaped(" ".join(line.splitlines())) for line in self.lines)
        yield from (Text(flowed(line, console, self.indent)) for line in lines)


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


def _laid_out(columns: Sequence[tuple[str, ...]], room: int) -> Iterator[dict[int, int]]:
    """Yield tables: the width in cells of each column by its place; the first column is in all of them."""
    each = [[_least(column, most) for column in columns] for most in (*WORDS, min(WORDS[1], (room - GAP) // 2))]
    least = next((one for one in each if _width(one) <= room), each[-1])
    shown = [0]
    for at in range(1, len(columns)):
        if len(shown) > 1 and _width([least[one] for one in (*shown, at)]) > room:
            yield _widths(columns, least, shown, room)
            shown = [0]
        shown.append(at)
    yield _widths(columns, least, shown, room)


def _widths(
    columns: Sequence[tuple[str, ...]], least: Sequence[int], shown: Sequence[int], room: int
) -> dict[int, int]:
    """Return the widths of the columns that are shown: the room left goes to those first that want least of it."""
    widths = {at: least[at] for at in shown}
    wanted = {at: max(0, *map(cell_len, columns[at])) - least[at] for at in shown}
    spare = max(0, room - _width(widths.values()))
    for left, at in enumerate(sorted(shown, key=lambda at: wanted[at]), -len(shown)):
        more = max(0, min(wanted[at], spare // -left))
        widths[at] += more
        spare -= more
    return widths


def _width(widths: Collection[int]) -> int:
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


def moves(console: Console) -> bool:
    """Tell whether lines on the console can move: it is a terminal, and one that is not dumb."""
    return console.is_terminal and not console.is_dumb_terminal


def clock_time(seconds: float) -> str:
    """Return a time as people read it: `0:42`, `12:05`, `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Line:
    """One piece of work: its title, how much is done of how much (0: not known), and a few words on it."""

    def __init__(self, title: str, total: int, began: float) -> None:
        """Begin with nothing done, at `began` on the clock in seconds."""
        self.title = title
        self.total = total
        self.done = 0
        self.detail = ""
        self.active = True
        self._began = began
        self._first: tuple[float, int] | None = None
        self._newest = began

    def again(self, more: int, now: float) -> None:
        """Add to what is to be done, after a pause that says nothing of the pace."""
        self.total += more
        self._first, self._began = None, now if self.done else self._began

    def advance(self, done: int, now: float) -> None:
        """Count what is done so far."""
        self.done = done
        self._newest = now
        if self._first is None and now - self._began >= _RECORDED:
            self._first = now, done

    def left(self, now: float) -> float | None:
        """Return the seconds that are left at the pace since the first was done, None where there is none yet.

        What came before the first (reading a long prompt, filling a batch) says nothing of the others.
        """
        since, first = self._first or (now, self.done)
        fresh, owed = self.done - first, self.total - self.done
        return (now - since) / fresh * owed if fresh > 0 and owed > 0 and now - since >= _SETTLED else None

    def ran(self, now: float) -> str:
        """Return for how long it has gone on, or went."""
        return clock_time((self._newest if 0 < self.total <= self.done else now) - self._began)

    def said(self, now: float) -> str:
        """Return the line as a log has it."""
        left = self.left(now)
        parts = [self._counted, self.detail, f"about {clock_time(left)} left" if left is not None else ""]
        return f"{self.title}: {', '.join(filter(None, parts)) or self.ran(now)}"

    def shown(self, now: float, width: int, *, unicode: bool = True) -> Text:
        """Return the line as a terminal of this width shows it; where it is narrow, without bar and details."""
        left, paced, counted = self.left(now), self.ran(now), self._counted
        if left is not None:
            paced = f"~{clock_time(left)}{' left' if width >= ROOMY else ''}"
        if width >= ROOMY:
            full = round(BAR * self.done / self.total) if self.total else 0
            on, off = "\u2501\u2500" if unicode else "=-"
            bar = on * full + off * (BAR - full) if self.total else " " * BAR
            text = f"{self.title:{TITLE}} {bar} {counted:>7} {paced:>10}  {self.detail}"
        else:
            text = f"{self.title} {counted} {paced}" if counted else f"{self.title} {paced} {self.detail}"
        row = plain_text(text.rstrip())
        row.no_wrap = True
        row.truncate(width, overflow="ellipsis")
        return row

    @property
    def _counted(self) -> str:
        return f"{self.done}/{self.total}" if self.total else ""


class ProgressLines:
    """Moving lines on a terminal and notes above them; elsewhere, after a silence, what is going on (`beat`)."""

    def __init__(
        self, console: Console, clock: Callable[[], float] = time.monotonic, notes: set[str] | None = None
    ) -> None:
        """Show on `console`, which should write to stderr. `notes` are known already, and those to come are added."""
        self.console = console
        self.clock = clock
        self.moving = moves(console)
        self._live = Live(self, console=console, transient=True, refresh_per_second=10)
        self._lines: list[Line] = []
        self._notes = set() if notes is None else notes
        self._began = self._said = clock()
        self._stopped = threading.Event()
        self._beating = threading.Thread(target=self._beat_on, daemon=True)

    def __enter__(self) -> Self:
        """Start showing."""
        if self.moving:
            self._live.start(refresh=True)
        elif not self.console.quiet:
            self._beating.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Clear the moving lines."""
        self._stopped.set()
        self._live.stop()

    def begin(self, title: str, total: int = 0) -> Line:
        """Add a line and return it."""
        line = Line(title, total, self.clock())
        self._lines.append(line)
        self._refresh()
        return line

    def end(self, line: Line) -> None:
        """Take a line away: what it stands for is over."""
        line.active = False
        self._refresh()

    def plain(self, text: str) -> None:
        """Write a line where nothing moves."""
        if not self.moving:
            self._said = self.clock()
            self.console.print(plain_text(text), highlight=False)

    def note(self, text: str, about: str = "") -> None:
        """Write a note and what it is about; the same note is not written again."""
        if text in self._notes:
            return
        self._notes.add(text)
        self._said = self.clock()
        named = escaped(" ".join(f"note: {about}: {text}".split() if about else f"note: {text}".split()))
        self.console.print(Text(flowed(named, self.console, 6), style="yellow"), highlight=False)

    def beat(self) -> None:
        """Write what is going on, unless something was written a moment ago."""
        now = self.clock()
        if now - self._said >= SILENCE:
            running = [line.said(now) for line in self._lines if line.active and line.done != (line.total or -1)]
            self.plain(f"{'; '.join(running) or 'Working'} (for {clock_time(now - self._began)})")

    def __rich__(self) -> RenderableType:
        """Return the lines in the order of their titles, which begin with the number of their step."""
        now, unicode = self.clock(), self.console.encoding.startswith("utf")
        lines = sorted((line for line in self._lines if line.active), key=lambda line: line.title)
        return Group(*(line.shown(now, self.console.width, unicode=unicode) for line in lines))

    def _refresh(self) -> None:
        if self._live.is_started:
            self._live.refresh()

    def _beat_on(self) -> None:
        while not self._stopped.wait(1.0):
            self.beat()
