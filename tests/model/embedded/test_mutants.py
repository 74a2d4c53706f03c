"""Each change by example, as lines of small functions, and what holds of every mutant of the project's own files."""

import ast
from pathlib import Path

import pytest

import agentless_mini
from agentless_mini.model.embedded.mutants import Mutant, mutants
from agentless_mini.model.embedded.regions import Region

PACKAGE = Path(agentless_mini.__file__).parent


def said(code: str, path: str = "m.py") -> set[str]:
    """Return the mutants of a code, without indentation."""
    return {mutant.text.strip() for mutant in mutants(Region(path, 1, code))}


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("if a < b:\n    pass\n", ["if a <= b:", "if b < a:", "if a not in b:", "if not a < b:", "if a:", "if not a:"]),
        ("x = a is not b\n", ["x = a is b", "x = a == b"]),
        ("x = a < b < c\n", ["x = a <= b < c", "x = a < b == c"]),
        ("x = (a) + (b)\n", ["x = (a) - (b)", "x = (b) + (a)", "x = (a)", "x = (b)"]),
        ("x = a - b * c\n", ["x = (a - b) * c", "x = a + b * c"]),
        ("x = a - b + c\n", ["x = a - (b + c)"]),
        ("x = a and b or c\n", ["x = a or b or c", "x = a and b and c", "x = b or c", "x = list(a and b or c)"]),
        ("x = not a\n", ["x = a"]),
        ("x = 3\n", ["x = 4", "x = 2", "x = 0", "x = -1", "x = x"]),
        ("x = True\n", ["x = False"]),
        ("x = None\n", ["x = []", "x = False", "x = x"]),
        ("x, y = 'a', 'b'\n", ["x, y = 'b', 'b'", "x, y = '', 'b'"]),
        ("x = b''\n", []),
        ("x = f(a, b)\n", ["x = f(b, a)", "x = f(a)", "x = f(b)", "x = a", "x = f(a, b, 1)", "x = f(0, a, b)"]),
        ("x = a.strip()\n", ["x = a", "x = a.lstrip()", "x = a.strip().lower()", "x = sorted(a.strip())"]),
        ("x = a.b + a.c\n", ["x = a.c + a.c", "x = a.b + a.b"]),
        ("x = max(a)\n", ["x = min(a)", "x = max(a) + 1", "x = max(a[0])", "x = -max(a)"]),
        ("x = a[i]\n", ["x = a", "x = a.get(i)", "x = a.get(i, 0)", "x = a[i:]", "x = a[:i]", "x = a[-i]"]),
        ("x = a[1:n]\n", ["x = a[:n]", "x = a[1:]", "x = a[1:n - 1]", "x = a[1 + 1:n]", "x = a[1:-1]", "x = a[:]"]),
        ("x = a[n:]\n", ["x = a[n - 1:]", "x = a"]),
        ("x = 1\nx = y = 2\n", ["x = y += 2", "x += 1"]),
        ("x -= 1\n", ["x = 1", "x += 1"]),
        ("while a or b:\n    break\n", ["while not (a or b):", "continue", "while a or b is None:"]),
        ("for a in b:\n    continue\n", ["break", "for a in reversed(b):", "for a in b[1:]:"]),
        ("def f(a, b):\n    return a\n", ["return b", "return f(a)", "return a - b", "return a + len(b)"]),
        (
            "class C:\n    def f(self):\n        return self.a(self.b)\n",
            ["return self.b(self.b)", "return self.a(self.a)"],
        ),
    ],
)
def test_changes_that_people_make(code: str, wanted: list[str]) -> None:
    assert set(wanted) <= said(code)


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("def f(a):\n    pass\n\n\ndef g(b):\n    return b\n", "return a"),
        ('def f():\n    """Say."""\n    return "x"\n', 'return "Say."'),
        ("x = f(a, key=b)\n", "x = f(key=b)"),
        ("x = f'{a + b}'\n", "x = f'{a - b}'"),
        ("x = (a +\n  b)\n", "x = (a -"),
        ("if (a or\n    b):\n    pass\n", "if (not a or"),
        ("x = \\\n  1\n", "x += \\"),
    ],
)
def test_what_is_out_of_scope_or_stands_in_several_rows_stays(code: str, unwanted: str) -> None:
    assert unwanted not in said(code)


def test_a_method_keeps_its_indentation() -> None:
    region = Region("m.py", 9, "    @property\n    def f(self):\n        return self.a  # \u00e9\n\n        \n")
    found = mutants(region)
    assert Mutant(2, "        return self.a + 1  # \u00e9") in found
    assert Mutant(2, "        return len(self.a)  # \u00e9") in found
    assert all(mutant.text.startswith(region.text.split("\n")[mutant.row][:4]) for mutant in found)


def test_columns_are_counted_in_bytes() -> None:
    assert "x = '\u00e9\u00e9', b - a" in said("x = '\u00e9\u00e9', a - b\n")
    assert "x = '\u00e9\u00e9', a + b" in said("x = '\u00e9\u00e9', a - b\n")


def test_long_lines_have_no_mutants_and_many_names_few() -> None:
    assert said(f"x = [{', '.join(f'a{number}' for number in range(1000))}]\n") == set()
    rows = "".join(f"    a{number} = {number}\n" for number in range(500))
    assert len(said(f"def f():\n{rows}    return a7\n")) < 100 * 500
    assert "return a8" not in said(f"def f():\n{rows}    return a7\n")


def test_what_should_be_python_and_does_not_parse_has_no_mutants() -> None:
    assert said("int x = 1;\n") == set()


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        (
            "if (a < b && !c) {\n",
            ["if (a <= b && !c) {", "if (a < b || !c) {", "if (a < b && c) {", "if (b < b && !c) {"],
        ),
        ("for (i = 0; i < n; i++)\n", ["for (i = 1; i < n; i++)", "for (i = 0; i < n - 1; i++)"]),
        ("x += min(a, 1);\n", ["x -= min(a, 1);", "x += max(a, 1);", "x += min(a, 2);", "x += min(a + 1, 1);"]),
        ("return true;\n", ["return false;"]),
    ],
)
def test_other_languages_have_mutants_by_their_looks(code: str, wanted: list[str]) -> None:
    assert set(wanted) <= said(code, "m.c")


@pytest.mark.parametrize("name", ["chain/rank.py", "model/embedded/llama.py", "commands/sample/durations.py"])
def test_mutants_are_distinct_lines_and_most_of_them_parse(name: str) -> None:
    text = (PACKAGE / name).read_text()
    rows = text.split("\n")
    found = mutants(Region(name, 1, text))
    assert len(set(found)) == len(found) > 100
    assert not any("\n" in mutant.text for mutant in found)
    some = found[:: len(found) // 40]
    versions = ["\n".join([*rows[: one.row], one.text, *rows[one.row + 1 :]]) for one in some]
    assert sum(map(_parses, versions)) > 0.8 * len(versions)


def _parses(code: str) -> bool:
    try:
        ast.parse(code)
    except SyntaxError:
        return False
    return True
