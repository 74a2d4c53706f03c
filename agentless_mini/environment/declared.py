"""What the files of a project declare, whichever tool they were written for: Python, dependencies, extras, groups.

Read are pyproject.toml and hatch.toml (the standard tables, and those of poetry, pdm, uv and hatch), setup.cfg, what
setup.py says in literals, and lock files. Nothing is run. It serves the choice of what to install: the requirements
themselves are read by uv, in the box that builds, wherever uv knows how.
"""

import ast
import configparser
import itertools
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from packaging.requirements import InvalidRequirement, Requirement

from agentless_mini.environment.machine import classified_minors, marker_of

Table = Mapping[str, object]
_NESTING, _MOST_LISTED, _MOST_READ = 8, 400, 200_000
LOCKS = ("uv.lock", "pylock.toml", "poetry.lock", "pdm.lock", "conda-lock.yml")
# Distributions that conda has by another name than PyPI.
_OF_CONDA = {
    "matplotlib-base": "matplotlib", "pytorch": "torch", "msgpack-python": "msgpack", "python-graphviz": "graphviz",
    "dask-core": "dask", "pytables": "tables", "opencv": "opencv-python-headless", "seaborn-base": "seaborn",
    "py-opencv": "opencv-python-headless", "psycopg2": "psycopg2-binary", "python-lmdb": "lmdb", "pyqt": "pyqt5",
}  # fmt: skip
LOCK_LIMIT = 8 * 1024 * 1024


@dataclass(slots=True)
class Declared:
    """What files declare together, in the order in which they are read.

    `project` tells whether the tree can be installed, and `backend` by what; `python` are specifiers that all hold;
    `tested` the minor versions of Python 3 among the classifiers; `dependencies` what the project needs to run, as
    requirements. `extras` and `groups` are its optional ones by name: `own` are the names of those groups that uv reads
    itself, the others are written for another tool. `members` are the patterns of the folders of a workspace, without
    those of `strangers`.
    """

    name: str = ""
    project: bool = False
    backend: str = ""
    python: list[str] = field(default_factory=list)
    tested: set[int] = field(default_factory=set)
    dependencies: list[str] = field(default_factory=list)
    extras: dict[str, tuple[str, ...]] = field(default_factory=dict)
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    own: set[str] = field(default_factory=set)
    members: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)


def once(texts: Iterable[str]) -> tuple[str, ...]:
    """Return each of the texts once, in their order."""
    return tuple(dict.fromkeys(texts))


def named(requirement: str) -> str:
    """Return the normal form of the name in a requirement, "" where it is none or leads to an address."""
    try:
        found = Requirement(requirement)
    except (InvalidRequirement, RecursionError):
        return ""
    return "" if found.url else normal(found.name)


def normal(name: str) -> str:
    """Return the normal form of a name, as indexes have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def parse_toml(text: str) -> Table:
    """Return what a text says; one that is no TOML says nothing."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return {}


def table(top: Table, *keys: str) -> Table:
    """Return the table at these keys, an empty one where there is none."""
    for key in keys:
        inner = top.get(key)
        top = inner if isinstance(inner, dict) else {}
    return top


def strings(value: object) -> tuple[str, ...]:
    """Return the strings in a list."""
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def read_pyproject(text: str, found: Declared) -> None:
    """Add what the file declares. One that is no TOML declares nothing."""
    top = parse_toml(text)
    project, poetry = table(top, "project"), table(top, "tool", "poetry")
    python = (project.get("requires-python"), table(poetry, "dependencies").get("python"))
    found.name = str(project.get("name") or poetry.get("name") or found.name)
    is_one = bool(project.get("name")) or "build-system" in top or bool(poetry.get("name"))
    found.project |= is_one and table(top, "tool", "uv").get("package") is not False
    found.backend = str(table(top, "build-system").get("build-backend") or "")
    found.python += [text for text in python if isinstance(text, str)]
    found.tested |= classified_minors((*strings(project.get("classifiers")), *strings(poetry.get("classifiers"))))
    found.dependencies += (*strings(project.get("dependencies")), *_of_poetry(table(poetry, "dependencies")))
    found.extras |= {name: strings(listed) for name, listed in table(project, "optional-dependencies").items()}
    found.extras |= dict.fromkeys(table(poetry, "extras"), ())
    workspace = table(top, "tool", "uv", "workspace")
    found.members += strings(workspace.get("members"))[:_MOST_LISTED]
    found.strangers += strings(workspace.get("exclude"))[:_MOST_LISTED]
    groups = table(top, "dependency-groups")
    found.own |= groups.keys()
    plain = {normal(name): listed for name, listed in groups.items()}
    found.groups |= {name: tuple(itertools.islice(_group(plain, name, set()), _MOST_LISTED)) for name in groups}
    others = {name: strings(listed) for name, listed in table(top, "tool", "pdm", "dev-dependencies").items()}
    others["dev"] = (*others.get("dev", ()), *strings(table(top, "tool", "uv").get("dev-dependencies")))
    for name in table(poetry, "group"):
        others[name] = tuple(_of_poetry(table(poetry, "group", name, "dependencies")))
    others["dev"] += tuple(_of_poetry(table(poetry, "dev-dependencies")))
    found.groups = {name: listed for name, listed in others.items() if listed} | found.groups
    read_hatch(table(top, "tool", "hatch"), found)


def read_hatch(top: Table, found: Declared) -> None:
    """Add the environments of hatch that are for tests, as a group `hatch-test`: one of that name has pytest-mock."""
    for name in ("hatch-test", "test", "tests", "default"):
        of = table(top, "envs", name)
        listed = (*strings(of.get("dependencies")), *strings(of.get("extra-dependencies")))
        extras = tuple(f".[{name}]" for name in strings(of.get("features")))
        members = tuple(f"./{path.rstrip('/')}" for path in strings(table(of, "workspace").get("members")))
        groups = tuple(f"--group {name}" for name in strings(of.get("dependency-groups")))
        if every := (*listed, *extras, *groups, *members):
            found.groups.setdefault("hatch-test", (*every, *(["pytest-mock"] if name == "hatch-test" else [])))
            return


def _group(groups: Table, name: str, read: set[str]) -> Iterator[str]:
    """Yield a group of PEP 735 with the groups that it includes, each once, whichever way their names are written."""
    listed = groups.get(name := normal(name))
    if name in read or len(read) > _MOST_LISTED or not isinstance(listed, list):
        return
    read.add(name)
    for item in listed:
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict) and isinstance(included := item.get("include-group"), str):
            yield from _group(groups, included, read)


def _of_poetry(listed: Table) -> Iterator[str]:
    """Yield poetry's dependencies as requirements, upper bounds left out; others than an index has are left out."""
    ways = ((name, one) for name, asked in listed.items() for one in (asked if isinstance(asked, list) else [asked]))
    for name, asked in ways:
        if name == "python":
            continue
        if isinstance(asked, dict) and not asked.get("optional") and isinstance(asked.get("version"), str):
            extras = f"[{','.join(strings(asked.get('extras')))}]" if asked.get("extras") else ""
            said = (asked.get("markers"), marker_of(str(asked.get("python", ""))))
            marker = " and ".join(f"({text})" for text in said if isinstance(text, str) and text)
            yield f"{name}{extras}{_lower_bound(str(asked['version']))}{marker and f'; {marker}'}"
        elif isinstance(asked, str):
            yield f"{name}{_lower_bound(asked)}"


def _lower_bound(version: str) -> str:
    number = r"(?P<number>\d+(?:\.\d+)*(?:[.-]?[a-z]+[.-]?\d+)?)"
    match = re.fullmatch(rf"(?P<sign>[\^~]|>=|~=|==)?\s*{number}\b.*", version.strip())
    if match is None:
        return ""
    return f"=={match['number']}" if match["sign"] in {None, "=="} and "*" not in version else f">={match['number']}"


def read_setup_py(text: str, found: Declared) -> None:
    """Add what the call of `setup` says in literals and in names that the module binds to literals once."""
    found.project = True
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # written for Python 2, or not to be parsed
        return
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    known = {name.id: node.value for node in assigned for name in node.targets if isinstance(name, ast.Name)}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    setups = [call for call in calls if "setup" in {getattr(call.func, "id", ""), getattr(call.func, "attr", "")}]
    given = {keyword.arg: keyword.value for call in setups for keyword in call.keywords if keyword.arg}
    room = _MOST_READ

    def literals(node: ast.expr | None, depth: int = 0) -> tuple[str, ...]:
        """Return the strings of a string, list, tuple, set or sum of these; what is none of them gives none."""
        nonlocal room
        room -= len(node.value) if isinstance(node, ast.Constant) and isinstance(node.value, str) else 1
        match node if room > 0 else None:
            case ast.Constant(value=str(text)):
                return tuple(line.strip() for line in text.splitlines() if line.strip())
            case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items) if depth < _NESTING:
                return tuple(text for item in items for text in literals(item, depth + 1))
            case ast.BinOp(left=left, op=ast.Add(), right=right) if depth < _NESTING:
                return literals(left, depth + 1) + literals(right, depth + 1)
            case ast.Name(id=name) if depth < _NESTING:
                return literals(known.get(name), depth + 1)
        return ()

    extras = given.get("extras_require")
    extras = known.get(extras.id) if isinstance(extras, ast.Name) else extras
    pairs = zip(extras.keys, extras.values, strict=True) if isinstance(extras, ast.Dict) else ()
    constant = ((key.value, value) for key, value in pairs if isinstance(key, ast.Constant))
    found.python += literals(given.get("python_requires"))[:1]
    found.tested |= classified_minors(literals(given.get("classifiers")))
    found.dependencies += literals(given.get("install_requires"))
    found.extras |= {name: literals(value) for name, value in constant if isinstance(name, str)}
    if tests := literals(given.get("tests_require")):
        found.groups["tests"] = tests


def read_setup_cfg(text: str, found: Declared) -> None:
    """Add what setuptools reads in setup.cfg; `file:` and `attr:` references are left to it."""
    config = parse_ini(text)
    names = ("metadata", "options", "options.extras_require")
    metadata, options, extras = (config[name] if config.has_section(name) else {} for name in names)
    found.name = metadata.get("name", found.name)
    found.project |= "name" in metadata
    found.python += _listed(options.get("python_requires", ""))[:1]
    found.tested |= classified_minors(_listed(metadata.get("classifiers", metadata.get("classifier", ""))))
    found.dependencies += _listed(options.get("install_requires", ""))
    found.extras |= {name: _listed(value) for name, value in extras.items()}
    if tests := _listed(options.get("tests_require", "")):
        found.groups["tests"] = tests


READERS: Mapping[str, Callable[[str, Declared], None]] = {
    "setup.py": read_setup_py,
    "setup.cfg": read_setup_cfg,
    "pyproject.toml": read_pyproject,
    "hatch.toml": lambda text, found: read_hatch(parse_toml(text), found),
}
"""What reads the files that declare, in their order."""


def _listed(value: str) -> tuple[str, ...]:
    if value.startswith(("file:", "attr:")):
        return ()
    separated = value if "\n" in value.strip() else value.replace(";", "\n") if " ;" not in value else value
    return tuple(line.strip() for line in separated.splitlines() if line.strip() and not line.strip().startswith("#"))


def parse_ini(text: str) -> configparser.RawConfigParser:
    """Return what a text says; one that cannot be parsed says nothing."""
    config = configparser.RawConfigParser(strict=False)
    try:
        config.read_string(text)
    except configparser.Error:
        return configparser.RawConfigParser()
    return config


def read_conda(text: str, known: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return what an environment of conda lists: for pip, then for conda by the names of PyPI, then the rest.

    Names are not the same there: one of conda counts where it is `known` to be a package of Python, in normal form.
    """
    pip, found, rest = list[str](), list[str](), list[str]()
    inside, deep = False, -1
    for line in text.splitlines():
        match = re.fullmatch(r"(?P<blank>\s*)-\s+['\"]?(?P<item>[^'\"#]+?)['\"]?\s*(?:#.*)?", line)
        if match is None:
            inside = line.startswith("dependencies:") if re.match(r"\w", line) else inside
            continue
        deep = -1 if len(match["blank"]) <= deep else deep
        if inside and match["item"] == "pip:":
            deep = len(match["blank"])
        elif inside and deep >= 0:
            pip.append(match["item"])
        elif inside and (said := re.match(r"(?:[\w-]+::)?([\w.-]+)\s*(.*)", match["item"])):
            name = normal(said[1])
            exact = re.match(r"=?\s*([\d.]+)", said[2]) if not said[2].startswith(("==", ">", "<", "!", "~")) else None
            version = f"=={exact[1].rstrip('.')}.*" if exact else re.sub(r"(?<=\d)=\w+$|\s", "", said[2])
            whole = f"{_OF_CONDA.get(name, name)}{version}"
            if name in _OF_CONDA or name in known:
                found.append(whole if named(whole) else _OF_CONDA.get(name, name))
            elif name not in {"python", "pip"}:
                rest.append(name)
    return tuple(pip), once(found), once(rest)


def read_lock(text: str) -> tuple[str, ...]:
    """Return the versions in a lock file, as constraints. A name that it has in several versions is left free."""
    found: dict[str, set[str]] = {}
    top = parse_toml(text) if len(text) <= LOCK_LIMIT else {}
    packages = top.get("package") or top.get("packages")
    if not top and "\npackage:" in text[:LOCK_LIMIT]:  # conda's
        pairs = re.findall(r"^- name: ([\w.-]+)\n  version: '?([\w.+!-]+)", text[:LOCK_LIMIT], re.MULTILINE)
        packages = [{"name": _OF_CONDA.get(name, name), "version": version} for name, version in pairs]
    for package in packages if isinstance(packages, list) else ():
        name, version = (package.get(key) for key in ("name", "version")) if isinstance(package, dict) else (0, 0)
        source = package.get("source") if isinstance(package, dict) else None
        is_local = isinstance(source, dict) and not {"registry"} & source.keys() and source.get("type") != "legacy"
        if isinstance(name, str) and isinstance(version, str) and not is_local:
            found.setdefault(normal(name), set()).add(version)
    lines = (f"{name}=={version}" for name, (version, *more) in sorted(found.items()) if not more)
    return tuple(line for line in lines if named(line))
