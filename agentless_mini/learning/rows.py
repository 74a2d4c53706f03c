"""What a model learns from: one repair each, and how it is shown, answered and kept in parquet.

A row is what curation makes and trainers read. Its prompt is the very prompt of inference, its answer in the format
that inference reads. Texts are UTF-8, with their own newlines.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

from agentless_mini.chain.prompts import Attempt, Prompts
from agentless_mini.domain import (
    Excerpt,
    FileChange,
    FileKind,
    Issue,
    Message,
    Rejected,
    ShownFile,
    Snapshot,
    SourceFile,
)
from agentless_mini.edits import Tree, write_answer
from agentless_mini.errors import EnvironmentFailed, Translation, UsageError, boundary, printable
from agentless_mini.installing import install_command

SPLITS = ("train", "valid", "test")
_MODE = "100644"
_AT_ONCE = 16  # rows in memory: some are megabytes


@dataclass(frozen=True, slots=True)
class RowFile:
    """One file of the code context, before (at the merge base) and after; None where it does not exist.

    Where the two are equal it is relevant but unmodified.
    """

    path: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Row:
    """One repair to learn from.

    `id` is stable: "owner/name#12" of a pull request. `issue` is the text as the model sees it, `conversation` what was
    said of it, in order of time. `files` are the changed ones, then the others, sorted within each. `merged_at` is ISO
    8601 in UTC, `licence` an SPDX name, "" where unknown. `parents` are unified diffs of earlier attempts that the
    prompt shows. `check` tells whether a repair is right (see `rewarding`): it is foreign code, for a sandbox alone.
    """

    id: str
    repo: str
    title: str
    issue: str
    conversation: str
    files: tuple[RowFile, ...]
    base: str
    merged_at: str
    licence: str
    split: str
    reasoning: str = ""
    parents: tuple[str, ...] = ()
    check: str = ""

    def oracle(self) -> tuple[FileChange, ...]:
        """Return the files that the true repair changes, sorted by path."""
        changed = (file for file in self.files if file.before != file.after)
        return tuple(
            FileChange(file.path, as_bytes(file.before), as_bytes(file.after), _MODE)
            for file in sorted(changed, key=lambda file: file.path)
        )

    def tree(self) -> Tree:
        """Return the tree that an answer's edits meet: the files of the row as they are before, and no others."""
        files = (
            SourceFile(file.path, _MODE, FileKind.TEXT, file.before.encode())
            for file in sorted(self.files, key=lambda file: file.path)
            if file.before is not None
        )
        return Tree.of(Snapshot(self.repo, self.base, "", tuple(files)))

    def messages(self, prompts: Prompts) -> tuple[Message, ...]:
        """Return the prompt of inference: the issue and all files, whole; then the parents where there are some.

        The files stand in an order drawn from the row's id: their place must not tell which of them change.
        """
        files = sorted(self.files, key=lambda file: hashlib.sha256(f"{self.id} {file.path}".encode()).digest())
        shown = (
            ShownFile(file.path, (Excerpt(1, file.before),), whole=True) for file in files if file.before is not None
        )
        asked = prompts.repair(Issue(self.issue, self.id), self.repo.rpartition("/")[2], tuple(shown))
        return prompts.evolve(asked, tuple(map(Attempt, self.parents))) if self.parents else asked

    def answer(self) -> str:
        """Return what a model should say: the edits of the oracle, after the reasoning where there is some.

        Raises `UsageError` where the format cannot say the change; curation leaves such rows out.
        """
        edits = write_answer(self.oracle())
        if isinstance(edits, Rejected):
            raise UsageError(f"The row {printable(self.id)} has no answer ({printable(edits.detail)}): leave it out.")
        if not self.reasoning:
            return edits
        return f"<think>\n{self.reasoning.strip()}\n</think>\n<solution>\n{edits}</solution>"


def as_bytes(text: str | None) -> bytes | None:
    """Return the bytes of a text, None where there is none."""
    return None if text is None else text.encode()


def row_of(values: Mapping[str, Any]) -> Row:
    """Return the row that JSON or parquet has as these values."""
    files = tuple(RowFile(**file) for file in values["files"])
    return Row(**{**values, "files": files, "parents": tuple(values["parents"])})


_NAMES = [field.name for field in fields(Row)]


# --- parquet ---------------------------------------------------------------------------------------------------------


def write_rows(path: Path, rows: Iterable[Row]) -> int:
    """Write the rows to one parquet file and return their number. Raises as `write_table`."""
    return write_table(path, map(asdict, rows), row_schema())


def write_table(path: Path, rows: Iterable[dict[str, Any]], schema: Any = None) -> int:  # noqa: ANN401 - pyarrow's
    """Write mappings to one parquet file, in groups, so that memory does not grow with their number; return it.

    The first group tells the columns where there is no schema, and without rows there is then no file. The file has its
    name once it is whole: what was there before stays until then. Raises `EnvironmentFailed` where it cannot be
    written, `UsageError` for text that is not Unicode (surrogates).
    """
    arrow, parquet = _pyarrow()
    partial, name, count = path.with_name(f".{path.name}.partial"), printable(str(path)), 0
    failures: Translation = {
        OSError: lambda error: EnvironmentFailed(
            f"{name} cannot be written ({printable(str(error))}): free some room, or name another."
        ),
        UnicodeError: lambda error: UsageError(
            f"A row holds text that is not Unicode ({printable(str(error))}): leave it out."
        ),
    }
    with boundary(failures):
        path.parent.mkdir(parents=True, exist_ok=True)
        waiting = iter(rows)
        group = list(islice(waiting, _AT_ONCE))
        schema = schema or (arrow.Table.from_pylist(group).schema if group else None)
        if schema is None:
            return 0
        with parquet.ParquetWriter(partial, schema, compression="zstd") as writer:
            while group:
                writer.write_table(arrow.Table.from_pylist(group, schema))
                count += len(group)
                group = list(islice(waiting, _AT_ONCE))
        partial.replace(path)
    return count


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a parquet file, or of all below a folder in order of name, a few in memory at a time.

    Raises `UsageError` where there is none, or one that does not hold rows.
    """
    for file in _some_files(path):
        with _opened(file) as opened:
            for batch in opened.iter_batches(batch_size=_AT_ONCE, columns=_NAMES):
                yield from map(row_of, batch.to_pylist())


def require_rows(path: Path, split: str = "") -> int:
    """Return how many rows there are, of a split if one is named. Raises `UsageError` as `read_rows`, and for none."""
    count = 0
    for file in _some_files(path):
        with _opened(file) as opened:
            splits = opened.read(columns=["split"])["split"].to_pylist()
            count += splits.count(split) if split else len(splits)
    if not count:
        of = f" of the split {split}" if split else ""
        raise UsageError(f"{printable(str(path))} holds no row{of}: name other data.")
    return count


def check_kinds(path: Path, split: str) -> set[bool]:
    """Return whether the checks of a split are run in images. Raises `UsageError` where there is none."""
    kinds = set()
    for file in _some_files(path):
        with _opened(file) as opened:
            found = opened.read(columns=["split", "check"]).to_pylist()
            kinds |= {row["check"].startswith("{") for row in found if row["split"] == split and row["check"]}
    if not kinds:
        raise UsageError(f"{printable(str(path))} holds no row of the split {split} with a check: name other data.")
    return kinds


def _some_files(path: Path) -> list[Path]:
    files = row_files(path)
    if not files:
        raise UsageError(f"There is no parquet file below {printable(str(path))}: name the output of a curation.")
    return files


def row_files(path: Path) -> list[Path]:
    """Return a file as it is, of a folder all parquet files below it in order; not what is hidden, or half-written.

    Raises `UsageError` where there is neither.
    """
    if not path.exists():
        raise UsageError(f"There is nothing at {printable(str(path))}: name rows in parquet, or a folder of them.")
    if not path.is_dir():
        return [path]
    inside = (file.relative_to(path) for file in path.rglob("*.parquet"))
    return sorted(path / file for file in inside if not any(part.startswith(".") for part in file.parts))


def require_apart(data: Path, out: Path) -> None:
    """Raise `UsageError` where the output would lie in the folder of the data: it would be read as such."""
    if data.is_dir() and out.resolve().is_relative_to(data.resolve()):
        raise UsageError(f"{printable(str(out))} lies in the folder of the data: name another --out.")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file that has the columns of rows. What is wrong with it, or with what is read of it, is `UsageError`."""
    name = printable(str(path))
    arrow, parquet = _pyarrow()

    def unreadable(error: BaseException) -> UsageError:
        said = printable(" ".join(str(error).split()))
        return UsageError(f"{name} holds no rows of amini ({said}): name the output of a curation.")

    with (
        boundary(dict.fromkeys((OSError, arrow.ArrowException, KeyError, TypeError), unreadable)),
        parquet.ParquetFile(path) as file,
    ):
        if lacking := set(_NAMES) - set(file.schema_arrow.names):
            raise KeyError(f"no column {sorted(lacking)[0]}")
        yield file


def row_schema() -> Any:  # noqa: ANN401 - pyarrow has no types
    """Return the columns of rows in parquet."""
    arrow, _ = _pyarrow()
    text = arrow.string()
    file = arrow.struct([("path", text), ("before", text), ("after", text)])
    kinds = {"files": arrow.list_(file), "parents": arrow.list_(text)}
    return arrow.schema([(field.name, kinds.get(field.name, text)) for field in fields(Row)])


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise EnvironmentFailed(f"Rows are kept in parquet: {install_command('curate')}.") from error
    return pyarrow, parquet
