"""What a run starts from: an issue and the tree of a repository."""

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
class Snapshot:
    """A repository's tree at one moment: a commit's, or the working tree with its uncommitted and untracked files.

    `name` is a short label (a folder's or repository's name), `commit` the full id of the base commit, `digest` a
    hash of all entries. `files` is sorted by path. `ignored` lists what git ignores but the disk holds (folders end
    in "/"): a patch must not create a file there. `day` is the base commit's, in ISO form, where it is known.
    """

    name: str
    commit: str
    digest: str
    files: tuple[SourceFile, ...]
    ignored: tuple[str, ...] = ()
    day: str = ""

    def by_path(self) -> Mapping[str, SourceFile]:
        """Return the entries keyed by path."""
        return {file.path: file for file in self.files}
