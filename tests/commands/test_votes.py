"""What the votes mean, through the real command: comments are none, one answer is one, equals are told apart."""

from tests.chain.workbench import FIX, WRONG, edit
from tests.commands.running import Home, server

HEAD = "def total(prices):\n"
COMMENTS = (
    edit(HEAD, f"# It leaves out the first price.\n{HEAD}"),
    edit("    return result\n", "    return result  # !\n"),
)
OTHER_FIX = edit(
    "    for price in prices[1:]:\n        result += price\n    return result\n", "    return sum(prices)\n"
)
UNDEFINED = edit("    for price in prices[1:]:\n", "    for price in all_prices(prices):\n")


def repaired(home: Home, answers: tuple[str, ...], samples: int, *more: str) -> tuple[int, str, str]:
    with server(*answers) as endpoint:
        done = home.amini("repair", ".", "../issue.md", "--base-url", endpoint.url, "-n", str(samples), *more)
    return done.returncode, done.stdout, done.stderr


def test_comments_in_different_places_do_not_outvote_a_fix(home: Home) -> None:
    code, patch, told = repaired(home, (*COMMENTS, FIX, COMMENTS[0], OTHER_FIX), 5)
    assert code == 0
    assert "+    for price in prices:\n" in patch
    assert "no-effect 3" in told
    assert "1 of 2 valid samples has it, as many as on 1 other" in told


def test_comments_alone_are_no_patch(home: Home) -> None:
    code, patch, told = repaired(home, COMMENTS, 2)
    assert (code, patch) == (1, "")
    assert "2 rejected" in told


def test_ten_answers_of_one_text_are_one_vote_and_told(home: Home) -> None:
    code, patch, told = repaired(home, (FIX,), 10)
    assert code == 0
    assert "+    for price in prices:\n" in patch
    assert "All 10 answers are the same text, though the temperature is 1" in " ".join(told.split())
    assert "one vote: all 10 valid samples gave the same answer" in " ".join(told.split())
    assert "the samples agree" not in told
    shown = home.amini("show", "1", "--all").stdout
    assert shown.count("1 of 1 vote, repeats another answer") == 9


def test_a_name_that_is_undefined_ranks_below_and_is_told(home: Home) -> None:
    _, patch, told = repaired(home, (UNDEFINED, FIX, f"Yes.\n{UNDEFINED}"), 3)
    assert "+    for price in prices:\n" in patch
    assert "all_prices is undefined in a change with as many votes" in " ".join(told.split())
    _, patch, told = repaired(home, (UNDEFINED,), 1, "--seed", "7")
    assert "all_prices" in patch
    assert "it uses an undefined name: all_prices" in " ".join(told.split())


def test_consistency_takes_the_patch_most_like_the_others(home: Home) -> None:
    near = edit("    for price in prices[1:]:\n", "    for price in list(prices):\n")
    far = edit("    return result\n", "    raise ValueError('there is no first price')\n")
    answers = (far, f"Again.\n{far}", near, FIX, WRONG, f"Again.\n{near}")
    _, voted, _ = repaired(home, answers, 6, "--rank", "vote")
    _, consistent, told = repaired(home, answers, 6, "--rank", "consistency")
    assert "raise ValueError" in voted
    assert "list(prices)" in consistent
    assert "the one most like the others was taken" in " ".join(told.split())
