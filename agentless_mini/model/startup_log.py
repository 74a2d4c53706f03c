"""What a server's log says while it starts: which phase it is in, and why it ended. Reads text, starts nothing."""

import re
from dataclasses import dataclass
from pathlib import Path

from agentless_mini.errors import AminiError, EnvironmentFailed

TAIL = 256 * 1024
QUOTED = 300
COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
PREFIX = re.compile(r"^(\(\S+ pid=\d+\) )?(\w+ \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]*\] )?")
CALM = re.compile(r"^(\(\S+ pid=\d+\) )?(INFO|DEBUG|WARNING)\b")
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
RAISED = re.compile(r"^[\w.]*(Error|Exception|Interrupt|Exit|NotFound): \S|^(\w+: )?error: \S", re.IGNORECASE)
REPEATED = re.compile(r"[Ss]ee (the )?(root cause|stack trace)|stack trace above|EngineDeadError|WorkerProc")


@dataclass(frozen=True, slots=True)
class Cause:
    """A known way of failing: the lines that show it, the exception for it, what to try next."""

    shown_by: re.Pattern[str]
    kind: type[AminiError]
    advice: str


@dataclass(frozen=True, slots=True)
class LogReading:
    """How the log of one engine is read.

    `phases` are patterns with what they show to be going on, in the order in which an engine passes them; the last
    line of the log that shows one counts. `causes` are tried in order.
    """

    phases: tuple[tuple[re.Pattern[str], str], ...]
    causes: tuple[Cause, ...]

    def phase(self, log: Path) -> str:
        """Return what the server is doing, in a few words."""
        for line in reversed(tail(log)):
            for pattern, phase in self.phases:
                if pattern.search(line):
                    return phase
        return "starting"

    def failure(self, engine: str, log: Path) -> AminiError:
        """Return why a server ended before it was ready: the log's last meaningful line, and what to try next."""
        lines = tuple(PREFIX.sub("", line) for line in tail(log) if not CALM.search(line))
        for cause in self.causes:
            shown = [line for line in lines if cause.shown_by.search(line)]
            if shown:
                return cause.kind(_sentence(engine, shown[-1], log, cause.advice))
        return EnvironmentFailed(_sentence(engine, meaningful(lines), log, "read the log for what led there"))


def _sentence(engine: str, line: str, log: Path, advice: str) -> str:
    return f'{engine} ended while it was starting ("{line[:QUOTED]}", log: {log}): {advice}.'


def meaningful(lines: tuple[str, ...]) -> str:
    """Return the last line that names an error of its own, else the last line at all."""
    raised = [line for line in lines if RAISED.search(line)]
    fresh = [line for line in raised if not REPEATED.search(line)]
    return next(reversed(fresh or raised or list(lines)), "it wrote nothing")


def tail(log: Path) -> tuple[str, ...]:
    """Return the last lines of a log that hold text, without colours and control characters."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - TAIL))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ()
    lines = (UNPRINTABLE.sub(" ", COLOURS.sub("", line)).strip() for line in re.split(r"[\r\n]+", text))
    return tuple(line for line in lines if line)
