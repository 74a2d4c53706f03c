"""Lists of files as models write them."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.chain.file_lists import read_paths
from agentless_mini.chain.lexical import PathIndex
from agentless_mini.chain.localize import named_in
from agentless_mini.domain import Completion, Finish, Reason, Rejected

PATHS = ["shop/cart.py", "shop/tax.py", "shop/views.py", "setup.py", "docs/notes on tax.md", "a/cli.py", "b/cli.py"]
PATHS += ["pages/[id].tsx", "Makefile", "pkg/__init__.py", "pkg/sub/__init__.py", "src/deep/a_b.py", "src/deep/c.py"]
TREE = PathIndex(PATHS)
PIECES = [
    *PATHS,
    "cart.py",
    "nothing.py",
    "C:\\",
    "/testbed/",
    "[",
    "]",
    "{",
    "}",
    '"path": ',
    '"',
    "'",
    "`",
    "**",
    "|",
]
PIECES += [", ", " and ", "\n", "\n\n", "- ", "1. ", "(2) ", "### ", "File: ", "<file>", "</file>", "](", ")", "```\n"]
PIECES += ["#L3", ":12", " - why", ".", "Final answer:"]


def read(text: str, most: int = 5, finish: Finish = Finish.STOP) -> tuple[str, ...] | Rejected:
    return read_paths(Completion(0, text, finish), TREE, most)


CART, TAX, VIEWS, SETUP = "shop/cart.py", "shop/tax.py", "shop/views.py", "setup.py"

# What models write -> the files that a person reads in it.
SHAPES: list[tuple[str, tuple[str, ...]]] = [
    # JSON, in fences and in prose, whole and nearly so
    ('["shop/cart.py", "shop/tax.py"]', (CART, TAX)),
    ('```json\n["shop/cart.py", "shop/tax.py"]\n```', (CART, TAX)),
    ('```json\n[\n  "shop/cart.py",\n  "shop/tax.py",\n]\n```', (CART, TAX)),
    ('```json\n{"files": ["shop/cart.py", "shop/tax.py"]}\n```', (CART, TAX)),
    ('{"files": "shop/cart.py, shop/tax.py", "reason": "shop/views.py calls them"}', (CART, TAX)),
    ('[{"path": "shop/cart.py", "reason": "shop/views.py"}, {"path": "shop/tax.py"}]', (CART, TAX)),
    ('{"files": [{"file": "shop/cart.py", "line": 3}, {"file": "/testbed/shop/tax.py"}]}', (CART, TAX)),
    ('{"result": {"files_to_edit": [{"file_path": "shop/cart.py"}]}}', (CART,)),
    ('{"shop/cart.py": "totals", "shop/tax.py": "rates"}', (CART, TAX)),
    ('{"path": "shop/cart.py"}\n{"path": "shop/tax.py"}', (CART, TAX)),
    ('{"thought": "not shop/views.py", "answer": ["shop/cart.py", "nothing.py", "shop/tax.py"]}', (CART, TAX)),
    ('The files are ["shop/cart.py", "shop/tax.py"], not shop/views.py.', (CART, TAX)),
    ('First I took ["shop/views.py"].\nNow it is ["shop/cart.py", "shop/tax.py"].', (CART, TAX)),
    ('[{"path": "shop/cart.py", "reason": "see shop/tax.py"},\n {"path": "shop/views.py",},]', (CART, VIEWS)),
    ("['shop/cart.py', 'shop/tax.py']", (CART, TAX)),
    ("files = ['shop/cart.py', 'shop/tax.py']", (CART, TAX)),
    ("```python\nfiles = [\n    'shop/cart.py',  # totals\n    'shop/tax.py',\n]\n```", (CART, TAX)),
    ("[{'path': 'shop/cart.py', 'why': 'totals'}, {'path': 'shop/tax.py', 'why': 'rates'}]", (CART, TAX)),
    ('In {the code} I found {"a": [1} so: {"files": ["shop/cart.py", "shop/tax.py"]} :-)', (CART, TAX)),
    ("```\n  shop/cart.py   \n12) **shop/tax.py**\n```", (CART, TAX)),
    ('```\n* `shop/cart.py`\n"shop/tax.py",\nshop/views.py#L12-L14\n```', (CART, TAX, VIEWS)),
    ("```\nshop/cart.py (most important)\nshop/tax.py:120-140\n```", (CART, TAX)),
    ("```\nshop/tax.py\n```\nNo:\n```\nshop/cart.py\n```\n```\nthanks\n```", (CART,)),
    ("```\nshop/tax.py", (TAX,)),
    # several on one line
    ("shop/cart.py, shop/tax.py", (CART, TAX)),
    ("```\nshop/cart.py, shop/tax.py and setup.py\n```", (CART, TAX, SETUP)),
    ("shop/cart.py; shop/tax.py", (CART, TAX)),
    ("shop/cart.py shop/tax.py", (CART, TAX)),
    ("shop/cart.py and shop/tax.py", (CART, TAX)),
    ("`shop/cart.py`, `shop/tax.py`, and `setup.py`.", (CART, TAX, SETUP)),
    ("shop/cart.py, nothing.py, shop/tax.py", (CART, TAX)),
    ("shop/cart.py (totals), shop/tax.py (rates)", (CART, TAX)),
    ("Files: shop/cart.py, shop/tax.py", (CART, TAX)),
    ("**Files to edit:** `shop/cart.py`, `shop/tax.py`", (CART, TAX)),
    ("The files to edit are: shop/cart.py, shop/tax.py.", (CART, TAX)),
    ("- shop/cart.py, shop/tax.py\n- setup.py", (CART, TAX, SETUP)),
    ("The fix needs `shop/cart.py`, `shop/tax.py` and `setup.py` to change.", (CART, TAX, SETUP)),
    ("I would change shop/cart.py and shop/tax.py for this.", (CART, TAX)),
    # one on each line, dressed
    ("(1) shop/cart.py\n(2) shop/tax.py", (CART, TAX)),
    ("[1] shop/cart.py\n[2] shop/tax.py", (CART, TAX)),
    ("### 1. shop/cart.py\nIt sums.\n\n### 2. shop/tax.py\nIt knows rates.", (CART, TAX)),
    ("### File 1: `shop/cart.py`\n### File 2: `shop/tax.py`", (CART, TAX)),
    ("## shop/cart.py\n## shop/tax.py", (CART, TAX)),
    ("# shop/cart.py", (CART,)),
    ("1: shop/cart.py\n2: shop/tax.py", (CART, TAX)),
    ("1 - shop/cart.py\n2 - shop/tax.py", (CART, TAX)),
    ("#1 shop/cart.py\n#2 shop/tax.py", (CART, TAX)),
    ("**1.** shop/cart.py\n**2.** shop/tax.py", (CART, TAX)),
    ("a) shop/cart.py\nb) shop/tax.py", (CART, TAX)),
    ("File: shop/cart.py\nReason: shop/views.py calls it", (CART,)),
    ("path: shop/cart.py\npath: shop/tax.py", (CART, TAX)),
    ("**File**: `shop/cart.py`\n**Why**: totals", (CART,)),
    ("**File:** `shop/cart.py`", (CART,)),
    ("- File path: shop/cart.py", (CART,)),
    ("files:\n  - path: shop/cart.py\n    reason: totals\n  - path: shop/tax.py\n", (CART, TAX)),
    ("Primary: shop/cart.py\nSecondary: shop/tax.py", (CART, TAX)),
    ("1. Totals\n   File: shop/cart.py\n   Line: 3\n2. Rates\n   File: shop/tax.py", (CART, TAX)),
    ("- [ ] shop/cart.py\n- [x] shop/tax.py", (CART, TAX)),
    ("-> shop/cart.py\n\u2192 shop/tax.py", (CART, TAX)),
    ("\U0001f4c4 shop/cart.py", (CART,)),
    (
        "- [shop/cart.py](shop/cart.py)\n- [shop/tax.py](https://git.example/o/shop/blob/main/shop/tax.py#L3)",
        (CART, TAX),
    ),
    ("[the cart](shop/cart.py), [the rates](shop/tax.py)", (CART, TAX)),
    ("https://git.example/o/shop/blob/main/shop/cart.py#L3-L9", (CART,)),
    (
        "| # | File | Reason |\n|---|---|---|\n| 1 | shop/cart.py | setup.py |\n| 2 | `shop/tax.py` | rates |",
        (CART, TAX),
    ),
    ("File | Why\n--- | ---\n`shop/cart.py` | totals\nshop/tax.py | rates", (CART, TAX)),
    ("**shop/cart.py**\n__shop/tax.py__\n*setup.py*", (CART, TAX, SETUP)),
    ("- **shop/cart.py**: as shop/views.py shows\n- **`shop/tax.py`** - rates", (CART, TAX)),
    ("1. **Totals** (`shop/cart.py`): it sums\n\n2. **Rates** - `shop/tax.py`", (CART, TAX)),
    ("shop/cart.py \u2014 totals\nshop/tax.py \u2013 rates", (CART, TAX)),
    ("shop/cart.py  # totals\nshop/tax.py  // rates", (CART, TAX)),
    ("shop/cart.py => totals\nshop/tax.py: rates", (CART, TAX)),
    ("shop/cart.py:12:5\nshop/tax.py::rate\nsetup.py#L3", (CART, TAX, SETUP)),
    ("shop/cart.py:12, shop/tax.py:7-9", (CART, TAX)),
    ("\u201cshop/cart.py\u201d and \u2018shop/tax.py\u2019", (CART, TAX)),
    ("<files>\n<file>shop/cart.py</file>\n<file>shop/tax.py</file>\n</files>", (CART, TAX)),
    ("<file>shop/cart.py</file><file>shop/tax.py</file>", (CART, TAX)),
    ("<item><path>shop/cart.py</path><why>shop/views.py</why></item>", (CART,)),
    ('<file path="shop/cart.py"/>\n<file path="shop/tax.py">rates</file>', (CART, TAX)),
    ("<ul><li>shop/cart.py</li><li><code>shop/tax.py</code></li></ul>", (CART, TAX)),
    # written from elsewhere
    ("/testbed/shop/cart.py\n/testbed/setup.py", (CART, SETUP)),
    ("a/shop/cart.py\nb/shop/tax.py", (CART, TAX)),
    ("--- a/shop/cart.py\n+++ b/shop/cart.py", (CART,)),
    ("my-shop/shop/cart.py\nmy-shop/setup.py", (CART, SETUP)),
    ("shop\\cart.py\n.\\shop\\tax.py\nC:\\work\\shop\\views.py:4", (CART, TAX, VIEWS)),
    ("cart.py, tax.py", (CART, TAX)),
    ("```shop/cart.py```", (CART,)),
    ("```\ndocs/notes on tax.md\nshop/cart.py\n```", ("docs/notes on tax.md", CART)),
    ("`docs/notes on tax.md`, `shop/cart.py`", ("docs/notes on tax.md", CART)),
    ("- docs/notes on tax.md\n- docs/notes on tax.md (again)\n- shop/cart.py", ("docs/notes on tax.md", CART)),
    ("- pages/[id].tsx\n- Makefile: the targets", ("pages/[id].tsx", "Makefile")),
    ("Makefile and pages/[id].tsx", ("Makefile", "pages/[id].tsx")),
    ("shop/cart.py\u2014totals\nshop/tax.py\uff1arates\n", (CART, TAX)),
    ("\u6587\u4ef6\uff1ashop/cart.py\u3001shop/tax.py\u3002", (CART, TAX)),
    ("src/shop/cart.py and src/shop/tax.py", (CART, TAX)),
    ("/testbed/docs/notes on tax.md: rates", ("docs/notes on tax.md",)),
    # where it ends, and what is said around it
    ("```\nshop/cart.py\n```\nI left out shop/tax.py and:\n- setup.py", (CART,)),
    ("```\nshop/views.py\n```\nBetter:\n```\nshop/cart.py\nshop/tax.py", (CART, TAX)),
    ("As shop/views.py:40 shows, `setup.py` is fine.\n\n1. shop/cart.py\n2. shop/tax.py", (CART, TAX)),
    ("shop/views.py only shows it, so:\n- shop/cart.py - it uses shop/tax.py", (CART,)),
    ("`setup.py` and `shop/views.py` are fine.\nFile: shop/cart.py", (CART,)),
    ("Looked at:\n- shop/views.py\n- setup.py\n\nFinal answer:\n- shop/cart.py", (CART,)),
    ("**Final list of files:** shop/cart.py\nThat was the final list:", (CART,)),
    ("The fault is in `shop/cart.py`.", (CART,)),
    ("### Analysis\nshop/views.py:40 raises.\n\n### Files\nshop/cart.py\nshop/tax.py", (CART, TAX)),
    ("First: shop/cart.py. Second: shop/tax.py.", (CART, TAX)),
    ("```\nshop/cart.py\nshop/tax.py\n```\n```python\n# shop/cart.py\ndef total():\n    return 0\n```", (CART, TAX)),
    ("```python\n# shop/cart.py\ndef total():\n    return 0\n```", (CART,)),
    ("```\nshop/cart.py\nfunction: total\nline: 10\n\nshop/tax.py\nclass: Rate\nline: 3\n```", (CART, TAX)),
    ("I saw shop/views.py.\n\nSo shop/cart.py must change: it is the one that sums.", (CART,)),
    (
        "I looked into setup.py.\n\nEdit `shop/cart.py` with the rates of\n`shop/tax.py` in it.\n\nGood luck!",
        (CART, TAX),
    ),
    # paths so deep that the last one alone would make what stands before it one with it
    *(
        (text, ("src/deep/a_b.py", "src/deep/c.py"))
        for text in (
            "src/deep/a_b.py, src/deep/c.py",
            "src/deep/a_b.py; src/deep/c.py",
            "- src/deep/a_b.py, src/deep/c.py",
            "\u6587\u4ef6\uff1asrc/deep/a_b.py\u3001src/deep/c.py",
            "\\boxed{src/deep/a_b.py, src/deep/c.py}",
            "src/deep/a\\_b.py\nsrc/deep/c.py",
        )
    ),
]


@pytest.mark.parametrize(("text", "expected"), SHAPES)
def test_a_list_is_read_as_a_person_reads_it(text: str, expected: tuple[str, ...]) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "nothing.py, other/cart.py",
        '["nothing.py", 3, null, {"path": 1}, ["x"]]',
        '{"files": []}',
        "cli.py is the one",
        "[1, 2]",
        "The total is wrong.",
        "| a | b |",
        "<file></file>",
        "[](x)",
        "``` ```",
        "C:",
        "://",
        "shop/",
        "shop",
    ],
)
def test_no_file_is_invented(text: str) -> None:
    assert isinstance(read(text), Rejected)


def test_brackets_are_looked_into_to_a_depth_and_paths_to_a_length() -> None:
    assert read('[1 [2 [3 [4 ["shop/cart.py"] 4] 3] 2] 1]') == (CART,)
    assert read('[1 [2 ["shop/cart.py", "shop/tax.py"] 2] 1]') == (CART, TAX)
    assert isinstance(read("a/" * 3000), Rejected)


@given(st.lists(st.sampled_from(PIECES), max_size=30))
def test_whatever_is_said_only_files_of_the_tree_come_of_it(pieces: list[str]) -> None:
    answer = read("".join(pieces))
    if not isinstance(answer, Rejected):
        assert set(answer) <= set(PATHS)
        assert 0 < len(answer) == len(set(answer)) <= 5


@pytest.mark.parametrize(
    "hostile",
    [
        "[" * 250_000,
        '{"a":' * 50_000,
        '["' * 100_000,
        "[[" * 1_250 + '"shop/cart.py"' + "]]" * 1_250,
        "[" * 12_500 + "]" * 12_500,
        "`" * 250_000,
        "<file>" * 37_500,
        "<a " * 75_000,
        "[x](" * 62_500,
        "(" * 250_000,
        "| " * 125_000,
        "- " * 125_000,
        "1. " * 75_000,
        "File: " * 37_500,
        "a/" * 125_000,
        "x/__init__.py " * 17_500,
        "\\" * 250_000,
        "```\n" * 62_500,
        "nothing.py, " * 20_000,
        '"' * 250_000,
        "\n" * 250_000,
        "final " * 37_500,
        "9" * 250_000,
        "[" + "9" * 250_000 + "]",
        "x" * 2_500_000,
        "shop/cart.py, " * 175_000,
        "- shop/cart.py\n" * 15_000,
        "**" * 125_000,
        "I saw shop/cart.py and more of it.\n" * 7_500,
        "".join(f"{n}\n" for n in range(25_000)),
        "".join(f"- it is {n} in a/b.py\n" for n in range(5_000)),
        ", " * 125_000,
        ("shop/cart.py" + " " * 4_750 + "^\n") * 50,
    ],
    ids=lambda text: text[:12],
)
def test_much_is_read_in_seconds(hostile: str) -> None:
    began = time.process_time()
    read(hostile)
    read(f"```\n{hostile}\n```")
    assert time.process_time() - began < 10


def test_paths_keep_their_order_once_each_up_to_the_limit() -> None:
    text = "```\nshop/tax.py\nshop/cart.py\nshop/tax.py\nsetup.py\n```"
    assert read(text) == ("shop/tax.py", "shop/cart.py", "setup.py")
    assert read(text, most=2) == ("shop/tax.py", "shop/cart.py")


def test_thoughts_are_no_answer() -> None:
    assert read("<think>\n```\nshop/tax.py\n```\n</think>\n```\nshop/cart.py\n```") == ("shop/cart.py",)


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [
        ("```\nshop/cart.py\n```", Finish.LENGTH, Reason.TRUNCATED),
        ("<think>shop/cart.py", Finish.STOP, Reason.TRUNCATED),
        ("", Finish.STOP, Reason.BAD_PATH),
        ("```\n../../etc/passwd\n```", Finish.STOP, Reason.BAD_PATH),
        ("I cannot tell.", Finish.STOP, Reason.BAD_PATH),
    ],
)
def test_an_answer_without_files_says_why(text: str, finish: Finish, reason: Reason) -> None:
    answer = read(text, finish=finish)
    assert isinstance(answer, Rejected)
    assert answer.reason is reason


def test_paths_below_folders_are_found_in_a_text() -> None:
    text = "See ./lib/a/x.py, `lib/a/x.py`, lib/ab/x.py, other/lib/a/x.py and build/x."
    assert named_in(text, {"lib/a/", "build/"}) == ("lib/a/x.py", "build/x")


def test_a_line_without_an_end_is_read_in_a_moment() -> None:
    assert named_in("-" * 300_000 + " lib/" + "a/" * 300_000 + "x", {"lib/"}) == ("lib/" + "a/" * 29 + "a",)
