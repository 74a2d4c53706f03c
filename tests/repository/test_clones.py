"""Bare repositories, and copies of remote ones, which are real repositories behind file URLs."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agentless_mini.errors import EnvironmentFailed
from agentless_mini.repository.opening import Repository, open_repository
from tests.gitrepo import commit_all, git, make_repository, write_files
from tests.repository.reading import FILES, changing, contents, error_of, opened


def cloned(remote: Path, cache: Path, rev: str | None = None) -> Repository:
    return open_repository(remote.as_uri(), rev, cache)


def test_a_bare_repository_is_read_at_a_commit(tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "clone", "--quiet", "--bare", "remote", "bare.git")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "0")
    for rev in (None, "main"):
        repository = opened(tmp_path / "bare.git", rev)
        assert contents(repository.snapshot()) == FILES
        assert repository.snapshot().name == "bare"
        assert not repository.refuses(changing("src/a.py", b"a = 1\n", b"x\n"))
    inside = opened(remote / ".git")
    assert (inside.snapshot().name, contents(inside.snapshot())) == ("remote", FILES)
    assert not inside.refuses(changing("src/a.py", b"a = 1\n", b"x\n"))


def test_a_url_is_cloned_and_brought_up_to_date(tmp_path: Path, remote: Path) -> None:
    cache = tmp_path / "deep" / "cache"
    first = cloned(remote, cache).snapshot()
    assert (contents(first), first.name) == (FILES, "remote")
    write_files(remote, {"src/a.py": b"a = 2\n"})
    second = commit_all(remote)
    git(remote, "checkout", "--quiet", "-b", "trunk")
    write_files(remote, {"src/a.py": b"a = 3\n"})
    commit_all(remote)
    git(remote, "branch", "--force", "main", first.commit)
    assert contents(cloned(remote, cache).snapshot())["src/a.py"] == b"a = 3\n"
    assert cloned(remote, cache, "main").snapshot() == first
    assert contents(cloned(remote, cache, second[:12]).snapshot())["src/a.py"] == b"a = 2\n"
    assert not cloned(remote, cache).refuses(changing("src/a.py", b"a = 3\n", b"x\n"))
    assert "There is no commit nope" in error_of(lambda: cloned(remote, cache, "nope"))
    assert len(list(cache.glob("*.git"))) == 1


def test_a_known_commit_needs_no_network(tmp_path: Path, remote: Path) -> None:
    commit = cloned(remote, tmp_path / "cache").snapshot().commit
    url = remote.as_uri()
    remote.rename(tmp_path / "away")
    assert contents(open_repository(url, commit, tmp_path / "cache").snapshot()) == FILES
    assert "There is no git repository at" in error_of(lambda: open_repository(url, None, tmp_path / "cache"))


def test_a_commit_that_is_on_no_branch_is_fetched_by_name(tmp_path: Path, remote: Path) -> None:
    git(remote, "checkout", "--quiet", "--detach")
    write_files(remote, {"pull": b"request"})
    commit = commit_all(remote)
    git(remote, "update-ref", "refs/pull/7/head", commit)
    git(remote, "checkout", "--quiet", "main")
    for name in (commit, "refs/pull/7/head"):
        assert contents(cloned(remote, tmp_path / f"cache{len(name)}", name).snapshot())["pull"] == b"request"
    assert "There is no commit" in error_of(lambda: cloned(remote, tmp_path / "cache", "0" * 39 + "1"))
    assert "There is no commit" in error_of(lambda: cloned(remote, tmp_path / "cache", "refs/a:refs/heads/main"))


def test_half_a_clone_is_never_taken_for_a_whole_one(tmp_path: Path, remote: Path) -> None:
    cache = tmp_path / "cache"
    cloned(remote, cache)
    (whole,) = cache.glob("*.git")
    partial = whole.with_suffix(".partial")
    whole.rename(partial)
    (partial / "packed-refs").write_bytes(b"half")
    (partial / "HEAD").unlink()
    assert contents(cloned(remote, cache).snapshot()) == FILES
    assert not partial.exists()


def test_runs_that_clone_at_once_wait_for_each_other(tmp_path: Path, remote: Path) -> None:
    start = threading.Barrier(4)

    def run(_: int) -> dict[str, bytes]:
        start.wait()
        return contents(cloned(remote, tmp_path / "cache").snapshot())

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(4))) == [FILES] * 4


def test_an_empty_remote_has_no_commit(tmp_path: Path) -> None:
    (tmp_path / "remote").mkdir()
    git(tmp_path / "remote", "init", "--quiet")
    assert "has no commit yet" in error_of(lambda: cloned(tmp_path / "remote", tmp_path / "cache"))


def test_owner_and_name_mean_github(tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = tmp_path / "user"
    git(tmp_path, "config", "--file", str(user), f"url.{tmp_path.as_uri()}/.insteadOf", "https://github.com/ada/")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(user))
    monkeypatch.chdir(tmp_path)
    assert contents(open_repository("ada/remote", None, tmp_path / "cache").snapshot()) == FILES
    make_repository(tmp_path / "ada" / "remote", {"local": b""})
    assert contents(open_repository("ada/remote", None, tmp_path / "cache").snapshot()) == {"local": b""}


def test_a_clone_runs_no_hook_of_a_template(tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hooks = tmp_path / "template" / "hooks"
    hooks.mkdir(parents=True)
    for name in ("reference-transaction", "post-checkout"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path / 'mark'}\n")
        (hooks / name).chmod(0o755)
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(hooks.parent))
    cloned(remote, tmp_path / "cache")
    cloned(remote, tmp_path / "cache")
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://ada:hunter2@127.0.0.1:9/x.git", "http://127.0.0.1:9/x.git cannot be reached"),
        ("git://127.0.0.1:9/x", "cannot be reached"),
        ("file:///nonexistent/x", "There is no git repository at file:///nonexistent/x"),
        ("ftp://example.org/x", "cannot be cloned by ftp: use one of file, git, http, https, ssh"),
    ],
)
def test_a_clone_that_fails_says_why_and_keeps_secrets(tmp_path: Path, url: str, says: str) -> None:
    sentence = error_of(lambda: open_repository(url, None, tmp_path / "cache"))
    assert says in sentence
    assert "hunter2" not in sentence
    assert list((tmp_path / "cache").glob("*.git")) == [] if (tmp_path / "cache").exists() else True


def test_a_scp_like_address_goes_to_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "ssh"
    script.write_text('#!/bin/sh\necho "Permission denied (publickey): $*" >&2\nexit 255\n')
    script.chmod(0o755)
    monkeypatch.setenv("GIT_SSH", str(script))
    sentence = error_of(lambda: open_repository("git@example.org:ada/x.git", None, tmp_path / "cache"))
    assert "git@example.org:ada/x.git asks for credentials or does not exist" in sentence


def test_a_cache_that_cannot_be_written_is_the_machines_fault(tmp_path: Path, remote: Path) -> None:
    (tmp_path / "cache").write_bytes(b"a file")
    assert "The clone cannot be kept" in error_of(lambda: cloned(remote, tmp_path / "cache"), EnvironmentFailed)
