"""Live progress of an evaluation on stderr: instances, samples, boxes, and what became of them so far.

On a terminal moving lines; elsewhere a plain line for each instance that ended, fit for a log.
"""

import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console

from agentless_mini.domain import BoxDone, Event, Note, PhaseSaid, PhaseStarted, SampleDone, StageStarted
from agentless_mini.ports import Watch
from agentless_mini.record import AttemptRecord, AttemptState
from agentless_mini.report.live import Lines

_NAMED = 3
"""Instances in work that a line names."""


class EvaluationProgress:
    """Shows how far an evaluation is, as a context manager: leaving it clears the moving lines.

    It is a `Watch` for what belongs to no instance; `of` returns that of one. `tokens` may be called from any thread.
    """

    def __init__(self, console: Console, instances: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Show on `console`, which should write to stderr."""
        self._lines = Lines(console, clock)
        self._line = self._lines.begin("Instances", instances)
        self._began = clock()
        self._now: dict[str, str] = {}
        self._states: Counter[AttemptState] = Counter()
        self._resolved = 0
        self._samples = 0
        self._valid = 0
        self._boxes = 0
        self._tokens = 0

    def __enter__(self) -> Self:
        """Start showing."""
        self._lines.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Clear the moving lines."""
        self._lines.__exit__(kind, error, trace)

    def __call__(self, event: Event) -> None:
        """Take in an event of no instance."""
        self._take("", event)

    def of(self, instance: str) -> Watch:
        """Return what is told of one instance's events."""
        self._now[instance] = "begun"
        return lambda event: self._take(instance, event)

    def tokens(self, new: int) -> None:
        """Count tokens that have just been generated."""
        self._tokens += new

    def phase(self, what: str, seconds: float) -> None:
        """Show what a model server that is being started does, `seconds` after its start."""
        self._line.detail = f"starting the model: {what} ({seconds:.0f} s)"

    def ended(self, record: AttemptRecord, resolved: bool | None) -> None:
        """Count an instance that came to its end; `resolved` is None where it was not graded."""
        self._now.pop(record.instance, None)
        self._states[record.state] += 1
        self._resolved += bool(resolved)
        self._line.advance(self._states.total(), self._lines.clock())
        self._line.detail = f"{self._counts()}{self._running()}"
        said = {True: "resolved", False: "not resolved", None: record.state.value}[resolved]
        place = f"{self._states.total()}/{self._line.total}"
        self._lines.plain(f"{record.instance}: {said} ({place}, {self._counts()})")
        if record.failure:
            self._lines.note(f"{record.stage}: {record.failure}", record.instance)

    def _take(self, instance: str, event: Event) -> None:
        match event:
            case SampleDone(stage, _, rejected):
                self._samples += 1
                self._valid += stage.repairs and rejected is None
            case BoxDone():
                self._boxes += 1
            case StageStarted(stage):
                self._now[instance] = stage.value
            case PhaseStarted(phase):
                self._now[instance] = phase.value
            case PhaseSaid(phase, text):
                self._now[instance] = f"{phase.value}: {text}"
            case Note(text):
                return self._lines.note(text, instance)
            case _:
                return None
        self._line.detail = f"{self._counts()}{self._running()}"
        return None

    def _running(self) -> str:
        now = [f"{name} ({what})" for name, what in [*self._now.items()][:_NAMED]]
        return f", now {', '.join(now)}" if now else ""

    def _counts(self) -> str:
        seconds = self._lines.clock() - self._began
        failed = self._states[AttemptState.INFRASTRUCTURE]
        told = [
            f"{self._resolved} resolved",
            *([f"{failed} failed for the infrastructure"] if failed else []),
            f"{self._samples} samples, {self._valid} valid patches, {self._boxes} boxes",
            *([f"{self._tokens / seconds:.0f} tokens/s"] if self._tokens and seconds > 0 else []),
        ]
        return ", ".join(told)
