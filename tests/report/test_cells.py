"""Tables hold texts: nothing in them is markup."""

from rich.console import Console

from agentless_mini.report.cells import row, table


def test_headings_and_cells_are_shown_as_they_are_written() -> None:
    console = Console(width=60, color_system=None)
    shown = table("[red]a[/red]", "b\x1b[31m")
    row(shown, "[blue]c", "d")
    with console.capture() as capture:
        console.print(shown)
    lines = [line.split() for line in capture.get().splitlines()]
    assert ["[red]a[/red]", "b\\x1b[31m"] in lines
    assert ["[blue]c", "d"] in lines
