"""Live progress: moving lines on a terminal, plain lines elsewhere, nothing of a model's text."""

import io

import pytest
from rich.console import Console

from agentless_mini.domain import (
    BoxDone,
    Completion,
    Event,
    Finish,
    Note,
    Outcome,
    Phase,
    PhaseSaid,
    PhaseStarted,
    Planned,
    Reason,
    Rejected,
    SampleDone,
    Stage,
    StageStarted,
)
from agentless_mini.record import AttemptRecord, AttemptState
from agentless_mini.report.progress import EvaluationProgress, LiveProgress

BAD = Rejected(Reason.NO_EDIT, "\x1b[31mnothing")
SAMPLE = Completion(0, "text", Finish.STOP)


def told(*, terminal: bool, samples: int = 20, rejected: int = 5, term: str = "xterm") -> str:
    stream = io.StringIO()
    environment = {"TERM": term}
    console = Console(file=stream, force_terminal=terminal, width=120, color_system=None, _environ=environment)
    clock = iter(float(second) for second in range(10_000))
    with LiveProgress(console, lambda: next(clock)) as progress:
        progress.phase("loading the weights", 2.0)
        progress.tokens(5, Stage.REPAIR)
        progress(Note("[bold]careful"))
        progress(StageStarted(Stage.REPAIR, samples))
        for index in range(samples):
            progress.tokens(100, Stage.REPAIR)
            completion = Completion(index, "\x1b[31mtext", Finish.STOP)
            progress(SampleDone(Stage.REPAIR, completion, BAD if index < rejected else None))
    return stream.getvalue()


def test_without_a_terminal_a_line_is_written_for_each_tenth() -> None:
    lines = told(terminal=False).strip().split("\n")
    assert lines[0] == "note: [bold]careful"
    assert lines[1] == "Sampling repairs: 20 samples"
    assert len(lines) == 12
    assert lines[-1].startswith("Sampling repairs: 20/20, 15 valid, 5 rejected, ")
    assert lines[-1].endswith(" tokens/s")
    assert lines[-2].endswith(" left")


def drawn(stage: Stage, count: int) -> list[Event]:
    return [StageStarted(stage, count), *(SampleDone(stage, SAMPLE, None) for _ in range(count))]


EVENTS: dict[str, tuple[list[Event], list[str]]] = {
    "each round of an evolution is counted by itself": (
        [*drawn(Stage.EVOLVE, 2), *drawn(Stage.EVOLVE, 1)],
        [
            "Evolving, round 1: 2 samples",
            "Evolving, round 1: 1/2, 1 valid, 0 rejected",
            "Evolving, round 1: 2/2, 2 valid, 0 rejected",
            "Evolving, round 2: 1 sample",
            "Evolving, round 2: 1/1, 1 valid, 0 rejected",
        ],
    ),
    "a chain that begins again counts its rounds from the first": (
        [Planned(((Stage.REPAIR, Stage.EVOLVE),)), StageStarted(Stage.REPAIR, 1), StageStarted(Stage.EVOLVE, 1)] * 2,
        ["1/1 Sampling repairs: 1 sample", "1/1 Evolving, round 1: 1 sample"] * 2,
    ),
    "boxes are counted with what their tests came to": (
        [
            PhaseStarted(Phase.ENVIRONMENT),
            PhaseStarted(Phase.REPRODUCTION, 1),
            BoxDone(Phase.REPRODUCTION, (Outcome.FAIL,)),
            PhaseStarted(Phase.REPRODUCTION, 2),
            BoxDone(Phase.REPRODUCTION, (Outcome.PASS,)),
            BoxDone(Phase.REPRODUCTION),
        ],
        [
            "Preparing the tests",
            "Proving the tests: 1 box",
            "Proving the tests: 1/1, 1 fail",
            "Proving the tests: 3 boxes",
            "Proving the tests: 2/3, 1 pass, 1 fail",
            "Proving the tests: 3/3, 1 pass, 1 fail",
        ],
    ),
    "a phase says how long it may take": (
        [PhaseStarted(Phase.REGRESSION, seconds=360), BoxDone(Phase.REGRESSION, (Outcome.PASS,))],
        ["Regression tests: 6:00 at most", "Regression tests: run 1: 1 pass, 6:00 at most"],
    ),
}


@pytest.mark.parametrize("what", EVENTS)
def test_what_happens_is_told_in_lines(what: str) -> None:
    stream = io.StringIO()
    with LiveProgress(Console(file=stream, width=120), clock=lambda: 0.0) as progress:
        for event in EVENTS[what][0]:
            progress(event)
    assert stream.getvalue().splitlines() == EVENTS[what][1]


def test_what_streams_at_once_is_counted_by_stage() -> None:
    stream = io.StringIO()
    now = 0.0
    with LiveProgress(Console(file=stream, width=120), lambda: now) as progress:
        for stage in (Stage.REPAIR, Stage.REPRODUCE):
            progress(StageStarted(stage, 1))
        now = 10.0
        for stage, new in ((Stage.REPAIR, 500), (Stage.REPRODUCE, 20)):
            progress.tokens(new, stage)
            progress(SampleDone(stage, SAMPLE, None))
    told = [line.rsplit(", ", 1)[-1] for line in stream.getvalue().splitlines()[2:]]
    assert told == ["50 tokens/s", "2 tokens/s"]


def test_what_a_build_says_is_shown_without_its_control_sequences() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80, color_system=None, _environ={"TERM": "xterm"})
    with LiveProgress(console) as progress:
        progress(PhaseSaid(Phase.ENVIRONMENT, "Collecting\x1b[31m numpy"))
    assert "Preparing the tests" in stream.getvalue()
    assert "Collecting\\x1b[31m numpy" in stream.getvalue()


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_on_a_dumb_terminal_the_lines_are_plain(term: str) -> None:
    assert told(terminal=True, term=term) == told(terminal=False)


def test_on_a_terminal_the_line_moves_and_is_cleared() -> None:
    shown = told(terminal=True)
    assert "Starting the model" in shown
    assert "Sampling repairs" in shown
    assert "20/20" in shown
    assert shown.rstrip().endswith("\x1b[2K")


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_that_a_model_said_reaches_the_terminal(terminal: bool) -> None:
    assert "\x1b[31m" not in told(terminal=terminal)


# --- of an evaluation ------------------------------------------------------------------------------------------------


def evaluation(terminal: bool = False) -> tuple[EvaluationProgress, io.StringIO]:
    out = io.StringIO()
    ticks = iter(range(1000))
    console = Console(file=out, width=200, force_terminal=terminal)
    return EvaluationProgress(console, 3, clock=lambda: float(next(ticks))), out


def record(state: AttemptState = AttemptState.DONE, failure: str = "") -> AttemptRecord:
    return AttemptRecord("acme__shop-1", None, state, "image" if failure else "", failure)


def test_each_instance_that_ends_has_a_line() -> None:
    progress, out = evaluation()
    with progress:
        watch = progress.of("acme__shop-1")
        watch(SampleDone(Stage.REPAIR, SAMPLE, None))
        watch(SampleDone(Stage.REPAIR, SAMPLE, BAD))
        watch(BoxDone(Phase.EXECUTION))
        progress.tokens(100, Stage.REPAIR)
        progress.ended(record(), resolved=True)
        progress.ended(record(), resolved=None)
    first, second = out.getvalue().splitlines()
    assert first.startswith("acme__shop-1: resolved (1/3, 1 resolved, 2 samples, 1 valid patch, 1 box, 0 test runs, ")
    assert second.startswith("acme__shop-1: done (2/3, 1 resolved")


def test_where_patches_are_read_nothing_is_said_of_samples() -> None:
    progress, out = evaluation()
    with progress:
        watch = progress.of("acme__shop-1")
        watch(SampleDone(Stage.CHOOSE, SAMPLE, None))
        watch(SampleDone(Stage.CHOOSE, SAMPLE, BAD))
        watch(BoxDone(Phase.EXECUTION, (Outcome.PASS, Outcome.FAIL)))
        progress.ended(record(), resolved=None)
        watch(SampleDone(Stage.REPRODUCE, SAMPLE, None))
        progress.ended(record(), resolved=None)
    first, second = out.getvalue().splitlines()
    assert first == "acme__shop-1: done (1/3, 2 patches read, 1 valid patch, 1 box, 2 test runs)"
    assert second.endswith(", 2 patches read, 1 sample, 1 valid patch, 1 box, 2 test runs)")


def test_a_failure_of_the_infrastructure_says_where_and_why() -> None:
    progress, out = evaluation()
    with progress:
        progress.ended(record(AttemptState.INFRASTRUCTURE, "The image [bold]x[/] cannot be had."), resolved=None)
    assert "1 failed for the infrastructure" in out.getvalue()
    assert "note: acme__shop-1: image: The image [bold]x[/] cannot be had." in out.getvalue()


def test_notes_carry_the_name_of_their_instance() -> None:
    progress, out = evaluation()
    with progress:
        progress.of("acme__shop-2")(Note("Pulling the image."))
        progress(Note("The server is busy."))
    assert out.getvalue().splitlines() == ["note: acme__shop-2: Pulling the image.", "note: The server is busy."]


def test_foreign_text_steers_no_terminal() -> None:
    hostile = "evil\x1b]0;owned\x07\x1b[2J"
    for terminal in (False, True):
        progress, out = evaluation(terminal)
        progress.ended(AttemptRecord(hostile, None, AttemptState.INFRASTRUCTURE, "image", hostile), None)
        progress.of(hostile)(Note(hostile))
        assert "\x1b]0" not in out.getvalue()
        assert "\x1b[2J" not in out.getvalue()
        assert "evil\\x1b]0;owned" in out.getvalue()
