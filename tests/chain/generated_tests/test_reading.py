"""Reading tests out of answers: the block that counts, normal forms, names, and hostile text."""

import ast
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.chain.generated_tests import MOST_FENCES, holds_test, read_test
from agentless_mini.domain import Case, Completion, FileKind, Finish, Origin, Reason, Rejected, Runner, Snapshot
from agentless_mini.domain import SourceFile as File
from agentless_mini.edits.paths import TakenNames

TEST = "from shop import total\n\n\ndef test_total():\n    assert total([1, 2]) == 3\n"
TEST_CASE = (
    "import unittest\n\n\nclass Totals(unittest.TestCase):\n    def test_it(self):\n        self.assertTrue(False)\n"
)
TAKEN = TakenNames(["tests/test_cart.py"])


def answer(text: str, finish: Finish = Finish.STOP) -> Completion:
    return Completion(0, text, finish)


def fenced(code: str, info: str = "python") -> str:
    return f"```{info}\n{code}```\n"


def case(text: str, folder: str = "tests", taken: TakenNames = TAKEN, runner: Runner = Runner.PYTEST) -> Case:
    read = read_test(answer(text), folder, taken, runner)
    assert isinstance(read, Case), read
    return read


def reason(text: str, runner: Runner = Runner.PYTEST) -> Reason:
    read = read_test(answer(text), "tests", TAKEN, runner)
    assert isinstance(read, Rejected)
    assert read.detail.isprintable()
    return read.reason


def data(text: str) -> str:
    return (case(text).data or b"").decode()


def test_a_test_lies_beside_the_example_under_a_name_of_its_own() -> None:
    read = case(f"The sum is wrong.\n\n{fenced(TEST)}")
    assert read.path.startswith("tests/test_amini_")
    assert read == Case(read.path, Origin.GENERATED, read.path, TEST.encode(), votes=1)


def test_at_the_top_of_the_tree_there_is_no_folder() -> None:
    assert case(fenced(TEST), folder="").path.count("/") == 0


@pytest.mark.parametrize(
    "other",
    [
        TEST.replace("assert", "# sum it up\n    assert"),
        '"""Totals."""\n' + TEST,
        TEST.replace("():\n", '():\n    """Sum up."""\n'),
        TEST.replace("[1, 2]", "[\n        1,\n        2,\n    ]").replace("== 3", "==  (3)"),
    ],
)
def test_comments_docstrings_and_formatting_make_no_other_test(other: str) -> None:
    assert other != TEST
    assert case(fenced(other)).id == case(fenced(TEST)).id
    assert data(fenced(other)) == other


def test_another_assertion_makes_another_test() -> None:
    assert case(fenced(TEST.replace("3", "4"))).id != case(fenced(TEST)).id


def test_a_docstring_that_is_all_of_a_function_is_no_syntax_error_of_ours() -> None:
    assert case(fenced('def test_a():\n    """Nothing."""\n')).id == case(fenced("def test_a():\n    pass\n")).id


@pytest.mark.parametrize(
    "text",
    [
        fenced("def test_draft():\n    assert False\n") + fenced(TEST),
        fenced(TEST) + "Run it with\n" + fenced("pytest tests/\n", "bash"),
        fenced(TEST) + "The library has\n" + fenced("def total(prices):\n    return sum(prices)\n"),
        fenced(TEST) + fenced("def test_broken(:\n"),
        "```python\n" + TEST,
        "~~~ Python title=x\n" + TEST + "~~~~\nDone.",
        f"<think>{fenced('def test_draft(): pass')}</think>\n{fenced(TEST)}",
        f"<solution>\n{fenced(TEST)}</solution>",
        "- here:\n\n" + "".join(f"  {line}" for line in fenced(TEST).splitlines(True)),
        TEST,
        fenced(TEST).replace("\n", "\r\n"),
    ],
)
def test_the_last_block_that_parses_and_holds_a_test_counts(text: str) -> None:
    assert case(text).id == case(fenced(TEST)).id


def test_fences_within_a_docstring_end_nothing() -> None:
    quoting = 'TEXT = """\n```python\ntotal([])\n```\n"""\n\n' + TEST
    assert data(fenced(quoting)) == quoting


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I cannot write a test.", Reason.NO_TEST),
        ("", Reason.NO_TEST),
        ("```python\n```", Reason.NO_TEST),
        (fenced("x = 1\n"), Reason.NO_TEST),
        (fenced("def check():\n    assert False\n"), Reason.NO_TEST),
        (fenced("def test_a(:\n"), Reason.SYNTAX),
        (fenced("def test_a():\n    '\0'\n"), Reason.SYNTAX),
        (fenced("def test_a():\n    '\ud800'\n"), Reason.SYNTAX),
        (fenced("# coding: no-such\n" + TEST), Reason.SYNTAX),
        (fenced("def test_a():\n    return " + "(" * 5000 + ")" * 5000 + "\n"), Reason.SYNTAX),
        (f"<think>{fenced(TEST)}", Reason.TRUNCATED),
    ],
)
def test_what_is_no_test_is_rejected(text: str, expected: Reason) -> None:
    assert reason(text) is expected


def test_an_answer_that_was_cut_off_or_withheld_is_no_test() -> None:
    for finish, expected in ((Finish.LENGTH, Reason.TRUNCATED), (Finish.FILTER, Reason.WITHHELD)):
        read = read_test(answer(fenced(TEST), finish), "tests", TAKEN, Runner.PYTEST)
        assert isinstance(read, Rejected)
        assert read.reason is expected


@pytest.mark.parametrize("runner", [Runner.UNITTEST, Runner.DJANGO])
def test_unittest_finds_classes_alone(runner: Runner) -> None:
    assert reason(fenced(TEST), runner) is Reason.NO_TEST
    assert case(fenced(TEST_CASE), runner=runner).data == TEST_CASE.encode()
    assert holds_test(b"class T(Base):\n    async def test_it(self): ...\n", runner)
    assert not holds_test(b"class T:\n    def test_it(self): ...\n", runner)


def test_what_a_command_runs_is_whatever_may_fail() -> None:
    runner = Runner.COMMAND
    script = "from shop import total\n\nassert total([1, 2]) == 3\n"
    assert case(fenced(script), runner=runner).data == script.encode()
    assert reason(fenced("x = 1\n") + "Done", runner) is Reason.NO_TEST


def test_a_file_that_does_not_parse_holds_no_test() -> None:
    assert not holds_test(b"def test_a(:\n", Runner.PYTEST)


def test_a_name_that_the_tree_has_is_not_taken() -> None:
    first = case(fenced(TEST))
    taken = Snapshot("x", "", "", (File(first.path, "100644", FileKind.TEXT),), ("tests/build/",))
    second = case(fenced(TEST), taken=TakenNames.of(taken))
    assert second.path.startswith(first.path.removesuffix(".py"))
    assert second.path != first.path


def test_a_folder_that_cannot_hold_a_file_is_told() -> None:
    read = read_test(answer(fenced(TEST)), "tests", TakenNames(["tests"]), Runner.PYTEST)
    assert isinstance(read, Rejected)
    assert read.reason is Reason.BAD_PATH


def test_thousands_of_fences_are_no_work() -> None:
    assert reason("```\nx\n" * 20_000) is Reason.NO_TEST
    assert data("```\n" * 20_000 + "# a\n" + fenced(TEST)) == TEST
    assert reason(fenced(TEST) + "```\nx\n" * MOST_FENCES) is Reason.NO_TEST


def test_an_expression_too_deep_to_be_written_out_is_still_a_test() -> None:
    deep = "def test_a():\n    assert " + " + ".join(["1"] * 2000) + "\n"
    limit = sys.getrecursionlimit()  # other tests may have raised it
    sys.setrecursionlimit(1000)
    try:
        assert case(fenced(deep)).data == deep.encode()
    finally:
        sys.setrecursionlimit(limit)


@given(st.text(st.sampled_from("`~\n \tdef test_a():\nassertx=1\"'<>/think\r\0é\ud800"), max_size=200))
def test_any_text_is_read_into_a_test_or_a_reason(text: str) -> None:
    for said in (text, fenced(text), fenced(TEST) + text):
        read = read_test(answer(said), "tests", TAKEN, Runner.PYTEST)
        if isinstance(read, Case):
            assert read.path.startswith("tests/test_amini_")
            ast.parse(read.data or b"")
        else:
            assert read.detail.isprintable()


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=60))
def test_whatever_a_string_of_a_test_holds_is_kept(text: str) -> None:
    code = f"def test_a():\n    assert {text!r}\n"
    assert data(fenced(code)) == code


def test_a_fence_that_is_none_is_seen_in_a_moment() -> None:
    assert reason("```" + " " * 30_000 + "`") is Reason.NO_TEST


SCRIPT = "test('adds', () => { expect(1).toBe(2); });\n"


@pytest.mark.parametrize(
    ("runner", "info", "code", "example", "expected"),
    [
        (Runner.JEST, "js", SCRIPT, "", r"x/amini_\w{10}\.test\.js"),
        (Runner.JEST, "ts", SCRIPT, "x/cart.spec.ts", r"x/amini_\w{10}\.spec\.ts"),
        (Runner.NODE, "", SCRIPT, "x/test.mjs", r"x/amini_\w{10}\.test\.mjs"),
        (Runner.RSPEC, "ruby", "it('adds') { }\n", "x/cart_spec.rb", r"x/amini_\w{10}_spec\.rb"),
        (Runner.GO, "go", "package x\n\nfunc TestA(t *testing.T) {}\n", "x/cart_test.go", r"x/amini_\w{10}_test\.go"),
        (Runner.PHPUNIT, "php", "<?php class IssueTest { function testA() {} }\n", "", r"x/Amini\w{10}Test\.php"),
    ],
)
def test_a_test_of_another_language_is_named_as_its_runner_wants_it(
    runner: Runner, info: str, code: str, example: str, expected: str
) -> None:
    read = read_test(answer(fenced("no test\n", info) + fenced(code, info)), "x", TAKEN, runner, example=example)
    assert isinstance(read, Case), read
    assert re.fullmatch(expected, read.path)
    stem, data = read.path.rpartition("/")[2].partition(".")[0], (read.data or b"").decode()
    assert data == code.replace("IssueTest", stem).replace("TestA", f"TestA_{stem[6:16]}")


def test_another_language_has_blocks_of_its_own_and_names_that_are_free() -> None:
    assert reason(fenced(SCRIPT, "python"), Runner.JEST) is Reason.NO_TEST
    assert reason(SCRIPT, Runner.JEST) is Reason.NO_TEST
    taken = TakenNames(["x"])
    read = read_test(answer(fenced(SCRIPT, "js")), "x", taken, Runner.JEST)
    assert isinstance(read, Rejected)
