"""Which minor version of Python 3 suits a project, from what it declares. Patch versions are not told apart.

It does not know which interpreters there are: see `pythons`.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

_CLAUSE = re.compile(r"(?P<sign>===|==|~=|!=|<=|>=|<|>|\^|~)?\s*v?(?P<numbers>\d+(?:\.(?:\d+|[*xX]))*)[\w.+-]*")
_CLASSIFIER = re.compile(r"Programming Language :: Python :: 3\.(\d{1,2})\Z")
_MAJOR = 3


@dataclass(frozen=True, slots=True)
class Wish:
    """What a project says of Python: its specifiers (all hold) and the minor versions of 3 that it is tested on."""

    specifiers: tuple[str, ...] = ()
    tested: tuple[int, ...] = ()

    def allows(self, minor: int) -> bool:
        """Return whether some patch version of 3.`minor` satisfies every specifier. What cannot be read allows all."""
        return all(_satisfies(specifier, minor) for specifier in self.specifiers)

    def ordered(self, available: Collection[int], here: int) -> tuple[int, ...]:
        """Return those of the available minor versions that are allowed, the most suitable first.

        The one `here` comes first if it is tested, or nothing is said of tests; then tested ones, the newest first;
        then newer ones, the oldest first, for little has changed in them; then the rest, the newest first.
        """
        newest = max(self.tested, default=here)

        def place(minor: int) -> tuple[int, int]:
            if minor == here and (not self.tested or here in self.tested):
                return 0, 0
            if minor in self.tested:
                return 1, -minor
            return (2, minor) if minor > newest else (3, -minor)

        return tuple(sorted((minor for minor in set(available) if self.allows(minor)), key=place))


def classified_minors(classifiers: Collection[str]) -> tuple[int, ...]:
    """Return the minor versions of 3 that trove classifiers name, ascending."""
    found = (_CLASSIFIER.fullmatch(line.strip()) for line in classifiers)
    return tuple(sorted({int(match[1]) for match in found if match}))


def _satisfies(specifier: str, minor: int) -> bool:
    joined = re.sub(r"([<>=!~^])\s+(?=\d)", r"\1", specifier)
    # Poetry writes alternatives with "||".
    return any(
        all(_clause_holds(clause, minor) for clause in re.split(r"[,\s]+(?=[<>=!~^\d])", way.strip()) if clause)
        for way in joined.split("||")
    )


def _clause_holds(clause: str, minor: int) -> bool:
    match = _CLAUSE.fullmatch(clause.strip())
    if match is None:
        return True
    numbers = [int(number) for number in match["numbers"].split(".") if number.isdecimal()]
    return _compare(match["sign"] or "==", numbers, (_MAJOR, minor), wild="*" in clause or "x" in clause.lower())


def _compare(sign: str, asked: list[int], version: tuple[int, int], *, wild: bool) -> bool:
    """Compare by the first two numbers, in favour of the version where a third one would decide."""
    base = tuple(asked[:2])
    prefix = version[: len(base)]
    # How many of its numbers a compatible version must share.
    shared = 2 if (sign, len(asked)) in {("~=", 3), ("~", 2), ("~", 3)} else 1
    holds = {
        "==": prefix == base,
        "===": prefix == base,
        "!=": not (wild and prefix == base),
        ">=": prefix >= base,
        ">": prefix >= base,
        "<=": prefix <= base,
        "<": prefix < base or (prefix == base and len(asked) > len(base)),
    }
    return holds.get(sign, prefix >= base and version[:shared] == tuple(asked[:shared]))
