"""`amini show`: the list, one run on a screen, its patches as bytes, its page; and what every command says anywhere."""

import json
import re
import sys
from pathlib import Path

import pytest

from tests.commands.running import Home, home_in, one_sentence, server
from tests.gitrepo import git

ISSUE = "The total of a cart leaves out its first price: na\xefve \u201cquotes\u201d \u2026 \u4e2d\n"
NARROW = ({"PYTHONIOENCODING": "ascii:strict"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"})
OTHERS = ({"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "cp1252:strict"}, {"LC_ALL": "C"})


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Return a home in which one run is recorded; tests add others."""
    home = home_in(tmp_path_factory.mktemp("ran"))
    with server() as endpoint:
        done = home.amini("repair", ".", "--text", ISSUE, "--base-url", endpoint.url, "-n", "5")
    assert done.returncode == 0, done.stderr
    return home


def test_without_runs_there_are_no_runs_yet(home: Home) -> None:
    done = home.amini("show")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("no runs yet in ")
    assert json.loads(home.amini("show", "--json").stdout) == {"schema": 2, "runs": []}


def test_a_run_is_shown_with_numbered_patches_each_of_which_applies(ran: Home) -> None:
    text = ran.amini("show", "1").stdout
    rows = [line.split() for line in text.splitlines()]
    assert ["1", "*", "3/4", "shop/cart.py"] in rows
    assert ["2", "1/4", "shop/cart.py"] in rows
    for number, line in (("1", "+    for price in prices:"), ("2", "+    result = 1")):
        patch = ran.amini("show", "1", "--patch", number).stdout
        assert line in patch.splitlines()
        git(ran.repository, "apply", "--check", stdin=patch.encode())
    chosen = json.loads(ran.amini("show", "1", "--json").stdout)["prediction"]["choice"]["patch"]["diff"]["text"]
    assert ran.amini("show", "1", "--patch", "1").stdout == chosen


def test_a_failed_run_tells_its_error(ran: Home) -> None:
    words = ("repair", ".", "--text", "Another issue", "--base-url", "http://127.0.0.1:9/v1", "--model", "none")
    failed = ran.amini(*words, "--store", "../failed.sqlite")
    assert failed.returncode == 3
    told = failed.stderr.strip().split("\n")[-1].removeprefix("amini: ")
    assert f"error      {told}\n" in ran.amini("show", "1", "--store", "../failed.sqlite").stdout
    shown = ran.amini("show", "1", "--json", "--store", "../failed.sqlite").stdout
    assert json.loads(shown)["run"]["failure"] == told
    assert json.loads(ran.amini("show", "1", "--json").stdout)["run"]["failure"] == ""


def test_what_cannot_be_shown_is_refused(ran: Home) -> None:
    for words in (("1", "--patch", "3"), ("--patch", "1"), ("--html", "x"), ("1", "--patch", "1", "--json"), ("99",)):
        done = ran.amini("show", *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert one_sentence(done.stderr)


def test_the_page_of_a_run_is_written_to_its_file(ran: Home) -> None:
    done = ran.amini("show", "1", "--html", "../run.html")
    assert (done.returncode, done.stdout) == (0, "")
    page = (ran.root / "run.html").read_text(encoding="ascii")
    assert page.startswith("<!DOCTYPE html>")
    assert done.stderr == f"the page: {(ran.root / 'run.html').as_uri()}\n"
    refused = ran.amini("show", "1", "--html", "..")
    assert refused.returncode == 4
    assert "cannot be written" in one_sentence(refused.stderr)


EACH = """
import sys
from agentless_mini import cli
words = sys.argv[1:]
while words:
    at = words.index(";")
    sys.argv, words = ["amini", *words[:at]], words[at + 1 :]
    try:
        cli.app(sys.argv[1:], prog_name="amini")
    except SystemExit as ended:
        print("---", ended.code or 0, flush=True)
"""


def said(home: Home, encoding: dict[str, str], *commands: tuple[str, ...]) -> list[str]:
    """Return what each command writes to stdout, all run in one process with this encoding."""
    words = [word for command in commands for word in (*command, ";")]
    done = home.run([sys.executable, "-c", EACH, *words], encoding)
    assert "Traceback" not in done.stderr
    assert "codec" not in done.stderr
    parts = re.split(r"^--- (\d+)\n", done.stdout, flags=re.MULTILINE)
    assert (len(parts) // 2, set(parts[1::2]) <= {"0", "2", "3"}) == (len(commands), True), done.stderr
    return parts[:-1:2]


@pytest.mark.parametrize("encoding", OTHERS, ids=lambda one: " ".join(one.values()))
def test_a_run_is_shown_in_any_locale(ran: Home, encoding: dict[str, str]) -> None:
    assert "na" in said(ran, encoding, ("show", "1"))[0]


@pytest.mark.parametrize("encoding", NARROW, ids=lambda one: " ".join(one.values()))
def test_every_command_speaks_where_there_is_nothing_but_ascii(ran: Home, encoding: dict[str, str]) -> None:
    issue, page = "../issue-\u4e2d.md", "../seite-\u4e2d.html"
    (ran.repository / issue).write_text(ISSUE, encoding="utf-8")
    with server() as endpoint:
        asked = "--base-url", endpoint.url, "-n", "2"
        patch, document, shown, *_ = said(
            ran,
            encoding,
            ("repair", ".", issue, *asked),
            ("repair", ".", issue, *asked, "--json"),
            ("show", "1"),
            ("show", "1", "--html", page),
            ("repair", ".", "--text", ISSUE, *asked, "--files", "caf\xe9.py"),
            ("repair", ".", "nothing-\u4e2d.md"),
            ("repair", ".", "--text", ISSUE, "--config", "\u4e2d.toml"),
            ("show",),
            ("show", "--store", "../\u4e2d.sqlite"),
            ("show", "1", "--all", "--prompts", "--completions"),
            ("report", "\u4e2d"),
            ("serve", "--status"),
            ("eval", "--dataset", "\u4e2d.jsonl"),
            ("\u4e2d",),
            ("repair", "--help"),
        )
    git(ran.repository, "apply", "--check", stdin=patch.encode())
    assert json.loads(document)["schema"] == 2
    assert "\\u201cquotes" in shown
    assert Path(ran.repository / page).exists()
