"""Bad input and broken surroundings: one sentence on stderr, nothing on stdout, the documented exit code."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.commands.running import Home, one_sentence, script, server
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.protocol import ServedModel
from tests.fakes.server import ScriptedServer
from tests.gitrepo import git

NOBODY = "http://127.0.0.1:9/v1"
# Permissions do not bind root until it gives its capabilities away.
BOUND = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []


def failing(home: Home, *arguments: str, code: int) -> str:
    done = home.amini(*arguments)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    return one_sentence(done.stderr)


def test_not_a_repository(home: Home, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    assert "not in a git repository" in failing(home, "repair", "../plain", "../issue.md", "--base-url", NOBODY, code=2)
    assert "nothing at" in failing(home, "repair", "../nowhere", "../issue.md", "--base-url", NOBODY, code=2)


def test_no_commits(home: Home, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    git(tmp_path / "new", "init", "--quiet")
    assert "commit" in failing(home, "repair", "../new", "../issue.md", "--base-url", NOBODY, code=2)


def test_an_unknown_revision(home: Home) -> None:
    told = failing(home, "repair", ".", "../issue.md", "--rev", "v9", "--base-url", NOBODY, code=2)
    assert "v9" in told


@pytest.mark.parametrize("text", ["", "  \n\t\n"])
def test_an_empty_issue(home: Home, text: str) -> None:
    (home.root / "empty.md").write_text(text)
    assert "empty" in failing(home, "repair", ".", "../empty.md", "--base-url", NOBODY, code=2)


def test_a_missing_issue(home: Home) -> None:
    assert "nowhere.md" in failing(home, "repair", ".", "../nowhere.md", "--base-url", NOBODY, code=2)
    assert "No issue is given" in failing(home, "repair", ".", "--base-url", NOBODY, code=2)
    assert "twice" in failing(home, "repair", ".", "../issue.md", "--text", "x", "--base-url", NOBODY, code=2)


def test_an_unreachable_server(home: Home) -> None:
    told = failing(home, "repair", ".", "../issue.md", "--base-url", NOBODY, code=3)
    assert "127.0.0.1:9" in told
    assert "--base-url" in told


def test_an_unknown_model(home: Home) -> None:
    with server() as endpoint:
        told = failing(home, "repair", ".", "../issue.md", "--base-url", endpoint.url, "--model", "gpt-9", code=3)
    assert "'gpt-9'" in told
    assert "scripted" in told


def test_a_server_that_keeps_failing(home: Home, tmp_path: Path) -> None:
    settings = tmp_path / "amini.toml"
    settings.write_text("[endpoint]\nretries = 1\n")
    fault = Fault(kind=FaultKind.ERROR, times=100)
    with ScriptedServer(ServedModel(script=script()), (fault,)) as endpoint:
        done = home.amini(
            "repair", ".", "../issue.md", "--base-url", endpoint.url, "--config", str(settings), "--quiet"
        )
    assert (done.returncode, done.stdout) == (3, "")
    assert "Internal server error" in one_sentence(done.stderr)


def test_waiting_for_a_server_is_told_while_it_lasts(home: Home) -> None:
    fault = Fault(kind=FaultKind.RATE_LIMIT)
    with ScriptedServer(ServedModel(script=script()), (fault,)) as endpoint:
        done = home.amini("repair", ".", "../issue.md", "--base-url", endpoint.url)
    assert "answered 429; trying again in 1 s (1 of 5)." in done.stderr, done.stderr
    told = done.stderr.index("trying again")
    assert done.stderr.count("trying again") == 1
    assert told < done.stderr.rindex("\n", 0, -1)


def test_a_context_too_small_for_any_file(home: Home) -> None:
    with ScriptedServer(ServedModel(script=script(), context_window=256)) as endpoint:
        arguments = ("repair", ".", "../issue.md", "--base-url", endpoint.url, "--files", "shop/cart.py", "-q")
        assert "larger context" in failing(home, *arguments, code=2)


def test_a_store_that_is_none(home: Home, tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_text("something else entirely, and long enough to be no header\n" * 100)
    arguments = ("repair", ".", "../issue.md", "--base-url", NOBODY, "--store", "../store.sqlite")
    assert "store.sqlite" in failing(home, *arguments, code=4)
    assert "no store" in failing(home, "show", "1", "--store", "../missing.sqlite", code=4)


@contextmanager
def tiny_disk(folder: Path) -> Iterator[None]:
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_for_the_store(home: Home, tmp_path: Path) -> None:
    with tiny_disk(tmp_path / "disk"), server("x = 1\n" * 20_000) as endpoint:
        arguments = ("repair", ".", "../issue.md", "--base-url", endpoint.url, "--quiet", "--store", "../disk/s.sqlite")
        done = home.amini(*arguments)
    assert (done.returncode, done.stdout) == (4, "")
    assert "full" in one_sentence(done.stderr)


@pytest.mark.parametrize(
    ("place", "mode"), [("locked", 0o500), ("shop/.git", 0o000), ("shop", 0o000), ("issue.md", 0o000)]
)
def test_no_permission(home: Home, tmp_path: Path, place: str, mode: int) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / place).chmod(mode)
    command = home.command("repair", "../shop", "../issue.md", "--base-url", NOBODY, "--store", "../locked/s.sqlite")
    done = subprocess.run(
        [*BOUND, *command], cwd=tmp_path / "locked", env=home.environment(), capture_output=True, text=True, check=False
    )
    (tmp_path / place).chmod(0o700)
    assert (done.returncode, done.stdout) == (4 if place == "locked" else 2, ""), done.stderr
    assert "permi" in one_sentence(done.stderr).lower()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a repository of another owner")
def test_a_repository_of_somebody_else(home: Home) -> None:
    for path in [home.repository, *home.repository.rglob("*")]:
        os.chown(path, 12345, 12345)
    told = failing(home, "repair", ".", "../issue.md", "--base-url", NOBODY, code=2)
    assert "safe.directory" in told


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("samples = 3\n", "no setting 'samples'"),
        ("[repair]\nsample = 3\n", "no setting 'repair.sample'"),
        ("[repair]\nsamples = 0\n", "repair.samples"),
        ("[endpoint]\nretries = -1\n", "endpoint.retries"),
        ("[repair\n", "TOML"),
    ],
)
def test_a_mistake_in_the_settings(home: Home, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "amini.toml").write_text(text)
    told = failing(home, "repair", ".", "../issue.md", "--config", "../amini.toml", "--base-url", NOBODY, code=2)
    assert words in told


def test_an_address_that_is_none(home: Home) -> None:
    told = failing(home, "repair", ".", "../issue.md", "--base-url", "ftp://x", code=2)
    assert "--base-url" in told
    assert "http://HOST:PORT" in told


def test_an_option_out_of_range(home: Home) -> None:
    told = failing(home, "repair", ".", "../issue.md", "--base-url", NOBODY, "--match", "fuzzy", code=2)
    assert "--match" in told


def test_apply_and_rev_together(home: Home) -> None:
    told = failing(home, "repair", ".", "../issue.md", "--apply", "--rev", "HEAD", "--base-url", NOBODY, code=2)
    assert "--apply" in told


def test_a_run_that_is_not_there(home: Home) -> None:
    with server() as endpoint:
        home.amini("repair", ".", "../issue.md", "--base-url", endpoint.url, "-n", "1")
    assert "no run 9" in failing(home, "show", "9", code=2)


@pytest.mark.parametrize(
    ("place", "code", "words"),
    [
        ("no/such/folder/x", 2, "no folder no/such/folder"),
        ("shop", 2, "is a folder"),
        ("shop/tax.py/x", 2, "no folder"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_anything_is_asked(
    home: Home, place: str, code: int, words: str
) -> None:
    with server() as endpoint:
        told = failing(home, "repair", ".", "../issue.md", "--base-url", endpoint.url, "-o", place, code=code)
        assert len(endpoint.log.requests) == 0
    assert words in told
    assert "-o" in told


@pytest.mark.parametrize("place", ["locked/x", "locked/inner/x", "mine.patch"])
def test_an_output_without_permission(home: Home, tmp_path: Path, place: str) -> None:
    (tmp_path / "locked/inner").mkdir(parents=True)
    (tmp_path / "mine.patch").touch(mode=0o400)
    (tmp_path / "locked").chmod(0o500 if place == "locked/x" else 0o000)
    command = home.command("repair", ".", "../issue.md", "--base-url", NOBODY, "-o", f"../{place}")
    done = subprocess.run(
        [*BOUND, *command], cwd=home.repository, env=home.environment(), capture_output=True, text=True, check=False
    )
    (tmp_path / "locked").chmod(0o700)
    assert (done.returncode, done.stdout) == (4, ""), done.stderr
    assert "permission" in one_sentence(done.stderr).lower()


def test_a_patch_cannot_be_applied_where_there_is_no_working_tree(home: Home, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--bare", str(home.repository), str(tmp_path / "bare.git"))
    with server() as endpoint:
        for place in ("../bare.git", ".git", home.repository.as_uri(), "owner/name"):
            told = failing(home, "repair", place, "../issue.md", "--base-url", endpoint.url, "--apply", code=2)
            assert "--apply" in told
        assert len(endpoint.log.requests) == 0


def test_a_password_in_the_address(home: Home) -> None:
    told = failing(home, "repair", ".", "../issue.md", "--base-url", "http://me:s3cret@127.0.0.1:9/v1", code=2)
    assert "AMINI_API_KEY" in told
    assert "s3cret" not in told
