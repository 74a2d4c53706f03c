"""Paths as they are written from where the user stands, and what is checked before anything is asked."""

import os
from pathlib import Path

import pytest

from agentless_mini.commands.config import given_here, tree_path
from agentless_mini.domain import GivenTests
from agentless_mini.errors import UsageError
from tests.chain.workbench import shop, text_file
from tests.commands.running import VOTE_ALONE, Done, Home, one_sentence, server
from tests.fakes.server import ScriptedServer
from tests.gitrepo import write_files

NOT_LOOKED_INTO = "Not looked into: what git ignores (build/)."
NAMES = {"app.py", "shop/app.py", "shop/cart.py", "tests/test_cart.py"}


@pytest.mark.parametrize(
    ("said", "folder", "meant"),
    [
        ("cart.py", "shop", "shop/cart.py"),
        ("./cart.py", "shop", "shop/cart.py"),
        (".\\cart.py", "shop", "shop/cart.py"),
        ("shop/cart.py", "shop", "shop/cart.py"),
        ("../tests/test_cart.py", "shop", "tests/test_cart.py"),
        ("./app.py", "shop", "shop/app.py"),
        ("../app.py", "shop", "app.py"),
        ("app.py", "", "app.py"),
        ("app.py", "tests", "app.py"),
        ("shop/app.py", "..", "shop/app.py"),
        ("tree/shop/app.py", "..", "shop/app.py"),
        ("gone.py", "shop", "gone.py"),
        ("../../elsewhere.py", "shop", "../../elsewhere.py"),
    ],
)
def test_a_path_is_taken_from_where_the_user_stands_or_from_the_top(
    said: str, folder: str, meant: str, tmp_path: Path
) -> None:
    top = tmp_path / "tree"
    here = Path(os.path.normpath(top / folder))
    here.mkdir(parents=True, exist_ok=True)
    assert tree_path(said, NAMES, top, here) == meant
    given, tree = GivenTests((f"{said}::test_a[x::y]",)), shop(*(text_file(name, "") for name in NAMES))
    assert given_here(given, tree, top, here).tests == (f"{meant}::test_a[x::y]",)


def test_an_absolute_path_is_taken(tmp_path: Path) -> None:
    assert tree_path(f"{tmp_path}/app.py", NAMES, tmp_path, tmp_path / "shop") == "app.py"


def test_what_may_be_two_files_is_asked_back(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is both shop/app\.py and app\.py of the repository: write \./app\.py"):
        tree_path("app.py", NAMES, tmp_path, tmp_path / "shop")


def test_a_command_runs_where_it_was_said(tmp_path: Path) -> None:
    tree = shop(text_file("a b/x.py", ""))
    given = GivenTests(commands=("python x.py", ""))
    assert given_here(given, tree, tmp_path, tmp_path / "a b").commands == ("cd 'a b'; python x.py", "")
    for folder in (tmp_path, tmp_path / "empty", tmp_path.parent):
        assert given_here(given, tree, tmp_path, folder).commands == given.commands


def repaired(home: Home, folder: str, endpoint: ScriptedServer, *more: str) -> Done:
    asked = ("repair", ".", str(home.root / "issue.md"), "--base-url", endpoint.url, "--model", "scripted", "-n", "2")
    return Home(home.root, home.repository / folder).amini(*asked, *more)


def test_files_and_output_are_relative_to_a_folder_of_the_repository(home: Home) -> None:
    write_files(home.repository, {".gitignore": b"build/\n", "build/cart.py": b"x = 1\n"})
    with server() as endpoint:
        done = repaired(home, "shop", endpoint, "--files", "cart.py", "-o", "fix.patch")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(NOT_LOOKED_INTO) == 1
    assert NOT_LOOKED_INTO in home.amini("show", "1").stdout
    assert (home.repository / "shop" / "fix.patch").read_text().startswith("diff --git a/shop/cart.py")


@pytest.mark.parametrize(
    ("more", "code", "told"),
    [
        (("--failing-test", "gone.py::test_a", "--require", "any"), 2, "gone.py"),
        (("--sandbox", "local"), 4, "Bubblewrap"),
    ],
)
def test_what_cannot_be_done_is_told_before_anything_is_asked(
    home: Home, more: tuple[str, ...], code: int, told: str
) -> None:
    settings = home.root / "config" / "amini" / "config.toml"
    settings.write_text(VOTE_ALONE + 'bubblewrap = "/nowhere/bwrap"\n')
    with server() as endpoint:
        done = repaired(home, "", endpoint, *more)
        assert not endpoint.log.chats()
    assert (done.returncode, done.stdout) == (code, "")
    assert told in one_sentence(done.stderr.splitlines()[-1])


@pytest.mark.slow
def test_an_image_that_cannot_be_had_is_told_before_anything_is_asked(home: Home) -> None:
    (home.root / "config" / "amini" / "config.toml").unlink()
    with server() as endpoint:
        done = repaired(home, "", endpoint, "--image", "localhost:9/none/such:1")
        assert not endpoint.log.chats()
    assert (done.returncode, done.stdout) == (4, "")
    assert "localhost:9/none/such:1 is not here and cannot be pulled" in done.stderr
