"""Which files an issue points at, told without a model: the paths and names it mentions, and BM25 over file contents.

It joins the model's own choice of Agentless Mini, so that a tree larger than the context still works. It knows
nothing of prompts or token budgets; see `context`.
"""

import math
import operator
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from agentless_mini.domain import FileKind, Issue, Runner, Snapshot, SourceFile

# Okapi BM25's usual constants.
SATURATION = 1.2
LENGTH_WEIGHT = 0.75

# Documents, data and translations repeat an issue's words without being where the fault is: they are candidates only
# where the issue names them.
CODE_SUFFIX = re.compile(
    r"\.(pyi?|pyx|pxd|c|h|cc|cpp|hpp|cs|go|java|jsx?|mjs|kt|lua|m|php|pl|r|rb|rs|scala|sh|sql|swift|tsx?|vue|html"
    r"|jinja|j2|s?css)$",
    re.IGNORECASE,
)
# The words of its name that make a repository a tool for tests, without digits: "nose2" is "nose".
TEST_TOOLS = frozenset(
    {"test", "tests", "testing", "tester", "pytest", "unittest", "doctest", "testtools", "nose", "tox", "nox"}
    | {"hypothesis", "robotframework", "behave", "locust"}
)
_NAME_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")

# Every byte that is no letter of a word becomes a blank.
_WORDS_ALONE = bytes(byte if re.fullmatch(rb"\w", bytes([byte])) else 32 for byte in range(256))
# What a name longer than this is, is data; what a line of a traceback is, is bounded.
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{1,63}")
_SUBWORD = re.compile(r"[A-Z]?[a-z]{2,63}|[A-Z]{2,63}(?![a-z])")
_FRAME = re.compile(r'File "([^"\n]{1,400})", line (\d{1,7})')
_PATH = re.compile(r"([\w.\-+@]{1,120}(?:[/\\][\w.\-+@]{1,120}){0,30})(?::(\d{1,7}))?")
_MODULE = re.compile(r"[A-Za-z_]\w{0,63}(?:\.[A-Za-z_]\w{0,63}){1,12}")
_DEFINES_TESTS = re.compile(rb"^(?:(?:async[ \t]+)?def[ \t]+test|class[ \t]+\w+\(.*TestCase)", re.MULTILINE)
_DEFINITION = re.compile(r"^[ \t]*(?:async[ \t]+def|def|class)[ \t]+(\w+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Mentions:
    """What an issue names: paths of the tree in order of weight, (path, line) of traceback frames, and identifiers."""

    paths: tuple[str, ...]
    lines: tuple[tuple[str, int], ...]
    identifiers: frozenset[str]


def is_test_path(path: str) -> bool:
    """Tell whether a path is a test by pytest's, unittest's and django's naming.

    A folder or file `test` counts at the top only: below it may be code for testing, such as `django.test`. What such a
    file defines tells, see `is_test_file`.
    """
    parts = path.split("/")
    name = parts[-1]
    in_folder = "tests" in parts[:-1] or parts[0] == "test"
    named = path == "test.py" or name in {"conftest.py", "tests.py"}
    return in_folder or named or bool(re.fullmatch(r"test_.*\.py|.*_tests?\.py", name))


def is_test_file(file: SourceFile) -> bool:
    """Tell whether a file is a test by its path, or as a `test.py` of a package by what it defines."""
    defines = file.path.endswith("/test.py") and _DEFINES_TESTS.search(file.data) is not None
    return defines or is_test_path(file.path)


def runs_here(path: str, runner: Runner) -> bool:
    """Tell whether a test file can be run in a box without a service of its own.

    django's runner ends before the first test where one of `gis_tests` is named and the database is not a spatial one.
    """
    return runner is not Runner.DJANGO or not path.startswith("tests/gis_tests/")


def is_test_tool(snapshot: Snapshot) -> bool:
    """Tell whether the repository is itself a tool for tests, so that its "tests" may be what is to be repaired."""
    words = {word.lower() for word in _NAME_WORD.findall(snapshot.name)} | set(_WORD.findall(snapshot.name.lower()))
    return not words.isdisjoint(TEST_TOOLS)


def candidate_files(snapshot: Snapshot) -> tuple[SourceFile, ...]:
    """Return the text files that may hold the fault: tests are left out unless the repository is a test tool.

    Where there is nothing but tests, they are the candidates. A name that no prompt or edit can carry (control
    characters, backslashes, bytes that are not UTF-8) is left out as well.
    """
    texts = tuple(file for file in snapshot.files if file.kind is FileKind.TEXT and is_sayable(file.path))
    if is_test_tool(snapshot):
        return texts
    return tuple(file for file in texts if not is_test_file(file)) or texts


def is_sayable(path: str) -> bool:
    """Tell whether a prompt and an edit can carry the name: no control characters, backslashes or stray bytes."""
    return path.isprintable() and "\\" not in path


class PathIndex:
    """Finds the path of a tree that somebody meant: by itself, by its end, or with leading folders too many."""

    def __init__(self, paths: Iterable[str]) -> None:
        """Index `paths`, each relative and with `/`."""
        self._paths = frozenset(paths)
        self._names = frozenset(path.rpartition("/")[2] for path in self._paths)
        self._by_end = sorted((_from_end(path), path) for path in self._paths)

    def find(self, said: str) -> str | None:
        """Return the one path that `said` means, or None where it means none or several equally well.

        The time that it takes hardly grows with the tree.
        """
        wanted = said.replace("\\", "/").removeprefix("./").strip("/")
        if wanted in self._paths:
            return wanted
        if wanted.rpartition("/")[2] not in self._names:
            return None
        # An installed copy and the source tree differ in their first folders: two shared names at the end are a match.
        # A file name alone is one only where it is all that was said, or all of the path.
        end = _from_end(wanted)
        at = bisect_left(self._by_end, (end,))
        shared = max((_shared(end, other) for other, _ in self._by_end[max(at - 1, 0) : at + 1]), key=len)
        if shared.count("/") >= min(2, end.count("/")):
            first = bisect_left(self._by_end, (shared,))
            alike = [path for other, path in self._by_end[first : first + 2] if other.startswith(shared)]
            return alike[0] if len(alike) == 1 else None
        name = shared.removesuffix("/")
        return name if name in self._paths else None


def _from_end(path: str) -> str:
    """Return the names of a path from its end, each with a slash: paths that end alike sort together."""
    return "".join(f"{name}/" for name in reversed(path.split("/")))


def _shared(one: str, other: str) -> str:
    """Return the names that both begin with."""
    pairs = zip(one.split("/")[:-1], other.split("/")[:-1], strict=False)
    return "".join(f"{name}/" for name, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def mentions(issue: Issue, files: Sequence[SourceFile]) -> Mentions:
    """Return the paths, traceback lines and identifiers that the issue names.

    The innermost frame of a traceback, printed last, is the first path; then paths and modules in reading order.
    """
    index = PathIndex(file.path for file in files)
    frames = [(index.find(name), int(number)) for name, number in _FRAME.findall(issue.text)]
    lines = [(path, number) for path, number in reversed(frames) if path is not None]
    named = [path for path, _ in lines]
    for said, number in _PATH.findall(issue.text):
        # A name without a folder and a suffix is a word, not a path.
        shaped = "/" in said or "\\" in said or "." in said.strip(".")
        if shaped and (path := index.find(said.rstrip("."))):
            named.append(path)
            lines += [(path, int(number))] if number else []
    for said in _MODULE.findall(issue.text):
        named += _module_path(said, index)
    return Mentions(tuple(dict.fromkeys(named)), tuple(dict.fromkeys(lines)), _identifiers(issue.text))


def _module_path(said: str, index: PathIndex) -> list[str]:
    """Read `package.module.Class.method` as the longest module path in it, if there is one."""
    parts = said.split(".")
    for end in range(len(parts), 1, -1):
        stem = "/".join(parts[:end])
        for path in (f"{stem}.py", f"{stem}/__init__.py"):
            if found := index.find(path):
                return [found]
    return []


def _identifiers(text: str) -> frozenset[str]:
    """Return the words of a text that look like code: snake_case, CamelCase, called, or quoted in back-ticks."""
    quoted = {word for span in re.findall(r"`{1,3}([^`]{1,4000})`", text) for word in _WORD.findall(span)}
    called = set(re.findall(r"([A-Za-z_]\w{2,63})\(", text))
    shaped = {w for w in _WORD.findall(text) if "_" in w.strip("_") or re.search(r"[a-z][A-Z]", w)}
    return frozenset(word for word in quoted | called | shaped if len(word) > 2)


def rank_files(issue: Issue, files: Sequence[SourceFile], named: Mentions) -> tuple[str, ...]:
    """Return the paths of `files`, likeliest first: named ones, then by BM25 and by the names that they define.

    Files whose suffix is no programming language's come last unless named. Ties are in order of path.
    """
    code = [file for file in files if CODE_SUFFIX.search(file.path)]
    scores = _bm25(issue.text, code)
    for path, bonus in _definition_bonus(code, named.identifiers).items():
        scores[path] += bonus
    place = {path: number for number, path in enumerate(named.paths)}

    def order(file: SourceFile) -> tuple[float, float, str]:
        return (place.get(file.path, math.inf), -scores.get(file.path, -1.0), file.path)

    return tuple(file.path for file in sorted(files, key=order))


def terms(text: str) -> list[str]:
    """Split text into BM25's terms: whole identifiers and their parts, in lower case."""
    words = _WORD.findall(text)
    return [w.lower() for w in words] + [w.lower() for w in _SUBWORD.findall(text)]


def _bm25(query: str, files: Sequence[SourceFile]) -> dict[str, float]:
    """Return each file's BM25 score for the query, divided by the best one's: in [0, 1]."""
    vocabulary = _Vocabulary(frozenset(terms(query)))
    counts, lengths = dict[str, Mapping[str, int]](), dict[str, int]()
    for file in files:
        counts[file.path], lengths[file.path] = vocabulary.counted(file)
    mean = sum(lengths.values()) / max(len(lengths), 1) or 1.0
    document_frequency = Counter(term for count in counts.values() for term in count)
    scores = dict.fromkeys(counts, 0.0)
    for term in sorted(document_frequency):
        holding = document_frequency[term]
        rarity = math.log(1 + (len(files) - holding + 0.5) / (holding + 0.5))
        for path, count in counts.items():
            if frequency := count.get(term):
                norm = SATURATION * (1 - LENGTH_WEIGHT + LENGTH_WEIGHT * lengths[path] / mean)
                scores[path] += rarity * frequency * (SATURATION + 1) / (frequency + norm)
    best = max(scores.values(), default=0.0) or 1.0
    return {path: score / best for path, score in scores.items()}


def alike(issue: Issue, parts: Sequence[str]) -> list[float]:
    """Return the BM25 score of each part of a text for the issue's words, divided by the best one's: in [0, 1]."""
    files = [SourceFile(str(n), "", FileKind.TEXT, part.encode(errors="replace")) for n, part in enumerate(parts)]
    return list(_bm25(issue.text, files).values())


class _Vocabulary(dict[bytes, int]):
    """The words of a tree by how many terms each is: a word is split once, wherever it stands.

    `terms` never looks past what is no letter of a word, so that the terms of a text are those of its words.
    """

    def __init__(self, wanted: frozenset[str]) -> None:
        self._wanted = wanted
        self._hits: dict[bytes, tuple[str, ...]] = {}

    def __missing__(self, word: bytes) -> int:
        text = word.decode()
        is_plain = text.isalpha() and text.islower() and 1 < len(text) < 64  # the most usual word is its own part
        found = [text, text] if is_plain else terms(text)
        if not self._wanted.isdisjoint(found):
            self._hits[word] = tuple(term for term in found if term in self._wanted)
        self[word] = len(found)
        return len(found)

    def counted(self, file: SourceFile) -> tuple[Mapping[str, int], int]:
        """Return how often each wanted term that there is stands in path and contents, and the number of all terms."""
        words = Counter((file.path.encode(errors="replace") + b"\n" + file.data).translate(_WORDS_ALONE).split())
        length = sum(map(operator.mul, map(self.__getitem__, words), words.values()))
        found = Counter[str]()
        for word in self._hits.keys() & words.keys():
            for term in self._hits[word]:
                found[term] += words[word]
        return found, length


def _definition_bonus(files: Sequence[SourceFile], identifiers: frozenset[str]) -> Mapping[str, float]:
    """Return what a file gains for defining names that the issue mentions: the rarer the name, the more; at most 1.

    Undecodable bytes do not matter here.
    """
    sayings = [name.encode(errors="replace") for name in identifiers]
    defined = {
        # That a name is nowhere in a file is much sooner told than what the file defines.
        file.path: identifiers.intersection(_DEFINITION.findall(file.data.decode(errors="replace")))
        if any(said in file.data for said in sayings)
        else frozenset[str]()
        for file in files
    }
    homes = Counter(name for names in defined.values() for name in names)
    return {path: min(1.0, sum(1 / homes[name] for name in sorted(names))) for path, names in defined.items()}


@dataclass(frozen=True, slots=True)
class Survey:
    """What an issue and a tree tell together without a model: candidate paths, likeliest first, and what is named."""

    ranked: tuple[str, ...]
    named: Mentions


def survey(issue: Issue, snapshot: Snapshot) -> Survey:
    """Rank the candidate files of a tree for an issue; `ranked` is empty where the tree holds no text file."""
    files = candidate_files(snapshot)
    named = mentions(issue, files)
    return Survey(rank_files(issue, files, named), named)
