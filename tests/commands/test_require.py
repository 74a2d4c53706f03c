"""What a patch must have shown to be printed, through the real command."""

import json

from tests.chain.workbench import FIX, WRONG, edit
from tests.commands.running import Home, server

DIVIDED = tuple(edit("    return result\n", f"    return result + {number}\n") for number in range(1, 6))


def repaired(home: Home, answers: tuple[str, ...], *more: str) -> tuple[int, str, list[str]]:
    with server(*answers) as endpoint:
        asked = ("repair", ".", "../issue.md", "--base-url", endpoint.url, "-n", str(len(answers)), *more)
        done = home.amini(*asked)
    return done.returncode, done.stdout, done.stderr.splitlines()


def test_a_divided_vote_is_printed_with_a_last_line_that_says_so_even_when_quiet(home: Home) -> None:
    code, patch, told = repaired(home, DIVIDED, "--quiet")
    assert (code, patch[:10]) == (0, "diff --git")
    assert told == ["not trusted: no test shows that it repairs the issue, and 1 of 5 valid samples has it."]


def test_below_what_is_required_nothing_is_printed_or_applied(home: Home) -> None:
    before = (home.repository / "shop/cart.py").read_bytes()
    code, patch, told = repaired(home, DIVIDED, "--require", "agreement", "--apply", "-o", "../fix.patch")
    assert (code, patch, (home.root / "fix.patch").read_bytes()) == (5, "", b"")
    assert (home.repository / "shop/cart.py").read_bytes() == before
    assert "and 1 of 5 valid samples has it (--require agreement)" in told[-1]
    assert "amini show 1 --patch 1 shows it, --require any prints it" in told[-1]
    quiet = repaired(home, DIVIDED, "--require", "agreement", "-q")
    assert (quiet[0], quiet[1], len(quiet[2])) == (5, "", 1)
    listed = json.loads(home.amini("show", "--json").stdout)["runs"]
    assert [(run["status"], run["exit_code"]) for run in listed] == [("done", 5), ("done", 5)]


def test_the_document_says_what_was_required_and_shown(home: Home) -> None:
    (home.root / "mine.toml").write_text('require = "agreement"\n[sandbox]\nkind = "none"\n')
    code, printed, _ = repaired(home, DIVIDED, "--json", "--config", "../mine.toml")
    trust = json.loads(printed)["trust"]
    lacking = "no test shows that it repairs the issue, and 1 of 5 valid samples has it"
    assert code == 5
    assert trust == {"required": "agreement", "printed": False, "shown": ["any"], "lacking": lacking}
    assert json.loads(home.amini("show", "1", "--json").stdout)["trust"] == trust
    assert f"trust      meets any (agreement is required); not trusted: {lacking}" in home.amini("show", "1").stdout


def test_samples_that_agree_are_printed(home: Home) -> None:
    code, patch, told = repaired(home, (FIX, f"So.\n{FIX}", WRONG), "--require", "agreement", "--json")
    assert code == 0
    assert json.loads(patch)["trust"]["shown"] == ["any", "agreement"]
    assert not [line for line in told if "not trusted" in line]


def test_any_said_outright_takes_what_the_vote_chose_though_the_users_test_was_not_run(home: Home) -> None:
    code, patch, told = repaired(home, (FIX,), "--failing-test", "tests/test_cart.py", "--require", "any", "-q")
    assert (code, patch[:10]) == (0, "diff --git")
    assert told[0].startswith("not trusted: your test tests/test_cart.py shows nothing (")
