"""Live progress of an evaluation on stderr: instances, samples, boxes, and what became of them so far.

On a terminal moving lines; elsewhere a plain line for each instance that ended, fit for a log.
"""

import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from agentless_mini.domain import BoxDone, Event, Note, SampleDone
from agentless_mini.ports import Watch
from agentless_mini.report.cells import plain_text
from agentless_mini.report.progress import moves
from agentless_mini.store import AttemptRecord, AttemptState


class EvaluationProgress:
    """Shows how far an evaluation is, as a context manager: leaving it clears the moving lines.

    It is a `Watch` for what belongs to no instance; `of` returns that of one. `tokens` may be called from any thread.
    """

    def __init__(self, console: Console, instances: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Show on `console`, which should write to stderr."""
        self._console = console
        self._clock = clock
        self._total = instances
        self._bars = Progress(
            TextColumn("Instances"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not moves(console),
        )
        self._bar = self._bars.add_task("", total=instances, detail="")
        self._began = clock()
        self._states: Counter[AttemptState] = Counter()
        self._resolved = 0
        self._samples = 0
        self._valid = 0
        self._boxes = 0
        self._tokens = 0

    def __enter__(self) -> Self:
        """Start showing."""
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Clear the moving lines."""
        self._bars.stop()

    def __call__(self, event: Event) -> None:
        """Take in an event of no instance."""
        self._take("", event)

    def of(self, instance: str) -> Watch:
        """Return what is told of one instance's events."""
        return lambda event: self._take(instance, event)

    def tokens(self, new: int) -> None:
        """Count tokens that have just been generated."""
        self._tokens += new

    def phase(self, what: str, seconds: float) -> None:
        """Show what a model server that is being started does, `seconds` after its start."""
        self._bars.update(self._bar, detail=f"starting the model: {what} ({seconds:.0f} s)")

    def ended(self, record: AttemptRecord, resolved: bool | None) -> None:
        """Count an instance that came to its end; `resolved` is None where it was not graded."""
        self._states[record.state] += 1
        self._resolved += bool(resolved)
        self._bars.update(self._bar, completed=self._states.total(), detail=self._detail())
        if not moves(self._console):
            said = {True: "resolved", False: "not resolved", None: record.state.value}[resolved]
            place = f"{self._states.total()}/{self._total}"
            self._console.print(plain_text(f"{record.instance}: {said} ({place}, {self._detail()})"), highlight=False)
        if record.failure:
            self._note(record.instance, f"{record.stage}: {record.failure}")

    def _take(self, instance: str, event: Event) -> None:
        match event:
            case SampleDone(stage, _, rejected):
                self._samples += 1
                self._valid += stage.repairs and rejected is None
            case BoxDone():
                self._boxes += 1
            case Note(text):
                return self._note(instance, text)
            case _:
                return None
        return self._bars.update(self._bar, detail=self._detail())

    def _note(self, instance: str, text: str) -> None:
        named = f"{instance}: {text}" if instance else text
        self._console.print(plain_text(f"note: {named}"), style="yellow", highlight=False)

    def _detail(self) -> str:
        seconds = self._clock() - self._began
        failed = self._states[AttemptState.INFRASTRUCTURE]
        told = [
            f"{self._resolved} resolved",
            *([f"{failed} failed for the infrastructure"] if failed else []),
            f"{self._samples} samples, {self._valid} valid patches, {self._boxes} boxes",
            *([f"{self._tokens / seconds:.0f} tokens/s"] if self._tokens and seconds > 0 else []),
        ]
        return ", ".join(told)
