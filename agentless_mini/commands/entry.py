"""From the words of a command line to the parts of a run: the issue, the repository, the settings, the store."""

import hashlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
from rich.console import Console

from agentless_mini.commands.models import Machine
from agentless_mini.commands.repair import Output, Task, repair
from agentless_mini.commands.terminal import noted, people, require_stdout
from agentless_mini.config import Config, load_config
from agentless_mini.domain import Issue
from agentless_mini.errors import EnvironmentFailed, UsageError, boundary, printable
from agentless_mini.gitcommand import GitCommand
from agentless_mini.issue_sources import GitHub, literal_issue, read_issue
from agentless_mini.repository import open_repository
from agentless_mini.samplers.scoring import KEY_VARIABLE
from agentless_mini.stages.given import GivenSettings
from agentless_mini.store import Store

APP = "amini"


@dataclass(frozen=True, slots=True)
class RepairArguments:
    """What `amini repair` was told to repair."""

    repository: str
    issue: str | None
    text: str | None
    rev: str | None
    files: tuple[str, ...] = ()
    failing_tests: tuple[str, ...] = ()
    failing_commands: tuple[str, ...] = ()


def run_repair(
    arguments: RepairArguments, output: Output, settings: tuple[Path | None, Mapping[str, Any]], store: Path | None
) -> int:
    """Read what the arguments name, run the chain, and return the exit code. `settings` are the file and the flags."""
    config = read_config(*settings)
    _require_place(output)
    if output.apply:
        _require_working_tree(arguments)
    issue = _issue(arguments)
    here = Path.cwd()
    if not (output.apply or output.quiet) and here != (top := top_of(here)) and _is_there(arguments.repository):
        people().print(f"note: git apply leaves out what lies outside of {here}: run it in {top}.", markup=False)
    repository = open_repository(arguments.repository, arguments.rev, platformdirs.user_cache_path(APP) / "clones")
    own = GivenSettings(tests=arguments.failing_tests, commands=arguments.failing_commands)
    task = Task(issue, repository, config, arguments.files, own)
    waiting = noted(Console(quiet=True) if output.quiet else people())
    with Store.open(store or store_of(arguments.repository), waiting) as opened:
        return repair(task, opened, output, this_machine())


def read_config(path: Path | None, flags: Mapping[str, Any]) -> Config:
    """Return the settings of `path`, or of the user's own file if there is one, with the flags put over them.

    OPENAI_API_KEY is no setting: it is for one address, and comes after a key of these settings (`OpenAISampler`).
    """
    own = platformdirs.user_config_path(APP) / "config.toml"
    key = os.environ.get("AMINI_API_KEY")
    secret = {"endpoint.api_key": key} if key else {}
    if scorer_key := os.environ.get(KEY_VARIABLE):
        secret["scorer.api_key"] = scorer_key
    return load_config(path or (own if own.is_file() else None), {**secret, **flags})


def store_of(repository: str) -> Path:
    """Return the default store of a repository: one for each path or address, in the user's state folder."""
    path = top_of(Path(repository)) if _is_there(repository) else Path(repository)
    place = str(path) if path.is_absolute() else repository
    name = "".join(letter if letter.isalnum() else "-" for letter in path.name)[:40] or "repository"
    digest = hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()[:12]
    return platformdirs.user_state_path(APP) / "stores" / f"{name}-{digest}.sqlite"


def top_of(path: Path) -> Path:
    """Return the top of the working tree that a path lies in, or the path itself, made absolute."""
    whole = path.resolve()
    return next((folder for folder in (whole, *whole.parents) if (folder / ".git").exists()), whole)


def this_machine() -> Machine:
    """Return where amini keeps its things on this machine, and what it has."""
    return Machine(platformdirs.user_state_path(APP), platformdirs.user_cache_path(APP), dict(os.environ))


def _require_place(output: Output) -> None:
    """Refuse an output that could not be written in the end, before anything is paid for."""
    if output.file is None:
        require_stdout()
        return
    name, folder = printable(str(output.file)), output.file.parent
    with boundary({OSError: lambda error: EnvironmentFailed(f"{name} cannot be reached ({error}): check -o.")}):
        if output.file.is_dir():
            raise UsageError(f"{name} is a folder: name a file in it with -o.")
        if not folder.is_dir():
            raise UsageError(f"There is no folder {printable(str(folder))}: make it, or name another file with -o.")
        if not os.access(output.file if output.file.exists() else folder, os.W_OK):
            raise EnvironmentFailed(f"There is no permission to write {name}: name another file with -o.")


def _require_working_tree(arguments: RepairArguments) -> None:
    """Refuse to apply a patch where there is no working tree for it. What is no repository is refused later."""
    where = arguments.repository
    if arguments.rev:
        message = "A patch for another commit cannot be applied to the working tree: leave out --apply or --rev."
        raise UsageError(message)
    if not _is_there(where):
        raise UsageError("--apply changes a working tree, and REPO is no folder: leave it out, or name a local clone.")
    answer = GitCommand(where).ask("rev-parse", "--is-inside-work-tree")
    if answer.out.strip() == b"false":
        raise UsageError(f"{printable(where)} has no working tree for --apply: leave it out, or name one that has.")


def _is_there(repository: str) -> bool:
    try:
        return Path(repository).exists()
    except OSError:  # it is there, and must not be looked at
        return True


def _issue(arguments: RepairArguments) -> Issue:
    if arguments.text is not None:
        if arguments.issue is not None:
            raise UsageError("The issue is given twice: leave out either ISSUE or --text.")
        return literal_issue(arguments.text, "--text")
    if arguments.issue is None:
        raise UsageError("No issue is given: name a file, - for stdin, owner/name#12, or use --text.")
    return read_issue(arguments.issue, sys.stdin.buffer, GitHub(token=os.environ.get("GITHUB_TOKEN", "")))
