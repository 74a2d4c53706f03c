"""What this machine gives a command: the settings of the user's file, the environment's keys, folders and paths.

With `amini config`: every setting that is in effect, and where it comes from. Secrets are not shown.
"""

import hashlib
import json
import os
import re
import shlex
import sys
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import platformdirs
from pydantic import BaseModel

from agentless_mini.commands.options import option_of, variable_of
from agentless_mini.commands.terminal import without_passwords
from agentless_mini.domain import GivenTests, Level, Snapshot
from agentless_mini.errors import UsageError, printable
from agentless_mini.settings import Config, load_config
from agentless_mini.settings.model import EndpointSettings, ScorerSettings
from agentless_mini.settings.run import SandboxKind, Until

APP = "amini"
STORE = "store.sqlite"
"""The record in the folder of an evaluation."""

_SECRET = re.compile(r"--[\w-]*(?:key|token|password|secret)[\w-]*")
_HIDDEN = "**********"  # as pydantic has it


@dataclass(frozen=True, slots=True)
class Machine:
    """Where amini keeps what it must remember and what it can fetch again, and the environment it was started in."""

    state: Path
    cache: Path
    environment: Mapping[str, str]

    @property
    def served(self) -> Path:
        """Return the folder where `amini serve` records the running server."""
        return self.state / "serve"

    def evaluation(self, name: str) -> Path:
        """Return the folder of an evaluation by its path, or by its name among those in the user's state folder."""
        path = Path(name)
        return path if path.exists() or "/" in name else self.state / "evals" / name

    @property
    def weights(self) -> Path:
        """Return the folder where the weights of embedded models are kept."""
        return self.cache / "weights"


def this_machine() -> Machine:
    """Return where amini keeps its things on this machine, and what it has."""
    return Machine(platformdirs.user_state_path(APP), platformdirs.user_cache_path(APP), dict(os.environ))


def read_config(path: Path | None, flags: Mapping[str, Any]) -> Config:
    """Return the settings of `path`, or of the user's own file if there is one, with the flags put over them.

    OPENAI_API_KEY is no setting: it is for one address, and comes after a key of these settings (`OpenAISampler`).
    """
    found = secrets()
    keys = {name: key for name, (_, key) in found.items()}
    typed = {name: option_of(name) for name in flags} | {name: variable for name, (variable, _) in found.items()}
    return load_config(file_in_use(path), {**keys, **flags}, typed)


def require_together(config: Config, flags: Mapping[str, Any]) -> None:
    """Refuse settings and flags that do not go together, before anything is read or asked. Raises `UsageError`."""
    from agentless_mini.chain.pipeline import check_rounds
    from agentless_mini.chain.session import NoBoxes

    check_rounds(config, Until.TESTS, None, NoBoxes("") if config.sandbox.kind is SandboxKind.NONE else None)
    if config.sandbox.test_command or "sandbox.test_report" in flags:  # eval has commands of its rows
        from agentless_mini.testing.plans import harness_of_command

        harness_of_command(config.sandbox.test_command, (), config.sandbox.test_report)
    if config.evolve.scored and config.scorer.base_url is None:
        raise UsageError("--select reward-model needs a server that scores: set base_url in [scorer] of the settings.")
    of_rounds = [name for name in flags if name in {"evolve.parents", "evolve.per_round", "evolve.select"}]
    if of_rounds and config.evolve.rounds == 1 and "evolve.rounds" not in flags:
        raise UsageError(f"{option_of(of_rounds[0])} has no effect without several rounds: add --rounds.")
    if "sandbox.image" in flags and config.sandbox.kind not in {SandboxKind.AUTO, SandboxKind.DOCKER}:
        raise UsageError(f"--image is for Docker, and the sandbox is {config.sandbox.kind}: leave one of them out.")


def require_tests(required: Level, given: GivenTests, config: Config) -> None:
    """Refuse what no patch could show, before anything is paid for. Raises `UsageError`."""
    if required is Level.GIVEN and not given.ids():
        raise UsageError("--require given needs a test of yours: give --failing-test or --failing-cmd.")
    if required in {Level.GIVEN, Level.TESTS} and config.sandbox.kind is SandboxKind.NONE:
        asked = "--failing-test or --failing-cmd" if config.require is None else f"--require {required}"
        raise UsageError(
            f"{asked} needs tests, and --sandbox none runs none: leave out --sandbox none, or let the vote choose with "
            "--require any."
        )


def file_in_use(path: Path | None) -> Path | None:
    """Return the file of settings: the one at `path`, else the user's own if there is one."""
    own = platformdirs.user_config_path(APP) / "config.toml"
    return path or (own if own.is_file() else None)


def secrets() -> dict[str, tuple[str, str]]:
    """Return the variables that hold keys, with what they hold, by the settings that they are put over."""
    known = {"endpoint.api_key": EndpointSettings.key_variable, "scorer.api_key": ScorerSettings.key_variable}
    return {name: (variable, key) for name, variable in known.items() if (key := os.environ.get(variable))}


def store_of(repository: str) -> Path:
    """Return the default store of a repository: one for each path or address, in the user's state folder."""
    path = top_of(Path(repository)) if is_there(repository) else Path(repository)
    place = str(path) if path.is_absolute() else repository
    name = "".join(letter if letter.isalnum() else "-" for letter in path.name)[:40] or "repository"
    digest = hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()[:12]
    return platformdirs.user_state_path(APP) / "stores" / f"{name}-{digest}.sqlite"


def top_of(path: Path) -> Path:
    """Return the top of the working tree that a path lies in, or the path itself, made absolute."""
    whole = path.resolve()
    return next((folder for folder in (whole, *whole.parents) if (folder / ".git").exists()), whole)


def is_there(repository: str) -> bool:
    """Return whether a repository is a path on this machine."""
    try:
        return Path(repository).exists()
    except OSError:  # it is there, and must not be looked at
        return True


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


def given_here(given: GivenTests, snapshot: Snapshot, top: Path, here: Path) -> GivenTests:
    """Return the user's tests as the tree has them. A command runs in the folder where it was said."""
    names = {file.path for file in snapshot.files}
    folder = _below(top, here)
    inside = folder not in {"", "."} and any(name.startswith(f"{folder}/") for name in names)
    change = f"cd {shlex.quote(folder)}; " if inside else ""
    said = (test.partition("::") for test in given.tests)
    tests = tuple(f"{tree_path(file, names, top, here)}{mark}{name}" for file, mark, name in said)
    return replace(given, tests=tests, commands=tuple(line.strip() and change + line for line in given.commands))


def _below(top: Path, path: Path) -> str:
    """Return a path as the tree has it, "" where it lies outside."""
    return path.relative_to(top).as_posix() if path.is_relative_to(top) else ""


def show_settings(path: Path | None, flags: Mapping[str, Any], as_json: bool) -> None:
    """Write the settings of the file at `path`, else of the user's own, with the flags put over them, to stdout."""
    settings = dict(leaves(read_config(path, flags)))
    file = file_in_use(path)
    said = tomllib.loads(file.read_text(encoding="utf-8")) if file else {}
    sources = {
        **{name: str(file) for name in settings if is_named(said, name.split("."))},
        **{name: variable for name, (variable, _) in secrets().items()},
        **dict.fromkeys(flags, "the command line"),
        **{name: known for name in flags if (known := variable_of(name)) and os.environ.get(known) == flags[name]},
    }
    rows = {name: (shown(value), sources.get(name, "default")) for name, value in settings.items()}
    if as_json:
        values = {name: {"value": value, "source": source} for name, (value, source) in rows.items()}
        document = {"schema": 1, "file": str(file) if file else None, "settings": values}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return
    for name, (value, source) in rows.items():
        sys.stdout.write(f"{name} = {json.dumps(value)}  # {json.dumps(source)[1:-1]}\n")


def leaves(settings: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the JSON value of every setting, secrets as asterisks."""
    values = settings.model_dump(mode="json")
    for name in type(settings).model_fields:
        inner = getattr(settings, name)
        if isinstance(inner, BaseModel):
            yield from leaves(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, values[name]


def is_named(table: Any, keys: list[str]) -> bool:  # noqa: ANN401 - what TOML holds
    """Return whether a table holds a value under these keys, one inside the other."""
    first, *rest = keys
    return isinstance(table, dict) and first in table and (not rest or is_named(table[first], rest))


def shown(value: Any) -> Any:  # noqa: ANN401 - a JSON value
    """Return a value without what is secret in words for other programs: their keys, and passwords in addresses."""
    if isinstance(value, list):
        words = [shown(word) for word in value]
        before = ["", *words]
        return [_HIDDEN if _SECRET.fullmatch(str(flag)) else word for flag, word in zip(before, words, strict=False)]
    if not isinstance(value, str):
        return value
    (clean,) = without_passwords([value])
    return re.sub(rf"({_SECRET.pattern})=\S*", rf"\1={_HIDDEN}", clean)
