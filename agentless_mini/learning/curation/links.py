"""Which issues a text says that a pull request closes: GitHub's closing keywords before a number or an address."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_REFERENCE = (
    r"(?:(?P<repo>[A-Za-z0-9_][\w-]*/[\w.-]+)?#|GH-|https?://github\.com/(?P<of>[A-Za-z0-9_][\w-]*/[\w.-]+)/issues/)"
    r"(?P<number>[1-9][0-9]{0,8})\b"
)
_CLOSING = re.compile(
    rf"\b(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?)\b:?\s+(?:(?:the\s+)?(?:issues?|bugs?)\s+)?{_REFERENCE}"
    r"(?P<more>(?:\s*(?:,|and|&)\s*(?:[\w-]+/[\w.-]+)?#[1-9][0-9]{0,8}\b)*)",
    re.IGNORECASE,
)
_MORE = re.compile(r"(?:(?P<repo>[\w-]+/[\w.-]+))?#(?P<number>[1-9][0-9]{0,8})")
# What is never closed goes on to the end, as GitHub shows it.
_NO_WORDS = re.compile(r"```.*?(?:```|\Z)|<!--.*?(?:-->|\Z)|`[^`\n]{1,200}`", re.DOTALL)
MOST_LINKS = 5


@dataclass(frozen=True, slots=True, order=True)
class Link:
    """An issue by repository and number."""

    repo: str
    number: int


def closing_links(texts: Iterable[str], repo: str) -> tuple[Link, ...]:
    """Return the issues that the texts of a pull request of `repo` close, in order, each once, `MOST_LINKS` at most.

    Code and HTML comments, as templates leave them, do not count; nor does a plain mention. "fixes #1, #2" is
    read as both, as people mean it, though GitHub closes the first alone.
    """
    found: dict[Link, None] = {}
    for text in texts:
        for match in _CLOSING.finditer(_NO_WORDS.sub(" ", text)):
            found[Link(match["repo"] or match["of"] or repo, int(match["number"]))] = None
            for more in _MORE.finditer(match["more"]):
                found[Link(more["repo"] or repo, int(more["number"]))] = None
    return tuple(found)[:MOST_LINKS]
