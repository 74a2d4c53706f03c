"""`amini repair`: from the words of a command line to what is repaired, refused before anything is paid for."""

import os
import shlex
import sys
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import platformdirs
from rich.console import Console

from agentless_mini.commands.config import APP, is_there, read_config, store_of, this_machine, top_of
from agentless_mini.commands.options import Flags
from agentless_mini.commands.repairing import Output, Task, repair, require_tests
from agentless_mini.commands.running import require_together
from agentless_mini.commands.terminal import noted, people, require_stdout, without_passwords
from agentless_mini.domain import GivenTests, Issue, Snapshot
from agentless_mini.errors import EnvironmentFailed, UsageError, boundary, printable, reason
from agentless_mini.record import Store
from agentless_mini.report.live import ProgressLines
from agentless_mini.repository.gitcommand import GitCommand
from agentless_mini.repository.issue_sources import GitHub, literal_issue, read_issue
from agentless_mini.repository.opening import Repository, open_repository

if TYPE_CHECKING:
    from agentless_mini.cli import SourceOptions


def run_repair(
    source: "SourceOptions", given: GivenTests, output: Output, path: Path | None, flags: Flags, store: Path | None
) -> int:
    """Read what the options name, run the chain, and return the exit code. `path` is the file of settings."""
    config = read_config(path, flags)
    require_together(config, flags)
    _require_words(source, given)
    _require_place(output)
    rev = source.rev
    if output.apply:
        _require_working_tree(source.repository, rev)
    if output.commit is not None:
        rev = _at_a_commit(source.repository, rev, output)
    issue = _issue(source)
    here, local = Path.cwd(), is_there(source.repository)
    if not (output.apply or output.quiet) and here != (top := top_of(here)) and local:
        people().print(
            f"note: In {here}, git apply ignores changes outside of this folder: run it in {top}.", markup=False
        )
    repository = _opened(source.repository, rev, output)
    branch = None
    if output.commit is not None:
        from agentless_mini.repository.branches import plan_branch

        branch = plan_branch(source.repository, output.commit, rev or "HEAD")
    task = Task(issue, repository, config, tuple(source.files or ()), given, branch)
    waiting = noted(Console(quiet=True) if output.quiet else people())
    with Store.open(store or store_of(source.repository), waiting) as opened:
        require_tests(task)
        began = time.monotonic()
        snapshot = replace(repository.snapshot(), history=repository.history())
        if local:
            top, names = top_of(Path(source.repository)), {file.path for file in snapshot.files}
            files = tuple(tree_path(said, names, top, here) for said in task.files)
            task = replace(task, files=files, given=given_here(given, snapshot, top, here))
        return repair(task, snapshot, opened, output, this_machine(), began)


def _require_words(source: "SourceOptions", given: GivenTests) -> None:
    """Refuse a word that is empty, and REPO and ISSUE where each is in the other's place."""
    words = {
        "REPO": (source.repository,),
        "ISSUE": (source.issue,),
        "--rev": (source.rev,),
        "--files": source.files or (),
        "--failing-test": given.tests,
        "--failing-cmd": given.commands,
    }
    for name, said in words.items():
        if any(word is not None and not word.strip() for word in said):
            raise UsageError(f"{name} is empty: give a value, or check the shell variable that you used.")
    first, second = printable(source.repository), printable(source.issue or ".")
    is_file = os.path.isfile(source.repository)  # noqa: PTH113 - false for what cannot be looked at or is no path
    names_issue = ("#" in first or "/issues/" in first) and not is_there(source.repository)
    alone = source.issue is None and source.text is None
    if (is_file or names_issue) and (alone or (source.issue and os.path.isdir(source.issue))):  # noqa: PTH112
        raise UsageError(f"{first} is no repository, and REPO comes before ISSUE: write amini repair {second} {first}.")


def _require_place(output: Output) -> None:
    """Refuse an output that could not be written in the end, before anything is paid for."""
    if output.file is None:
        require_stdout()
        return
    name, folder = printable(str(output.file)), output.file.parent
    with boundary({OSError: lambda error: EnvironmentFailed(f"{name} cannot be reached ({reason(error)}): check -o.")}):
        if output.file.is_dir():
            raise UsageError(f"{name} is a folder: name a file in it with -o.")
        if not folder.is_dir():
            raise UsageError(f"There is no folder {printable(str(folder))}: make it, or name another file with -o.")
        if not os.access(output.file if output.file.exists() else folder, os.W_OK):
            raise EnvironmentFailed(f"There is no permission to write {name}: name another file with -o.")


def _require_working_tree(where: str, rev: str | None) -> None:
    """Refuse to apply a patch where there is no working tree for it. What is no repository is refused later."""
    if rev:
        message = "A patch for another commit cannot be applied to the working tree: leave out --apply or --rev."
        raise UsageError(message)
    if not is_there(where):
        raise UsageError("--apply changes a working tree, and REPO is no folder: leave it out, or name a local clone.")
    answer = GitCommand(where).ask("rev-parse", "--is-inside-work-tree")
    if answer.out.strip() == b"false":
        raise UsageError(f"{printable(where)} has no working tree for --apply: leave it out, or name one that has.")


def _at_a_commit(where: str, rev: str | None, output: Output) -> str:
    """Return the commit that is repaired and tested instead of the working tree: a branch starts at a commit."""
    if output.apply:
        raise UsageError("A patch of a commit cannot be applied to the working tree: leave out --apply or --commit.")
    if not is_there(where):
        raise UsageError("--commit makes a branch, and REPO is no folder: leave it out, or name a local clone.")
    from agentless_mini.repository.branches import has_changes

    if rev is None and not output.quiet and has_changes(where):
        people().print(
            "note: Uncommitted changes are left out, because --commit repairs HEAD.", style="yellow", markup=False
        )
    return rev or "HEAD"


def _opened(where: str, rev: str | None, output: Output) -> Repository:
    """Open the repository; that one is fetched, which may take minutes, is shown."""
    cache = platformdirs.user_cache_path(APP) / "clones"
    if is_there(where):
        return open_repository(where, rev, cache)
    with ProgressLines(Console(quiet=True) if output.quiet else people()) as lines:
        lines.begin(f"Fetching {printable(*without_passwords((where,)))}")
        return open_repository(where, rev, cache)


def _issue(source: "SourceOptions") -> Issue:
    if source.text is not None:
        if source.issue is not None:
            raise UsageError("The issue is given twice: leave out either ISSUE or --text.")
        return literal_issue(source.text, "--text")
    if source.issue is None:
        raise UsageError("No issue is given after REPO: name a file, - for stdin, owner/name#12, or use --text.")
    # GitHub's runners name the API of the server that they belong to.
    api = os.environ.get("GITHUB_API_URL") or "https://api.github.com"
    return read_issue(source.issue, sys.stdin.buffer, GitHub(api, os.environ.get("GITHUB_TOKEN", "")))


# --- paths as a person at a prompt writes them: from where they stand, or from the tree's top -------------------------


def tree_path(said: str, names: Collection[str], top: Path, here: Path) -> str:
    """Return the path of the tree that is meant by what is said in the folder `here`, both absolute.

    `./a.py` and an absolute path have one meaning. `a.py` is taken from `here` or from the top, wherever there is such
    a file. What is neither is returned as it is. Raises `UsageError` where there are both.
    """
    spelled = said.replace("\\", "/")
    seen = here / spelled
    near = _below(top, seen.parent.resolve() / seen.name)
    far = PurePosixPath(spelled).as_posix()
    if near not in names:
        return far if far in names else said
    if far in names and far != near and not spelled.startswith(("./", "../", "/")):
        raise UsageError(
            f"{printable(said)} is both {printable(near)} and {printable(far)} of the repository: write "
            f"./{printable(said)} for the first, {printable(str(top / far))} for the second."
        )
    return near


def tree_test(said: str, names: Collection[str], top: Path, here: Path) -> str:
    """Return a test, PATH or PATH::NAME, with the path as `tree_path` has it."""
    file, mark, name = said.partition("::")
    return f"{tree_path(file, names, top, here)}{mark}{name}"


def given_here(given: GivenTests, snapshot: Snapshot, top: Path, here: Path) -> GivenTests:
    """Return the user's tests as the tree has them. A command runs in the folder where it was said."""
    names = {file.path for file in snapshot.files}
    folder = _below(top, here)
    inside = folder not in {"", "."} and any(name.startswith(f"{folder}/") for name in names)
    change = f"cd {shlex.quote(folder)}; " if inside else ""
    tests = tuple(tree_test(said, names, top, here) for said in given.tests)
    return replace(given, tests=tests, commands=tuple(line.strip() and change + line for line in given.commands))


def _below(top: Path, path: Path) -> str:
    """Return a path as the tree has it, "" where it lies outside."""
    return path.relative_to(top).as_posix() if path.is_relative_to(top) else ""
