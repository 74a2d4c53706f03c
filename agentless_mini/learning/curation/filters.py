"""The filters of pull requests that need no repository but what is known of a pull request and its changes."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from agentless_mini.edits.paths import clean_path
from agentless_mini.learning.curation.events import is_bot
from agentless_mini.learning.curation.exclusions import is_benchmark
from agentless_mini.learning.curation.history import GITLINK, LINK, Changed
from agentless_mini.learning.curation.records import PullFacts
from agentless_mini.learning.curation.settings import CurateSettings, Oracle
from agentless_mini.learning.curation.steps import Step
from agentless_mini.lexical import CODE_SUFFIX, is_test_path

LOCK_FILES = frozenset(
    {"package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock", "bun.lockb", "deno.lock"}
    | {"poetry.lock", "pipfile.lock", "pdm.lock", "uv.lock", "pixi.lock", "conda-lock.yml", "cargo.lock", "go.sum"}
    | {"composer.lock", "gemfile.lock", "mix.lock", "flake.lock", "gradle.lockfile", "packages.lock.json"}
    | {"package.resolved", "podfile.lock", "pubspec.lock", "cartfile.resolved", "module.bazel.lock"}
)
_BOT_BRANCH = re.compile(r"^(dependabot|renovate|greenkeeper|pyup|snyk|pre-commit-ci|automerge|auto-merge)\b", re.I)
_AUTOMERGE = re.compile(r"\bauto-?merge\b", re.IGNORECASE)
_BUMP = re.compile(
    r"^(?:\w+(?:\([^)]*\))?!?:\s*)?(?:"
    r"bump\b|update dependency\b|update [\w./@-]+ (?:requirement|to v?\d)|upgrade [\w./@-]+ (?:from\b.*\bto\b|to v?\d)"
    r"|pin dependenc|lock file maintenance|(?:\[pre-commit\.ci\] )?pre-commit autoupdate|version bump"
    r"|(?:prepare |cut |start )?(?:for )?(?:release|version)(?: of)? v?\d|v?\d+\.\d+(?:\.\d+)?$)"
    r"|^\w+\(deps(?:-dev)?\)",
    re.IGNORECASE,
)


def before_the_mirror(repo: str, pull: PullFacts) -> Step | None:
    """Return why a pull request is left out by what events say of it, None where it is not."""
    if pull.merged is False:
        return Step.NOT_MERGED
    if is_benchmark(repo):
        return Step.BENCHMARK
    if pull.bot or is_bot(pull.login) or _BOT_BRANCH.search(pull.branch):
        return Step.BOT
    return by_title(pull.title)


def by_title(title: str) -> Step | None:
    """Return why a pull request is left out by its title, None where it is not or the title is not known yet."""
    if _AUTOMERGE.search(title):
        return Step.BOT
    return Step.VERSION_BUMP if _BUMP.search(title.strip()) else None


def by_changes(changes: Sequence[Changed], settings: CurateSettings) -> Step | None:
    """Return why a pull request is left out by what it changes, None where it is not."""
    wanted = wanted_files(changes, settings.oracle)
    steps = (
        (not changes, Step.EMPTY),
        (all(map(is_lock_file, changes)), Step.LOCK_FILES_ONLY),
        (len(changes) > settings.most_files, Step.HUGE),
        (sum(max(one.lines, 0) for one in changes if not is_lock_file(one)) > settings.most_lines, Step.HUGE),
        (not any(CODE_SUFFIX.search(_path(one)) for one in wanted), Step.NO_CODE),
        (not any(one.before for one in wanted), Step.NOTHING_TO_EDIT),
    )
    return next((step for wrong, step in steps if wrong), None)


def wanted_files(changes: Sequence[Changed], oracle: Oracle) -> tuple[Changed, ...]:
    """Return the changed files that a row is about."""
    kept = (one for one in changes if not is_lock_file(one))
    return tuple(one for one in kept if oracle is Oracle.ALL or _is_code(_path(one)))


def is_lock_file(one: Changed) -> bool:
    """Tell whether a program wrote the file to pin versions."""
    return PurePosixPath(_path(one)).name.lower() in LOCK_FILES


def unreadable(one: Changed) -> str:
    """Return why a file cannot stand in a row, "" where it can as far as its entry tells."""
    path = _path(one)
    if clean_path(path) != path:
        return "hostile path"
    if not {LINK, GITLINK}.isdisjoint(one.modes):
        return "link or submodule"
    return "binary" if one.lines < 0 else ""


def _is_code(path: str) -> bool:
    return bool(CODE_SUFFIX.search(path)) and not is_test_path(path)


def _path(one: Changed) -> str:
    return one.path.decode("utf-8", "surrogateescape")
