"""`amini config`: every setting that is in effect, and where it comes from. Secrets are not shown."""

import json
import os
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from agentless_mini.commands.entry import file_in_use, read_config, secrets
from agentless_mini.commands.terminal import without_passwords

_SECRET = re.compile(r"--[\w-]*(?:key|token|password|secret)[\w-]*")
_HIDDEN = "**********"  # as pydantic has it


def show_settings(path: Path | None, flags: Mapping[str, Any], variables: Mapping[str, str], as_json: bool) -> None:
    """Write the settings of the file at `path`, else of the user's own, with the flags put over them, to stdout.

    `variables` are those of the environment that stand in for flags, by the settings' names.
    """
    settings = dict(leaves(read_config(path, flags)))
    file = file_in_use(path)
    said = tomllib.loads(file.read_text(encoding="utf-8")) if file else {}
    sources = {
        **{name: str(file) for name in settings if is_named(said, name.split("."))},
        **{name: variable for name, (variable, _) in secrets().items()},
        **dict.fromkeys(flags, "the command line"),
        **{name: variable for name, variable in variables.items() if os.environ.get(variable) == flags.get(name, "")},
    }
    rows = {name: (shown(value), sources.get(name, "default")) for name, value in settings.items()}
    if as_json:
        values = {name: {"value": value, "source": source} for name, (value, source) in rows.items()}
        document = {"schema": 1, "file": str(file) if file else None, "settings": values}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return
    for name, (value, source) in rows.items():
        sys.stdout.write(f"{name} = {json.dumps(value)}  # {json.dumps(source)[1:-1]}\n")


def leaves(settings: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the JSON value of every setting, secrets as asterisks."""
    values = settings.model_dump(mode="json")
    for name in type(settings).model_fields:
        inner = getattr(settings, name)
        if isinstance(inner, BaseModel):
            yield from leaves(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, values[name]


def is_named(table: Any, keys: list[str]) -> bool:  # noqa: ANN401 - what TOML holds
    """Return whether a table holds a value under these keys, one inside the other."""
    first, *rest = keys
    return isinstance(table, dict) and first in table and (not rest or is_named(table[first], rest))


def shown(value: Any) -> Any:  # noqa: ANN401 - a JSON value
    """Return a value without what is secret in words for other programs: their keys, and passwords in addresses."""
    if isinstance(value, list):
        words = [shown(word) for word in value]
        before = ["", *words]
        return [_HIDDEN if _SECRET.fullmatch(str(flag)) else word for flag, word in zip(before, words, strict=False)]
    if not isinstance(value, str):
        return value
    (clean,) = without_passwords([value])
    return re.sub(rf"({_SECRET.pattern})=\S*", rf"\1={_HIDDEN}", clean)
