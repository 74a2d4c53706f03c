"""What the record writes of frozen values, and back: JSON with bytes as base64, compressed where that pays.

A packed value is a text (plain JSON) or bytes (JSON compressed by zlib). It knows no table.
"""

import base64
import enum
import functools
import json
import types
import typing
import zlib
from collections.abc import Callable, Hashable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, cast

from agentless_mini.domain import Job, Output, ResultFile, Usage, canonical_json

COMPRESSED_FROM = 1024
ARGUMENT_LETTERS = 200
_UNTOLD = {"prompt_tokens": 1, "cached_tokens": 2, "completion_tokens": 4}

T = TypeVar("T")
Json = Any
"""Any JSON value."""
Packed = str | bytes


def pack(value: Json) -> Packed:
    """Return the value as it is stored."""
    text = canonical_json(value)
    return text if len(text) < COMPRESSED_FROM else zlib.compress(text.encode())


def unpack(packed: Packed) -> Json:
    """Return the value that was packed."""
    return json.loads(packed if isinstance(packed, str) else zlib.decompress(packed))


def written(value: object) -> Json:
    """Return a frozen value as JSON's own types, from which `read` makes it again."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, tuple):
        return [written(item) for item in value]
    if (names := _fields(cast("Hashable", type(value)))) is None:
        return value
    if isinstance(value, Output | ResultFile):  # many of each: without their names
        return [written(getattr(value, name)) for name in names]
    return {name: written(getattr(value, name)) for name in names}


@functools.cache
def _fields(kind: type) -> tuple[str, ...] | None:
    return tuple(field.name for field in fields(kind)) if is_dataclass(kind) else None


def read(kind: type[T], values: Json) -> T:
    """Return the value of this type of which `written` made these."""
    found: T = _reader(cast("Hashable", kind))(values)
    return found


@functools.cache
def _reader(kind: Any) -> Callable[[Json], Any]:  # noqa: ANN401 - a type, as an annotation says it
    """Return what makes a value of a type."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        inner = _reader(parts[0])
        return lambda values: tuple(map(inner, values))
    if origin is types.UnionType:  # of a type and None
        inner = _reader(parts[0])
        return lambda value: None if value is None else inner(value)
    if isinstance(kind, type) and is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        inners = {field.name: _reader(hints[field.name]) for field in fields(kind)}

        def whole(values: Json) -> Any:  # noqa: ANN401 - a value of this type
            named = zip(inners, values, strict=True) if isinstance(values, list) else values.items()
            return kind(**{name: inners[name](value) for name, value in named})

        return whole
    if kind is bytes:
        return base64.b64decode
    return kind if issubclass(kind, enum.Enum) else lambda value: value


def usage_columns(usage: Usage) -> dict[str, int]:
    """Return usage as the columns of `samples` have it: a number that is not known is 0, and its mark in `untold`."""
    told = {name: getattr(usage, name) for name in _UNTOLD}
    untold = sum(_UNTOLD[name] for name, tokens in told.items() if tokens is None)
    return {**{name: tokens or 0 for name, tokens in told.items()}, "untold": untold}


def usage_of(prompt: int, cached: int, answer: int, untold: int) -> Usage:
    """Return the usage that `usage_columns` made columns of."""
    columns = zip((prompt, cached, answer), _UNTOLD.values(), strict=True)
    return Usage(*(None if untold & mark else tokens for tokens, mark in columns))


def job_values(job: Job) -> Json:
    """Return what people may want to know of a job; it cannot be run from this."""
    return {
        "environment": written(job.environment),
        "tree": written(job.tree),
        "files": [file.path for file in job.files],
        "steps": [[argument[:ARGUMENT_LETTERS] for argument in step.argv] for step in job.steps],
    }
