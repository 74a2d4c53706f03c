"""Live progress on stderr, of one run and of an evaluation: moving lines on a terminal, else plain ones."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

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
from agentless_mini.errors import counted
from agentless_mini.ports import Watch
from agentless_mini.record import AttemptRecord, AttemptState
from agentless_mini.report.console import Line, ProgressLines, clock_time

PLAIN_STEPS = 10  # without a terminal a line is written for each tenth of a stage
TITLES: dict[Stage | Phase, str] = {
    Stage.LOCALIZE: "Finding the files",
    Stage.REPAIR: "Sampling repairs",
    Stage.EVOLVE: "Evolving, round",
    Stage.CHOOSE: "Reading patches",
    Stage.REPRODUCE: "Sampling tests",
    Stage.REGRESS: "Asking which tests the fix must break",
    Stage.SETUP: "Asking how to set up the tests",
    Phase.ENVIRONMENT: "Preparing the tests",
    Phase.REPRODUCTION: "Proving the tests",
    Phase.REGRESSION: "Regression tests",
    Phase.EXECUTION: "Testing the patches",
    Phase.GRADING: "Grading",
}
_NAMED = 3
"""Unfinished instances that the line of an evaluation names."""


@dataclass(slots=True)
class _Work:
    """What a stage has drawn, or the boxes of a phase have done, so far; `most` says how long that may take."""

    line: Line
    began: float
    most: str = ""
    valid: int = 0
    tokens: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)


class LiveProgress(ProgressLines):
    """A `Watch` that shows the events of a run, as a context manager: leaving it clears the moving lines."""

    def __init__(
        self, console: Console, clock: Callable[[], float] = time.monotonic, notes: set[str] | None = None
    ) -> None:
        """Show on `console`, which should write to stderr. `notes` are as for `ProgressLines`."""
        super().__init__(console, clock, notes)
        self._steps: tuple[tuple[Stage | Phase, ...], ...] = ()
        self._work: dict[Stage | Phase, _Work] = {}
        self._rounds = 0
        self._starting: Line | None = None

    def __call__(self, event: Event) -> None:
        """Take in one event."""
        match event:
            case Planned(steps):  # a chain begins; one that was begun before does not go on
                for work in self._work.values():
                    self.end(work.line)
                self._steps, self._work, self._rounds = steps, {}, 0
            case StageStarted(stage, samples):
                self._start(stage, samples)
            case SampleDone(stage, _, rejected):
                work = self._work[stage]
                work.valid += rejected is None
                work.line.advance(work.line.done + 1, self.clock())
                self._describe_samples(work)
                self._log(work.line)
            case PhaseStarted(phase, boxes, seconds):
                if phase is not Phase.ENVIRONMENT and (ready := self._work.get(Phase.ENVIRONMENT)):
                    self.end(ready.line)
                work = self._phase_work(phase)
                line, work.most = work.line, f"{clock_time(seconds)} at most" if seconds else ""
                line.again(boxes, self.clock())  # a phase may begin twice
                told = counted(line.total, "box") if line.total else work.most
                self.plain(f"{line.title}: {told}" if told else line.title)
            case PhaseSaid(phase, text):
                work = self._phase_work(phase)
                work.line.detail = ", ".join(filter(None, (text, work.most)))
            case BoxDone(phase, outcomes):
                self._count(self._work[phase], outcomes)
            case Note(text):
                self.note(text)

    def tokens(self, new: int, stage: Stage) -> None:
        """Count tokens that have just been generated for a stage: several may be sampled at once."""
        if (work := self._work.get(stage)) is not None:
            work.tokens += new
            self._describe_samples(work)

    def phase(self, what: str, seconds: float) -> None:
        """Show what a model server that is being started does, `seconds` after its start."""
        if self._starting is None:
            self._starting = self.begin("Starting the model")
        self._starting.detail = f"{what} ({seconds:.0f} s)"

    def _title(self, what: Stage | Phase) -> str:
        title = f"{TITLES[what]} {self._rounds}" if what is Stage.EVOLVE else TITLES[what]
        number = next((number for number, step in enumerate(self._steps, 1) if what in step), None)
        return title if number is None else f"{number}/{len(self._steps)} {title}"

    def _start(self, stage: Stage, samples: int) -> None:
        if self._starting is not None:
            self.end(self._starting)
        if stage is Stage.EVOLVE:  # it begins once for each round, and only the last is shown
            self._rounds += 1
            if (before := self._work.get(stage)) is not None:
                self.end(before.line)
        title = self._title(stage)
        self._work[stage] = _Work(self.begin(title, samples), self.clock())
        self.plain(f"{title}: {counted(samples, 'patch' if stage is Stage.CHOOSE else 'sample')}")

    def _phase_work(self, phase: Phase) -> _Work:
        if phase not in self._work:
            self._work[phase] = _Work(self.begin(self._title(phase)), self.clock())
        return self._work[phase]

    def _count(self, work: _Work, outcomes: Iterable[Outcome]) -> None:
        if not work.line.total:  # the same tests in another order are not more of them
            work.outcomes.clear()
        work.outcomes.update(outcomes)
        work.line.advance(work.line.done + 1, self.clock())
        counts = (f"{work.outcomes[outcome]} {outcome}" for outcome in Outcome if work.outcomes[outcome])
        run = "" if work.line.total else f"run {work.line.done}: "
        work.line.detail = run + (", ".join(filter(None, (*counts, work.most))) or "no test")
        self._log(work.line)

    def _describe_samples(self, work: _Work) -> None:
        seconds = self.clock() - work.began
        rate = f", {work.tokens / seconds:.0f} tokens/s" if work.tokens and seconds > 0 else ""
        work.line.detail = f"{work.valid} valid, {work.line.done - work.valid} rejected{rate}"

    def _log(self, line: Line) -> None:
        if line.done % max(1, line.total // PLAIN_STEPS) == 0 or line.done == line.total:
            self.plain(line.said(self.clock()))


class EvaluationProgress(ProgressLines):
    """Shows how far an evaluation is. It is a `Watch` for what belongs to no instance; `of` returns that of one.

    Without a terminal it writes a line for each instance that ended. `tokens` may be called from any thread.
    """

    def __init__(self, console: Console, instances: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Show on `console`, which should write to stderr."""
        super().__init__(console, clock)
        self._line = self.begin("Instances", instances)
        self._now: dict[str, str] = {}
        self._states: Counter[AttemptState] = Counter()
        self._resolved = self._graded = self._samples = self._read = self._valid = self._tokens = 0
        self._boxes = self._tests = 0

    def __call__(self, event: Event) -> None:
        """Take in an event of no instance."""
        self._take("", event)

    def of(self, instance: str) -> Watch:
        """Return the `Watch` for the events of one instance."""
        self._now[instance] = "begun"
        return lambda event: self._take(instance, event)

    def tokens(self, new: int, stage: Stage) -> None:
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
        self._graded += resolved is not None
        done = self._states.total()
        self._line.advance(done, self.clock())
        self._describe()
        outcome = {True: "resolved", False: "not resolved", None: record.state.value}[resolved]
        self.plain(f"{record.instance}: {outcome} ({done}/{self._line.total}, {self._counts()})")
        if record.failure:
            self.note(f"{record.stage}: {record.failure}", record.instance)

    def _take(self, instance: str, event: Event) -> None:
        match event:
            case SampleDone(stage, _, rejected):
                self._read += stage is Stage.CHOOSE
                self._samples += stage is not Stage.CHOOSE
                self._valid += stage.repairs and rejected is None
            case BoxDone(_, outcomes):
                self._boxes += 1
                self._tests += len(outcomes)
            case StageStarted(stage) | PhaseStarted(stage):
                self._now[instance] = stage.value
            case PhaseSaid(phase, text):
                self._now[instance] = f"{phase.value}: {text}"
            case Note(text):
                self.note(text, instance)
                return
            case _:
                return
        self._describe()

    def _describe(self) -> None:
        now = [f"{name} ({what})" for name, what in [*self._now.items()][:_NAMED]]
        self._line.detail = ", now ".join(filter(None, (self._counts(), ", ".join(now))))

    def _counts(self) -> str:
        seconds = self.clock() - self._began
        failed = self._states[AttemptState.INFRASTRUCTURE]
        parts = [
            *([f"{self._resolved} resolved"] if self._graded else []),
            *([f"{failed} failed for the infrastructure"] if failed else []),
            *([f"{counted(self._read, 'patch')} read"] if self._read else []),
            *([counted(self._samples, "sample")] if self._samples or not self._read else []),
            f"{counted(self._valid, 'valid patch')}, {counted(self._boxes, 'box')}, {counted(self._tests, 'test run')}",
            *([f"{self._tokens / seconds:.0f} tokens/s"] if self._tokens and seconds > 0 else []),
        ]
        return ", ".join(parts)
