"""Runs git so that nothing a repository configures can execute: the one place of the package that starts git.

A repository that somebody else prepared can name programs in its `.git/config`: a file system monitor, hooks, filters,
a transport for objects that are missing. Every call here switches them off, keeps git from writing what it writes only
to be faster next time, and forgets the variables with which a surrounding git (a hook, `rebase --exec`) says where
*its* repository is. The user's own configuration stays in force.
"""

import contextlib
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product

from agentless_mini.domain import PastCommit
from agentless_mini.errors import EnvironmentFailed, RepositoryError, boundary, printable

# 2.31 brought --config-env, without which a filter with "=" in its name could not be switched off.
OLDEST_GIT = (2, 31)

# Of a history so much is read: some 0.3 s and 1 MB of django. A commit of more files than MOST_PATHS is of none.
MOST_COMMITS, MOST_PATHS, MOST_OF_MESSAGE = 3000, 100, 4000
HISTORY_SECONDS = 30.0

_NOT_FOUND = 127  # what env(1) ends with where there is no such program
_VERDICTS = frozenset({0, 1, 128})  # git dies with 128 of a patch that it cannot read, and of much else
_UNABLE = re.compile(
    r"^fatal: (cannot change to '|Out of memory|detected dubious ownership)"
    r"|^(fatal|error): .*: (No space left on device|Disk quota exceeded|Read-only file system|Input/output error"
    r"|Cannot allocate memory|Too many open files)$",
    re.MULTILINE,
)

_FORGOTTEN = (
    "DIR", "WORK_TREE", "COMMON_DIR", "INDEX_FILE", "OBJECT_DIRECTORY", "ALTERNATE_OBJECT_DIRECTORIES", "NAMESPACE",
    "PREFIX", "SHALLOW_FILE", "LITERAL_PATHSPECS",
)  # fmt: skip
_VARIABLES = (
    "GIT_OPTIONAL_LOCKS=0",
    "GIT_TERMINAL_PROMPT=0",
    # Reading a missing object of a partial clone would start the transport that the repository names. An older git
    # does not know the first of these; the list of allowed transports keeps it from that.
    "GIT_NO_LAZY_FETCH=1",
    "GIT_ALLOW_PROTOCOL=none",
    "AMINI_EMPTY=",
)
# A file system monitor is empty, not "false": before git 2.36 the value is the name of a program. `submodule.recurse`
# turns read-tree and others to other repositories.
_OPTIONS = ("-c", "core.fsmonitor=", "-c", f"core.hooksPath={os.devnull}", "-c", "submodule.recurse=false")
# The name may be empty, and may hold dots.
_FILTER = re.compile(r"filter\.(?P<name>.*)\.[^.]+", re.DOTALL)
_TRUSTED_SCOPES = (b"system", b"global", b"command")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call of git came to: its exit status, what it printed, and all that it said beside that."""

    status: int
    out: bytes
    words: str

    @property
    def complaint(self) -> str:
        """Return the line that says what is wrong, "" where git said nothing."""
        lines = [line.strip() for line in self.words.splitlines() if line.strip()]
        said = [line for line in lines if line.startswith(("fatal: ", "error: "))] or lines
        return printable(said[0].removeprefix("fatal: ").removeprefix("error: ")) if said else ""


@dataclass(frozen=True, slots=True)
class Setting:
    """One value of git's configuration. `trusted` is one that the user or the machine made, not the repository."""

    key: str
    value: str
    trusted: bool


@dataclass(frozen=True, slots=True)
class GitCommand:
    """git, run in a folder, with options and variables (`NAME=value`) that come on top of the safe ones.

    A call that takes more than `limit` seconds is killed.
    """

    folder: str
    options: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    limit: float | None = None

    def ask(self, *arguments: str, stdin: bytes = b"") -> Answer:
        """Run git and return what it answers, a failure included.

        Raises `RepositoryError` where git is not installed or takes too long, `EnvironmentFailed` where it cannot be
        started.
        """
        command = ["env", *(f"--unset=GIT_{name}" for name in _FORGOTTEN), *_VARIABLES, *self.variables]
        command += ["git", "-C", self.folder, *_OPTIONS, *self.options, *arguments]
        english = {**os.environ, "LANGUAGE": "C", "LC_ALL": "C"}

        def too_long(_: BaseException) -> RepositoryError:
            took = f"git took more than {self.limit:g} s with {printable(self.folder)}"
            return RepositoryError(f"{took}: run `git fsck` and `git gc` there.")

        def cannot_start(error: BaseException) -> EnvironmentFailed:
            return EnvironmentFailed(f"git cannot be started ({error}): free some memory or disk space.")

        with boundary({subprocess.TimeoutExpired: too_long, FileNotFoundError: _missing, OSError: cannot_start}):
            done = subprocess.run(  # noqa: S603 - it is git
                command, input=stdin, capture_output=True, timeout=self.limit, env=english, check=False
            )
        if done.returncode == _NOT_FOUND:
            raise _missing()
        return Answer(done.returncode, done.stdout, done.stderr.decode("utf-8", "surrogateescape"))

    def read(self, *arguments: str, stdin: bytes = b"") -> bytes:
        """Run git and return what it prints. Raises `RepositoryError` where it fails."""
        answer = self.ask(*arguments, stdin=stdin)
        if answer.status:
            raise refusal(self.folder, answer.complaint)
        return answer.out

    def having(self, options: Iterable[str] = (), variables: Iterable[str] = ()) -> "GitCommand":
        """Return this command with more options and variables; the last one of a name counts."""
        return replace(self, options=(*self.options, *options), variables=(*self.variables, *variables))


def settings(git: GitCommand) -> tuple[Setting, ...]:
    """Return git's configuration as it holds in the folder, later values over earlier ones."""
    fields = git.read("config", "--list", "--show-scope", "-z").split(b"\0")[:-1]
    entries = (os.fsdecode(entry).partition("\n") for entry in fields[1::2])  # a key that stands alone is true
    return tuple(
        Setting(key, value if equals else "true", scope in _TRUSTED_SCOPES)
        for scope, (key, equals, value) in zip(fields[::2], entries, strict=True)
    )


def without_filters(git: GitCommand, configured: tuple[Setting, ...]) -> tuple[GitCommand, tuple[str, ...]]:
    """Return the command with the repository's own filters switched off, and the names of these filters, sorted.

    A filter (`filter.<name>.clean` and the like) is a shell command that git runs over contents, `git apply` included.
    """
    found = [_FILTER.fullmatch(setting.key) for setting in configured if not setting.trusted]
    names = sorted({match["name"] for match in found if match})
    emptied = product(names, ("clean", "smudge", "process", "required"))
    return git.having(f"--config-env=filter.{name}.{what}=AMINI_EMPTY" for name, what in emptied), tuple(names)


def blobs(git: GitCommand, ids: Iterable[str]) -> Iterator[bytes]:
    """Yield the contents of blobs, read in one call. Raises `RepositoryError`."""
    asked = [*ids]
    out, at = git.read("cat-file", "--batch", stdin="".join(f"{name}\n" for name in asked).encode()), 0
    for _ in asked:
        end = out.index(b"\n", at) + 1
        at = end + int(out[at:end].split()[2]) + 1
        yield out[end : at - 1]


def verdict(answer: Answer) -> Answer:
    """Return what git answers when it is asked about a patch.

    Raises `EnvironmentFailed` where it is no word on the patch: git was killed, its folder or the disk is gone.
    """
    if answer.status not in _VERDICTS or _UNABLE.search(answer.words):
        said = answer.complaint or f"it ended with {answer.status}"
        raise EnvironmentFailed(f"git cannot check a patch ({said}): free some memory and disk space, and try again.")
    return answer


def require_recent_git() -> None:
    """Raise `RepositoryError` where git is missing or too old to be run safely."""
    words = GitCommand(".").read("version").decode("utf-8", "replace").strip()
    found = re.search(r"(\d+)\.(\d+)", words)
    if found is None or (int(found[1]), int(found[2])) < OLDEST_GIT:
        oldest = ".".join(map(str, OLDEST_GIT))
        raise RepositoryError(f"git {oldest} or newer is needed, and this is {words!r}: install a newer git.")


def refusal(folder: str, complaint: str) -> RepositoryError:
    """Return git's complaint about a folder as a sentence that says what to try."""
    for sign, sentence in _REFUSALS:
        if sign in complaint:
            return RepositoryError(sentence.format(folder=printable(folder)))
    return RepositoryError(f"git cannot read {printable(folder)} ({complaint}): see what `git status` says there.")


_REFUSALS = (
    (
        "dubious ownership",
        "{folder} belongs to another user, so git does not trust it: if you do, run "
        "`git config --global --add safe.directory` with its full path.",
    ),
    ("not a git repository", "{folder} is not in a git repository: name another folder, or run `git init` and commit."),
    ("Permission denied", "There is no permission to read {folder}: run as a user who may, or change its permissions."),
    ("transport 'none'", "Objects of {folder} are missing: fetch them first (it may be a partial clone)."),
)


def _missing(_: BaseException | None = None) -> RepositoryError:
    return RepositoryError("git is not installed or not in the PATH: install git and try again.")


def day_of(git: GitCommand, commit: str) -> str:
    """Return the day of a commit (UTC, ISO form), "" where it says none that a calendar has.

    Read from the object itself: `git show` may run the program that checks signatures.
    """
    head = git.read("cat-file", "commit", commit).partition(b"\n\n")[0]
    said = next((line.split()[-2] for line in head.split(b"\n") if line.startswith(b"committer ")), b"")
    with contextlib.suppress(ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(int(said), UTC).date().isoformat()
    return ""


def past_commits(git: GitCommand, commit: str, seconds: float = HISTORY_SECONDS) -> tuple[PastCommit, ...]:
    """Return the commit and its ancestors, the newest `MOST_COMMITS` that are no merges, newest first.

    Commits that change no file or more than `MOST_PATHS`, and the first of a history, are left out. Where git cannot
    read them all in time (objects are missing, the machine is slow), there are none, so that what is found by them does
    not depend on how far it came. A shallow clone has fewer. Raises `EnvironmentFailed` where git cannot be started.
    """
    timed = replace(git, limit=seconds)
    listing = ("-r", "-z", "--raw", "--no-renames", "--encoding=UTF-8", "--format=%ct%x00%B")
    try:
        ids = timed.read("rev-list", "--no-merges", f"--max-count={MOST_COMMITS}", commit, "--")
        out = timed.read("diff-tree", "--stdin", *listing, stdin=ids)
    except RepositoryError:
        return ()
    found: list[tuple[bytes, bytes, list[bytes]]] = []
    fields = iter(out.split(b"\0")[:-1])
    for field, value in zip(fields, fields, strict=True):
        if field.lstrip(b"\n").startswith(b":"):
            found[-1][2].append(value)
        else:
            found.append((field, value, []))
    return tuple(
        PastCommit(
            message[:MOST_OF_MESSAGE].decode("utf-8", "replace").strip(),
            tuple(path.decode("utf-8", "surrogateescape") for path in paths),
            int(time) if time.isdigit() else 0,
        )
        for time, message, paths in found
        if 0 < len(paths) <= MOST_PATHS
    )
