"""Live progress on stderr: which stage runs, samples and boxes done, tokens per second, what came of them so far.

On a terminal one moving line per stage; elsewhere (a dumb terminal too) a plain line now and then, fit for a log.
Nothing here writes to stdout, and nothing of a model's text is shown.
"""

import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from agentless_mini.domain import BoxDone, Event, Note, Outcome, Phase, PhaseStarted, SampleDone, Stage, StageStarted

# Without a terminal a line is written for each tenth of a stage.
PLAIN_STEPS = 10
TITLES = {
    Stage.LOCALIZE: "Finding the files",
    Stage.REPAIR: "Sampling repairs",
    Stage.EVOLVE: "Evolving repairs",
    Stage.REPRODUCE: "Sampling tests",
}
WORK = {
    Phase.ENVIRONMENT: "Preparing the environment of the tests",
    Phase.REPRODUCTION: "Proving tests that reproduce the issue",
    Phase.REGRESSION: "Running the repository's own tests",
    Phase.EXECUTION: "Running the tests on the patches",
}


def moves(console: Console) -> bool:
    """Tell whether lines on the console can move: it is a terminal, and one that is not dumb."""
    return console.is_terminal and not console.is_dumb_terminal


class LiveProgress:
    """A `Watch` that shows what it is told, as a context manager: leaving it clears the moving lines.

    `tokens` may be called with the number of new tokens, from any thread, to keep the rate moving between samples.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        """Show on `console`, which should write to stderr."""
        self._console = console
        self._clock = clock
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not moves(console),
        )
        self._tally: dict[Stage, _Tally] = {}
        self._current: _Tally | None = None
        self._rounds = 0
        self._starting: TaskID | None = None
        self._work: dict[Phase, _Work] = {}

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
        """Take in one event."""
        match event:
            case StageStarted(stage, samples):
                self._start(stage, samples)
            case SampleDone(stage, _, rejected):
                self._count(self._tally[stage], valid=rejected is None)
            case PhaseStarted(phase, boxes):
                self._begin(phase, boxes)
            case BoxDone(phase, outcomes):
                self._work[phase].add(outcomes)
                self._show(self._work[phase])
            case Note(text):
                self._console.print(Text(f"note: {text}", style="yellow"), highlight=False)

    def tokens(self, new: int) -> None:
        """Count tokens that have just been generated."""
        if self._current is not None:
            self._current.tokens += new
            self._bars.update(self._current.bar, detail=self._detail(self._current))

    def phase(self, what: str, seconds: float) -> None:
        """Show what a model server that is being started does, `seconds` after its start."""
        if self._starting is None:
            self._starting = self._bars.add_task("Starting the model", total=None, detail="")
        self._bars.update(self._starting, detail=f"{what} ({seconds:.0f} s)")

    def _start(self, stage: Stage, samples: int) -> None:
        if self._starting is not None:
            self._bars.update(self._starting, visible=False)
        title = self._title(stage)
        bar = self._bars.add_task(title, total=samples, detail="")
        self._current = self._tally[stage] = _Tally(title, samples, bar, self._clock())
        self._plain(f"{title}: {samples} samples")

    def _title(self, stage: Stage) -> str:
        """Return the title of a stage. An evolution begins once for each round, of which the last alone is shown."""
        if stage is Stage.REPAIR:  # also where a chain begins again
            self._rounds = 0
        if stage is not Stage.EVOLVE:
            return TITLES[stage]
        if (before := self._tally.get(stage)) is not None:
            self._bars.update(before.bar, visible=False)
        self._rounds += 1
        return f"{TITLES[stage]}, round {self._rounds}"

    def _count(self, tally: "_Tally", *, valid: bool) -> None:
        tally.valid += valid
        tally.rejected += not valid
        self._bars.update(tally.bar, completed=tally.done, detail=self._detail(tally))
        step = max(1, tally.samples // PLAIN_STEPS)
        if tally.done % step == 0 or tally.done == tally.samples:
            self._plain(f"{tally.title}: {tally.done}/{tally.samples}, {self._detail(tally)}")

    def _begin(self, phase: Phase, boxes: int) -> None:
        """Show a phase. The environment is ready when another phase begins, and one may begin twice."""
        if phase is not Phase.ENVIRONMENT and (ready := self._work.get(Phase.ENVIRONMENT)):
            self._bars.update(ready.bar, visible=False)
        if phase not in self._work:
            self._work[phase] = _Work(phase, self._bars.add_task(WORK[phase], total=None, detail=""))
        work = self._work[phase]
        work.boxes += boxes
        self._bars.update(work.bar, total=work.boxes or None)
        told = "1 box" if work.boxes == 1 else f"{work.boxes} boxes"
        self._plain(f"{WORK[phase]}: {told}" if work.boxes else WORK[phase])

    def _show(self, work: "_Work") -> None:
        self._bars.update(work.bar, completed=work.done, detail=work.detail)
        step = max(1, work.boxes // PLAIN_STEPS)
        if work.done % step == 0 or work.done == work.boxes:
            counted = f"{work.done}/{work.boxes}" if work.boxes else f"{work.done}"
            self._plain(f"{WORK[work.phase]}: {counted}, {work.detail}")

    def _detail(self, tally: "_Tally") -> str:
        seconds = self._clock() - tally.started
        rate = f", {tally.tokens / seconds:.0f} tokens/s" if tally.tokens and seconds > 0 else ""
        return f"{tally.valid} valid, {tally.rejected} rejected{rate}"

    def _plain(self, line: str) -> None:
        if not moves(self._console):
            self._console.print(line, highlight=False, markup=False)


class _Tally:
    """What a stage has done so far."""

    def __init__(self, title: str, samples: int, bar: TaskID, started: float) -> None:
        self.title = title
        self.samples = samples
        self.bar = bar
        self.started = started
        self.valid = 0
        self.rejected = 0
        self.tokens = 0

    @property
    def done(self) -> int:
        return self.valid + self.rejected


class _Work:
    """What the boxes of a phase have done so far."""

    def __init__(self, phase: Phase, bar: TaskID) -> None:
        self.phase = phase
        self.bar = bar
        self.boxes = 0
        self.done = 0
        self._outcomes: Counter[Outcome] = Counter()

    def add(self, outcomes: tuple[Outcome, ...]) -> None:
        self.done += 1
        self._outcomes.update(outcomes)

    @property
    def detail(self) -> str:
        """Return how many tests ended in each way, in the order in which the outcomes are declared."""
        told = (f"{self._outcomes[outcome]} {outcome}" for outcome in Outcome if self._outcomes[outcome])
        return ", ".join(told) or "no test"
