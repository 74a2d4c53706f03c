"""Progress on a console: a moving line for each piece of work on a terminal, lines fit for a log elsewhere.

Without a terminal (or on a dumb one) a line is written at least every half minute. A note is written once, however
often it is made. Nothing here writes to stdout.
"""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from agentless_mini.report.cells import flowed, plain_text

SILENCE = 25.0
"""Seconds without a line after which a log gets one."""
BAR, ROOMY, TITLE = 10, 60, 23
"""Cells of a bar, of a console that has room for one, and of the longest title."""
_RECORDED, _SETTLED = 0.5, 2.0
"""What is done within so many seconds of the beginning came from the record; a pace is told so many after the first."""


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
        counted = f"{self.done}/{self.total}" if self.total else ""
        left = self.left(now)
        parts = [counted, self.detail, f"about {clock_time(left)} left" if left is not None else ""]
        return f"{self.title}: {', '.join(filter(None, parts)) or self.ran(now)}"

    def shown(self, now: float, width: int, *, unicode: bool = True) -> Text:
        """Return the line as a terminal of this width shows it; where it is narrow, without bar and details."""
        left, ran = self.left(now), self.ran(now)
        counted = f"{self.done}/{self.total}" if self.total else ""
        if width < ROOMY:
            paced = f"~{clock_time(left)}" if left is not None else ran
            return _row(f"{self.title} {counted} {paced}" if counted else f"{self.title} {ran} {self.detail}", width)
        full = round(BAR * self.done / self.total) if self.total else 0
        on, off = "\u2501\u2500" if unicode else "=-"
        bar = on * full + off * (BAR - full) if self.total else " " * BAR
        paced = f"~{clock_time(left)} left" if left is not None else ran
        return _row(f"{self.title:{TITLE}} {bar} {counted:>7} {paced:>10}  {self.detail}", width)


def _row(text: str, width: int) -> Text:
    row = plain_text(text.rstrip())
    row.no_wrap = True
    row.truncate(width, overflow="ellipsis")
    return row


class ProgressLines:
    """Moving lines on a terminal, and notes above them, as a context manager: leaving it clears them.

    Without a terminal it writes what is going on (`beat`) where nothing else was written for a while.
    """

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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        named = plain_text(f"note: {about}: {text}" if about else f"note: {text}").plain
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
