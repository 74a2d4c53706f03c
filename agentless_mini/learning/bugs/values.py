"""Values as people write them in examples, drawn by kind: texts, numbers, lists, tables, functions."""

import random
from dataclasses import dataclass

KINDS = (
    "string",
    "int",
    "ints",
    "strings",
    "float",
    "bool",
    "none",
    "dict",
    "pairs",
    "table",
    "set",
    "bytes",
    "any",
    "function",
)
_TEXTS = (
    "", "a", "abc", "Hello World", "foo-bar_baz", "1.2.3", "1.10", "a,b;c", "  padded  ", "one\ntwo\nthree",
    "key=value", "/usr/lib/x.py", "3", "-7", "UPPER", "na\xefve", "http://example.com/a?b=1#c", "<b>x</b>",
    "2024-01-31", "12:30:05", "a.b.c", "camelCaseName", "snake_case_name", "x = 1", "(a + b) * c", "0xff", "3.14",
    "true", "None", "a b  c", "aa bb aa", "[1, 2]", '{"a": 1}', "tests/test_a.py", "user@example.com", "v2.0rc1",
    "racecar", "%s and %d", "\\d+", "#fff", "10%",
)  # fmt: skip
_WORDS = ("alpha", "beta", "gamma", "x", "y", "a", "b", "foo", "bar", "item", "id", "42", "A", "z")
_NUMBERS = (0, 1, 2, 3, 4, 5, 7, 8, 10, 12, 16, 17, 31, 60, 64, 99, 100, 255, 256, 1000, 1024, -1, -2, -5)
_FLOATS = ("0.0", "0.5", "1.0", "1.5", "2.25", "3.14159", "-0.75", "10.0", "100.5", "1e-3")
_FUNCTIONS = ("len", "str", "abs", "int", "sorted", "bool", "str.upper", "(lambda value: value)")


@dataclass(frozen=True, slots=True)
class Values:
    """Draws values; `texts` and `numbers` are those that the function itself speaks of."""

    rng: random.Random
    texts: tuple[str, ...]
    numbers: tuple[int, ...]

    def draw(self, kind: str) -> str:
        """Return a value of a kind, as it is written."""
        drawn = getattr(self, f"_{kind}")()
        return str(drawn)

    def _number(self) -> int:
        rng = self.rng
        if self.numbers and rng.random() < 0.4:
            return rng.choice(self.numbers) + rng.choice((-1, 0, 0, 1))
        return rng.choice(_NUMBERS) if rng.random() < 0.7 else rng.randrange(-9, 40)

    def _text(self) -> str:
        rng = self.rng
        drawn = rng.random()
        if self.texts and drawn < 0.45:
            own = rng.choice(self.texts)
            return rng.choice(
                (own, own + rng.choice(_WORDS), rng.choice(_WORDS) + own, own.join(rng.sample(_WORDS, 3)))
            )
        if drawn < 0.85:
            return rng.choice(_TEXTS)
        return rng.choice((" ", "-", ".", "_", "")).join(rng.choice(_WORDS) for _ in range(rng.randrange(1, 5)))

    def _string(self) -> str:
        return repr(self._text())

    def _int(self) -> str:
        return repr(self._number())

    def _float(self) -> str:
        return self.rng.choice(_FLOATS)

    def _bool(self) -> str:
        return self.rng.choice(("True", "False"))

    def _none(self) -> str:
        return "None"

    def _bytes(self) -> str:
        return repr(self._text().encode())

    def _ints(self) -> str:
        return repr([self._number() for _ in range(self.rng.randrange(6))])

    def _strings(self) -> str:
        rng = self.rng
        return repr([self._text() if rng.random() < 0.4 else rng.choice(_WORDS) for _ in range(rng.randrange(5))])

    def _pairs(self) -> str:
        rng = self.rng
        return repr([(rng.choice(_WORDS), self._number()) for _ in range(rng.randrange(4))])

    def _table(self) -> str:
        wide = self.rng.randrange(1, 4)
        return repr([[self._number() for _ in range(wide)] for _ in range(self.rng.randrange(1, 4))])

    def _set(self) -> str:
        chosen = sorted(set(self.rng.sample(_WORDS, self.rng.randrange(1, 4))))
        return "{" + ", ".join(map(repr, chosen)) + "}"

    def _dict(self) -> str:
        rng = self.rng
        keys = [*rng.sample(_WORDS, rng.randrange(3)), *(rng.sample(self.texts, 1) if self.texts else [])]
        return (
            "{" + ", ".join(f"{key!r}: {self.draw(rng.choice(('string', 'int', 'int', 'ints')))}" for key in keys) + "}"
        )

    def _function(self) -> str:
        return self.rng.choice(_FUNCTIONS)

    def _any(self) -> str:
        return self.draw(
            self.rng.choice(("string", "string", "int", "ints", "strings", "float", "dict", "none", "bool"))
        )
