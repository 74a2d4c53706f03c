"""What `amini serve` shows while a server starts."""

import io

import pytest
from rich.console import Console

from agentless_mini.commands.serve import start_progress


def told(term: str, *, terminal: bool) -> str:
    stream = io.StringIO()
    environment = {"TERM": term}
    console = Console(file=stream, force_terminal=terminal, width=80, color_system=None, _environ=environment)
    with start_progress(console, "org/coder") as progress:
        for second in range(3):
            progress("loading the weights", second)
        progress("compiling", 3.0)
    return stream.getvalue()


@pytest.mark.parametrize(("term", "terminal"), [("xterm", False), ("dumb", True)])
def test_where_no_line_can_move_each_phase_is_a_line(term: str, terminal: bool) -> None:
    assert told(term, terminal=terminal) == "org/coder: loading the weights\norg/coder: compiling\n"


def test_on_a_terminal_the_line_moves_and_is_cleared() -> None:
    shown = told("xterm", terminal=True)
    assert "org/coder: compiling (3 s)" in shown
    assert "\x1b[2K" in shown
