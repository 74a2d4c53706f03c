"""Live progress on stderr: which step runs, samples and boxes done, tokens per second, what came of them so far.

On a terminal one moving line per stage; elsewhere (a dumb terminal too) a plain line now and then, fit for a log.
Nothing here writes to stdout, and nothing of a model's text is shown.
"""

import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console

from agentless_mini.domain import (
    BoxDone,
    Event,
    Note,
    Outcome,
    Phase,
    PhaseSaid,
    PhaseStarted,
    Planned,
    SampleDone,
    Stage,
    StageStarted,
)
from agentless_mini.report.live import Line, Lines

# Without a terminal a line is written for each tenth of a stage.
PLAIN_STEPS = 10
TITLES = {
    Stage.LOCALIZE: "Finding the files",
    Stage.REPAIR: "Sampling repairs",
    Stage.EVOLVE: "Evolving, round",
    Stage.REPRODUCE: "Sampling tests",
    Phase.ENVIRONMENT: "Preparing the tests",
    Phase.REPRODUCTION: "Proving the tests",
    Phase.REGRESSION: "Regression tests",
    Phase.EXECUTION: "Testing the patches",
    Phase.GRADING: "Grading",
}


class LiveProgress:
    """A `Watch` that shows what it is told, as a context manager: leaving it clears the moving lines.

    `tokens` may be called with the number of new tokens, from any thread, to keep the rate moving between samples.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        """Show on `console`, which should write to stderr."""
        self._lines = Lines(console, clock)
        self._steps: tuple[tuple[Stage | Phase, ...], ...] = ()
        self._samples: dict[Stage, _Samples] = {}
        self._current: _Samples | None = None
        self._rounds = 0
        self._starting: Line | None = None
        self._work: dict[Phase, _Boxes] = {}

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
        """Take in one event."""
        match event:
            case Planned(steps):
                self._plan(steps)
            case StageStarted(stage, samples):
                self._start(stage, samples)
            case SampleDone(stage, _, rejected):
                self._count(self._samples[stage], valid=rejected is None)
            case PhaseStarted(phase, boxes):
                self._begin(phase, boxes)
            case PhaseSaid(phase, text):
                self._boxes(phase).line.detail = text
            case BoxDone(phase, outcomes):
                self._work[phase].outcomes.update(outcomes)
                self._box_done(self._work[phase])
            case Note(text):
                self._lines.note(text)

    def tokens(self, new: int) -> None:
        """Count tokens that have just been generated."""
        if self._current is not None:
            self._current.tokens += new
            self._detail(self._current)

    def phase(self, what: str, seconds: float) -> None:
        """Show what a model server that is being started does, `seconds` after its start."""
        if self._starting is None:
            self._starting = self._lines.begin("Starting the model")
        self._starting.detail = f"{what} ({seconds:.0f} s)"

    def _plan(self, steps: tuple[tuple[Stage | Phase, ...], ...]) -> None:
        """Begin a chain; one that was begun before is not gone on with."""
        for line in [*(one.line for one in self._samples.values()), *(one.line for one in self._work.values())]:
            self._lines.end(line)
        self._steps, self._samples, self._current, self._rounds, self._work = steps, {}, None, 0, {}

    def _title(self, what: Stage | Phase) -> str:
        title = f"{TITLES[what]} {self._rounds}" if what is Stage.EVOLVE else TITLES[what]
        numbers = (number for number, step in enumerate(self._steps, 1) if what in step)
        number = next(numbers, None)
        return title if number is None else f"{number}/{len(self._steps)} {title}"

    def _start(self, stage: Stage, samples: int) -> None:
        if self._starting is not None:
            self._lines.end(self._starting)
        if stage is Stage.EVOLVE:  # it begins once for each round, of which the last alone is shown
            self._rounds += 1
            if (before := self._samples.get(stage)) is not None:
                self._lines.end(before.line)
        title = self._title(stage)
        self._current = self._samples[stage] = _Samples(self._lines.begin(title, samples), self._lines.clock())
        self._lines.plain(f"{title}: {_counted(samples, 'sample')}")

    def _count(self, samples: "_Samples", *, valid: bool) -> None:
        samples.valid += valid
        samples.line.advance(samples.line.done + 1, self._lines.clock())
        self._detail(samples)
        self._tell(samples.line)

    def _detail(self, samples: "_Samples") -> None:
        seconds = self._lines.clock() - samples.began
        rate = f", {samples.tokens / seconds:.0f} tokens/s" if samples.tokens and seconds > 0 else ""
        rejected = samples.line.done - samples.valid
        samples.line.detail = f"{samples.valid} valid, {rejected} rejected{rate}"

    def _boxes(self, phase: Phase) -> "_Boxes":
        if phase not in self._work:
            self._work[phase] = _Boxes(self._lines.begin(self._title(phase)))
        return self._work[phase]

    def _begin(self, phase: Phase, boxes: int) -> None:
        """Show a phase. The environment is ready when another phase begins, and one may begin twice."""
        if phase is not Phase.ENVIRONMENT and (ready := self._work.get(Phase.ENVIRONMENT)):
            self._lines.end(ready.line)
        line = self._boxes(phase).line
        line.total += boxes
        self._lines.plain(f"{line.title}: {_counted(line.total, 'box')}" if line.total else line.title)

    def _box_done(self, work: "_Boxes") -> None:
        work.line.advance(work.line.done + 1, self._lines.clock())
        # In the order in which the outcomes are declared.
        told = (f"{work.outcomes[outcome]} {outcome}" for outcome in Outcome if work.outcomes[outcome])
        work.line.detail = ", ".join(told) or "no test"
        self._tell(work.line)

    def _tell(self, line: Line) -> None:
        step = max(1, line.total // PLAIN_STEPS)
        if line.done % step == 0 or line.done == line.total:
            self._lines.plain(line.said(self._lines.clock()))


def _counted(number: int, word: str) -> str:
    plural = {"box": "boxes", "sample": "samples"}[word]
    return f"1 {word}" if number == 1 else f"{number} {plural}"


class _Samples:
    """What a stage has drawn so far."""

    def __init__(self, line: Line, began: float) -> None:
        self.line = line
        self.began = began
        self.valid = 0
        self.tokens = 0


class _Boxes:
    """What the boxes of a phase have done so far."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.outcomes: Counter[Outcome] = Counter()
