"""Which path a line before an edit names, whether it may be edited, and whether a file may be created there.

Models write paths as they write prose: `### File: src/a.py`, `**src/a.py**`, `/testbed/src/a.py`, `1. a.py (new file)`.
What names one file of the tree is that file. What names none is a new file only if it is written as a path is: a
heading such as `### Step 1: fix the loop` never is.

Nothing here touches a disk: a path is judged by its text and by the snapshot's entries.
"""

import re
import unicodedata
from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from agentless_mini.domain import Reason, Rejected, Snapshot

MOST_BYTES = 1024
MOST_BYTES_OF_NAME = 255  # what file systems hold

_QUOTES = "`'\""
_DRIVE = re.compile(r"[A-Za-z]:/")
_IGNORED_BY_HFS = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
_GIT_FOLDER = re.compile(r"(?:\.git|git~1)[ .]*(?::.*)?", re.IGNORECASE | re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_HEADING = re.compile(r"#{2,6}|#(?=\s)")
_COMMENT = re.compile(r"(?://+|/\*+|<!--|--|;+)\s+(.*?)\s*(?:\*/|-->)?")
_LABEL = re.compile(
    r"(?:(?:new|modified|updated|existing|target)\s+)?(?:file(?:[ _-]?(?:name|path))?|path|文件|ファイル)\s*[:=]\s*",
    re.IGNORECASE,
)
_LEAD = re.compile(r"(?:[-*+•>→]|\d{1,3}[.)]|\(\d{1,3}\)|step\s+\d+\s*[:.)-])\s+", re.IGNORECASE)
_TAIL = re.compile(r"(?:\s+#+|\s+\([^()]*\)|:\d+(?:-\d+)?|#L\d+(?:-L?\d+)?|::[\w.:]+|[:;.,\u200b]|(?<=\w)/)\Z")
_PAIRS = [(mark, mark) for mark in ("`", "'", '"', "**", "__", "*")] + [("<", ">"), ("(", ")"), ("[", "]")]
_WRAPPED = re.compile(
    r"\[([^\[\]]+)\]\([^()]*\)|<\w+>([^<>]+)</\w+>|<\w+\s+\w+=[\"']([^\"'<>]+)[\"']\s*/?>|\|([^|]+)\|"
)
_NEW = re.compile(r"\b(?:new|creat\w*|add(?:ed|ing)?)\b", re.IGNORECASE)
_SUFFIX = re.compile(r"[^/]*[^/.][^/]*\.(?P<suffix>[A-Za-z][\w+-]{0,11})")
_TAG = re.compile(r"</?\w+>")
# Suffixes that attributes have as well: without a folder they make no path.
_WEAK = re.compile(r"config|conf|properties|props|patch|service|lock|in|r|v|m|s|mod|sum|feature|snap|targets")
# What a new file may be called without being quoted or said to be one.
_SUFFIXES = re.compile(
    r"py|pyi|pyx|pxd|ipynb|js|mjs|cjs|jsx|ts|mts|cts|tsx|vue|svelte|c|h|cc|cpp|cxx|hpp|hh|cs|csproj|go|rs|java|kt"
    r"|kts|scala|rb|rake|php|pl|pm|lua|r|jl|swift|m|mm|sh|bash|zsh|fish|ps1|bat|cmd|sql|html|htm|css|scss|sass"
    r"|less|xml|json|json5|jsonl|yaml|yml|toml|ini|cfg|conf|env|properties|md|markdown|mdx|rst|txt|adoc|tex|csv"
    r"|tsv|proto|graphql|tf|gradle|cmake|mk|lock|in|j2|jinja|jinja2|tmpl|tpl|po|pot|svg|erl|ex|exs|hs|ml|mli|clj"
    r"|dart|zig|nim|v|sv|vhd|asm|s|el|vim|config|props|targets|sln|resx|razor|cshtml|xaml|fsproj|vbproj|gemspec|hcl|prisma|sol|cu|cuh|f90|pas|groovy|bzl|mod|sum|snap|feature|plist|service|desktop|patch|diff",
    re.IGNORECASE,
)
_FILE_NAMES = {
    "makefile", "dockerfile", "license", "readme", "changelog", "jenkinsfile", "procfile", "gemfile", ".gitignore",
    ".gitattributes", ".dockerignore", ".editorconfig", ".env", ".npmrc", ".flake8", ".coveragerc", ".pylintrc",
    ".prettierrc", ".eslintrc", ".babelrc",
}  # fmt: skip
_PRODUCTS = {"node.js", "vue.js", "next.js", "react.js", "express.js", "three.js", "d3.js", "asp.net"}
_EXAMPLE = "path/to/"
_INSTALLED = "site-packages"  # what lies there is a copy, not the tree
_TREES = {"testbed", "workspace", "repo", "app"}  # where containers have the repository
# Quotes, the wide marks of Chinese text, the long dash, which is a part of words otherwise, and marks without a width.
TYPOGRAPHY = str.maketrans(
    {"\uff1a": ": ", "\uff0c": ", ", "\u3001": ", ", "\uff1b": "; ", "\u3002": ". ", "\uff08": " (", "\uff09": ") "}
    | {"\u2014": " - ", **dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb", '"'), **dict.fromkeys("\u2018\u2019", "'")}
    | dict.fromkeys("\u200b\u2060\ufeff", "")
)
_MOST_LETTERS = 2000
_NEAR = 2  # lines before an edit that are taken to speak of it where an edit before it has a path


def clean_path(said: str) -> str | Rejected:
    """Return the path that is said, relative and with `/`, or `Rejected` as BAD_PATH.

    Blanks around it and one pair of back-ticks or quotes are taken off; blanks within the pair are part of the name.
    No path leaves the repository or enters `.git`, whatever the file system takes for that.
    """
    path = said.strip()
    if len(path) > 1 and path[0] == path[-1] and path[0] in _QUOTES:
        path = path[1:-1]
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
        (_git_folder(path), "lies in git's own folder"),
    )
    if problem := next((problem for broken, problem in rules if broken), ""):
        return problem
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return "is too long" if max(sizes) > MOST_BYTES_OF_NAME or sum(sizes) + len(sizes) > MOST_BYTES else ""


@dataclass(frozen=True, slots=True)
class Lead:
    """A line that stands before an edit; `info` is what stands behind the opening of a fence instead."""

    line: str
    is_info: bool = False


@dataclass(frozen=True, slots=True)
class _Known:
    """The paths of a tree and of the files that an answer creates: to merge them for each edit would take long."""

    files: frozenset[str]
    created: Collection[str]

    def __contains__(self, path: object) -> bool:
        return path in self.files or path in self.created


class Paths:
    """Finds the file that the lines before an edit mean."""

    def __init__(self, files: Iterable[str] = (), repository: str = "") -> None:
        """Take the paths of a tree, and the name of its repository, which models write before paths."""
        self._files, self._repository = frozenset(files), repository

    @cached_property
    def _folders(self) -> frozenset[str]:
        return frozenset(folder for path in self._files for folder in _parents(path))

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for path in self._files:
            found.setdefault(path.rpartition("/")[2], []).append(path)
        return found

    def of(self, said: Sequence[Lead], creates: bool, created: Collection[str], before: str) -> str | Rejected:
        """Return the path that lines name, the nearest to the edit first, or the one of the edit before.

        A line that is a path counts before one that mentions it, wherever they stand. `creates` tells that the edit may
        create a file, `created` holds the paths of those that earlier edits create, `before` is the path of the edit
        before or "". `Rejected` as BAD_PATH where a line names what may not be edited, or nothing; as NOT_FOUND where
        it names a file that is not in the tree; and as MALFORMED without a line.
        """
        known = _Known(self._files, created)
        heading = ""
        for one in said:
            path = self._whole(one, creates, known)
            if path is not None:
                is_there = isinstance(path, Rejected) or creates or path in known
                return path if is_there else _unnamed("", str(path))
            heading = heading or (one.line.strip("# ") if _HEADING.match(one.line.lstrip()) else "")
        prose = [one.line for one in said if not one.is_info]
        for at, line in enumerate(prose):
            mentioned = self._mentioned(line, creates, known)
            is_near = at < _NEAR or not before
            if len(mentioned) == 1 and is_near and (creates or mentioned[0] in known):
                return mentioned[0] if mentioned[0] in known else clean_path(mentioned[0])
            if mentioned and mentioned != [before]:
                return _unnamed(line, next((path for path in mentioned if path not in known), ""))
        return before if before and not creates else _unnamed(heading, "")

    def is_example(self, said: Sequence[Lead]) -> bool:
        """Tell whether an edit stands below the path that the prompt gives as an example."""
        heading = next((one.line for one in said if _HEADING.match(one.line)), "")
        return _peeled(heading.lstrip("# "))[0].startswith(_EXAMPLE) and _EXAMPLE.rstrip("/") not in self._folders

    def _whole(self, one: Lead, creates: bool, known: Container[str]) -> str | Rejected | None:
        """Return the path that a line is, None for any other line."""
        if one.is_info:
            words = re.split(r"[\s:={}\"',]+", one.line[:_MOST_LETTERS])
            paths = (self._path(word, creates, known) for word in words if "." in word or "/" in word)
            found = [path for path in paths if isinstance(path, str)]
            return next((path for path in reversed(found) if creates or path in known), None)
        text = one.line[:_MOST_LETTERS].strip()
        heading = _HEADING.match(text)
        comment = _COMMENT.fullmatch(text)
        text = text[heading.end() :].strip() if heading else comment[1] if comment else text
        for name in (text, text[1:-1] if text[:1] in _QUOTES and text[:1] == text[-1:] else text, _peeled(text)[0]):
            if name in known:
                return name
        bare, is_labelled = _peeled(text.translate(TYPOGRAPHY))
        if not bare or (re.search(r"\s", bare) and not is_labelled and bare not in known):
            return None
        return self._path(bare, creates, known, is_labelled)

    def _path(
        self, said: str, creates: bool, known: Container[str], is_labelled: bool = False
    ) -> str | Rejected | None:
        """Return the path that a word means, None where it is none. It may name no file of the tree."""
        plain = said.replace("\\_", "_")  # as Markdown has it, unless it is a path of Windows
        said = said if "\\" in plain or said.replace("\\", "/") in known else plain
        path = re.sub(r"(?<=[^:/])//+", "/", said.replace("\\", "/"))
        while path.startswith("./"):
            path = path[2:]
        if path in known or path.startswith(_EXAMPLE):
            return path if path in known else None
        drive = _DRIVE.match(path)
        is_outer = path.startswith(("/", "~/", "$")) and path.partition("/")[0] not in self._folders
        is_absolute = is_outer or bool(drive)
        bare = path[drive.end() :] if drive else path.lstrip("/")
        if problem := _problem(bare):
            is_meant = is_labelled or ".." in bare.split("/") or bool(_git_folder(bare)) or self._is_named(bare)
            return Rejected(Reason.BAD_PATH, f"{path[:200]!r} {problem}") if is_meant else None
        if not creates and (found := self._found(bare)):
            return found
        if is_absolute:
            below = self._below(path) if creates and self._is_named(path) else None
            return below or Rejected(Reason.BAD_PATH, f"{path[:200]!r} is absolute")
        for lead in ("@", "a/", "b/", f"{self._repository}/"):
            rest = path.removeprefix(lead)
            is_known = rest.rpartition("/")[0] in self._folders or (lead == f"{self._repository}/" and "/" not in rest)
            if rest != path and is_known and lead[:-1] not in self._folders:
                path = rest
        return path if is_labelled or self._is_named(path) else None

    def _is_named(self, path: str) -> bool:
        """Tell whether a word is written as a file is, with a suffix that files have, or as a folder of the tree."""
        folder, _, name = path.rpartition("/")
        found = _SUFFIX.fullmatch(name)
        suffix = found["suffix"] if found else ""
        is_weak = not folder and name.islower() and _WEAK.fullmatch(suffix)
        has_suffix = bool(_SUFFIXES.fullmatch(suffix)) and not is_weak
        is_file = has_suffix or name.lower() in _FILE_NAMES or path in self._folders
        return is_file and "://" not in path and path.lower() not in _PRODUCTS

    def _found(self, said: str) -> str | None:
        """Return the file of the tree whose path has some leading folders less than what is said, or more."""
        parts = said.split("/")
        for cut in range(len(parts) if _INSTALLED not in parts else 1):
            if "/".join(parts[cut:]) in self._files:
                return "/".join(parts[cut:])
        longer = [path for path in self._by_name.get(parts[-1], []) if path.endswith(f"/{said}")]
        return longer[0] if len(longer) == 1 else None

    def _below(self, path: str) -> str | None:
        """Return an absolute path of a new file without the folders above the repository, None if they are unknown."""
        parts = path.strip("/").split("/")
        for cut in range(1, len(parts) if _INSTALLED not in parts else 1):
            rest = "/".join(parts[cut:])
            folder, _, _ = rest.rpartition("/")
            if folder in self._folders or ("/" not in rest and parts[cut - 1] in {*_TREES, self._repository}):
                return rest
        return None

    def _mentioned(self, line: str, creates: bool, known: Container[str]) -> list[str]:
        """Return the distinct paths that stand in a line among other words."""
        text = _TAG.sub(" ", line[:_MOST_LETTERS]).translate(TYPOGRAPHY)
        words = [_peeled(word.strip(",;!?\u2014\u2013()*:{}"))[0] for word in text.split()]
        words = [word for word in words if self._is_named(word.replace("\\", "/")) or word in known]
        if creates and not _NEW.search(text):
            words = [word for word in words if "/" in word]
        paths = ((word, self._path(word, creates, known)) for word in words)
        found = dict.fromkeys(path if isinstance(path, str) else word for word, path in paths if path)
        folders = [path for path in found if path in self._folders and path not in known]
        files = [path for path in found if path not in folders]
        if creates and folders:  # "Create helper.py in src/pkg"
            is_said = len(folders) == 1 and re.search(rf"\b(?:in|under|into)\s+\W*{re.escape(folders[0])}", text)
            return [f"{folders[0]}/{path}" for path in files if "/" not in path] if is_said else []
        return files


def _unnamed(line: str, missing: str) -> Rejected:
    if missing:
        return Rejected(Reason.NOT_FOUND, f"SEARCH is not found: {missing[:200]} is not in the tree")
    if line.strip("# "):
        return Rejected(Reason.BAD_PATH, f"{line.strip()[:200]!r} names no one file of the tree, and is no path")
    return Rejected(Reason.MALFORMED, "an edit has no line ### path before it")


def _git_folder(path: str) -> bool:
    return any(_GIT_FOLDER.fullmatch(_IGNORED_BY_HFS.sub("", part)) for part in path.split("/"))


def _peeled(said: str) -> tuple[str, bool]:
    """Return what is left without bullets, remarks and pairs of quotes around it, and whether "File:" stood there."""
    is_labelled = False
    for _ in range(8):
        text = said.strip()
        if wrapped := _WRAPPED.fullmatch(text):
            text = next(filter(None, wrapped.groups()))
        if lead := _LEAD.match(text):
            text = text[lead.end() :]
        if label := _LABEL.match(text):
            text, is_labelled = text[label.end() :], True
        if tail := _TAIL.search(text):
            text = text[: tail.start()]
        for begin, end in _PAIRS:
            if len(text) > len(begin + end) and text.startswith(begin) and text.endswith(end):
                text = text[len(begin) : -len(end)]
                if begin in _QUOTES:
                    return text, is_labelled
                break
        if text == said:
            break
        said = text
    return said, is_labelled


class TakenNames:
    """The names that are taken, as a file system sees them that may not tell upper from lower case."""

    def __init__(self, files: Iterable[str] = ()) -> None:
        """Take the names of the files and of their folders."""
        self._files: set[str] = set()
        self._folders: set[str] = set()
        self._folded: dict[str, str] = {}
        for path in files:
            self.add(path)

    @classmethod
    def of(cls, snapshot: Snapshot) -> "TakenNames":
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


def _parents(path: str) -> Iterator[str]:
    """Yield the folders that a path lies in, the innermost first."""
    end = path.rfind("/")
    while end >= 0:
        yield path[:end]
        end = path.rfind("/", 0, end)


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()
