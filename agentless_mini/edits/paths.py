"""Which path a line before an edit names, whether it may be edited, and whether a file may be created there.

Models write paths as they write prose: `### File: src/a.py`, `**src/a.py**`, `/testbed/src/a.py`, `1. a.py (new file)`.
What names one file of the tree is that file. What names none is a new file only if it is written as a path is: a
heading such as `### Step 1: fix the loop` never is.

Nothing here touches a disk: a path is judged by its text and by the snapshot's entries.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property

from agentless_mini.domain import Reason, Rejected, Snapshot
from agentless_mini.lexical import PathIndex

MOST_BYTES = 1024
MOST_BYTES_OF_NAME = 255  # what file systems hold

_QUOTES = "`'\""
_DRIVE = re.compile(r"[A-Za-z]:/")
_IGNORED_BY_HFS = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
_GIT_FOLDER = re.compile(r"(?:\.git|git~1)[ .]*(?::.*)?", re.IGNORECASE | re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_HEADING = re.compile(r"#{2,6}|#(?=\s)")
_COMMENT = re.compile(r"(?://+|/\*+|<!--|--|;+)\s+(.*?)\s*(?:\*/|-->)?")
_LEADS = re.compile(
    r"(?:[-*+•>]|\d{1,3}[.)]|\(\d{1,3}\)|step\s+\d+\s*[:.)-])\s+"
    r"|(?:(?:new|modified|updated|existing|target)\s+)?(?:file(?:[ _-]?(?:name|path))?|path)\s*[:=]\s*",
    re.IGNORECASE,
)
_TAILS = re.compile(r"\s+#+|\s+\([^()]*\)|:\d+(?:-\d+)?|#L\d+(?:-L?\d+)?|:")
_PAIRS = (("`", "`"), ("'", "'"), ('"', '"'), ("**", "**"), ("__", "__"), ("*", "*"), ("<", ">"), ("(", ")"))
_LINK = re.compile(r"\[([^\[\]]+)\]\([^()]*\)")
_SUFFIX = re.compile(r"[^/]*[^/.][^/]*\.[A-Za-z][\w+-]{0,11}|\.[A-Za-z][\w.-]*")
_FILE_NAMES = {"makefile", "dockerfile", "license", "readme", "changelog", "jenkinsfile", "procfile", "gemfile"}
_NEW = re.compile(r"\b(?:new|creat\w*|add(?:ed|ing)?)\b", re.IGNORECASE)
_TREES = {"testbed", "workspace", "repo", "app"}  # where containers have the repository
_MOST_LETTERS = 2000


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


class Paths:
    """Finds the file that the lines before an edit mean."""

    def __init__(self, files: Iterable[str] = (), repository: str = "") -> None:
        """Take the paths of a tree, and the name of its repository, which models write before paths."""
        self._files = frozenset(files)
        self._repository = repository

    @cached_property
    def _index(self) -> PathIndex:
        return PathIndex(self._files)

    @cached_property
    def _folders(self) -> frozenset[str]:
        return frozenset(folder for path in self._files for folder in _parents(path))

    def of(self, said: Sequence[str], creates: bool, created: Collection[str], before: str) -> str | Rejected:
        """Return the path that lines name, the nearest to the edit first, or the one of the edit before.

        `creates` tells that the edit may create a file, `created` holds the paths of those that earlier edits create.
        `Rejected` as BAD_PATH where a line names what may not be edited, or nothing, and as MALFORMED without a line.
        """
        heading = ""
        for line in said:
            path = self._named(line[:_MOST_LETTERS], creates, created)
            if path is not None:
                return path
            heading = heading or (line.strip() if _HEADING.match(line.lstrip()) else "")
        mentioned = None if creates or before else self._mentioned(said)
        if before or mentioned:
            return before or str(mentioned)
        if heading.strip("# "):
            return Rejected(Reason.BAD_PATH, f"{heading[:200]!r} names no file of the tree, and is no path")
        return Rejected(Reason.MALFORMED, "an edit has no line ### path before it")

    def _named(self, line: str, creates: bool, created: Collection[str]) -> str | Rejected | None:
        """Return the path that a line is, or that a heading holds, None for any other line."""
        text = line.strip()
        heading = _HEADING.match(text)
        comment = _COMMENT.fullmatch(text)
        text = text[heading.end() :].strip() if heading else comment[1] if comment else text
        for name in (text, text[1:-1] if text[:1] in _QUOTES and text[:1] == text[-1:] else text):
            if name in self._files or name in created:
                return name
        bare, is_quoted = _peeled(text)
        if bare and (is_quoted or not re.search(r"\s", bare)):
            found = self._path(bare, is_quoted, creates, created)
            return found if heading or not isinstance(found, Rejected) else None
        return self._held(text, creates, created) if heading else None

    def _path(self, said: str, is_quoted: bool, creates: bool, created: Collection[str]) -> str | Rejected | None:
        """Return the path that a word means, None where it is none."""
        path = said.replace("\\", "/")
        while path.startswith("./"):
            path = path[2:]
        if path in self._files or path in created:
            return path
        is_absolute = path.startswith("/") or bool(_DRIVE.match(path))
        problem = _problem(path.lstrip("/") if is_absolute else path)
        if problem and not _DRIVE.match(path):
            return Rejected(Reason.BAD_PATH, f"{path[:200]!r} {problem}")
        if not creates and (found := self._index.find(path)):
            return found
        if is_absolute:
            below = self._below(path)
            return below or Rejected(Reason.BAD_PATH, f"{path[:200]!r} is absolute")
        for lead in ("a/", "b/", f"{self._repository}/"):
            rest = path.removeprefix(lead)
            is_known = _parent(rest) in self._folders or (lead == f"{self._repository}/" and "/" not in rest)
            if rest != path and is_known and lead[:-1] not in self._folders:
                path = rest
        name = path.rsplit("/", 1)[-1]
        is_path = is_quoted or "/" in path or _SUFFIX.fullmatch(name) or name.lower() in _FILE_NAMES
        return path if (is_path or path in self._folders) and "://" not in path else None

    def _below(self, path: str) -> str | None:
        """Return an absolute path of a new file without the folders above the repository, None if they are unknown."""
        parts = path.strip("/").split("/")
        for cut in range(1, len(parts)):
            rest = "/".join(parts[cut:])
            if _parent(rest) in self._folders or ("/" not in rest and parts[cut - 1] in {*_TREES, self._repository}):
                return rest
        return None

    def _held(self, heading: str, creates: bool, created: Collection[str]) -> str | None:
        """Return the one path that stands in a heading among other words."""
        words = [_peeled(word.strip(",;"))[0] for word in heading.split()]
        shaped = dict.fromkeys(word for word in words if _SUFFIX.fullmatch(word.replace("\\", "/").rsplit("/", 1)[-1]))
        if creates and not _NEW.search(heading):
            return None
        found = {str(path) for word in shaped if isinstance(path := self._path(word, False, creates, created), str)}
        known = found if creates else found & (self._files | set(created))
        return known.pop() if len(known) == 1 else None

    def _mentioned(self, said: Sequence[str]) -> str | None:
        """Return the one file of the tree that the nearest line of prose names."""
        for line in said:
            words = {word.strip("`'\"*()[]:,;.") for word in line[:_MOST_LETTERS].split()}
            shaped = [word for word in words if _SUFFIX.fullmatch(word.rsplit("/", 1)[-1])]
            found = {path for word in shaped if (path := self._index.find(word))}
            if found:
                return found.pop() if len(found) == 1 else None
        return None


def _peeled(said: str) -> tuple[str, bool]:
    """Return what is left without bullets, labels, remarks and pairs of quotes around it, and whether it was quoted."""
    for _ in range(8):
        text = said.strip()
        if link := _LINK.fullmatch(text):
            text = link[1]
        if lead := _LEADS.match(text):
            text = text[lead.end() :]
        for tail in _TAILS.finditer(text):
            if tail.end() == len(text):
                text = text[: tail.start()]
                break
        for begin, end in _PAIRS:
            if len(text) > len(begin + end) and text.startswith(begin) and text.endswith(end):
                text = text[len(begin) : -len(end)]
                if begin in _QUOTES:
                    return text, True
                break
        if text == said:
            break
        said = text
    return said, False


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


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
