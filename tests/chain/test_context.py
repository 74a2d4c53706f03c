"""What fits a budget: trees, files, windows, issues."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.chain.context import (
    Fitted,
    Gauge,
    Source,
    definitions,
    fit_files,
    fit_issue,
    fit_tree,
    without_middle,
)
from agentless_mini.chain.lexical import Mentions
from agentless_mini.domain import Issue, Message, Role, ShownFile

NOTHING = Mentions((), (), frozenset())
GAUGE = Gauge(0.25)
ISSUE = Issue("The colour of the frame is wrong.")

FUNCTION = '''
@decorated
def function_{n}(value):
    """Do number {n}."""
    first = value + {n}
    second = first * 2
    third = second - 1
    return third
'''
MODULE = (
    "import os\n"
    + "".join(FUNCTION.format(n=n) for n in range(60))
    + ("\n\nclass Box:\n    kind = 1\n\n    def special_case(self):\n" + "        pass\n" * 12)
)


def shown_text(file: ShownFile) -> str:
    return "".join(excerpt.text for excerpt in file.excerpts)


def cost(fitted: Fitted, gauge: Gauge = GAUGE) -> int:
    return sum(gauge.tokens(shown_text(file)) for file in fitted.files)


def test_a_gauge_corrects_itself_by_the_servers_count() -> None:
    assert Gauge(0.3).of([Message(Role.SYSTEM, "a" * 4), Message(Role.USER, "é")]) == 3
    assert Gauge(0.3).corrected(estimated=300, counted=400).tokens_per_byte > 0.4
    assert Gauge(0.3).corrected(estimated=300, counted=150).tokens_per_byte < 0.16
    assert Gauge(0.9).corrected(estimated=1, counted=100).tokens_per_byte == 1.0


def test_a_tree_that_fits_is_shown_whole_and_one_that_does_not_is_cut_after_the_likeliest() -> None:
    ranked = ("z.py", "a.py", "m.py")
    assert fit_tree(ranked, 100, GAUGE) == ("a.py", "m.py", "z.py")
    assert fit_tree(ranked, 4, GAUGE) == ("a.py", "z.py")
    assert fit_tree(ranked, 0, GAUGE) == ()


def test_what_fits_is_shown_whole_and_in_the_given_order() -> None:
    fitted = fit_files([Source("b.py", "b = 1\n"), Source("a.py", "a = 1\n")], ISSUE, NOTHING, 1000, GAUGE, {})
    assert [(file.path, file.whole, shown_text(file)) for file in fitted.files] == [
        ("b.py", True, "b = 1\n"),
        ("a.py", True, "a = 1\n"),
    ]
    assert fitted.left_out == fitted.windowed == ()


def test_a_file_that_needs_more_than_its_share_is_cut_before_another_is_left_out() -> None:
    sources = [Source(f"{n}.py", f"x{n} = 1\n" * 350) for n in range(4)]
    fitted = fit_files(sources, ISSUE, NOTHING, 1400, GAUGE, {})
    assert [file.path for file in fitted.files] == ["0.py", "1.py", "2.py", "3.py"]
    assert fitted.windowed == ("0.py", "1.py", "2.py", "3.py")
    shares = [len(shown_text(file)) for file in fitted.files]
    assert max(shares) == shares[0]
    assert min(shares) > 300
    assert cost(fitted) > 1100


def test_a_file_whose_share_is_too_small_for_any_part_is_left_out() -> None:
    sources = [Source(f"{n}.py", f"x{n} = 1\n" * 300) for n in range(4)]
    fitted = fit_files(sources, ISSUE, NOTHING, 450, GAUGE, {})
    assert [file.path for file in fitted.files] == ["0.py", "1.py"]
    assert fitted.left_out == ("2.py", "3.py")


def test_the_room_goes_to_the_files_whose_functions_are_most_alike_to_the_issue() -> None:
    issue = Issue("The gauge is wrong\n\nThe gauge shows nothing since the last release.")
    about = "".join(f"\ndef gauge_{n}(value):\n    return gauge(value + {n})\n" for n in range(60))
    other = "".join(f"\ndef frame_{n}(value):\n    return value + {n}\n" for n in range(60))
    fitted = fit_files([Source("a.py", other), Source("b.py", about)], issue, NOTHING, 600, GAUGE, {})
    first, second = (len(shown_text(file)) for file in fitted.files)
    assert second > 2 * first


def test_what_a_whole_file_does_not_need_is_for_the_others() -> None:
    long, short = Source("m.py", MODULE), Source("n.py", "y = 1\n")
    alone = fit_files([long], ISSUE, NOTHING, 1000, GAUGE, {})
    beside = fit_files([short, long], ISSUE, NOTHING, 1000, GAUGE, {})
    assert [file.whole for file in beside.files] == [True, False]
    assert len(shown_text(beside.files[1])) > 0.9 * len(shown_text(alone.files[0]))


def test_a_file_that_does_not_fit_alone_is_shown_around_what_the_issue_names() -> None:
    named = Mentions((), (("m.py", 200),), frozenset({"function_7", "special_case"}))
    fitted = fit_files([Source("m.py", MODULE), Source("n.py", "y = 1\n")], ISSUE, named, 500, GAUGE, {})
    text = shown_text(fitted.files[0])
    assert "def function_7(" in text
    assert "@decorated\ndef function_7(" in text
    assert "def special_case(" in text
    assert MODULE.split("\n")[199] in text
    assert not fitted.files[0].whole
    assert fitted.windowed == ("m.py",)
    assert fitted.left_out == ()


def test_the_functions_most_alike_to_the_issue_are_shown_and_others_in_outline() -> None:
    issue = Issue("Twelve fails\n\nThe computation of number 12 is wrong: see function_12.")
    (file,) = fit_files([Source("m.py", MODULE)], issue, NOTHING, 500, GAUGE, {}).files
    assert "def function_12(value):" in shown_text(file)
    outline = {one.first: one.text for one in file.outline}
    rows = MODULE.split("\n")
    for first, text in outline.items():
        assert text.startswith("def function_")
        assert text.endswith("(value):  # Do number " + text[len("def function_") : text.index("(")] + ".\n")
        assert rows[first - 1] == "@decorated"
    assert len(outline) > 3
    covered = {one.first + row for one in file.excerpts for row in range(one.text.count("\n"))}
    assert covered.isdisjoint(outline)
    assert file.lines == MODULE.count("\n")


def test_a_part_that_another_prompt_shows_is_shown_again_where_it_suits_the_share() -> None:
    source, other = Source("m.py", MODULE), Source("n.py", MODULE)
    (part,) = fit_files([source], ISSUE, NOTHING, 600, GAUGE, {}).files
    again = fit_files([source], ISSUE, NOTHING, 700, GAUGE, {"m.py": part})
    assert again.files == (part,)
    assert fit_files([source], ISSUE, NOTHING, 1200, GAUGE, {"m.py": part}).files != (part,)
    assert fit_files([source], ISSUE, NOTHING, 500, GAUGE, {"m.py": part}).files != (part,)
    beside = fit_files([source, other], ISSUE, NOTHING, 900, GAUGE, {"m.py": part})
    assert beside.files[0] == part
    assert cost(beside) <= 900


def test_a_definition_larger_than_the_room_is_shown_around_its_heaviest_line() -> None:
    body = "".join(f"    step_{n} = {n}\n" for n in range(400))
    source = Source("m.py", f"def long():\n{body}")
    fitted = fit_files([source], ISSUE, Mentions((), (("m.py", 300),), frozenset()), 300, GAUGE, {})
    (excerpt,) = fitted.files[0].excerpts
    assert excerpt.first < 300 < excerpt.first + excerpt.text.count("\n")


def test_a_file_that_is_no_python_is_cut_into_runs_of_lines() -> None:
    text = "def (:\n" + "".join(f"line {n}\n" for n in range(500))
    fitted = fit_files([Source("m.txt", text)], ISSUE, Mentions((), (("m.txt", 250),), frozenset()), 300, GAUGE, {})
    assert "line 248\n" in shown_text(fitted.files[0])


def test_no_window_at_all_where_there_is_room_for_none() -> None:
    assert fit_files([Source("m.py", MODULE)], ISSUE, NOTHING, 20, GAUGE, {}).files == ()


@given(
    st.lists(st.text(alphabet="ab \n:", max_size=400), min_size=1, max_size=4),
    st.integers(0, 400),
    st.sampled_from([0.1, 0.3, 1.0]),
)
def test_what_is_shown_keeps_to_the_budget_and_to_the_file(texts: list[str], budget: int, ratio: float) -> None:
    gauge = Gauge(ratio)
    sources = [Source(f"{n}.py", text) for n, text in enumerate(texts)]
    fitted = fit_files(sources, ISSUE, NOTHING, budget, gauge, {})
    assert cost(fitted, gauge) <= budget
    by_path = {source.path: source.text for source in sources}
    for file in fitted.files:
        lines = (by_path[file.path] + "\n").split("\n")
        for excerpt in file.excerpts:
            here = excerpt.text.split("\n")[:-1]
            assert lines[excerpt.first - 1 : excerpt.first - 1 + len(here)] == here


def test_of_a_long_issue_two_thirds_are_its_start_and_one_its_end() -> None:
    text = "".join(f"{n:05}" for n in range(600))  # 3,000 characters, of which a fifth fits
    issue = Issue(text, "issue.md")
    cut = fit_issue(issue, GAUGE.tokens(text) // 5, GAUGE)
    head, said, tail = cut.text.split("\n")
    assert cut.source == "issue.md"
    assert fit_issue(issue, 10_000, GAUGE) is issue
    assert (len(head), len(tail)) == (400, 200)
    assert text.startswith(head)
    assert text.endswith(tail)
    assert said == "[... 2400 characters of the issue are not shown ...]"


@pytest.mark.parametrize(
    ("letters", "shown"),
    [
        (10, "0123456789"),
        (9, "0123\n[... 2 characters are not shown ...]\n6789"),
        (4, "01\n[... 6 characters are not shown ...]\n89"),
        (1, "\n[... 10 characters are not shown ...]\n"),
    ],
)
def test_of_a_text_that_is_too_long_both_ends_are_shown(letters: int, shown: str) -> None:
    assert without_middle("0123456789", letters) == shown


def test_a_long_literal_is_cut_in_linear_time() -> None:
    def seconds(lines: int) -> float:
        text = "DATA = {\n" + "".join(f'    "k{n}": {n},\n' for n in range(lines)) + "}\n"
        began = time.process_time()
        fitted = fit_files([Source("m.py", text)], ISSUE, NOTHING, lines * 2, GAUGE, {})
        spent = time.process_time() - began
        assert fitted.windowed == ("m.py",)
        return spent

    assert seconds(80_000) < 24 * max(seconds(10_000), 0.02)


def test_a_file_is_weighed_once_for_all_rounds_of_a_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []

    def found(source: Source) -> tuple[()]:
        parsed.append(source.text)
        return ()

    monkeypatch.setattr("agentless_mini.chain.context.definitions", found)
    source = Source("m.py", MODULE + "# once\n")
    for budget in (300, 400, 500):
        assert fit_files([source], ISSUE, NOTHING, budget, GAUGE, {}).windowed == ("m.py",)
    assert parsed == [source.text]


@pytest.mark.parametrize(
    ("path", "text"),
    [("m.txt", "def f():\n    pass\n"), ("m.py", "x = 1\n" * 170_000), ("m.py", "def (:\n"), ("m.js", "f( {\n")],
)
def test_what_is_no_code_that_can_be_read_has_no_definitions(path: str, text: str) -> None:
    assert definitions(Source(path, text)) == ()


def test_an_outline_says_how_definitions_begin_and_what_their_docstrings_say_first() -> None:
    text = (
        "@one\n@two\nclass Box(Base, kind=1):\n"
        '    """Hold things.\n\n    More of it.\n    """\n\n'
        "    class Inner:\n        def deep(self): pass\n\n"
        "    async def put(self, thing, *, at=None): pass\n\n\n"
        f"def long({', '.join(f'argument_{n}' for n in range(30))}):\n    def inner(): pass\n"
    )
    found = definitions(Source("m.py", text))
    assert [(one.rows, one.name) for one in found] == [
        (range(12), "Box"),
        (range(8, 10), "Inner"),
        (range(11, 12), "put"),
        (range(14, 16), "long"),
    ]
    assert [one.line for one in found[:3]] == [
        "class Box(Base):  # Hold things.",
        "    class Inner:",
        "    async def put(self, thing, *, at=None):",
    ]
    assert found[3].line.endswith("argument_6, argumen ...")
    assert len(found[3].line) == 104


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        (
            "m.ts",
            "export class Box extends Base {\n  put(thing: string): void {\n    go();\n  }\n}\n\n"
            "function long(\n  a: number,\n): number {\n  return a;\n}\n",
            ["class Box extends Base", "    put(thing: string): void", "function long( a: number, ): number"],
        ),
        ("m.go", "package m\n\nfunc Add(a, b int) int {\n\treturn a + b\n}\n", ["func Add(a, b int) int"]),
        ("m.c", "int add(int a,\n        int b)\n{\n    return a;\n}\n", ["int add(int a, int b)"]),
    ],
)
def test_definitions_of_other_languages_are_found_where_a_grammar_is_there(
    path: str, text: str, expected: list[str]
) -> None:
    assert [one.line for one in definitions(Source(path, text))] == expected
