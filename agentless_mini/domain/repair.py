"""What a run starts from, and what comes of an answer: edits, then a patch or the reason why there is none."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Issue:
    """What is wrong, in somebody's words. `source` says where the text came from, for people only."""

    text: str
    source: str = ""


class FileKind(enum.StrEnum):
    """What can be done with an entry of the tree: only TEXT is ever shown to a model or edited."""

    TEXT = "text"
    BINARY = "binary"  # holds a NUL byte in its first 8 KiB
    LARGE = "large"  # over the size up to which contents are read
    SYMLINK = "symlink"
    SUBMODULE = "submodule"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One entry of a tree.

    `path` is relative, with `/`; bytes of a name that are not UTF-8 are surrogate escapes. `mode` is git's, in octal
    ("100644", "100755", "120000", "160000"). `data` holds the exact bytes of a TEXT file and is empty for the others;
    `size` counts those of a BINARY or LARGE one.
    """

    path: str
    mode: str
    kind: FileKind
    data: bytes = b""
    size: int = 0


@dataclass(frozen=True, slots=True)
class PastCommit:
    """A commit that is no merge. `paths` of the files that it changes are as `SourceFile.path`; some may be gone."""

    message: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A repository's tree at one moment: a commit's, or the working tree with its uncommitted and untracked files.

    `name` is a short label (a folder's or repository's name), `commit` the full id of the base commit, `digest` a
    hash of all entries. `files` is sorted by path. `ignored` lists what git ignores but the disk holds (folders end
    in "/"): a patch must not create a file there. `day` is the base commit's, in ISO form, where it is known.
    `history` are the base commit and those before it, newest first, as far as they were read: see `past_commits`.
    """

    name: str
    commit: str
    digest: str
    files: tuple[SourceFile, ...]
    ignored: tuple[str, ...] = ()
    day: str = ""
    history: tuple[PastCommit, ...] = ()

    def by_path(self) -> Mapping[str, SourceFile]:
        """Return the entries keyed by path."""
        return {file.path: file for file in self.files}


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to split the body of an edit: the lines to find and the lines to put there.

    Each line ends in a newline, except a last one of which the answer says that the file has none after it. A reading
    does not count where the file holds one of the lines `unless`: they were taken for markers.
    """

    search: str
    replace: str
    unless: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Edit:
    """One SEARCH/REPLACE edit of an answer; the applier takes the reading with the longest SEARCH that matches.

    Edits of one `block` follow each other without a fence or prose between them. `fence` is what opened the fence
    around the edit, "" where its markers are so wide that whatever stands in it is meant.
    """

    path: str
    readings: tuple[Reading, ...]
    block: int = 0
    fence: str = ""


class Reason(enum.StrEnum):
    """Why an answer is no candidate. The values are stable: reports count them."""

    TRUNCATED = "truncated"
    WITHHELD = "withheld"
    NO_EDIT = "no-edit"
    MALFORMED = "malformed"
    BAD_PATH = "bad-path"
    NOT_EDITABLE = "not-editable"
    NOT_FOUND = "search-not-found"
    AMBIGUOUS = "search-ambiguous"
    EXISTS = "file-exists"
    ENCODING = "encoding"
    SYNTAX = "syntax-error"
    PLACEHOLDER = "placeholder"  # "... rest of the code" stands where the code should
    NO_CHANGE = "no-change"
    NO_EFFECT = "no-effect"  # comments, blank lines and formatting alone
    REFUSED_BY_GIT = "refused-by-git"
    # of a generated test:
    NO_TEST = "no-test"
    NOT_REPRODUCED = "not-reproduced"  # it passes, or is skipped, while the issue exists
    OTHER_FAULT = "other-fault"  # it fails for a reason of its own
    FLAKY = "flaky"  # it fails because of the issue, but not each time
    SURPLUS = "surplus"  # it reproduces the issue, and enough others with more votes do so too


@dataclass(frozen=True, slots=True)
class Rejected:
    """An answer that became no patch. `detail` is one line for people; it may quote the answer."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file before and after, as bytes; None where it does not exist. `mode` is git's, in octal."""

    path: str
    before: bytes | None
    after: bytes | None
    mode: str


@dataclass(frozen=True, slots=True)
class Patch:
    """A change of at least one byte: made of an answer, voted on, run in boxes, recorded and graded in this one shape.

    `diff` is a git patch in the files' own bytes; `edits.changed_files` tells what it makes of the files of its tree.
    `normal` is a digest that is equal for patches that differ in comments, blank lines and formatting alone. `paths`
    are those of the changed files, sorted. `undefined` are the names, sorted, that Python files use undefined with it
    and did not without it, `suspicious` is what can make tests pass without a repair (see `edits.suspicion`).
    """

    diff: bytes
    normal: str
    paths: tuple[str, ...]
    undefined: tuple[str, ...] = ()
    suspicious: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """What became of one sample. `request` is `SampleRequest.key()`; `order` is its place among all of a run.

    `round` is the round of the evolution that it was drawn in; without one all are of round 0. `repeats` says that its
    answer is that of an earlier sample, and not for chance: it is no vote of its own.
    """

    request: str
    index: int
    order: int
    outcome: Patch | Rejected
    round: int = 0
    repeats: bool = False


@dataclass(frozen=True, slots=True)
class Localization:
    """The files to edit, as distinct lists in order of votes.

    `lists[i]` is most important first and was named by `votes[i]` samples (0: it came without a model). `named` are
    the paths that the issue itself names, `tree_shown` and `tree_total` count the files of the tree in the prompt.
    """

    lists: tuple[tuple[str, ...], ...]
    votes: tuple[int, ...]
    named: tuple[str, ...] = ()
    tree_shown: int = 0
    tree_total: int = 0


class Matching(enum.StrEnum):
    """How closely an answer must keep to the lines of the file."""

    STRICT = "strict"  # SEARCH equal to whole lines
    LOOSE = "loose"  # SEARCH may differ in blanks, blank lines, indentation, or slightly
