"""Repositories whose configuration names programs: none of these is ever run."""

import contextlib
import subprocess
from pathlib import Path

import pytest

from tests.gitrepo import git, make_repository, write_files
from tests.repository.reading import FILES, changing, error_of, opened


def hostile_settings(command: str) -> dict[str, str]:
    """Every setting of a repository that names a program which some reading command of git would run."""
    filters = [
        f"filter.{name}.{what}" for name in ("evil", "a=b", "A.b", "") for what in ("clean", "smudge", "process")
    ]
    programs = (
        "core.fsmonitor", "core.sshCommand", "core.pager", "core.editor", "core.askPass", "core.gitProxy",
        "core.alternateRefsCommand", "diff.external", "diff.evil.textconv", "diff.evil.command", "merge.evil.driver",
        "uploadpack.packObjectsHook", "interactive.diffFilter", "gpg.program", *filters,
    )  # fmt: skip
    switches = ("submodule.recurse", "filter.evil.required", "filter.a=b.required")
    return dict.fromkeys(programs, command) | dict.fromkeys(switches, "true") | {"credential.helper": f"!{command}"}


def make_hostile(tmp_path: Path) -> tuple[Path, Path]:
    """Make a repository in which every known lever starts a program that leaves a mark; return its top and the mark."""
    top, mark = (
        make_repository(tmp_path / "hostile", {"a.py": b"1\n", "b.c": b"2\n", "c.d": b"3\n", "d": b"4\n"}),
        tmp_path / "mark",
    )
    script = tmp_path / "evil"
    script.write_text(f"#!/bin/sh\necho \"$0 $@\" >> '{mark}'\n")
    script.chmod(0o755)
    for key, value in hostile_settings(str(script)).items():
        section, _, rest = key.partition(".")
        subsection, dot, name = rest.rpartition(".")
        header = f'[{section} "{subsection}"]' if dot else f"[{section}]"
        with (top / ".git" / "config").open("a") as file:
            file.write(f"{header}\n\t{name} = {value}\n")
    attributes = b"*.py filter=evil diff=evil merge=evil\n*.c filter=a=b\n*.d filter=A.b\nd filter=\n"
    write_files(top, {".gitattributes": attributes, ".git/info/attributes": attributes})
    (top / ".git" / "hooks").mkdir(exist_ok=True)
    for hook in ("post-index-change", "reference-transaction", "post-checkout", "fsmonitor-watchman", "pre-auto-gc"):
        (top / ".git" / "hooks" / hook).symlink_to(script)
    write_files(top, {"a.py": b"one\n"})
    return top, mark


def test_the_hostile_repository_does_run_its_programs_when_git_is_used_plainly(tmp_path: Path) -> None:
    top, mark = make_hostile(tmp_path)
    for command in (["status"], ["diff"], ["add", "a.py"], ["apply", "--check", "-"]):
        with contextlib.suppress(subprocess.CalledProcessError):
            git(top, *command, stdin=changing("b.c", b"2\n", b"3\n"))
        assert mark.exists(), command
        mark.unlink()


@pytest.mark.parametrize("rev", [None, "HEAD"])
def test_nothing_that_a_repository_configures_is_run(tmp_path: Path, rev: str | None) -> None:
    top, mark = make_hostile(tmp_path)
    repository = opened(top, rev)
    assert len(repository.snapshot().files) == (5 if rev is None else 4)
    assert repository.history() == ()  # its only commit is the first
    for path, line in (("a.py", b"one\n" if rev is None else b"1\n"), ("b.c", b"2\n"), ("c.d", b"3\n"), ("d", b"4\n")):
        assert repository.refuses(changing(path, line, b"new\n")) == ""
        if rev is None:
            repository.apply(changing(path, line, b"new\n"))
            assert (top / path).read_bytes() == b"new\n"
    assert not mark.exists()


def test_filters_that_are_off_are_noted_and_the_users_own_stay_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = make_repository(tmp_path / "r", {".gitattributes": b"*.txt filter=upper\n", "a.txt": b"a\n"})
    upper = "filter.upper.clean"
    git(top, "config", upper, "tr a-z A-Z")
    repository = opened(top)
    assert "configures the filter 'upper', which is not run here" in repository.notes[0]
    assert not repository.refuses(changing("a.txt", b"a\n", b"b\n"))
    git(top, "config", "--unset", upper)
    user = tmp_path / "user"
    git(top, "config", "--file", str(user), upper, "tr a-z A-Z")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(user))
    repository = opened(top)
    assert repository.notes == ()
    assert repository.refuses(changing("a.txt", b"a\n", b"b\n"))
    assert not repository.refuses(changing("a.txt", b"A\n", b"b\n"))


def test_missing_objects_are_not_fetched_by_what_the_repository_names(tmp_path: Path) -> None:
    top, mark = make_hostile(tmp_path)
    blob = git(top, "rev-parse", "HEAD:b.c").decode().strip()
    (top / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    for url in (f"ext::{tmp_path / 'evil'} x", "ssh://example.invalid/x", "git://example.invalid/x"):
        for key, value in {
            "extensions.partialClone": "origin",
            "core.repositoryFormatVersion": "1",
            "remote.origin.url": url,
            "remote.origin.promisor": "true",
            "protocol.allow": "always",
            "protocol.ext.allow": "always",
        }.items():
            git(top, "config", key, value)
        assert "are missing" in error_of(lambda: opened(top, "HEAD").snapshot())
        assert "no commit 1234567" in error_of(lambda: opened(top, "1234567" + "0" * 33))
        assert len(opened(top).snapshot().files) == 5
        assert not mark.exists()


def test_a_missing_object_is_an_error(tmp_path: Path) -> None:
    top = make_repository(tmp_path / "r", FILES)
    blob = git(top, "rev-parse", "HEAD:src/a.py").decode().strip()
    (top / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    assert f"Objects of the commit are missing ({blob})" in error_of(lambda: opened(top, "HEAD").snapshot())


def test_a_damaged_object_is_an_error(tmp_path: Path) -> None:
    top = make_repository(tmp_path / "r", {"a": b"some text\n" * 99})
    blob = git(top, "rev-parse", "HEAD:a").decode().strip()
    path = top / ".git" / "objects" / blob[:2] / blob[2:]
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:24])
    assert "see what `git status` says there" in error_of(lambda: opened(top, "HEAD").snapshot())


def test_a_working_tree_declared_elsewhere_is_refused(tmp_path: Path) -> None:
    write_files(tmp_path / "home", {"secret": b"s"})
    top = make_repository(tmp_path / "home" / "r", FILES)
    git(top, "config", "core.worktree", str(tmp_path / "home"))
    assert "which does not belong to it" in error_of(lambda: opened(top))
