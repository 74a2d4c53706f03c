"""What progress is shown with: times that are left, lines that fit, and a log that never falls silent."""

import io

import pytest
from rich.console import Console

from agentless_mini.report.console import BAR, SILENCE, Line, ProgressLines, flowed


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def screen(width: int, *, terminal: bool = True) -> Console:
    return Console(
        file=io.StringIO(), force_terminal=terminal, width=width, color_system=None, _environ={"TERM": "xterm"}
    )


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_what_is_left_follows_from_what_was_measured() -> None:
    line = Line("Sampling", 10, began=100.0)
    assert line.left(101.0) is None
    line.advance(2, 150.0)  # a long prompt was read before
    assert line.left(150.0) is None
    line.advance(3, 151.0)
    assert line.left(151.0) is None  # five that come at once are no pace
    line.advance(4, 154.0)
    assert line.left(154.0) == pytest.approx(12.0)
    assert line.left(156.0) == pytest.approx(18.0)  # nothing came since
    line.advance(10, 170.0)
    assert line.left(170.0) is None
    assert line.ran(500.0) == "1:10"


def test_a_pause_says_nothing_of_the_pace() -> None:
    line = Line("Proving", 1, began=0.0)
    line.advance(1, 3.0)
    line.again(10, 300.0)
    line.advance(2, 304.0)
    line.advance(3, 308.0)
    assert line.left(308.0) == pytest.approx(32.0)


def test_what_comes_from_the_record_says_nothing_of_the_pace() -> None:
    line = Line("Sampling", 100, began=0.0)
    line.advance(90, 0.1)
    assert line.left(5.0) is None
    line.advance(91, 10.0)
    line.advance(92, 14.0)
    assert line.left(14.0) == pytest.approx(32.0)


def test_lines_stand_in_the_order_of_their_steps() -> None:
    console = screen(80)
    with ProgressLines(console) as lines:
        for title in ("3/5 Preparing the tests", "1/5 Finding the files"):
            lines.begin(title, 2)
    last = printed(console)
    assert last.rindex("1/5 Finding") < last.rindex("3/5 Preparing")


@pytest.mark.parametrize("width", [40, 80, 100])
def test_a_moving_line_keeps_to_its_row(width: int) -> None:
    line = Line("5/5 Testing the patches", 100, began=0.0)
    line.advance(1, 10.0)
    line.advance(30, 300.0)
    line.detail = "400 pass, 20 fail, 3 error " + "x" * 100
    shown = line.shown(300.0, width).plain
    assert len(shown) <= width
    assert shown.startswith("5/5 Testing the patches ")
    assert "30/100" in shown
    assert "~11:40" in shown
    assert ("400 pass" in shown) == (width > 40)
    assert ("\u2501" * 3 in shown) == (width > 40)
    assert "\u2501" not in line.shown(300.0, width, unicode=False).plain


def test_work_of_unknown_size_shows_for_how_long_it_goes_on() -> None:
    line = Line("Preparing the tests", 0, began=0.0)
    line.detail = "Collecting numpy"
    assert line.shown(65.0, 40).plain == "Preparing the tests 1:05 Collecting num\u2026"
    assert line.shown(65.0, 80).plain.split() == ["Preparing", "the", "tests", "1:05", "Collecting", "numpy"]
    assert "\u2500" * BAR not in line.shown(65.0, 80).plain
    assert line.said(65.0) == "Preparing the tests: Collecting numpy"


def test_a_log_hears_of_the_work_where_nothing_else_is_said() -> None:
    console, clock = screen(80, terminal=False), Clock()
    lines = ProgressLines(console, clock)
    lines.beat()
    clock.now = SILENCE
    lines.beat()
    work, over = lines.begin("Sampling", 4), lines.begin("Over")
    lines.end(over)
    work.advance(1, clock.now + 10)
    work.advance(2, clock.now + 19)
    clock.now += 20
    lines.beat()
    lines.plain("something else")
    clock.now += SILENCE - 1
    lines.beat()
    clock.now += 1
    lines.beat()
    assert printed(console).splitlines() == [
        "Working (for 0:25)",
        "something else",
        "Sampling: 2/4, about 1:10 left (for 1:10)",
    ]


def test_a_note_is_said_once() -> None:
    console = screen(80, terminal=False)
    with ProgressLines(console) as lines:
        lines.note("The tree was cut.")
        lines.note("The tree was cut.", "acme__shop-1")
        lines.note("It is slow.", "acme__shop-1")
    assert printed(console).splitlines() == ["note: The tree was cut.", "note: acme__shop-1: It is slow."]


def test_text_is_broken_between_words_on_a_terminal_alone() -> None:
    text = "note       Left out of a prompt to fit the context: /a/very/long/path/that/nothing/can/break.py."
    assert flowed(text, screen(40, terminal=False), 11) == text
    assert flowed(text, screen(200), 11) == text
    assert flowed(text, screen(40), 11).splitlines() == [
        "note       Left out of a prompt to fit",
        "          the context: /a/very/long/",
        "          path/that/nothing/can/",
        "          break.py.",
    ]


@pytest.mark.parametrize("width", [10, 30, 40, 60])
def test_what_is_longer_than_a_line_is_broken_after_a_slash_or_where_the_line_ends(width: int) -> None:
    log = "/home/user/.cache/agentless-mini/environments/4436b89eb3c58bf44436d86794ee4c05/build.log"
    lines = flowed(f"note: Building it (log: {log}).", screen(width), 6).splitlines()
    assert max(map(len, lines)) <= width
    assert "".join(line.strip() for line in lines).endswith(f"{log}).")
    if width >= 40:
        assert all(line.endswith(("/", "(log:", ").", "it")) for line in lines)
