"""Keeps bare copies of remote git repositories in a folder, one per URL, brought up to date when they are asked for.

A copy is made under another name and renamed when it is whole, so that a killed run leaves no half of one; runs that
want the same URL at the same time wait for each other. git's transports run as the user configured them, but git does
not ask for a password, and only https, http, ssh, git and file are spoken.

It does not read the copies, and it deletes nothing that it fetched: a history that was rewritten stays readable.
"""

import contextlib
import fcntl
import hashlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agentless_mini.errors import EnvironmentFailed, RepositoryError, Unreachable, boundary, printable
from agentless_mini.repository.gitcommand import Answer, GitCommand

# What HEAD of the remote points at: a bare copy's own HEAD keeps the name of a branch that may no longer exist.
REMOTE_HEAD = "refs/amini/head"

_SCHEMES = frozenset({"https", "http", "ssh", "git", "file"})
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://\S+")
_SCP_LIKE = re.compile(r"(\w[\w.-]*@)?\w[\w.-]*:(?!:)\S+")
_OWNER_AND_NAME = re.compile(r"\w[\w-]*/[\w.-]+")
_FULL_ID = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_SPOKEN = ("GIT_ALLOW_PROTOCOL=https:http:ssh:git:file",)
# A transfer that stands still for a minute is given up.
_QUIET = ("-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "http.lowSpeedLimit=1", "-c", "http.lowSpeedTime=60")
_REFUSALS = (
    (
        r"Could not resolve host|Connection refused|Connection timed out|unable to connect|Failed to connect",
        Unreachable,
        "{url} cannot be reached: check the network, or name a local clone.",
    ),
    (
        r"Authentication failed|could not read Username|could not read Password|Permission denied",
        RepositoryError,
        "{url} asks for credentials or does not exist: set up git's access to it, or name a local clone.",
    ),
    (
        r"not found|does not exist|does not appear to be a git repository|not a git repository",
        RepositoryError,
        "There is no git repository at {url}: check the address.",
    ),
)


@dataclass(frozen=True, slots=True)
class Remote:
    """A repository somewhere else: the address that git is given, and a short name for people."""

    url: str
    name: str


def remote_of(where: str) -> Remote:
    """Return the remote that the text names: a URL, an scp-like address (`host:path`) or GitHub's `owner/name`.

    Raises `RepositoryError` where it is none of these, or a URL in a scheme that is not spoken.
    """
    if url := _URL.fullmatch(where):
        if url["scheme"].lower() not in _SCHEMES:
            known = ", ".join(sorted(_SCHEMES))
            raise RepositoryError(f"Repositories cannot be cloned by {url['scheme']}: use one of {known}.")
        address = where
    elif _SCP_LIKE.fullmatch(where):
        address = where
    elif _OWNER_AND_NAME.fullmatch(where):
        address = f"https://github.com/{where}"
    else:
        raise RepositoryError(f"There is nothing at {printable(where)}: name a folder, a git URL or owner/name.")
    name = where.rstrip("/").removesuffix(".git").rpartition("/")[2].rpartition(":")[2]
    return Remote(address, name or where)


def bring_up_to_date(remote: Remote, rev: str | None, cache: Path) -> Path:
    """Return the folder of a bare copy in which `rev` and `REMOTE_HEAD` are as the remote has them now.

    A full commit id that the copy already holds is not asked for again, so that it can be used without a network.
    Raises `RepositoryError` where the remote cannot be read, `EnvironmentFailed` where the cache cannot be written.
    """

    full = "free disk space, or name another cache folder"
    copy = copy_of(remote, cache)
    with (
        boundary({OSError: lambda error: EnvironmentFailed(f"The clone cannot be kept ({error}): {full}.")}),
        _alone(copy.with_suffix(".lock")),
    ):
        if not copy.exists():
            _clone(remote, copy)
        elif not _holds(copy, rev):
            _fetch(remote, copy, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", f"+HEAD:{REMOTE_HEAD}")
        if refspec := _extra_refspec(copy, rev):
            # A pull request's commit is on no branch; whether this finds it, the resolution of `rev` tells.
            with contextlib.suppress(RepositoryError):
                _fetch(remote, copy, refspec)
    return copy


def copy_of(remote: Remote, cache: Path) -> Path:
    """Return where the copy of a remote is, or would be."""
    return cache / f"{hashlib.sha256(remote.url.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.git"


def _clone(remote: Remote, copy: Path) -> None:
    partial = copy.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    arguments = ("clone", "--bare", "--quiet", "--end-of-options", remote.url, str(partial))
    answer = GitCommand(str(copy.parent), _QUIET, _SPOKEN).ask(*arguments)
    if answer.status:
        raise _refusal(remote.url, answer)
    # It fails where the remote's HEAD has no commit: then a revision must be named, and opening without one says so.
    GitCommand(str(partial)).ask("update-ref", REMOTE_HEAD, "HEAD")
    partial.rename(copy)


def _fetch(remote: Remote, copy: Path, *refspecs: str) -> None:
    git = GitCommand(str(copy), _QUIET, (*_SPOKEN, f"GIT_DIR={copy}"))
    answer = git.ask("fetch", "--quiet", "--prune", "--no-write-fetch-head", "--end-of-options", remote.url, *refspecs)
    if answer.status:
        raise _refusal(remote.url, answer)


def _extra_refspec(copy: Path, rev: str | None) -> str:
    """Return what has to be fetched for `rev` beside branches and tags, "" for nothing."""
    if rev is None or _holds(copy, rev):
        return ""
    if rev.startswith("refs/"):
        return f"+{rev}:{rev}"
    return f"+{rev}:refs/amini/asked" if _FULL_ID.fullmatch(rev) else ""


def _holds(copy: Path, rev: str | None) -> bool:
    """Tell whether the copy has the commit with this full id."""
    if rev is None or not _FULL_ID.fullmatch(rev):
        return False
    return not GitCommand(str(copy), (), (f"GIT_DIR={copy}",)).ask("cat-file", "-e", f"{rev}^{{commit}}").status


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold the lock; the system lets go of it however the process ends."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _refusal(url: str, answer: Answer) -> RepositoryError:
    shown = printable(_without_secrets(url))
    for signs, kind, sentence in _REFUSALS:
        if re.search(signs, answer.words):
            return kind(sentence.format(url=shown))
    said = _without_secrets(answer.complaint)
    return RepositoryError(f"git cannot clone {shown} ({said}): check the address and git's access to it.")


def _without_secrets(text: str) -> str:
    """Leave out the user names and passwords of the URLs in the text."""
    return re.sub(r"(?<=://)[^/\s]*@", "", text)
