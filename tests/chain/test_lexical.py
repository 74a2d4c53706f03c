"""Paths, names and traceback frames of an issue; BM25."""

import time

import pytest

from agentless_mini.chain.lexical import (
    PathIndex,
    candidate_files,
    is_test_file,
    is_test_path,
    mentions,
    rank_files,
    survey,
    terms,
)
from agentless_mini.domain import FileKind, Issue, Snapshot, SourceFile


def text_file(path: str, text: str = "x = 1\n") -> SourceFile:
    return SourceFile(path, "100644", FileKind.TEXT, text.encode())


def snapshot(*files: SourceFile, name: str = "shop") -> Snapshot:
    return Snapshot(name, "c" * 40, "d" * 64, files)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("tests/x.py", True),
        ("pkg/tests/data.json", True),
        ("test/x.py", True),
        ("django/test/client.py", False),
        ("pkg/test_x.py", True),
        ("pkg/x_test.py", True),
        ("pkg/x_tests.py", True),
        ("pkg/tests.py", True),
        ("conftest.py", True),
        ("pkg/testing.py", False),
        ("pkg/contest.py", False),
        ("latest.py", False),
        ("test.py", True),
        ("pkg/test.py", False),
    ],
)
def test_test_files_are_told_by_their_names(path: str, expected: bool) -> None:
    assert is_test_path(path) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def test_total():\n    assert total([]) == 0\n", True),
        ("async def test_total(): ...\n", True),
        ("class Totals(unittest.TestCase):\n    def test_total(self): ...\n", True),
        ("class test(Command):\n    def test_suite(self): ...\n", False),  # as setuptools.command.test
        ("def run_tests(): ...\n", False),
    ],
)
def test_a_test_py_in_a_package_is_told_by_what_it_defines(text: str, expected: bool) -> None:
    assert is_test_file(text_file("pkg/test.py", text)) is expected
    assert is_test_file(text_file("pkg/testing.py", text)) is False
    assert is_test_file(text_file("test.py", "")) is True


def test_candidates_leave_out_tests_binaries_links_and_names_that_no_prompt_can_carry() -> None:
    files = (
        text_file("a.py"),
        text_file("tests/test_a.py"),
        text_file("bad\udce9.py"),
        text_file("new\nline.py"),
        SourceFile("logo.png", "100644", FileKind.BINARY),
        SourceFile("link.py", "120000", FileKind.SYMLINK),
    )
    assert [file.path for file in candidate_files(snapshot(*files))] == ["a.py"]


@pytest.mark.parametrize(
    "name",
    ["pytest", "my-testing-kit", "Hypothesis", "pytest-django", "test_tools", "nose2", "RobotFramework", "py.test"],
)
def test_a_test_tool_keeps_its_tests_as_candidates(name: str) -> None:
    files = (text_file("a.py"), text_file("testing/test_a.py"))
    assert len(candidate_files(snapshot(*files, name=name))) == 2


@pytest.mark.parametrize("name", ["latest", "contest", "attestation", "testimony", "protest-map", "greatest_hits", ""])
def test_a_word_that_only_holds_test_makes_no_test_tool(name: str) -> None:
    files = (text_file("a.py"), text_file("testing/test_a.py"))
    assert [file.path for file in candidate_files(snapshot(*files, name=name))] == ["a.py"]


class TestPathIndex:
    index = PathIndex(
        ["src/flask/app.py", "src/flask/cli.py", "docs/cli.py", "setup.py", "pkg/__init__.py", "b/__init__.py"]
    )

    @pytest.mark.parametrize(
        ("said", "found"),
        [
            ("src/flask/app.py", "src/flask/app.py"),
            ("./src/flask/app.py", "src/flask/app.py"),
            ("src\\flask\\app.py", "src/flask/app.py"),
            ("app.py", "src/flask/app.py"),
            ("flask/app.py", "src/flask/app.py"),
            ("/usr/lib/python3/site-packages/flask/app.py", "src/flask/app.py"),
            ("/home/me/project/setup.py", "setup.py"),
            ("cli.py", None),
            ("flask/cli.py", "src/flask/cli.py"),
            ("other/app.py", None),
            ("__init__.py", None),
            ("nothing.py", None),
            ("", None),
        ],
    )
    def test_finds_what_is_meant_or_nothing(self, said: str, found: str | None) -> None:
        assert self.index.find(said) == found


def test_names_that_many_files_have_are_looked_up_in_seconds() -> None:
    index = PathIndex(f"pkg{n}/mod{n}/__init__.py" for n in range(20_000))
    began = time.process_time()
    assert {index.find("other/__init__.py") for _ in range(20_000)} == {None}
    assert index.find("mod7/__init__.py") == "pkg7/mod7/__init__.py"
    assert time.process_time() - began < 5


def test_mentions_put_the_innermost_frame_first_then_paths_then_modules() -> None:
    issue = Issue(
        "Since `shop.cart.Cart.total` changed, see shop/views.py:40 and nothing/else.py.\n"
        'Traceback:\n  File "/srv/shop/views.py", line 12, in show\n  File "/srv/shop/tax.py", line 7, in rate\n'
        "shop.util.\n"
    )
    files = [text_file(f"shop/{name}.py") for name in ("cart", "views", "tax")] + [text_file("shop/util/__init__.py")]
    found = mentions(issue, files)
    assert found.paths == ("shop/tax.py", "shop/views.py", "shop/cart.py", "shop/util/__init__.py")
    assert found.lines == (("shop/tax.py", 7), ("shop/views.py", 12), ("shop/views.py", 40))


def test_mentions_take_words_that_look_like_code_for_identifiers() -> None:
    found = mentions(Issue("Calling run_all() with `limit` fails in HttpClient; the word plain and e.g. are none."), [])
    assert found.identifiers == {"run_all", "limit", "HttpClient"}


def test_terms_hold_identifiers_and_their_parts() -> None:
    assert terms("getHTTPResponse max_size") == [
        "gethttpresponse",
        "max_size",
        "get",
        "http",
        "response",
        "max",
        "size",
    ]


def test_the_file_that_shares_rare_words_with_the_issue_ranks_first() -> None:
    files = [
        text_file("a.py", "def common(): pass\n" * 20),
        text_file("b.py", "def common(): pass\ndef parse_interval(): pass\n"),
        text_file("c.py", "def common(): pass\n"),
    ]
    issue = Issue("common trouble with the interval of a parse")
    assert rank_files(issue, files, mentions(issue, files))[0] == "b.py"


def test_the_file_that_defines_a_named_function_ranks_before_files_that_only_use_it() -> None:
    files = [
        text_file("use.py", "split_all()\n" * 50),
        text_file("home.py", "def split_all():\n    pass\n" + "y = 1\n" * 300),
    ]
    issue = Issue("`split_all` is wrong")
    assert rank_files(issue, files, mentions(issue, files))[0] == "home.py"


def test_documents_rank_last_unless_they_are_named() -> None:
    files = [text_file("docs/guide.rst", "interval interval interval\n"), text_file("x.py", "y = 1\n")]
    issue = Issue("interval")
    assert rank_files(issue, files, mentions(issue, files)) == ("x.py", "docs/guide.rst")
    named = Issue("interval in docs/guide.rst")
    assert rank_files(named, files, mentions(named, files))[0] == "docs/guide.rst"


def test_the_order_does_not_depend_on_the_order_of_files() -> None:
    files = [text_file(f"{name}.py") for name in "abc"]
    issue = Issue("nothing in common")
    forward = rank_files(issue, files, mentions(issue, files))
    assert forward == rank_files(issue, files[::-1], mentions(issue, files)) == ("a.py", "b.py", "c.py")


def test_a_survey_of_a_tree_without_text_is_empty() -> None:
    assert survey(Issue("x"), snapshot()).ranked == ()


def test_an_issue_of_a_megabyte_is_read_in_linear_time() -> None:
    text = "a/" * 200_000 + "a." * 200_000 + "`" * 100_000 + 'File "' * 50_000
    assert survey(Issue(text), snapshot(text_file("a.py"))).ranked == ("a.py",)
