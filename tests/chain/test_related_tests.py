"""Related tests are found through imports and names, in an order that does not depend on anything but the tree."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.chain.import_graph import Import, attributes_of, imports_of
from agentless_mini.chain.related_tests import MOST_TOGETHER, likeness, related_tests, subject_of
from agentless_mini.domain import FileKind, Issue, PastCommit, Runner, Snapshot, SourceFile

TEST = "def test_it():\n    pass\n"
SILENT = Issue("")


def tree(**texts: str | bytes) -> Snapshot:
    """Make a tree of Python files: `a__b` stands for a/b.py, `a__` for a/__init__.py."""
    named = {
        (name.replace("__", "/") + ("__init__" if name.endswith("__") else "")) + ".py": texts[name] for name in texts
    }
    data = {path: text.encode() if isinstance(text, str) else text for path, text in named.items()}
    files = tuple(SourceFile(path, "100644", FileKind.TEXT, data[path]) for path in sorted(data))
    return Snapshot("shop", "c" * 40, "d" * 64, files)


def related(snapshot: Snapshot, *touched: str) -> list[str]:
    return [path.removeprefix("tests/test_").removesuffix(".py") for path in related_tests(snapshot, touched, SILENT)]


@pytest.mark.parametrize(
    "line",
    [
        "import shop.cart",
        "import os, shop.cart as c",
        "from shop import cart",
        "from shop import (tax,  # (both)\n    cart as c,\n)",
        "from shop import tax, \\\n    cart",
        "from shop.cart import total",
        "def late():\n    from shop.cart import *",
        "    patched = mock.patch('shop.cart.total')",
        "module = import_module('shop.cart')",
        "from shop import total",
        "import shop\nshop.total([])",
        "import shop as s\nx = s.cart.total",
        "from shop import prices\nprices.total",
        "try:\n    import shop.cart\nexcept ImportError: this does not parse(",
    ],
)
def test_a_file_that_uses_the_touched_one_is_related(line: str) -> None:
    snapshot = tree(
        shop__="from .prices import *\nfrom .tax import rate\n",
        shop__prices="from shop.cart import total\nfrom .nowhere import nothing\n",
        shop__cart="def total(prices): ...\n",
        shop__tax="rate = 1\n",
        tests__test_a=f"{line}\n{TEST}",
        tests__test_b=f"import os\n{TEST}",
    )
    assert related(snapshot, "shop/cart.py") == ["a"]


@pytest.mark.parametrize(
    "line",
    [
        "import shop_cart",
        "import cart",  # somewhere in a folder of scripts, but not in that of the test
        "from ....shop import cart",
        "from shop import tax",
        "import shop\nshop.rate",
        "text = 'cart'",
        "text = 'shop'",
        "x = 'os.path'",
        "# from shop import cart",
    ],
)
def test_a_file_that_does_not_is_not(line: str) -> None:
    snapshot = tree(
        shop__="from .tax import rate\n",
        shop__cart="def total(prices): ...\n",
        shop__tax="rate = 1\n",
        scripts__cart="",
        tests__test_a=f"{line}\n{TEST}",
    )
    assert related(snapshot, "shop/cart.py", "scripts/cart.py") == []


@pytest.mark.parametrize("root", ["src/", "lib/", "python/", "packages/one/src/", ""])
@pytest.mark.parametrize("package", [("shop/__init__.py",), ()])
def test_the_folder_that_packages_lie_in_does_not_matter(root: str, package: tuple[str, ...]) -> None:
    files = {f"{root}shop/cart.py": "", "tests/test_a.py": f"import shop.cart\n{TEST}"} | {
        f"{root}{path}": "" for path in package
    }
    snapshot = Snapshot(
        "shop", "", "", tuple(SourceFile(path, "100644", FileKind.TEXT, files[path].encode()) for path in sorted(files))
    )
    assert related(snapshot, f"{root}shop/cart.py") == ["a"]


def test_a_file_called_test_holds_tests_at_the_top_and_in_a_package() -> None:
    used = f"from shop import cart\n{TEST}"
    snapshot = tree(shop__="", shop__cart="", shop__test=used, shop__tests=used, test=used, shop__command__test="x = 1")
    assert set(related_tests(snapshot, ["shop/cart.py"], SILENT)) == {"shop/test.py", "shop/tests.py", "test.py"}


def test_the_nearer_a_test_the_earlier_it_comes() -> None:
    snapshot = tree(
        shop__="",
        shop__cart="",
        shop__till="import shop.cart",
        shop__door="import shop.till",
        shop__street="import shop.door",
        shop__town="import shop.street",
        tests__test_a=f"import shop.town\n{TEST}",  # too far
        tests__test_b=f"import shop.street\n{TEST}",
        tests__test_c=f"import shop.door\n{TEST}",
        tests__test_d=f"import shop.till\n{TEST}",
        tests__test_e=f"import shop.cart\n{TEST}",
        tests__test_f=f"import shop.cart, shop.till, shop.door\n{TEST}",  # about more than the cart
        tests__test_cart=f"import shop.cart\n{TEST}",
    )
    assert related(snapshot, "shop/cart.py") == ["cart", "e", "f", "d", "c", "b"]


def test_what_a_conftest_uses_the_tests_around_it_use() -> None:
    snapshot = tree(shop__cart="", tests__conftest="import shop.cart", tests__deep__test_a=TEST, other__test_b=TEST)
    assert related_tests(snapshot, ["shop/cart.py"], SILENT) == ("tests/deep/test_a.py",)


def test_users_of_a_package_are_related_to_what_it_runs_first() -> None:
    snapshot = tree(shop__="", shop__cart="", tests__test_a=f"from shop.cart import x\n{TEST}", tests__test_b=TEST)
    assert related(snapshot, "shop/__init__.py") == ["a"]


def test_a_module_beside_the_test_is_meant_before_one_elsewhere() -> None:
    snapshot = tree(
        one__tools="", one__test_a=f"import tools\n{TEST}", two__tools="", two__test_b=f"import tools\n{TEST}"
    )
    assert related_tests(snapshot, ["two/tools.py"], SILENT)[0] == "two/test_b.py"
    assert "one/test_a.py" not in related_tests(snapshot, ["two/tools.py"], SILENT)


def test_names_that_are_handed_on_in_a_circle_end_somewhere() -> None:
    snapshot = tree(
        shop__="from .a import x",
        shop__a="from .b import x",
        shop__b="from shop.a import x",
        tests__test_c=f"from shop import x, y\n{TEST}",
        tests__test_d="from .test_d import x\n" + TEST,
    )
    assert related(snapshot, "shop/b.py") == ["c"]
    assert related(snapshot, "tests/test_d.py") == ["d", "c"]


def test_what_was_changed_together_before_is_related() -> None:
    snapshot = tree(shop__cart="", tests__test_a=TEST, tests__test_b=TEST, tests__test_c=TEST, tests__test_d=TEST)
    often = PastCommit("", ("shop/cart.py", "tests/test_b.py"))
    seldom = PastCommit("", ("shop/cart.py", "tests/test_a.py", "gone.py"))
    other = PastCommit("", ("shop/tax.py", "tests/test_c.py"))
    huge = PastCommit("", ("shop/cart.py", "tests/test_d.py", *(f"{n}.py" for n in range(MOST_TOGETHER))))
    assert related(replace(snapshot, history=(often, seldom, other, huge, often)), "shop/cart.py") == ["b", "a"]


def test_the_words_of_the_issue_relate_a_test_and_move_one_that_is_related_anyway() -> None:
    rounding = "def test_rounding(): assert round_half_even(2.5) == 2\n"
    issue, others = Issue("round_half_even is wrong for 2.5"), {f"tests__test_{n}": TEST for n in "cd"}
    snapshot = tree(shop__cart="", tests__test_a=f"import shop.cart\n{TEST}", tests__test_b=rounding, **others)
    assert set(related_tests(snapshot, ["shop/cart.py"], issue)) == {"tests/test_a.py", "tests/test_b.py"}
    both = {"tests__test_a": f"import shop.cart\n{TEST}", "tests__test_b": f"import shop.cart\n{rounding}"}
    snapshot = tree(shop__cart="", **both, **others)
    assert related_tests(snapshot, ["shop/cart.py"], SILENT)[0] == "tests/test_a.py"
    assert related_tests(snapshot, ["shop/cart.py"], issue)[0] == "tests/test_b.py"


def test_the_tests_of_another_language_are_found_for_a_runner_that_runs_them() -> None:
    texts = {
        "lib/cart.js": "export const total = 1",
        "lib/tax.js": "",
        "test/a.test.js": "import { total } from '../lib/cart.js'\nit('x', () => {})",
        "test/b.test.js": "import '../lib/tax.js'\nit('x', () => {})",
        "test/cart.spec.js": "it('x', () => {})",
        "test/help.js": "import '../lib/cart.js'",
        "test_cart.py": f"import cart\n{TEST}",
    }
    files = tuple(SourceFile(path, "100644", FileKind.TEXT, text.encode()) for path, text in texts.items())
    snapshot = Snapshot("shop", "", "", files)
    found = related_tests(snapshot, ["lib/cart.js"], SILENT, Runner.COMMAND)
    assert set(found) == {"test/cart.spec.js", "test_cart.py", "test/a.test.js"}
    assert related_tests(snapshot, ["lib/cart.js"], SILENT) == ("test_cart.py",)


def test_what_holds_no_test_is_not_run() -> None:
    snapshot = tree(
        shop__cart="",
        tests__test_data="import shop.cart",
        tests__cart="import shop.cart\n" + TEST,
        shop__test="import shop.cart\nclass test(Command):\n    def test_suite(self): ...\n",
        tests__test_case="import shop.cart, unittest\nclass A(unittest.TestCase): ...",
    )
    assert related(snapshot, "shop/cart.py") == ["case"]


def test_files_that_cannot_be_read_as_text_are_read_as_far_as_they_can() -> None:
    snapshot = tree(shop__cart=b"\xff\xfe", tests__test_a=b"# \xe9\nimport shop.cart\n" + TEST.encode())
    link = SourceFile("shop/link.py", "120000", FileKind.SYMLINK)
    files = (*snapshot.files, link)
    assert related(Snapshot("shop", "", "", files), "shop/cart.py") == ["a"]


@pytest.mark.parametrize(
    ("test", "touched"),
    [
        ("tests/test_cart.py", "shop/cart.py"),
        ("tests/cart_test.py", "shop/_cart.py"),
        ("tests/test_cart_total.py", "shop/cart.py"),
        ("tests/cart/tests.py", "shop/cart/__init__.py"),
        ("tests/cart_tests/tests.py", "shop/cart.py"),
        ("tests/test_cart.py", "templates/cart.html"),
        ("shop/tests/test_any.py", "shop/cart.py"),
        ("tests/test_main.py", "shop/main/__main__.py"),
    ],
)
def test_a_likeness_of_names_is_a_relation(test: str, touched: str) -> None:
    files = (
        SourceFile("shop/cart.py", "100644", FileKind.TEXT),
        SourceFile(test, "100644", FileKind.TEXT, TEST.encode()),
    )
    snapshot = Snapshot("shop", "", "", tuple(sorted(files, key=lambda file: file.path)))
    assert related_tests(snapshot, [touched], SILENT) == (test,)


@pytest.mark.parametrize(
    ("test", "touched"),
    [
        ("src/cart.spec.ts", "src/cart.ts"),
        ("cart_test.go", "cart.go"),
        ("src/test/java/CartTotalTest.java", "src/main/java/CartTotal.java"),
        ("spec/cart_spec.rb", "lib/cart.rb"),
    ],
)
def test_the_names_of_tests_in_other_languages_are_understood(test: str, touched: str) -> None:
    assert likeness(test, [touched]) >= likeness("tests/test_cart.py", ["shop/cart.py"]) > 0


def test_the_same_name_is_more_than_a_like_one_and_beside_it_most() -> None:
    touched = ["shop/food/cart.py"]
    tests = ["shop/food/tests/test_cart.py", "tests/test_cart.py", "tests/test_cart_total.py", "tests/test_tax.py"]
    alike = [likeness(test, touched) for test in tests]
    assert alike == sorted(alike, reverse=True)
    assert len(set(alike)) == len(tests)
    assert alike[-1] == likeness("tests/test_cart.py", []) == 0.0


def test_a_name_that_says_nothing_is_like_none() -> None:
    assert {subject_of(path) for path in ("tests.py", "tests/__init__.py", "__init__.py")} == {""}
    assert subject_of("a/_Cart_.py") == "cart"
    assert likeness("other/tests.py", ["tests.py"]) == 0.0
    assert likeness("tests/test_a.py", ["---.py"]) == 0.0


def test_statements_are_read_as_python_reads_them() -> None:
    text = "import a.b as c, d; x = 1\nfrom .. import e\nfrom .f import (g, # h\n i as j\n)\n"
    text += "  from k import *\nimportant = 1\n"
    assert imports_of(text) == [
        Import(0, "a.b", "", "c"),
        Import(0, "d", "", "d"),
        Import(2, "", "e", "e"),
        Import(1, "f", "g", "g"),
        Import(1, "f", "i", "j"),
        Import(0, "k", "*", "*"),
    ]


def test_attributes_are_those_of_the_whole_name() -> None:
    text = "c.total(x) + a.b.rate; dc.total; x.c.total; c. total"
    assert attributes_of(text, frozenset({"c", "a.b"})) == ["c.total", "a.b.rate"]
    assert attributes_of(text, frozenset()) == []


def test_a_list_of_names_that_is_never_closed_takes_no_longer() -> None:
    assert imports_of("from a import (\n" * 200_000)
    assert imports_of("from a import b" + ", b" * 100_000)
    assert imports_of("import " + "\\\n" * 100_000) == []
    assert not imports_of(" " * 1_000_000 + "from")


pieces = st.sampled_from(
    ["import ", "from ", " as ", "shop", ".", "..", "cart", "(", ")", ",", "\n", "\\\n", "#", "*", "'", " ", "\0", "é"]
)


@given(st.lists(pieces, max_size=40).map("".join), st.lists(pieces, max_size=40).map("".join))
def test_any_text_is_a_file_of_some_tree(one: str, other: str) -> None:
    tests = {"tests__test_a": one + "\n" + TEST, "tests__test_b": other + "\n" + TEST}
    snapshot = tree(shop__=one, shop__cart=other, **tests)
    touched = ["shop/cart.py", "shop/__init__.py", "new.py"]
    found = related_tests(snapshot, touched, SILENT)
    assert found == related_tests(snapshot, touched[::-1], SILENT)
    assert set(found) <= {"tests/test_a.py", "tests/test_b.py"}


def test_tests_of_another_language_are_related_by_words_where_imports_tell_nothing() -> None:
    texts = {
        "src/lib.rs": "pub fn total() {}",
        "tests/adds.rs": "#[test]\nfn adds() {}",
        "tests/tax.rs": "#[test]\nfn total() {}",
        "tests/common/mod.rs": "pub fn nothing() {}",
    }
    entries = (SourceFile(path, "100644", FileKind.TEXT, text.encode()) for path, text in texts.items())
    snapshot = Snapshot("shop", "c" * 40, "d" * 64, tuple(entries))
    assert related_tests(snapshot, ["src/lib.rs"], Issue("the total"), Runner.CARGO)[0] == "tests/tax.rs"
    assert related_tests(snapshot, ["src/lib.rs"], SILENT, Runner.CARGO) == ("tests/adds.rs", "tests/tax.rs")
    assert related_tests(snapshot, ["src/lib.rs"], SILENT) == ()
