"""Which files an issue points at, told without a model: the paths and names it mentions, and BM25 over file contents.

It joins the model's own choice of Agentless Mini, so that a tree larger than the context still works.
"""

import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import filterfalse, islice, takewhile
from typing import NamedTuple

from agentless_mini.chain.file_roles import CODE_SUFFIX, candidate_files, is_test_path
from agentless_mini.domain import Issue, PastCommit, Snapshot, SourceFile

# Okapi BM25's usual constants.
SATURATION = 1.2
LENGTH_WEIGHT = 0.75

# How much each clue adds to a file's score: rounded after a fit (a softmax over the files of each issue) to 90 issues
# of django, flask, matplotlib, pylint, seaborn and xarray in SWE-bench Verified. See docs/experiments.md.
WEIGHTS = {
    "text": 1.0,
    "title": 1.9,
    "function": 2.4,
    "path": 1.2,
    "defines": 1.2,
    "named": 1.4,
    "past": 1.8,
    "commit": 1.8,
    "aside": -2.5,
    "other": -1.5,
}
TITLE = 3  # times that a word of the title counts
MOST_SPLIT, MOST_PARTS = 100, 2000  # files that are looked at function by function, the likeliest by all their words

# Where little is repaired: documents, examples, what builds and measures.
_ASIDE = re.compile(
    r"(?:^|/)(?:docs?|examples?|galleries|tutorials?|benchmarks?|asv_bench|tools|build_tools|ci|scripts|bin)/"
)
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_URL = re.compile(r"https?://\S+")
_HEADING = re.compile(
    r"\s{0,3}(?:#{1,6}\s.{1,60}|\*\*.{1,60}\*\*:?|<summary>.{1,100}|(?:installed )?versions?:?)\s*", re.IGNORECASE
)
_BOILERPLATE = re.compile(
    r"versions?\b|environment|operating system|platform|backend|installation|jupyter|installed|dependencies",
    re.IGNORECASE,
)
_DEFINES = re.compile(
    rb"\n(?=[ \t]*(?:(?:async|export|public|private|protected|static|abstract|pub)[ \t]+)*"
    rb"(?:def|class|func(?:tion)?|fn|interface|struct|trait|module|sub)[ \t]+\w)"
)
LEAST_STEM = 4
_ENDING = re.compile(  # a stem is what is left without it: "ordered" and "ordering" are one term
    r"(?<=[a-z]{4})(?:(?:at)?(?:ions?|ors?|ings?|ed|es?|ers?|ive|able)|ies|ied|ally|al|ments?|ly|y|s)$"
)

# Every byte that is no letter of a word becomes a blank.
_WORDS_ALONE = bytes(byte if re.fullmatch(rb"\w", bytes([byte])) else 32 for byte in range(256))
# What a name longer than this is, is data; what a line of a traceback is, is bounded.
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{1,63}")
_SUBWORD = re.compile(r"[A-Z]?[a-z]{2,63}|[A-Z]{2,63}(?![a-z])")
_FRAME = re.compile(r'File "([^"\n]{1,400})", line (\d{1,7})')
_PATH = re.compile(r"([\w.\-+@]{1,120}(?:[/\\][\w.\-+@]{1,120}){0,30})(?::(\d{1,7}))?")
_MODULE = re.compile(r"[A-Za-z_]\w{0,63}(?:\.[A-Za-z_]\w{0,63}){1,12}")
_DEFINITION = re.compile(rb"\n[ \t]*(?:async[ \t]+def|def|class)[ \t]+(\w+)")


@dataclass(frozen=True, slots=True)
class Mentions:
    """What an issue names: paths of the tree in order of weight, (path, line) of traceback frames, and identifiers."""

    paths: tuple[str, ...]
    lines: tuple[tuple[str, int], ...]
    identifiers: frozenset[str]


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

    The innermost frame of a traceback, printed last, is the first path; then paths and modules in reading order: of
    `package.module.Class.method` the longest module path. Identifiers look like code: snake_case, CamelCase, called,
    or quoted in back-ticks.
    """
    index, text = PathIndex(file.path for file in files), _COMMENT.sub(" ", issue.text)
    frames = [(index.find(name), int(number)) for name, number in _FRAME.findall(text)]
    lines = [(path, number) for path, number in reversed(frames) if path is not None]
    named = [path for path, _ in lines]
    for said, number in _PATH.findall(text):
        # A name without a folder and a suffix is a word, not a path.
        shaped = "/" in said or "\\" in said or "." in said.strip(".")
        if shaped and (path := index.find(said.rstrip("."))):
            named.append(path)
            lines += [(path, int(number))] if number else []
    for said in _MODULE.findall(text):
        parts = said.split(".")
        modules = ("/".join(parts[:end]) for end in range(len(parts), 1, -1))
        found = (index.find(module + end) for module in modules for end in (".py", "/__init__.py"))
        named += islice(filter(None, found), 1)
    quoted = {word for span in re.findall(r"`{1,3}([^`]{1,4000})`", text) for word in _WORD.findall(span)}
    called = set(re.findall(r"([A-Za-z_]\w{2,63})\(", text))
    cased = {word for word in _WORD.findall(text) if "_" in word.strip("_") or re.search(r"[a-z][A-Z]", word)}
    identifiers = frozenset(word for word in quoted | called | cased if len(word) > 2)
    return Mentions(tuple(dict.fromkeys(named)), tuple(dict.fromkeys(lines)), identifiers)


def rank_files(
    issue: Issue, files: Sequence[SourceFile], named: Mentions, history: Sequence[PastCommit] = ()
) -> tuple[str, ...]:
    """Return the paths of `files`, likeliest first, by the weighted sum of all clues. Ties are in order of path.

    Files whose suffix is no programming language's come last, the named ones of them first.
    """
    code = [file for file in files if CODE_SUFFIX.search(file.path)]
    told = [(WEIGHTS[clue], strengths) for clue, strengths in clues(issue, code, named, history).items()]
    scores = {file.path: sum(weight * of.get(file.path, 0.0) for weight, of in told) for file in code}
    others = sorted({file.path for file in files} - scores.keys(), key=lambda path: (path not in named.paths, path))
    return (*sorted(scores, key=lambda path: (-scores[path], path)), *others)


def clues(
    issue: Issue, files: Sequence[SourceFile], named: Mentions, history: Sequence[PastCommit]
) -> Mapping[str, Mapping[str, float]]:
    """Return how strongly each clue of `WEIGHTS` points at a file, by path, in [0, 1]: BM25 is a share of the best.

    A file gains by defining names that the issue mentions: the rarer the name, the more.
    """
    title, whole = _query(issue.text)
    vocabulary = _Vocabulary(whole)
    paths = [file.path for file in files]
    texts = [vocabulary.counted(file.path.encode(errors="replace") + b"\n" + file.data) for file in files]
    worth, worth_in_title = _worth(whole, texts), _worth(title, texts)
    in_text, in_title = _bm25(worth, texts), _bm25(worth_in_title, texts)
    likely = sorted(range(len(files)), key=lambda n: -in_text[n] - in_title[n])[:MOST_SPLIT]
    parts = [(n, vocabulary.counted(part)) for n in likely for part in _DEFINES.split(files[n].data, MOST_PARTS)]
    best = [0.0] * len(files)
    for (n, _), score in zip(parts, _bm25(worth, [part for _, part in parts]), strict=True):
        best[n] = max(best[n], score)
    languages = [path.rpartition(".")[2][:2] for path in paths]  # .py, .pyi and .pyx are one
    usual = max(languages, key=Counter(languages).__getitem__, default="")
    names = [vocabulary.counted(path.encode(errors="replace")) for path in paths]
    identifiers = {name.encode(errors="replace") for name in named.identifiers}
    defined = {file.path: identifiers.intersection(_DEFINITION.findall(b"\n" + file.data)) for file in files}
    homes = Counter(name for found in defined.values() for name in found)
    in_path = _bm25(_worth(whole, names), names)
    bm25 = {"text": in_text, "title": in_title, "function": best, "path": in_path}
    return {
        **{clue: dict(zip(paths, scores, strict=True)) for clue, scores in bm25.items()},
        **_past(frozenset(paths), history, title, vocabulary),
        "defines": {path: min(1.0, sum(1 / homes[one] for one in sorted(found))) for path, found in defined.items()},
        "named": {path: 1.0 for path in paths if path in named.paths and not path.endswith("__init__.py")},
        "aside": {path: 1.0 for path in paths if _ASIDE.search(path) or is_test_path(path)},
        "other": {path: 1.0 for path, language in zip(paths, languages, strict=True) if language != usual},
    }


def _query(text: str) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Return what the title of an issue asks for, and what all of it does: the logarithm of how often, by term.

    The title counts `TITLE` times. Comments and addresses are no text, and sections on versions and systems say nothing
    of the fault.
    """
    lines = _COMMENT.sub(" ", text).strip().split("\n")
    kept, is_boilerplate, is_code = [], False, False
    for line in lines[1:]:
        is_code ^= line.lstrip().startswith("```")
        if not is_code and (heading := _HEADING.fullmatch(line)):
            is_boilerplate = bool(_BOILERPLATE.search(heading[0]))
        elif not is_boilerplate:
            kept.append(_URL.sub(" ", line))
    title, rest = stems(lines[0]), stems("\n".join(kept))
    in_title, in_all = (
        {term: 1 + math.log(count) for term, count in Counter(found).items()}
        for found in (title, [*title * TITLE, *rest])
    )
    return in_title, in_all


def stems(text: str) -> list[str]:
    """Split text into BM25's terms: the stems of words, of identifiers and of the parts of these."""
    return [_ENDING.sub("", part, count=1) for word in _WORD.findall(text) for part in _parts(word)]


def _parts(word: str) -> list[str]:
    """Return the parts of an identifier and itself, in lower case; a word is its own only part."""
    if word.isalpha() and word.islower():
        return [word]
    parts, whole = [part.lower() for part in _SUBWORD.findall(word)], word.lower()
    return parts if whole in parts else [*parts, whole]


def terms(text: str) -> list[str]:
    """Split text into whole identifiers and their parts, in lower case."""
    return [word.lower() for word in _WORD.findall(text) + _SUBWORD.findall(text)]


class _Counted(NamedTuple):
    """How often each wanted term that there is stands in a text, and the number of all words."""

    counts: Mapping[str, int]
    length: int


def _worth(query: Mapping[str, float], texts: Sequence[_Counted]) -> Mapping[str, float]:
    """Return the weight of each term of a query times its rarity in the texts; terms that are in none are left out."""
    holding = Counter(term for text in texts for term in text.counts)
    return {
        term: weight * math.log(1 + (len(texts) - holding[term] + 0.5) / (holding[term] + 0.5))
        for term, weight in query.items()
        if term in holding
    }


def _bm25(worth: Mapping[str, float], texts: Sequence[_Counted]) -> list[float]:
    """Return each text's BM25 score, divided by the best one's: in [0, 1]."""
    mean = sum(text.length for text in texts) / max(len(texts), 1) or 1.0
    scores = []
    for counts, length in texts:
        norm = SATURATION * (1 - LENGTH_WEIGHT + LENGTH_WEIGHT * length / mean)
        score = 0.0
        for term, count in counts.items():
            if term in worth:
                score += worth[term] * count * (SATURATION + 1) / (count + norm)
        scores.append(score)
    best = max(scores, default=0.0) or 1.0
    return [score / best for score in scores]


def alike(issue: Issue, parts: Sequence[str], title_counts: float = 0.0) -> list[float]:
    """Return the BM25 score of each part of a text for the issue's words, divided by the best one's: in [0, 1].

    `title_counts` is the weight of the same score for the words of the title alone, which is added.
    """
    title, wanted = _query(issue.text)
    words = _Vocabulary(wanted)
    counted = [words.counted(part.encode(errors="replace")) for part in parts]
    scores = _bm25(_worth(wanted, counted), counted)
    if not title_counts:
        return scores
    in_title = _bm25(_worth(title, counted), counted)
    return [score + title_counts * more for score, more in zip(scores, in_title, strict=True)]


class _Vocabulary:
    """Counts what is wanted in texts. A word is split once, wherever it stands."""

    def __init__(self, wanted: Collection[str]) -> None:
        self._wanted = wanted
        self._beginnings = {term[:LEAST_STEM] for term in wanted}
        self._seen = set[bytes]()
        self._hits = dict[bytes, list[str]]()

    def counted(self, text: bytes) -> _Counted:
        """Count the terms of a text."""
        words = text.translate(_WORDS_ALONE).split()
        unseen = set(filterfalse(self._seen.__contains__, words))
        self._seen |= unseen
        for word in unseen:
            self._look_at(word.decode())
        found = dict[str, int]()
        for word, count in Counter(filter(self._hits.__contains__, words)).items():
            for term in self._hits[word]:
                found[term] = found.get(term, 0) + count
        return _Counted(found, len(words))

    def _look_at(self, word: str) -> None:
        if word.isalpha() and word.islower() and word[:LEAST_STEM] not in self._beginnings:
            return  # most words, and they begin as their stem
        likely = (part for part in _parts(word) if part[:LEAST_STEM] in self._beginnings)
        if hits := [stem for part in likely if (stem := _ENDING.sub("", part, count=1)) in self._wanted]:
            self._hits[word.encode()] = hits


def _past(
    paths: Collection[str], history: Sequence[PastCommit], query: Mapping[str, float], vocabulary: _Vocabulary
) -> Mapping[str, Mapping[str, float]]:
    """Return how like the query all messages of a file's commits are, and the likest one; small commits count more."""
    messages = [vocabulary.counted(commit.message.encode(errors="replace")) for commit in history]
    most, told, lengths = dict[str, float](), dict[str, dict[str, int]](), Counter[str]()
    for commit, message, score in zip(history, messages, _bm25(_worth(query, messages), messages), strict=True):
        touched = [path for path in commit.paths if path in paths]
        for path in touched:
            most[path] = max(most.get(path, 0.0), score / math.sqrt(len(touched)))
            lengths[path] += message.length
            of_file = told.setdefault(path, {})
            for term, count in message.counts.items():
                of_file[term] = of_file.get(term, 0) + count
    texts = [_Counted(counts, lengths[path]) for path, counts in told.items()]
    return {"commit": most, "past": dict(zip(told, _bm25(_worth(query, texts), texts), strict=True))}


@dataclass(frozen=True, slots=True)
class Survey:
    """What an issue and a tree tell together without a model: candidate paths, likeliest first, and what is named."""

    ranked: tuple[str, ...]
    named: Mentions


def survey(issue: Issue, snapshot: Snapshot) -> Survey:
    """Rank the candidate files of a tree for an issue; `ranked` is empty where the tree holds no text file."""
    files = candidate_files(snapshot)
    named = mentions(issue, files)
    return Survey(rank_files(issue, files, named, snapshot.history), named)
