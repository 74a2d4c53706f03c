"""Broken surroundings: one sentence on stderr, nothing on stdout, the documented exit code.

What a mistaken command is told is in `golden/wrong_commands.txt`.
"""

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
REPAIR = ("repair", ".", "../issue.md", "--base-url")
# Permissions do not bind root until it gives its capabilities away.
BOUND = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []


def test_a_server_that_keeps_failing(home: Home, tmp_path: Path) -> None:
    (tmp_path / "amini.toml").write_text("[endpoint]\nretries = 1\n")
    fault = Fault(kind=FaultKind.ERROR, times=100)
    with ScriptedServer(ServedModel(script=script()), (fault,)) as endpoint:
        done = home.amini(*REPAIR, endpoint.url, "--config", "../amini.toml", "--quiet")
    assert (done.returncode, done.stdout) == (3, "")
    assert "Internal server error" in one_sentence(done.stderr)


def test_waiting_for_a_server_is_told_while_it_lasts(home: Home) -> None:
    fault = Fault(kind=FaultKind.RATE_LIMIT)
    with ScriptedServer(ServedModel(script=script()), (fault,)) as endpoint:
        done = home.amini(*REPAIR, endpoint.url)
    assert "answered 429; trying again in 1 s (1 of 5)." in done.stderr, done.stderr
    told = done.stderr.index("trying again")
    assert done.stderr.count("trying again") == 1
    assert told < done.stderr.rindex("\n", 0, -1)


def test_a_context_too_small_for_any_file(home: Home) -> None:
    with ScriptedServer(ServedModel(script=script(), context_window=256)) as endpoint:
        done = home.amini(*REPAIR, endpoint.url, "--files", "shop/cart.py", "-q")
    assert (done.returncode, done.stdout) == (2, "")
    assert "larger context" in one_sentence(done.stderr)


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
        done = home.process(*REPAIR, endpoint.url, "--quiet", "--store", "../disk/s.sqlite")
    assert (done.returncode, done.stdout) == (4, "")
    assert "full" in one_sentence(done.stderr)


@pytest.mark.parametrize(
    ("place", "mode", "code"),
    [
        ("locked", 0o500, 4),
        ("shop/.git", 0o000, 2),
        ("shop", 0o000, 2),
        ("issue.md", 0o000, 2),
        ("result.patch", 0o400, 4),
        ("out", 0o500, 4),
        ("out/inner", 0o000, 4),
    ],
)
def test_no_permission(home: Home, tmp_path: Path, place: str, mode: int, code: int) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / "out/inner").mkdir(parents=True)
    (tmp_path / "result.patch").touch()
    result = {"out": "out/x", "out/inner": "out/inner/x"}.get(place, "result.patch")
    (tmp_path / place).chmod(mode)
    words = ("repair", "../shop", "../issue.md", "--base-url", NOBODY, "--store", "../locked/s.sqlite")
    done = home.run([*BOUND, *home.command(*words, "-o", f"../{result}")], folder="../locked")
    (tmp_path / place).chmod(0o700)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert "permi" in one_sentence(done.stderr).lower()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a repository of another owner")
def test_a_repository_of_somebody_else(home: Home) -> None:
    for path in [home.repository, *home.repository.rglob("*")]:
        os.chown(path, 12345, 12345)
    done = home.amini(*REPAIR, NOBODY)
    assert (done.returncode, done.stdout) == (2, "")
    assert "safe.directory" in one_sentence(done.stderr)


def test_a_patch_cannot_be_applied_where_there_is_no_working_tree(home: Home, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--bare", str(home.repository), str(tmp_path / "bare.git"))
    for place in ("../bare.git", ".git", home.repository.as_uri()):
        done = home.amini("repair", place, "../issue.md", "--base-url", NOBODY, "--apply")
        assert (done.returncode, done.stdout) == (2, "")
        assert "--apply" in one_sentence(done.stderr)
