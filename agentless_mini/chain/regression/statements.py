"""The import statements of a Python file, read by a regular expression.

A syntax tree of every file of a large repository takes many seconds; this takes one. So an import in a docstring counts
too, which costs a test run too many at worst, and a file that does not parse is read like any other.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

# Possessive and bounded, so that no text takes more than linear time: a list of names that is never closed is cut.
_STATEMENT = re.compile(
    r"""^[ \t]*+(?:
        from[ \t]++(\.*+)([\w.]*+)[ \t]++import[ \t]*+
            (\((?:[^)#]|\#[^\n]*+){0,8000}+|(?:[^\n\\#;]|\\\n){0,8000}+)
        |import[ \t]++((?:[^\n\\#;]|\\\n){0,8000}+)
    )""",
    re.MULTILINE | re.VERBOSE,
)
_COMMENT = re.compile(r"#[^\n]*+")
_BOUND = re.compile(r"([\w.*]+)(?:\s+as\s+(\w+))?")
_QUOTED = re.compile(r"""['"]([A-Za-z_]\w{0,63}+(?:\.\w{1,64}+){1,12}+)['"]""")
_ATTRIBUTES = re.compile(r"(?:\.\w{1,64}){1,3}")
_INSIDE_A_NAME = re.compile(r"[\w.]")
_DEFINED = re.compile(r"^(?:(?:async[ \t]+def|def|class)[ \t]+(\w+)|(\w+)[ \t]*(?::[^=\n]*)?=(?!=))", re.MULTILINE)

# What no line begins with that defines a name.
_INNER = frozenset(" \t#\"'()[]{}@")

STAR = "*"


@dataclass(frozen=True, slots=True)
class Import:
    """One name that an import statement binds.

    `from ..a import b as c` is Import(2, "a", "b", "c"); of `import a.b` the `name` is empty, and `bound` is "a.b",
    which is how the file calls the module.
    """

    level: int
    module: str
    name: str
    bound: str


def imports_of(text: str) -> list[Import]:
    """Return what a file imports, wherever in it, in order."""
    found: list[Import] = []
    for dots, module, names, modules in _statements(text):
        if modules:
            found += [Import(0, name, "", alias or name) for name, alias in _BOUND.findall(modules)]
        else:
            listed = _BOUND.findall(_COMMENT.sub("", names))
            found += [Import(len(dots), module, name, alias or name) for name, alias in listed]
    return found


def _statements(text: str) -> Iterator[tuple[str, ...]]:
    """Yield the groups of the import statements. Only lines that have the word are looked at, which is much sooner."""
    end = 0
    for place in _places(text, "import"):
        line = text.rfind("\n", 0, place) + 1
        if line >= end and (statement := _STATEMENT.match(text, line)):
            yield statement.groups("")
            end = statement.end()


def quoted_names(text: str) -> list[str]:
    """Return the dotted names that stand in quotes, as for `import_module`, `mock.patch` and settings."""
    return _QUOTED.findall(text)


def definitions_of(text: str) -> frozenset[str]:
    """Return the names that a file defines on its first level."""
    first_level = (line for line in text.split("\n") if line and line[0] not in _INNER)  # soon told, of most lines
    found = (_DEFINED.match(line) for line in first_level)
    return frozenset(match[1] or match[2] for match in found if match)


def attributes_of(text: str, bound: frozenset[str]) -> list[str]:
    """Return the dotted names in a file that start with one of some bound names and go on."""
    found: dict[int, str] = {}
    for head in sorted(bound, key=len, reverse=True):  # of two that begin at one place, the longer is meant
        for place in _places(text, f"{head}."):
            used = _ATTRIBUTES.match(text, place + len(head))
            if used and not (place and _INSIDE_A_NAME.match(text, place - 1)):
                found.setdefault(place, head + used[0])
    return list(dict.fromkeys(found[place] for place in sorted(found)))


def _places(text: str, words: str) -> Iterator[int]:
    """Yield where the words stand in the text."""
    place = text.find(words)
    while place >= 0:
        yield place
        place = text.find(words, place + 1)
