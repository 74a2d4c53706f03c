"""Evaluations, or one run, as one HTML page that needs no network: documents go in, the page comes out.

It reads no store and computes no figure of its own: that is done before it, or, for intervals of single bars and for
comparisons of runs, in `script/`. Nothing of the documents gets into the markup. They stand in data blocks, from where
the script takes them as text; a policy in the page forbids any other script, style, connection and image.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from agentless_mini.report.page.blocks import json_block, packed_block

_FOLDER = Path(__file__).parent
# In the order in which they build on each other; together they are one script.
_SCRIPTS = (
    "dom", "format", "state", "axes", "lines", "bars", "curves", "rounds", "groups", "charts", "runs", "rows", "table",
    "diff", "matrix", "answers", "instance", "run", "main",
)  # fmt: skip


def render_page(documents: Sequence[Mapping[str, Any]], instances: Sequence[Iterable[Mapping[str, Any]]] = ()) -> str:
    """Return the page on these evaluations, side by side in their order.

    `instances` has for each evaluation what is shown of single instances in depth, read one by one; an evaluation
    may have none, or only some. The same documents come to the same page, which is ASCII: any stream can write it.
    """
    return _rendered(**_blocks(documents, instances))


def render_run(instance: Mapping[str, Any]) -> str:
    """Return the page on one run, which is shown as an instance is (`evaluation_instance.run_instance`)."""
    data = json_block({"documents": [], "depth": [], "run": True})
    return _rendered(data=data, depth=[("depth-0-0", packed_block(instance))])


def _rendered(**blocks: object) -> str:
    script, style = _script(), _read("page.css")
    return _template().render(
        policy=_policy(script, style),
        style=Markup(style),  # noqa: S704 - a file of this package
        script=Markup(script),  # noqa: S704 - files of this package
        **blocks,
    )


def _blocks(
    documents: Sequence[Mapping[str, Any]], instances: Sequence[Iterable[Mapping[str, Any]]]
) -> dict[str, object]:
    """Return the data: what every view needs at once, and one packed block for each instance in depth."""
    known: list[list[str]] = []
    packed: list[tuple[str, Markup]] = []
    for run, found in enumerate(instances):
        known.append([])
        for instance in found:
            packed.append((f"depth-{run}-{len(known[run])}", packed_block(instance)))
            known[run].append(str(instance["id"]))
    return {"data": json_block({"documents": [*documents], "depth": known}), "depth": packed}


def _script() -> str:
    parts = "\n".join(_read(f"script/{name}.js") for name in _SCRIPTS)
    return f'(() => {{\n"use strict";\n{parts}}})();\n'


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _policy(script: str, style: str) -> str:
    """Return the content security policy: this script and this style, and nothing else."""
    allowed = f"script-src '{_digest(script)}'; style-src '{_digest(style)}'"
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(_read("template.html.j2"))
