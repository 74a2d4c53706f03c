"""Reads a repository so that nothing that it configures can execute: by git, and file by file off the disk.

A repository that somebody else prepared can name programs in its `.git/config`: a file system monitor, hooks, filters,
a transport for objects that are missing. Every call here switches them off, keeps git from writing what it writes only
to be faster next time, and forgets the variables with which a surrounding git (a hook, `rebase --exec`) says where
*its* repository is. The user's own configuration stays in force. This is the one place that starts git.

The files of a working tree are read as they are now without git, which would run filters to answer, and refresh the
index. Every folder on the way to a file is opened from the one above it and refused where it is a symlink, so that no
path leads out of the tree, not even one that is swapped while it is read. What belongs to the tree, git tells by lists
of names (see `opening`). Needs a POSIX system.
"""

import contextlib
import errno
import hashlib
import os
import re
import stat
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import groupby, product

from agentless_mini.domain import FileKind, PastCommit, SourceFile
from agentless_mini.errors import EnvironmentFailed, RepositoryError, boundary, counted, printable

# 2.31 brought --config-env, without which a filter with "=" in its name could not be switched off.
OLDEST_GIT = (2, 31)

# Of a history so much is read: 1 s of git and 5 MB for django. Commits of more files say nothing of one.
MOST_COMMITS, MOST_PATHS, MOST_OF_MESSAGE = 10_000, 100, 4000
HISTORY_SECONDS, PORTIONS = 60.0, 10  # each of which has its share of both: what a hostile one holds is not kept

_VERDICTS = frozenset({0, 1, 128})  # git dies with 128 of a patch that it cannot read, and of much else
_UNABLE = re.compile(
    r"^fatal: (cannot change to '|Out of memory|detected dubious ownership)"
    r"|^(fatal|error): .*: (No space left on device|Disk quota exceeded|Read-only file system|Input/output error"
    r"|Cannot allocate memory|Too many open files)$",
    re.MULTILINE,
)

_FORGOTTEN = {
    "GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE", "GIT_PREFIX", "GIT_SHALLOW_FILE", "GIT_LITERAL_PATHSPECS",
}  # fmt: skip
_VARIABLES = (
    "LANGUAGE=C",
    "LC_ALL=C",
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
# A text of 1 MiB is some 300,000 tokens, more than a prompt can show: what is larger is data or generated code.
LARGE_OVER = 1024 * 1024
# A larger file is in no snapshot: boxes get every file, and have a disk of a GiB. GitHub takes none.
HUGE_OVER = 100 * 1024 * 1024
# git's own rule, with its own number: a NUL byte in the first 8,000 bytes; rounded up to the page.
BINARY_PREFIX = 8 * 1024

REGULAR, EXECUTABLE, LINK, GITLINK = "100644", "100755", "120000", "160000"

_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a FIFO put in the place of a file must not make the reader wait.
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


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

        Raises `RepositoryError` where git takes too long, `EnvironmentFailed` where it cannot be started.
        """
        command = ["git", "-C", self.folder, *_OPTIONS, *self.options, *arguments]
        environment = {name: value for name, value in os.environ.items() if name not in _FORGOTTEN}
        set_here = (word.partition("=") for word in (*_VARIABLES, *self.variables))
        environment |= {name: value for name, _, value in set_here}

        def too_long(_: BaseException) -> RepositoryError:
            took = f"git took more than {self.limit:g} s with {printable(self.folder)}"
            return RepositoryError(f"{took}: run `git fsck` and `git gc` there.")

        def missing(_: BaseException) -> EnvironmentFailed:
            return EnvironmentFailed("git is not installed or not in the PATH: install git and try again.")

        def cannot_start(error: BaseException) -> EnvironmentFailed:
            return EnvironmentFailed(f"git cannot be started ({error}): free some memory or disk space.")

        with boundary({subprocess.TimeoutExpired: too_long, FileNotFoundError: missing, OSError: cannot_start}):
            done = subprocess.run(  # noqa: S603 - it is git
                command, input=stdin, capture_output=True, timeout=self.limit, env=environment, check=False
            )
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


def day_of(git: GitCommand, commit: str) -> str:
    """Return the day of a commit (UTC, ISO form), "" where it says none that a calendar has.

    Read from the object itself: `git show` may run the program that checks signatures.
    """
    head = git.read("cat-file", "commit", commit).partition(b"\n\n")[0]
    said = next((line.split()[-2] for line in head.split(b"\n") if line.startswith(b"committer ")), b"")
    with contextlib.suppress(ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(int(said), UTC).date().isoformat()
    return ""


def past_commits(
    git: GitCommand, commit: str, tell: Callable[[str], object] = str, seconds: float = HISTORY_SECONDS
) -> tuple[PastCommit, ...]:
    """Return the commit and its ancestors, the newest `MOST_COMMITS` that are no merges, newest first.

    Commits that change no file or more than `MOST_PATHS`, and the first of a history, are left out. Where git cannot
    read them all (a portion takes it too long, objects are missing), there are those of the portions before, and a note
    is told. A shallow clone has fewer. Raises `EnvironmentFailed` where git cannot be started.
    """
    timed, commits, size = replace(git, limit=seconds / PORTIONS), list[PastCommit](), MOST_COMMITS // PORTIONS
    listing = ("-r", "-z", "--raw", "--no-renames", "--encoding=UTF-8", "--format=%x00%B")
    try:
        ids = timed.read("rev-list", "--no-merges", f"--max-count={MOST_COMMITS}", commit, "--").splitlines(True)
        for begin in range(0, len(ids), size):
            out = timed.read("diff-tree", "--stdin", *listing, stdin=b"".join(ids[begin : begin + size]))
            found: list[tuple[str, list[str]]] = []
            fields = iter(out.split(b"\0")[:-1])
            for name, value in zip(fields, fields, strict=True):
                if name.lstrip(b"\n").startswith(b":"):
                    found[-1][1].append(decode_path(value))
                else:
                    found.append((value[:MOST_OF_MESSAGE].decode("utf-8", "replace").strip(), []))
            commits += [PastCommit(said, tuple(paths)) for said, paths in found if 0 < len(paths) <= MOST_PATHS]
    except RepositoryError as error:
        tell(f"Of the history the ranking of files knows {counted(len(commits), 'commit')} alone: {error}")
    return tuple(commits)


@dataclass(frozen=True, slots=True)
class DiskReading:
    """What the disk holds of the names: the entries, and the names that it holds but does not give.

    `unreadable` cannot be opened; `special` are sockets, FIFOs and devices; `huge` are over `HUGE_OVER`. A name that is
    not there is in none.
    """

    files: list[SourceFile] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)
    huge: list[str] = field(default_factory=list)


def read_worktree(top: bytes, modes: Mapping[bytes, str], executable: bool, symlinks: bool) -> DiskReading:
    """Read the names below the folder `top`, raw bytes with the modes that the index has for them.

    `executable` and `symlinks` tell which modes on the disk git believes (`core.fileMode`, `core.symlinks`); the others
    are the index's. Raises OSError only where `top` itself cannot be opened.
    """
    found = DiskReading()
    with contextlib.ExitStack() as opened:
        folder = os.open(top, _FOLDER_FLAGS)
        opened.callback(os.close, folder)
        for above, names in groupby(sorted(modes), lambda path: path.split(b"/")[:-1]):
            paths, entries = [*names], list[SourceFile | str]()
            try:
                with _inside(folder, above) as inside:
                    for path in paths:
                        try:
                            entries.append(_read_entry(inside, path, modes[path], executable, symlinks))
                        except OSError as error:
                            entries.append("" if error.errno in _GONE else "unreadable")
            except OSError as error:
                entries = ["" if error.errno in _GONE else "unreadable"] * len(paths)
            for path, entry in zip(paths, entries, strict=True):
                if isinstance(entry, SourceFile):
                    found.files.append(entry)
                elif entry:
                    getattr(found, entry).append(decode_path(path))
    found.files.sort(key=lambda file: file.path)
    return found


def decode_path(raw: bytes) -> str:
    """Return a raw name as `domain.SourceFile.path` has it."""
    return raw.decode("utf-8", "surrogateescape")


def file_entry(path: bytes, mode: str, data: bytes, size: int) -> SourceFile:
    """Build the entry of a file that begins with `data`, which only a TEXT keeps: of that it is all."""
    if len(data) <= LARGE_OVER and b"\0" not in data[:BINARY_PREFIX]:
        return SourceFile(decode_path(path), mode, FileKind.TEXT, data)
    kind = FileKind.LARGE if len(data) > LARGE_OVER else FileKind.BINARY
    return SourceFile(decode_path(path), mode, kind, size=size)


@contextmanager
def _inside(top: int, names: Iterable[bytes]) -> Iterator[int]:
    """Give the descriptor of the folder with these names, from the top down. Raises OSError."""
    with contextlib.ExitStack() as opened:
        folder = top
        for name in names:
            folder = os.open(name, _FOLDER_FLAGS, dir_fd=folder)
            opened.callback(os.close, folder)
        yield folder


def _read_entry(folder: int, path: bytes, mode: str, executable: bool, symlinks: bool) -> SourceFile | str:
    """Return what stands at the name, else the list of a `DiskReading` that it belongs to, "" for a folder of files.

    Of a regular file one byte more than is ever used is read. Raises OSError.
    """
    name = path.rpartition(b"/")[2]
    info = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISDIR(info.st_mode):
        return SourceFile(decode_path(path), GITLINK, FileKind.SUBMODULE) if mode == GITLINK else ""
    if stat.S_ISLNK(info.st_mode) or (mode == LINK and not symlinks):
        return SourceFile(decode_path(path), LINK, FileKind.SYMLINK)
    if stat.S_ISREG(info.st_mode) and info.st_size > HUGE_OVER:
        return "huge"
    if not stat.S_ISREG(info.st_mode):
        return "special"
    with os.fdopen(os.open(name, _FILE_FLAGS, dir_fd=folder), "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return "special"
        data = b""
        while len(data) <= LARGE_OVER and (part := file.read(LARGE_OVER + 1 - len(data))):  # it may return less
            data += part
    runs = info.st_mode & stat.S_IXUSR if executable else mode == EXECUTABLE
    return file_entry(path, EXECUTABLE if runs else REGULAR, data, info.st_size)


def digest(files: Sequence[SourceFile]) -> str:
    """Return the digest of a tree by its entries, sorted by path.

    Each field is preceded by its length, so that no two trees are written alike.
    """
    total = hashlib.sha256()
    for file in files:
        path = file.path.encode("utf-8", "surrogateescape")
        fields = (path, file.mode.encode(), file.kind.encode(), hashlib.sha256(file.data).digest())
        total.update(b"".join(len(field).to_bytes(8, "big") + field for field in fields))
    return total.hexdigest()
