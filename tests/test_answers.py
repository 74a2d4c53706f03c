"""Lists of files as models write them."""

import pytest

from agentless_mini.answers import read_paths
from agentless_mini.domain import Completion, Finish, Reason, Rejected
from agentless_mini.lexical import PathIndex

TREE = PathIndex(["shop/cart.py", "shop/tax.py", "shop/views.py", "setup.py", "docs/notes on tax.md"])


def read(text: str, most: int = 5, finish: Finish = Finish.STOP) -> tuple[str, ...] | Rejected:
    return read_paths(Completion(0, text, finish), TREE, most)


@pytest.mark.parametrize(
    "line",
    [
        "shop/cart.py",
        "  shop/cart.py   ",
        "- shop/cart.py",
        "* `shop/cart.py`",
        "1. shop/cart.py",
        "12) **shop/cart.py**",
        "./shop/cart.py",
        '"shop/cart.py",',
        "shop/cart.py:120",
        "shop/cart.py:120-140",
        "shop/cart.py#L12-L14",
        "### shop/cart.py",
        "/testbed/shop/cart.py",
        "shop/cart.py - it computes the total",
        "- `shop/cart.py`: it computes the total",
        "shop/cart.py (most important)",
        "cart.py",
    ],
)
def test_a_path_is_read_however_it_is_dressed(line: str) -> None:
    assert read(f"```\n{line}\n```") == ("shop/cart.py",)


def test_paths_keep_their_order_once_each_up_to_the_limit() -> None:
    text = "```\nshop/tax.py\nshop/cart.py\nshop/tax.py\nsetup.py\n```"
    assert read(text) == ("shop/tax.py", "shop/cart.py", "setup.py")
    assert read(text, most=2) == ("shop/tax.py", "shop/cart.py")


def test_a_path_with_blanks_is_read_whole() -> None:
    assert read("```\ndocs/notes on tax.md\n```") == ("docs/notes on tax.md",)


def test_the_last_fence_that_names_a_file_counts() -> None:
    assert read("```\nshop/tax.py\n```\nNo:\n```\nshop/cart.py\n```\n```\nthanks\n```") == ("shop/cart.py",)


def test_without_a_fence_every_line_counts() -> None:
    assert read("The files are:\nshop/tax.py\nnothing.py\nshop/cart.py\n") == ("shop/tax.py", "shop/cart.py")
    assert read("```\nshop/tax.py") == ("shop/tax.py",)


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
