import pytest

from agentless_mini.domain import EditTask, Excerpt, ShownFile
from agentless_mini.model.embedded.regions import Region, choose_regions, named_rows, parse


def shown(path: str, text: str) -> EditTask:
    return EditTask("", (ShownFile(path, (Excerpt(1, text),), whole=True),))


LONG = '''"""A module."""

import re


def alpha(x):
    return x


class Box:
    size = 1

    @property
    def beta(self):
        return self.size

    def gamma(self, total_weight):
        return total_weight
'''


def lines_of(text: str) -> int:
    return text.count("\n")


def test_what_fits_is_copied_whole_and_the_files_share_the_budget_in_their_order() -> None:
    other = ShownFile("b.py", (Excerpt(1, "x = 1\r\n"), Excerpt(8, "y = 2")), whole=False)
    task = EditTask("", (ShownFile("a.py", (Excerpt(1, LONG),), whole=True), other))
    chosen = choose_regions(task, 40, lines_of)
    assert [(one.path, one.first, one.text) for one in chosen] == [
        ("a.py", 1, LONG), ("b.py", 1, "x = 1\n"), ("b.py", 8, "y = 2\n")
    ]  # fmt: skip
    assert [one.path for one in choose_regions(task, LONG.count("\n"), lines_of)] == ["a.py"]


@pytest.mark.parametrize(
    ("issue", "firsts"),
    [
        ("beta is wrong", [13, 17]),
        ('File "m.py", line 6, in alpha', [6, 13]),
        ("the total weight is lost", [6, 17]),
        ("nothing", [6, 13]),
    ],
)
def test_of_a_long_file_the_functions_that_the_issue_points_at_are_copied(issue: str, firsts: list[int]) -> None:
    task = EditTask(issue, (ShownFile("m.py", (Excerpt(1, LONG),), whole=True),))
    chosen = choose_regions(task, 5, lines_of)
    assert sum(lines_of(one.text) for one in chosen) <= 5
    rows = LONG.split("\n")
    assert all(one.text == "\n".join(rows[one.first - 1 :][: lines_of(one.text)]) + "\n" for one in chosen)
    wanted = choose_regions(task, 3, lines_of)
    assert wanted[0].first in firsts
    assert sorted(one.first for one in chosen) == [one.first for one in chosen]


@pytest.mark.parametrize(
    ("issue", "copied"),
    [
        ("`one_half` is wrong", ["one_half", "scaled"]),
        ("one_half(4) is 3", ["one_half", "scaled"]),
        ("`other` is wrong", ["other"]),
        ("the other one is wrong", ["one_half", "scaled", "other"]),
        ("`nowhere` is wrong", ["one_half", "scaled", "other"]),
    ],
)
def test_of_functions_that_are_named_as_code_these_and_what_they_speak_of_are_copied(
    issue: str, copied: list[str]
) -> None:
    text = "".join(
        f"def {name}(x):\n    return {body}\n\n\n"
        for name, body in (("one_half", "scaled(x, 0.5)"), ("scaled", "x * 2"), ("other", "x"))
    )
    task = EditTask(issue, (ShownFile("m.py", (Excerpt(1, text),), whole=True),))
    chosen = choose_regions(task, 6, lines_of)
    assert [one.text[4 : one.text.index("(")] for one in chosen] == copied


def test_text_without_functions_is_copied_in_runs_of_lines() -> None:
    text = "".join(f"line {number} {'needle' if number == 70 else ''}\n" for number in range(120))
    task = EditTask("the needle", (ShownFile("m.txt", (Excerpt(1, text),), whole=True),))
    (region,) = choose_regions(task, 45, lines_of)
    assert region.first == 41


def test_where_not_even_one_function_fits_its_first_lines_are_copied() -> None:
    text = "def f():\n" + "    x = 1\n" * 50
    task = EditTask("f", (ShownFile("m.py", (Excerpt(1, text),), whole=True),))
    (region,) = choose_regions(task, 10, lines_of)
    assert (region.first, lines_of(region.text)) == (1, 10)
    assert choose_regions(task, 0, lines_of) == ()


def test_a_second_file_that_does_not_fit_is_left_out() -> None:
    text = "def f():\n" + "    x = 1\n" * 50
    files = (ShownFile("a.py", (Excerpt(1, "x\n"),), True), ShownFile("b.py", (Excerpt(1, text),), True))
    assert [one.path for one in choose_regions(EditTask("f", files), 10, lines_of)] == ["a.py"]


def test_a_file_that_an_answer_cannot_name_is_left_out() -> None:
    assert choose_regions(shown("/etc/passwd", "x\n"), 10, lines_of) == ()
    assert choose_regions(EditTask("", ()), 10, lines_of) == ()


@pytest.mark.parametrize("text", ["def f(:\n", "x = '\0'\n", "(" * 5000 + "\n"])
def test_what_is_no_python_has_no_tree(text: str) -> None:
    assert parse(text) is None


def test_the_rows_of_the_functions_that_an_issue_names() -> None:
    region = Region("m.py", 1, LONG)
    rows = LONG.split("\n")
    named = named_rows(region, "`Box.beta` and alpha_x are wrong, gamma() is not.")
    assert [rows[row].strip() for row in sorted(named)] == [
        "@property", "def beta(self):", "return self.size", "def gamma(self, total_weight):", "return total_weight"
    ]  # fmt: skip
    assert named_rows(Region("m.c", 1, LONG), "beta") == frozenset()
    assert named_rows(Region("m.py", 1, "def beta(:\n"), "beta") == frozenset()
