"""The import statements of a Python file, read by a regular expression.

A syntax tree of every file of a large repository takes many seconds; this takes one. So an import in a docstring counts
too, which costs a test run too many at worst, and a file that does not parse is read like any other.
"""

import re
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
_QUOTED = re.compile(r"""['"]([A-Za-z_]\w{0,63}(?:\.\w{1,64}){1,12})['"]""")
_DEFINED = re.compile(r"^(?:(?:async[ \t]+def|def|class)[ \t]+(\w+)|(\w+)[ \t]*(?::[^=\n]*)?=(?!=))", re.MULTILINE)

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
    for dots, module, names, modules in _STATEMENT.findall(text):
        if modules:
            found += [Import(0, name, "", alias or name) for name, alias in _BOUND.findall(modules)]
        else:
            listed = _BOUND.findall(_COMMENT.sub("", names))
            found += [Import(len(dots), module, name, alias or name) for name, alias in listed]
    return found


def quoted_names(text: str) -> list[str]:
    """Return the dotted names that stand in quotes, as for `import_module`, `mock.patch` and settings."""
    return _QUOTED.findall(text)


def definitions_of(text: str) -> frozenset[str]:
    """Return the names that a file defines on its first level."""
    return frozenset(function or variable for function, variable in _DEFINED.findall(text))


def attributes_of(text: str, bound: frozenset[str]) -> list[str]:
    """Return the dotted names in a file that start with one of some bound names and go on."""
    if not bound:
        return []
    heads = "|".join(re.escape(name) for name in sorted(bound, key=lambda name: (-len(name), name)))
    used = re.compile(rf"(?<![\w.])(?:{heads})(?:\.\w{{1,64}}){{1,3}}")
    return list(dict.fromkeys(used.findall(text)))
