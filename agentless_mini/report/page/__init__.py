"""Evaluations, or one run, as one HTML page that needs no network: documents go in, the page comes out.

Foreign text never becomes markup: it stands in data blocks, from where the script takes it as text. A policy in the
page forbids any other script, style, connection and image.
"""

import base64
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

_FOLDER = Path(__file__).parent
# In the order in which they build on each other; together they are one script.
_SCRIPTS = ("dom", "plot", "plots", "runs", "table", "instance", "main")
# JSON may spell these as escapes anywhere in a text. The end of a block, a comment and an entity need one of them.
_ESCAPES = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&"}


def render_page(documents: Sequence[Mapping[str, Any]], instances: Sequence[Iterable[Mapping[str, Any]]] = ()) -> str:
    """Return the page on these evaluations, side by side in their order, all in ASCII.

    `instances` has for each evaluation the documents of single instances, of all, some or none, read one by one.
    """
    known: list[list[str]] = []
    packed: list[tuple[str, Markup]] = []
    for run, found in enumerate(instances):
        known.append([])
        for instance in found:
            packed.append((f"depth-{run}-{len(known[run])}", packed_block(instance)))
            known[run].append(str(instance["id"]))
    return _rendered({"documents": [*documents], "depth": known}, packed)


def render_run(instance: Mapping[str, Any]) -> str:
    """Return the page on one run, which is shown as an instance is (`evaluation_document.run_instance`)."""
    return _rendered({"documents": [], "depth": [], "run": True}, [("depth-0-0", packed_block(instance))])


def json_block(value: Mapping[str, Any]) -> Markup:
    """Return the value as JSON in ASCII without `<`, `>` and `&`: in a block of data nothing runs or ends it."""
    return Markup(_json(value).translate(_ESCAPES))  # noqa: S704 - nothing is left in it that ends the block


def packed_block(value: Mapping[str, Any]) -> Markup:
    """Return the value as base64 of zlib of JSON, for what is read only when someone asks for it."""
    packed = zlib.compress(_json(value).encode("ascii"), 9)
    return Markup(base64.b64encode(packed).decode("ascii"))  # noqa: S704 - letters, digits, +, / and =


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))


def _rendered(data: Mapping[str, Any], depth: Sequence[tuple[str, Markup]]) -> str:
    """Return the page: what every view needs at once, and one packed block for each instance in depth."""
    parts = "\n".join(_read(f"script/{name}.js") for name in _SCRIPTS)
    script, style = f'(() => {{\n"use strict";\n{parts}}})();\n', _read("page.css")
    allowed = f"script-src '{_digest(script)}'; style-src '{_digest(style)}'"
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(_read("template.html.j2")).render(
        policy=f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'",
        style=Markup(style),  # noqa: S704 - a file of this package
        script=Markup(script),  # noqa: S704 - files of this package
        data=json_block(data),
        depth=depth,
    )


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
