"""Which paths an edit may name: what the answer says, cleaned and judged, and whether a file may be created there.

Nothing here touches a disk: a path is judged by its text and by the snapshot's entries.
"""

import re
import unicodedata
from collections.abc import Iterable

from agentless_mini.domain import Reason, Rejected, Snapshot

MOST_BYTES = 1024
MOST_BYTES_OF_NAME = 255  # what file systems hold

_QUOTES = "`'\""
_DRIVE = re.compile(r"[A-Za-z]:/")
_IGNORED_BY_HFS = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
_GIT_FOLDER = re.compile(r"(?:\.git|git~1)[ .]*(?::.*)?", re.IGNORECASE | re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def clean_path(said: str) -> str | Rejected:
    """Return the path that an answer names, relative and with `/`, or `Rejected` as BAD_PATH.

    Blanks around it, one pair of back-ticks or quotes, and a leading `./` are taken off; blanks within the pair are
    part of the name. No path leaves the repository or enters `.git`, whatever the file system takes for that.
    """
    path = said.strip()
    if len(path) > 1 and path[0] == path[-1] and path[0] in _QUOTES:
        path = path[1:-1]
    while path.startswith("./"):
        path = path[2:]
    problem = _problem(path)
    return Rejected(Reason.BAD_PATH, f"{path[:200]!r} {problem}") if problem else path


def _problem(path: str) -> str:
    """Return what is wrong with the text of a path, "" for nothing."""
    parts = path.split("/")
    rules = (
        (path.startswith("/") or bool(_DRIVE.match(path)), "is absolute"),
        ("\\" in path, "holds a backslash"),
        (bool(_CONTROL.search(path)), "holds a control character"),
        (path.endswith("/"), "is a folder"),
        (any(part in {"", ".", ".."} for part in parts), "is no plain relative path"),
        (any(_GIT_FOLDER.fullmatch(_IGNORED_BY_HFS.sub("", part)) for part in parts), "lies in git's own folder"),
    )
    return next((problem for broken, problem in rules if broken), "") or _size_problem(path)


def _size_problem(path: str) -> str:
    try:
        sizes = [len(part.encode()) for part in path.split("/")]
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return "is too long" if max(sizes) > MOST_BYTES_OF_NAME or sum(sizes) + len(sizes) > MOST_BYTES else ""


class Names:
    """The names that are taken, as a file system sees them that may not tell upper from lower case."""

    def __init__(self, files: Iterable[str] = ()) -> None:
        """Take the names of the files and of their folders."""
        self._files: set[str] = set()
        self._folders: set[str] = set()
        self._folded: dict[str, str] = {}
        for path in files:
            self.add(path)

    @classmethod
    def of(cls, snapshot: Snapshot) -> "Names":
        """Return the names of a snapshot. What git ignores is taken too, and nothing can be created in it."""
        return cls([file.path for file in snapshot.files] + [path.rstrip("/") for path in snapshot.ignored])

    def __contains__(self, path: str) -> bool:
        """Tell whether a file has this very name."""
        return path in self._files

    def add(self, path: str) -> None:
        """Take the name of a file, and those of the folders that it lies in."""
        self._files.add(path)
        self._folded.setdefault(_folded(path), path)
        for folder in _parents(path):
            if folder in self._folders:
                break
            self._folders.add(folder)
            self._folded.setdefault(_folded(folder), folder)

    def refusal(self, path: str) -> Rejected | None:
        """Return why no file can be created at the path, None where one can."""
        if path in self._files or path in self._folders:
            return Rejected(Reason.EXISTS, f"{path} exists already")
        for name in (path, *_parents(path)):
            if name in self._files:
                return Rejected(Reason.BAD_PATH, f"{path} would lie in {name}, which cannot hold files")
            if name in self._folders:
                break
            if _folded(name) in self._folded:
                return Rejected(Reason.BAD_PATH, f"{path} differs from {self._folded[_folded(name)]} in case alone")
        return None


def _parents(path: str) -> list[str]:
    """Return the folders that a path lies in, the innermost first."""
    cuts = [index for index, char in enumerate(path) if char == "/"]
    return [path[:cut] for cut in reversed(cuts)]


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()
