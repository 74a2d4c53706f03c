"""From the words of a command line to the parts of a run: the issue, the repository, the settings, the store."""

import hashlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import platformdirs
from rich.console import Console

from agentless_mini.chain.bench import NoBench
from agentless_mini.chain.pipeline import check_rounds
from agentless_mini.commands.chain import chain_of
from agentless_mini.commands.models import Machine
from agentless_mini.commands.options import option_of
from agentless_mini.commands.repair import Output, Task, repair
from agentless_mini.commands.terminal import noted, people, require_stdout, without_passwords
from agentless_mini.domain import Issue
from agentless_mini.errors import EnvironmentFailed, UsageError, boundary, printable, reason
from agentless_mini.record import Store
from agentless_mini.report.live import ProgressLines
from agentless_mini.repository.branches import has_changes, plan_branch
from agentless_mini.repository.gitcommand import GitCommand
from agentless_mini.repository.issue_sources import GitHub, literal_issue, read_issue
from agentless_mini.repository.opening import Repository, open_repository
from agentless_mini.settings import Config, load_config
from agentless_mini.settings.model import EndpointSettings, ScorerSettings
from agentless_mini.settings.run import GivenSettings, SandboxKind
from agentless_mini.testing.harness import harness_of_command

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
    require_together(config, settings[1])
    _require_words(arguments)
    _require_place(output)
    if output.apply:
        _require_working_tree(arguments)
    if output.commit is not None:
        arguments = _at_a_commit(arguments, output)
    issue = _issue(arguments)
    here = Path.cwd()
    if not (output.apply or output.quiet) and here != (top := top_of(here)) and _is_there(arguments.repository):
        people().print(
            f"note: In {here}, git apply ignores changes outside of this folder: run it in {top}.", markup=False
        )
    repository = _opened(arguments, output)
    named = output.commit
    branch = None if named is None else plan_branch(arguments.repository, named, arguments.rev or "HEAD")
    own = GivenSettings(tests=arguments.failing_tests, commands=arguments.failing_commands)
    place = top_of(Path(arguments.repository)) if _is_there(arguments.repository) else None
    task = Task(issue, repository, config, arguments.files, own, branch, place)
    waiting = noted(Console(quiet=True) if output.quiet else people())
    with Store.open(store or store_of(arguments.repository), waiting) as opened:
        return repair(task, opened, output, this_machine())


def read_config(path: Path | None, flags: Mapping[str, Any]) -> Config:
    """Return the settings of `path`, or of the user's own file if there is one, with the flags put over them.

    OPENAI_API_KEY is no setting: it is for one address, and comes after a key of these settings (`OpenAISampler`).
    """
    found = secrets()
    keys = {name: key for name, (_, key) in found.items()}
    typed = {name: option_of(name) for name in flags} | {name: variable for name, (variable, _) in found.items()}
    return load_config(file_in_use(path), {**keys, **flags}, typed)


def file_in_use(path: Path | None) -> Path | None:
    """Return the file of settings: the one at `path`, else the user's own if there is one."""
    own = platformdirs.user_config_path(APP) / "config.toml"
    return path or (own if own.is_file() else None)


def secrets() -> dict[str, tuple[str, str]]:
    """Return the variables that hold keys, with what they hold, by the settings that they are put over."""
    known = {"endpoint.api_key": EndpointSettings.key_variable, "scorer.api_key": ScorerSettings.key_variable}
    return {name: (variable, key) for name, variable in known.items() if (key := os.environ.get(variable))}


def require_together(config: Config, flags: Mapping[str, Any]) -> None:
    """Refuse settings and flags that do not go together, before anything is read or asked. Raises `UsageError`."""
    untested = NoBench("") if config.sandbox.kind is SandboxKind.NONE else None
    check_rounds(chain_of(config), None, untested)
    if config.sandbox.test_command:
        harness_of_command(config.sandbox.test_command, ())
    if config.evolve.scored and config.scorer.base_url is None:
        raise UsageError("--select reward-model needs a server that scores: set base_url in [scorer] of the settings.")
    of_rounds = [name for name in flags if name in {"evolve.parents", "evolve.per_round", "evolve.select"}]
    if of_rounds and config.evolve.rounds == 1 and "evolve.rounds" not in flags:
        raise UsageError(f"{option_of(of_rounds[0])} has no effect without several rounds: add --rounds.")
    if "sandbox.image" in flags and config.sandbox.kind not in {SandboxKind.AUTO, SandboxKind.DOCKER}:
        raise UsageError(f"--image is for Docker, and the sandbox is {config.sandbox.kind}: leave one of them out.")


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


def _require_words(arguments: RepairArguments) -> None:
    """Refuse a word that is empty, and REPO and ISSUE where each is in the other's place."""
    words = {
        "REPO": (arguments.repository,),
        "ISSUE": (arguments.issue,),
        "--rev": (arguments.rev,),
        "--files": arguments.files,
        "--failing-test": arguments.failing_tests,
        "--failing-cmd": arguments.failing_commands,
    }
    for name, given in words.items():
        if any(word is not None and not word.strip() for word in given):
            raise UsageError(f"{name} is empty: give a value, or check the shell variable that you used.")
    first, second = printable(arguments.repository), printable(arguments.issue or ".")
    is_file = os.path.isfile(arguments.repository)  # noqa: PTH113 - false for what cannot be looked at or is no path
    names_issue = ("#" in first or "/issues/" in first) and not _is_there(arguments.repository)
    alone = arguments.issue is None and arguments.text is None
    if (is_file or names_issue) and (alone or (arguments.issue and os.path.isdir(arguments.issue))):  # noqa: PTH112
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


def _at_a_commit(arguments: RepairArguments, output: Output) -> RepairArguments:
    """Have a commit repaired and tested, not the working tree: a branch starts at a commit."""
    if output.apply:
        raise UsageError("A patch of a commit cannot be applied to the working tree: leave out --apply or --commit.")
    if not _is_there(arguments.repository):
        raise UsageError("--commit makes a branch, and REPO is no folder: leave it out, or name a local clone.")
    if arguments.rev is None and not output.quiet and has_changes(arguments.repository):
        people().print(
            "note: Uncommitted changes are left out, because --commit repairs HEAD.", style="yellow", markup=False
        )
    return replace(arguments, rev=arguments.rev or "HEAD")


def _opened(arguments: RepairArguments, output: Output) -> Repository:
    """Open the repository; that one is fetched, which may take minutes, is shown."""
    cache = platformdirs.user_cache_path(APP) / "clones"
    if _is_there(arguments.repository):
        return open_repository(arguments.repository, arguments.rev, cache)
    with ProgressLines(Console(quiet=True) if output.quiet else people()) as lines:
        lines.begin(f"Fetching {printable(*without_passwords((arguments.repository,)))}")
        return open_repository(arguments.repository, arguments.rev, cache)


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
        raise UsageError("No issue is given after REPO: name a file, - for stdin, owner/name#12, or use --text.")
    # GitHub's runners name the API of the server that they belong to.
    api = os.environ.get("GITHUB_API_URL") or "https://api.github.com"
    return read_issue(arguments.issue, sys.stdin.buffer, GitHub(api, os.environ.get("GITHUB_TOKEN", "")))
