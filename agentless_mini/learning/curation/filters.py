"""What needs no repository: the filters of SWE-RL, the issues that a text closes, the licence of a text.

Rows must never come from the repositories that SWE-bench and its kin are made of. They are told by name, by the history
of forks that events give, and by the first commits that all clones of them share.
"""

import enum
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from agentless_mini.chain.file_roles import CODE_SUFFIX, is_test_path
from agentless_mini.edits.paths import clean_path
from agentless_mini.learning.curation.events import is_bot
from agentless_mini.learning.curation.history import Changed
from agentless_mini.learning.curation.joined import Pull
from agentless_mini.repository.gitcommand import GITLINK, LINK
from agentless_mini.settings.learning import CurateSettings, Oracle

_LINES = (Path(__file__).parent / "benchmarks.txt").read_text("ascii").splitlines()
BENCHMARKS = frozenset(word for line in _LINES if not line.startswith("#") for word in line.split())
NAMES = frozenset(word for word in BENCHMARKS if "/" in word)
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
_SHORT_NAMES = frozenset(name.rpartition("/")[2] for name in NAMES)
_REFERENCE = (
    r"(?:(?P<repo>[A-Za-z0-9_][\w-]*/[\w.-]+)?#|GH-|https?://github\.com/(?P<of>[A-Za-z0-9_][\w-]*/[\w.-]+)/issues/)"
    r"(?P<number>[1-9][0-9]{0,8})\b"
)
_CLOSING = re.compile(
    rf"\b(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?)\b:?\s+(?:(?:the\s+)?(?:issues?|bugs?)\s+)?{_REFERENCE}"
    r"(?P<more>(?:\s*(?:,|and|&)\s*(?:[\w-]+/[\w.-]+)?#[1-9][0-9]{0,8}\b)*)",
    re.IGNORECASE,
)
_MORE = re.compile(r"(?:(?P<repo>[\w-]+/[\w.-]+))?#(?P<number>[1-9][0-9]{0,8})")
# What is never closed goes on to the end, as GitHub shows it.
_NO_WORDS = re.compile(r"```.*?(?:```|\Z)|<!--.*?(?:-->|\Z)|`[^`\n]{1,200}`", re.DOTALL)
MOST_LINKS = 5
LICENCE_FILES = tuple(
    stem + suffix
    for stem in ("LICENSE", "LICENCE", "COPYING", "License", "license")
    for suffix in ("", ".txt", ".md", ".rst")
)
_PHRASES = (
    ("AGPL-3.0", "gnu affero general public license version 3"),
    ("LGPL-3.0", "gnu lesser general public license version 3"),
    ("LGPL-2.1", "gnu lesser general public license version 2.1"),
    ("GPL-3.0", "gnu general public license version 3"),
    ("GPL-2.0", "gnu general public license version 2"),
    ("Apache-2.0", "apache license version 2.0"),
    ("MPL-2.0", "mozilla public license version 2.0"),
    ("EPL-2.0", "eclipse public license - v 2.0"),
    ("BSL-1.0", "boost software license - version 1.0"),
    ("Unlicense", "free and unencumbered software released into the public domain"),
    ("CC0-1.0", "cc0 1.0 universal"),
    ("PSF-2.0", "python software foundation license version 2"),
    ("BSD-3-Clause", "neither the name of"),
    ("BSD-3-Clause", "may not be used to endorse or promote products"),
    ("BSD-2-Clause", "redistributions in binary form must reproduce the above copyright"),
    ("ISC", "permission to use, copy, modify, and/or distribute this software for any purpose with or without fee"),
    ("ISC", "permission to use, copy, modify, and distribute this software for any purpose with or without fee"),
    ("MIT", "permission is hereby granted, free of charge, to any person obtaining a copy"),
    ("Apache-2.0", "licensed under the apache license, version 2.0"),
    ("MIT", "the mit license"),
)


class Step(enum.StrEnum):
    """Why a pull request is no row, in the order in which it is asked."""

    NOT_MERGED = "not-merged"
    BENCHMARK = "benchmark"  # a repository of SWE-bench
    BOT = "bot"
    VERSION_BUMP = "version-bump"
    NO_MIRROR = "no-mirror"
    BENCHMARK_FORK = "benchmark-fork"
    COMMIT_MISSING = "commit-missing"  # the mirror lacks the merge commit or its parents
    HISTORY_UNCLEAR = "history-unclear"  # what it changed cannot be told: an octopus, a rebase of unknown length
    EMPTY = "empty"
    LOCK_FILES_ONLY = "lock-files-only"
    HUGE = "huge"
    NO_CODE = "no-code"
    NOTHING_TO_EDIT = "nothing-to-edit"  # it only creates files: no prompt could show anything
    NO_ISSUE = "no-issue"
    ISSUE_UNKNOWN = "issue-unknown"  # the events tell nothing of the linked issue, or nothing before the merge
    NO_CHANGE_ASKED = "no-change-asked"  # the model that is named says that the issue asks for no change of the code
    UNREADABLE = "unreadable"  # binary, a link, a submodule, not UTF-8, a path that leaves the tree
    UNSAYABLE = "unsayable"  # the edit format cannot say the change: Python that does not parse
    MIRROR_BROKEN = "mirror-broken"  # git failed on what the mirror has of it
    DUPLICATE = "duplicate"


@dataclass(eq=False)
class LeftOut(Exception):
    """Why a pull request is no row; `detail` is for the record of what could not be read."""

    step: Step
    detail: str = ""


def funnel(pulls: int, left_out: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return the steps in order, each with how many it left out and how many went on."""
    steps, kept = [], pulls
    for step in Step:
        kept -= left_out.get(step, 0)
        steps.append({"step": step.value, "left_out": left_out.get(step, 0), "kept": kept})
    return steps


def is_benchmark_fork(repo: str, kin: Iterable[str], is_fork: bool) -> bool:
    """Tell whether a repository is a fork of one: by a name or a first commit among its kin.

    Where events call it a fork, perhaps of an unknown repository, the same short name is enough.
    """
    is_namesake = is_fork and repo.rpartition("/")[2].lower() in _SHORT_NAMES
    return is_namesake or not BENCHMARKS.isdisjoint(one.lower() for one in kin)


def before_the_mirror(repo: str, pull: Pull) -> Step | None:
    """Return why a pull request is left out by what events say of it, None where it is not."""
    if pull.merged is False:
        return Step.NOT_MERGED
    if repo.lower() in NAMES:
        return Step.BENCHMARK
    is_bots = pull.bot or is_bot(pull.login) or _BOT_BRANCH.search(pull.branch)
    return Step.BOT if is_bots else by_title(pull.title)


def by_title(title: str) -> Step | None:
    """Return why a pull request is left out by its title, None where it is not or the title is not known yet."""
    if _AUTOMERGE.search(title):
        return Step.BOT
    return Step.VERSION_BUMP if _BUMP.search(title.strip()) else None


def by_changes(changes: Sequence[Changed], settings: CurateSettings) -> Step | None:
    """Return why a pull request is left out by what it changes, None where it is not."""
    wanted, lines = wanted_files(changes, settings.oracle), sum(max(c.lines, 0) for c in changes if not is_lock_file(c))
    steps = (
        (not changes, Step.EMPTY),
        (all(map(is_lock_file, changes)), Step.LOCK_FILES_ONLY),
        (len(changes) > settings.most_files or lines > settings.most_lines, Step.HUGE),
        (not any(CODE_SUFFIX.search(one.name) for one in wanted), Step.NO_CODE),
        (not any(one.before for one in wanted), Step.NOTHING_TO_EDIT),
    )
    return next((step for wrong, step in steps if wrong), None)


def wanted_files(changes: Sequence[Changed], oracle: Oracle) -> tuple[Changed, ...]:
    """Return the changed files that a row is about."""
    kept = (one for one in changes if not is_lock_file(one))
    return tuple(
        one for one in kept if oracle is Oracle.ALL or (CODE_SUFFIX.search(one.name) and not is_test_path(one.name))
    )


def is_lock_file(one: Changed) -> bool:
    """Tell whether a program wrote the file to pin versions."""
    return PurePosixPath(one.name).name.lower() in LOCK_FILES


def unreadable(one: Changed) -> str:
    """Return why a file cannot stand in a row, "" where it can as far as its entry tells."""
    if clean_path(one.name) != one.name:
        return "hostile path"
    if not {LINK, GITLINK}.isdisjoint(one.modes):
        return "link or submodule"
    return "binary" if one.lines < 0 else ""


class Link(NamedTuple):
    """An issue by repository and number."""

    repo: str
    number: int


def closing_links(texts: Iterable[str], repo: str) -> tuple[Link, ...]:
    """Return the issues that the texts of a pull request of `repo` close, in order, each once, `MOST_LINKS` at most.

    Code and HTML comments, as templates leave them, do not count; nor does a plain mention. "fixes #1, #2" is
    read as both, as people mean it, though GitHub closes the first alone.
    """
    found: dict[Link, None] = {}
    for text in texts:
        for match in _CLOSING.finditer(_NO_WORDS.sub(" ", text)):
            found[Link(match["repo"] or match["of"] or repo, int(match["number"]))] = None
            for more in _MORE.finditer(match["more"]):
                found[Link(more["repo"] or repo, int(more["number"]))] = None
    return tuple(found)[:MOST_LINKS]


def licence_of(data: bytes) -> str:
    """Return the SPDX name of the licence that a file holds, told by phrases that only it has, or "other"."""
    text = _plain(data[:200_000].decode("utf-8", "replace"))
    return next((name for name, phrase in _PHRASES if _plain(phrase) in text), "other")


def _plain(text: str) -> str:
    return re.sub(r"[\s,]+", " ", text.lower())
