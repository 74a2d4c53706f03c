"""The progress of an evaluation: plain lines where nothing can move, what came of each instance, and failures."""

import io

from rich.console import Console

from agentless_mini.domain import BoxDone, Completion, Finish, Note, Phase, Reason, Rejected, SampleDone, Stage
from agentless_mini.record import AttemptRecord, AttemptState
from agentless_mini.report.evaluation_progress import EvaluationProgress

SAMPLE = Completion(0, "text", Finish.STOP)


def shown(terminal: bool = False) -> tuple[EvaluationProgress, io.StringIO]:
    out = io.StringIO()
    ticks = iter(range(1000))
    console = Console(file=out, width=200, force_terminal=terminal)
    return EvaluationProgress(console, 3, clock=lambda: float(next(ticks))), out


def record(state: AttemptState = AttemptState.DONE, failure: str = "") -> AttemptRecord:
    return AttemptRecord("acme__shop-1", None, state, "image" if failure else "", failure)


def test_each_instance_that_ends_has_a_line() -> None:
    progress, out = shown()
    with progress:
        watch = progress.of("acme__shop-1")
        watch(SampleDone(Stage.REPAIR, SAMPLE, None))
        watch(SampleDone(Stage.REPAIR, SAMPLE, Rejected(Reason.NO_EDIT, "no edit")))
        watch(BoxDone(Phase.EXECUTION))
        progress.tokens(100)
        progress.ended(record(), resolved=True)
        progress.ended(record(), resolved=None)
    first, second = out.getvalue().splitlines()
    assert first.startswith("acme__shop-1: resolved (1/3, 1 resolved, 2 samples, 1 valid patches, 1 boxes, ")
    assert second.startswith("acme__shop-1: done (2/3, 1 resolved")


def test_a_failure_of_the_infrastructure_says_where_and_why() -> None:
    progress, out = shown()
    with progress:
        progress.ended(record(AttemptState.INFRASTRUCTURE, "The image [bold]x[/] cannot be had."), resolved=None)
    assert "1 failed for the infrastructure" in out.getvalue()
    assert "note: acme__shop-1: image: The image [bold]x[/] cannot be had." in out.getvalue()


def test_notes_carry_the_name_of_their_instance() -> None:
    progress, out = shown()
    with progress:
        progress.of("acme__shop-2")(Note("Pulling the image."))
        progress(Note("The server is busy."))
    assert out.getvalue().splitlines() == ["note: acme__shop-2: Pulling the image.", "note: The server is busy."]


def test_on_a_terminal_the_lines_move_and_are_cleared() -> None:
    progress, out = shown(terminal=True)
    with progress:
        progress.phase("loading the weights", 3.0)
        progress.ended(record(), resolved=False)
    assert "Instances" in out.getvalue()
    assert "not resolved (" not in out.getvalue()


def test_foreign_text_steers_no_terminal() -> None:
    hostile = "evil\x1b]0;owned\x07\x1b[2J"
    for terminal in (False, True):
        progress, out = shown(terminal)
        progress.ended(AttemptRecord(hostile, None, AttemptState.INFRASTRUCTURE, "image", hostile), None)
        progress.of(hostile)(Note(hostile))
        assert "\x1b]0" not in out.getvalue()
        assert "\x1b[2J" not in out.getvalue()
        assert "evil\\x1b]0;owned" in out.getvalue()
