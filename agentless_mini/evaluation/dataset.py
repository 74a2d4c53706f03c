"""Reads a benchmark's rows and parts each in two: what the chain may know, and the answer.

A row is a mapping with the columns of SWE-bench. Files are read here: parquet, JSON (a list) and JSON lines; names on
the hub are read by the official package, see `hub`.
"""

import hashlib
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentless_mini.domain import Issue, canonical_json
from agentless_mini.errors import UsageError, boundary, printable, reason
from agentless_mini.evaluation.instances import NAME, Answer, Dataset, Instance
from agentless_mini.installing import install_command

Row = Mapping[str, Any]

NEEDED = ("instance_id", "repo", "base_commit", "problem_statement", "patch")
_ESCAPE = re.compile(rb"\\([abfnrtv\"\\]|[0-3][0-7]{2})")
_ESCAPED = {
    b"a": b"\a",
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"v": b"\v",
    b'"': b'"',
    b"\\": b"\\",
}
_SEEN = 60
"""Characters of a wrong id that are told."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which instances of a dataset are meant: those with these ids (none: all), of these one shard, of it the first.

    `shard` is (i, n): the i-th (from 1) of n parts, dealt out like cards. `limit` 0 is no limit.
    """

    ids: tuple[str, ...] = ()
    shard: tuple[int, int] = (1, 1)
    limit: int = 0


def read_dataset(path: Path) -> Dataset:
    """Read a file. Raises `UsageError` where it is none, or a row of it lacks what is needed."""
    shown = printable(str(path))

    def refused(error: BaseException) -> UsageError:
        return UsageError(f"The dataset {shown} cannot be read ({reason(error)}): check --dataset.")

    with boundary(dict.fromkeys((OSError, ValueError, OverflowError), refused)):
        if path.suffix == ".parquet":
            rows = list(_parquet_rows(path))
        else:
            rows = list(_json_rows(path.read_text("utf-8"), shown))
    return dataset_of(path.name, rows)


def dataset_of(name: str, rows: Iterable[Row]) -> Dataset:
    """Return the dataset of these rows.

    Raises `UsageError` where a row lacks what is needed, comes twice, or has an id that could not name a folder.
    """
    with boundary({RecursionError: lambda _: UsageError(f"A row of {printable(name)} is nested too deeply: see it.")}):
        parted = sorted((_parted(_plain(row)) for row in rows), key=lambda pair: pair[0].id)
    instances = tuple(instance for instance, _ in parted)
    ids = [instance.id for instance in instances]
    if not ids or len(set(ids)) < len(ids):
        raise UsageError(f"The dataset {printable(name)} is empty or has an instance twice: check the file.")
    total = hashlib.sha256("\n".join(answer.row for _, answer in parted).encode("utf-8", "surrogatepass"))
    return Dataset(name, total.hexdigest(), instances, {one.id: answer for one, answer in parted})


def selected(dataset: Dataset, selection: Selection) -> tuple[Instance, ...]:
    """Return the instances that are meant, in order of id. Raises `UsageError` for an id that the dataset lacks."""
    unknown = sorted(set(selection.ids) - dataset.answers.keys())
    if unknown:
        shown = ", ".join(printable(name) for name in unknown[:5])
        raise UsageError(f"The dataset {printable(dataset.name)} has no instance {shown}: check --instances.")
    wanted: Collection[str] = selection.ids or dataset.answers.keys()
    which, of = selection.shard
    meant = tuple(instance for instance in dataset.instances if instance.id in wanted)[which - 1 :: of]
    return meant[: selection.limit or None]


def _parted(row: Row) -> tuple[Instance, Answer]:
    lacking = [name for name in NEEDED if not isinstance(row.get(name), str)]
    if lacking:
        named = _shown(row.get("instance_id", "without a name"))
        raise UsageError(f"The row {named} of the dataset lacks {', '.join(lacking)}: check --dataset.")
    name, text = row["instance_id"], row["problem_statement"]
    if not NAME.fullmatch(name):
        raise UsageError(
            f"The instance {_shown(name)!r} of the dataset cannot name a folder: use letters, digits, dots, dashes and "
            "underscores, 200 at most, and begin with a letter or a digit."
        )
    instance = Instance(
        id=name,
        repo=row["repo"],
        base_commit=row["base_commit"],
        issue=Issue(text, name),
        image=str(row.get("image") or _image(name)),
        version=str(row.get("version") or ""),
        created=str(row.get("created_at") or ""),
    )
    answer = Answer(
        row=canonical_json(row),
        patch=row["patch"],
        files=_files(name, row["patch"]),
        difficulty=str(row.get("difficulty") or ""),
    )
    return instance, answer


def _plain(value: Any) -> Any:  # noqa: ANN401 - any value of a row
    """Return a value as JSON's own types: what JSON does not know as text, what is not a number as None."""
    match value:
        case str() | int() | None:
            return value
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(name): _plain(part) for name, part in value.items()}
        case list() | tuple():
            return [_plain(part) for part in value]
    return str(value)


def _shown(name: object) -> str:
    return printable(str(name)[:_SEEN])


def _image(name: str) -> str:
    """Return the name that SWE-bench gives the image of an instance where the row has none."""
    return f"swebench/sweb.eval.x86_64.{name.lower().replace('__', '_1776_')}:latest"


def _files(name: str, patch: str) -> tuple[str, ...]:
    """Return the files that a patch touches and that are there before it, sorted."""
    from unidiff.errors import UnidiffParseError
    from unidiff.patch import PatchSet

    try:
        touched = PatchSet(patch)
    except UnidiffParseError as error:
        message = f"The patch of {printable(name)} in the dataset cannot be read ({error}): check the file."
        raise UsageError(message) from error
    sources = {_unquoted(file.source_file).removeprefix("a/") for file in touched if not file.is_added_file}
    return tuple(sorted(sources))


def _unquoted(name: str) -> str:
    """Return the name that git wrote, in double quotes and with escapes where it is no plain ASCII."""
    if not (len(name) > 1 and name[0] == name[-1] == '"'):
        return name
    plain = _ESCAPE.sub(lambda found: _unescaped(found[1]), name[1:-1].encode("utf-8", "surrogatepass"))
    return plain.decode("utf-8", "surrogateescape")


def _unescaped(said: bytes) -> bytes:
    return _ESCAPED.get(said) or bytes([int(said, 8)])


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        message = f"Reading parquet needs the extra 'eval': {install_command('eval')}."
        raise UsageError(message) from error
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=64):
                yield from batch.to_pylist()
    except ArrowException as error:
        raise UsageError(f"{printable(str(path))} is no parquet file ({reason(error)}): check --dataset.") from error


def _json_rows(text: str, shown: str) -> Iterator[Row]:
    try:
        rows = json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in _lines(text)]
    except (ValueError, RecursionError) as error:
        message = f"The dataset {shown} is neither a JSON list nor JSON lines ({error}): check --dataset."
        raise UsageError(message) from error
    for row in rows:
        if not isinstance(row, dict):
            raise UsageError(f"The dataset {shown} has a row that is no object: check --dataset.")
        yield row


def _lines(text: str) -> Iterator[str]:
    return (line for line in text.split("\n") if line.strip())
