"""What reports are laid out with: tables and texts into which foreign text goes as it is, never as markup or control.

Issue texts, model answers, paths and what tests print are not trusted.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


def escaped(text: str) -> str:
    """Return the text with every character that could steer a terminal, or hide, as its escape (`\\x1b`).

    That is all but printable characters, blanks, tabs and ends of lines: controls, marks that turn the direction of
    writing, lone surrogates, and blanks that only look like one (`\\xa0`), at which a SEARCH block fails.
    """
    return "".join(
        character
        if character.isprintable() or character in "\n\t"
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )


def table(*headings: str) -> "Table":
    """Return an empty table with these headings, which are texts as those of `row`."""
    from rich import box
    from rich.table import Column, Table

    return Table(*(Column(plain_text(text)) for text in headings), box=box.SIMPLE_HEAD)


def headed(*names: str) -> "Table":
    """Return an empty table with headings that are foreign text: the user names an evaluation."""
    shown = table()
    for name in names:
        shown.add_column(plain_text(name))
    return shown


def row(table: "Table", *cells: str) -> None:
    """Add a row of texts."""
    table.add_row(*(plain_text(cell) for cell in cells))


def plain_text(text: str) -> "Text":
    """Return what is shown exactly as it is written: no markup, no control sequence."""
    from rich.text import Text

    return Text(escaped(text))


def heading(text: str) -> "Text":
    """Return the title of what follows."""
    from rich.text import Text

    return Text(escaped(text), style="bold")


def percent(share: float | None) -> str:
    """Return a share as people read it, to a tenth of a percent."""
    return "-" if share is None else f"{share:.1%}"
