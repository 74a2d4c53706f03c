"""Paths, names and traceback frames of an issue; BM25."""

import time

import pytest

from agentless_mini.chain.file_roles import candidate_files, holds_tests, is_test_file, is_test_path, runs_here
from agentless_mini.chain.lexical import PathIndex, mentions, rank_files, stems, survey, terms
from agentless_mini.domain import FileKind, Issue, PastCommit, Runner, Snapshot, SourceFile


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
        ("src/cart.ts", False),
        ("src/testing/cart.js", False),
        ("latest.js", False),
    ],
)
def test_test_files_are_told_by_their_names(path: str, expected: bool) -> None:
    assert is_test_path(path) is expected


@pytest.mark.parametrize(
    ("path", "text", "helper"),
    [
        ("src/cart.test.ts", "describe.each([1])('x', () => {})", "src/cart.tests-helper.ts"),
        ("packages/a/__tests__/cart.spec.tsx", "it(`adds`, () => {})", "src/inspect.ts"),
        (
            "packages/a/test/cart.js",
            "const test = require('ava')\ntest('x', t => t.pass())",
            "packages/a/lib/test/cart.js",
        ),
        ("types/index.test-d.ts", "test('x', () => {})", "src/latest.js"),
        ("cart/cart_test.go", "func TestTotal(t *testing.T) {}", "test_helpers.go"),
        ("tests/cart.rs", "#[tokio::test]\nasync fn adds() {}", "src/contest.rs"),
        ("src/cart/tests.rs", "#[test]\nfn adds() {}", "src/testing.rs"),
        ("core/src/test/java/a/Carts.java", "@Test void adds() {}", "core/src/main/java/a/test/Cart.java"),
        ("core/CartTest.kt", "@ParameterizedTest fun adds() {}", "core/Latest.java"),
        ("Shop.Tests/CartTests.cs", "[Fact] public void Adds() {}", "Shop/Contest.cs"),
        ("spec/cart_spec.rb", "RSpec.describe Cart do", "lib/spec_runner.rb"),
        ("gems/a/test/test_cart.rb", "  def test_adds\n", "lib/a/test/case.rb"),
        ("tests/CartTest.php", "public function testAdds(): void {}", "src/Contest.php"),
        ("tests/basic.phpt", "--TEST--\nadds", "src/phpt.php"),
        ("src/test_cart.c", "int main(void) { return 0; }", "src/latest.c"),
        ("src/cart-test.cc", "TEST(Cart, Adds) {}", "src/testimony.cc"),
    ],
)
def test_the_tests_of_other_languages_are_told_by_names_and_what_they_hold(path: str, text: str, helper: str) -> None:
    assert holds_tests(text_file(path, text))
    assert not holds_tests(text_file(path, "x"))
    assert not holds_tests(text_file(helper, text))
    assert not is_test_path(helper)


def test_a_runner_of_python_runs_python_alone() -> None:
    assert [runs_here("a_test.go", runner) for runner in (Runner.COMMAND, Runner.PYTEST)] == [True, False]
    assert [runs_here("tests/gis_tests/a.py", runner) for runner in (Runner.DJANGO, Runner.PYTEST)] == [False, True]


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
    assert " ".join(terms("getHTTPResponse max_size")) == "gethttpresponse max_size get http response max size"


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
        text_file("a.py", "def total():\n    return split_all(split_all())\n"),
        text_file("home.py", "def split_all():\n    return total(split_all())\n"),
    ]
    issue = Issue("`split_all` is wrong")
    assert rank_files(issue, files, mentions(issue, files))[0] == "home.py"


def ranked(text: str, *files: SourceFile, history: tuple[PastCommit, ...] = ()) -> tuple[str, ...]:
    issue = Issue(text)
    return rank_files(issue, files, mentions(issue, files), history)


def test_documents_rank_last_the_named_ones_before_others() -> None:
    files = [text_file(f"docs/{name}.rst", "interval interval interval\n") for name in ("all", "guide")]
    files.append(text_file("x.py", "y = 1\n"))
    assert ranked("interval", *files) == ("x.py", "docs/all.rst", "docs/guide.rst")
    assert ranked("interval in docs/guide.rst", *files) == ("x.py", "docs/guide.rst", "docs/all.rst")


def test_a_named_file_gains_but_is_not_the_first_by_that_alone() -> None:
    def tax(text: str) -> SourceFile:
        return text_file("shop/tax.py", text)

    cart = text_file("shop/cart.py", "def discount(): return negative_total\n")
    issue = "The discount makes a negative total\nI have looked at shop/tax.py"
    assert ranked(issue, tax("y = 1\n"), cart)[0] == "shop/cart.py"
    assert ranked(issue, tax("discount = 1\n"), text_file("shop/rate.py", "discount = 1\n"))[0] == "shop/tax.py"


def test_the_init_of_a_package_gains_nothing_for_being_named() -> None:
    files = text_file("shop/__init__.py", "from shop import cart\n"), text_file("shop/cart.py", "interval = 1\n")
    assert ranked("interval\nSee shop/__init__.py", *files)[0] == "shop/cart.py"


def test_comments_of_issue_templates_are_no_text() -> None:
    files = text_file("a.py", "y = 1\n"), text_file("guide.py", "contributing = reproducible\n")
    text = "y breaks\n<!-- A reproducible example, see contributing in guide.py: `contributing` -->\n<!-- guide.py"
    assert ranked(text, *files)[0] == "a.py"
    assert mentions(Issue(text), files).paths == ()
    assert mentions(Issue(text), files).identifiers == frozenset()


@pytest.mark.parametrize("heading", ["### Environment", "**Matplotlib version**:", "INSTALLED VERSIONS", "Versions:"])
def test_sections_on_versions_say_nothing_of_the_fault(heading: str) -> None:
    files = text_file("a.py", "interval = 1\n"), text_file("compat.py", "numpy = scipy = linux = numpy + scipy\n")
    text = f"It breaks\n{heading}\nnumpy 1.2, scipy 1.3, linux, numpy and scipy\n"
    assert ranked(f"{text}### What is wrong\nthe interval\n", *files)[0] == "a.py"
    assert ranked(f"It breaks\n```\n{heading}\nnumpy scipy linux\n```\nthe interval", *files)[0] == "compat.py"


def test_the_title_counts_more_than_the_rest() -> None:
    files = text_file("a.py", "ribbon = 1\n"), text_file("b.py", "candle = 1\n"), text_file("c.py")
    assert ranked("The candle\nThe ribbon is well, the ribbon.", *files)[0] == "b.py"
    assert ranked("The ribbon\nThe candle is well, the candle.", *files)[0] == "a.py"


def test_words_that_differ_in_their_endings_are_one() -> None:
    assert stems("ordered ordering orderings migrateAll migrations") == [
        "order", "order", "order", "migr", "all", "migrateall", "migr",
    ]  # fmt: skip
    files = text_file("a.py", "y = 1\n"), text_file("b.py", "def validate(): pass\n")
    assert ranked("The validators", *files)[0] == "b.py"


def test_the_file_with_a_function_like_the_issue_ranks_before_one_that_has_the_words_here_and_there() -> None:
    def spread(*functions: str) -> str:
        return "".join(f"def f{n}():\n    return {words}\n" for n, words in enumerate(functions))

    files = (
        text_file("a.py", spread("ribbon", "candle", "lantern", "y", "y")),
        text_file("b.py", spread("ribbon, candle, lantern", "y", "y", "y", "y")),
    )
    assert ranked("lantern, candle and ribbon", *files)[0] == "b.py"


def test_what_earlier_commits_say_counts_for_the_files_that_they_changed() -> None:
    files = [text_file(f"{name}.py", "y = 1\n") for name in "abc"]
    history = (
        PastCommit("Repaired the ribbon of the candle", ("b.py", "gone.py")),
        PastCommit("Something else", ("a.py",)),
    )
    assert ranked("The ribbons burn", *files) == ("a.py", "b.py", "c.py")
    assert ranked("The ribbons burn", *files, history=history) == ("b.py", "a.py", "c.py")
    wide = PastCommit("Repaired the ribbon of the candle", ("a.py", "b.py", "c.py"))
    alone = PastCommit("Repaired the ribbon of the candle", ("c.py",))
    assert ranked("The ribbons burn", *files, history=(wide, alone))[0] == "c.py"


def test_examples_and_another_language_than_the_usual_come_behind() -> None:
    text = "interval = 1\n"
    files = [text_file(name, text) for name in ("docs/a.py", "b.js", "src/c.py", "src/d.pyx")]
    assert ranked("interval", *files) == ("src/c.py", "src/d.pyx", "b.js", "docs/a.py")
    files = [text_file(name, text) for name in ("build.py", "src/Cart.java", "src/Tax.java")]
    assert ranked("interval", *files) == ("src/Cart.java", "src/Tax.java", "build.py")


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


@pytest.mark.parametrize(
    ("path", "runner"),
    [
        ("src/cart.test.ts", Runner.JEST),
        ("lib/__tests__/cart.jsx", Runner.JEST),
        ("packages/a/test/cart.mjs", Runner.NODE),
        ("pkg/cart_test.go", Runner.GO),
        ("crates/a/tests/cart.rs", Runner.CARGO),
        ("src/test/java/shop/CartTest.java", Runner.MAVEN),
        ("spec/models/cart_spec.rb", Runner.RSPEC),
        ("tests/Unit/CartTest.php", Runner.PHPUNIT),
    ],
)
def test_a_test_of_another_language_is_told_by_its_path_and_run_by_its_runner(path: str, runner: Runner) -> None:
    assert is_test_path(path)
    assert runs_here(path, runner)
    assert not runs_here("src/cart.py", runner)
