"""Reads pyproject.toml: the standard tables, and those of poetry, pdm, uv and hatch as far as tests need them."""

import re
import tomllib
from collections.abc import Iterator, Mapping

from agentless_mini.environment.declared import Declared, is_for_tests
from agentless_mini.environment.versions import classified_minors

Table = Mapping[str, object]
_NESTING = 8


def of_pyproject(text: str) -> Declared:
    """Return what the file declares. One that is no TOML declares nothing."""
    try:
        top = tomllib.loads(text)
    except (ValueError, RecursionError):
        return Declared()
    project = _table(top, "project")
    poetry = _table(top, "tool", "poetry")
    python = (project.get("requires-python"), _table(poetry, "dependencies").get("python"))
    optional = _table(project, "optional-dependencies")
    return Declared(
        project=bool(project.get("name")) or "build-system" in top or bool(poetry),
        python=tuple(text for text in python if isinstance(text, str)),
        tested=classified_minors((*_strings(project.get("classifiers")), *_strings(poetry.get("classifiers")))),
        dependencies=(*_strings(project.get("dependencies")), *_of_poetry(_table(poetry, "dependencies"))),
        extras=tuple((name, _strings(listed)) for name, listed in optional.items()),
        tests=tuple(_test_groups(top)),
    )


def _table(top: Table, *keys: str) -> Table:
    for key in keys:
        inner = top.get(key)
        top = inner if isinstance(inner, dict) else {}
    return top


def _strings(value: object) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _test_groups(top: Table) -> Iterator[str]:
    groups = _table(top, "dependency-groups")
    for name in filter(is_for_tests, groups):
        yield from _group(groups, name, ())
    for name, listed in _table(top, "tool", "pdm", "dev-dependencies").items():
        yield from _strings(listed) if is_for_tests(name) else ()
    yield from _strings(_table(top, "tool", "uv").get("dev-dependencies"))
    for name in ("default", *filter(is_for_tests, _table(top, "tool", "hatch", "envs"))):
        environment = _table(top, "tool", "hatch", "envs", name)
        yield from _strings(environment.get("dependencies")) + _strings(environment.get("extra-dependencies"))
    poetry = _table(top, "tool", "poetry")
    yield from _of_poetry(_table(poetry, "dev-dependencies"))
    for name in filter(is_for_tests, _table(poetry, "group")):
        yield from _of_poetry(_table(poetry, "group", name, "dependencies"))


def _group(groups: Table, name: str, way: tuple[str, ...]) -> Iterator[str]:
    """Yield a group of PEP 735 with the groups that it includes, which may not go round in circles."""
    listed = groups.get(name)
    if name in way or len(way) > _NESTING or not isinstance(listed, list):
        return
    for item in listed:
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict) and isinstance(included := item.get("include-group"), str):
            yield from _group(groups, included, (*way, name))


def _of_poetry(table: Table) -> Iterator[str]:
    """Yield poetry's dependencies as requirements, upper bounds left out; others than an index has are left out."""
    for name, asked in table.items():
        if name == "python":
            continue
        if isinstance(asked, dict) and not asked.get("optional") and isinstance(asked.get("version"), str):
            extras = f"[{','.join(_strings(asked.get('extras')))}]" if asked.get("extras") else ""
            yield f"{name}{extras}{_lower_bound(str(asked['version']))}"
        elif isinstance(asked, str):
            yield f"{name}{_lower_bound(asked)}"


def _lower_bound(version: str) -> str:
    match = re.fullmatch(r"(?P<sign>[\^~]|>=|~=|==)?\s*(?P<number>\d+(?:\.\d+)*)\b.*", version.strip())
    if match is None:
        return ""
    return f"=={match['number']}" if match["sign"] in {None, "=="} and "*" not in version else f">={match['number']}"
