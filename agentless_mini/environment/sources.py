"""Which of a project's files say what its tests need, and which of them says it best.

A project names the needs of its tests in up to five places, and all of them together contradict each other or bring
tools that no test needs. So one source is chosen by `Rank`, and the others are only added where they fit.
"""

import ast
import enum
import itertools
import posixpath
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from packaging.requirements import InvalidRequirement, Requirement

from agentless_mini.environment.declared import (
    Declared,
    Table,
    named,
    once,
    parse_ini,
    parse_toml,
    read_conda,
    strings,
    table,
)

TEST_NAMES = ("test", "tests", "testing", "hatch-test", "unittest", "pytest")
_DEV_NAMES = ("dev", "develop", "development", "dev-test", "test-dev")
_TEST_WORDS = frozenset({"test", "tests", "testing"})
_OTHER = frozenset(
    re.split(
        r"\s+",
        "doc docs lint linting typing types type mypy pyright pyrefly style format fmt build release publish bench "
        "benchmark benchmarks perf fuzz min minimal minimum oldest lowest nightly security precommit pre commit dist "
        "deploy examples coverage cov random stress integration e2e prod production wheels package packaging conda "
        "changelog old windows macos pypy pypy3 pypy310 pypy311 tox nox translations update upstream typecheck check",
    )
)
"""Words in the name of a group, a file or an environment that is for something else than running the tests."""
_FILES = re.compile(
    r"(?:(?:requirements|tests?|requirements/tests?|tests?/requirements)/)?"
    r"(?:(?:tests?|testing)[-_.]requirements|requirements[-_.](?:tests?|testing)|tests?|testing|requirements)\.(?:txt|in)"
)
_CI_FILES = re.compile(r"requirements[-_./]ci\.(?:txt|in)|ci[-_.]requirements\.(?:txt|in)")
_DEV_FILES = re.compile(
    r"(?:requirements/)?(?:dev(?:elop(?:ment)?)?[-_.]requirements|requirements[-_.]dev(?:elop(?:ment)?)?|dev)\.(?:txt|in)"
)
TOLD = re.compile(r"Dockerfile|(?:\.github/|docs/)?CONTRIBUTING(?:\.(?:md|rst|txt))?")
CONDA = re.compile(r"(?:[^/]+/){0,2}environment(?:[-_.][\w.-]+)?\.ya?ml")
_RUNNER = re.compile(r"^pytest\b(?!-)", re.MULTILINE)
_INSTALL = re.compile(r"\b(?:pip3? install|uv sync|poetry install|pdm (?:install|sync))\b(?P<words>[^\n|&;`]*)")
_TESTING = re.compile(r"\b(?:pytest|py\.test|unittest|runtests|manage\.py test|django test|tox|nox)\b")
_FACTORS = re.compile(r"([\w.!-]+(?:,[\w.!-]+)*)\s*:\s+(.*)")
_LISTED = re.compile(r"(?:[^\s,{}]|\{[^{}]*\})+")  # commas in braces separate no names
_REFERENCE = re.compile(r"\{\[(?P<section>[^\]]+)\](?P<key>\w+)\}")
_NESTING, _MOST_ENTRIES, _MOST_ENVIRONMENTS, _LONGEST = 8, 400, 500, 500
_MOST_SYSTEM, _JOINED = 40, re.compile(r"\\\n\s*")
_MOST_LINES, SIZE_LIMIT = 5000, 512 * 1024
_VALUED = {"-r": "-r", "--requirement": "-r", "-c": "-c", "--constraint": "-c", "-e": "-e", "--editable": "-e"}
_VALUED |= {"--group": "--group", "--extra": "-E", "--extras": "-E", "-E": "-E", "--with": "-G", "-G": "-G"}
_GIT = re.compile(r"(?:[\w.-]+(?:\[[\w.,\s-]*\])?\s*@\s*)?git\+(?P<address>\w+://\S+)")
_APT = re.compile(r"\bapt(?:-get)?\s(?:[^\n;&|]{0,100}?\s)?install\s(?P<words>[^\n;&|]*)")
# What is too large for a build, of another system, or a Python, which the image has.
_NO_SYSTEM = re.compile(
    r"python|pypy|texlive|latex|docker|nvidia|cuda|google-|firefox|chromium|libreoffice|qemu|linux-"
)
_LOCAL = re.compile(r"(?P<path>[^\[\];@]*?)(?:\[(?P<extras>[\w.,\s-]*)\])?\s*(?:;.*)?")


class Rank(enum.IntEnum):
    """The order of sources, the best first."""

    GROUP, EXTRA, TOX, NOX, FILE, CI, NEAR, DEV, TOLD = range(9)


@dataclass(slots=True)
class Listing:
    """What one place says: extras of the project, folders of the tree, and other arguments of `uv pip install`.

    `left_out` are entries that lead to another machine's repositories or out of the tree.
    """

    extras: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Tell whether it says anything."""
        return bool(self.extras or self.folders or self.arguments)

    def words(self) -> Iterator[tuple[str, str]]:
        """Yield the arguments: options with their values, and requirements, which have "" for an option."""
        option = ""
        for word in self.arguments:
            if word.startswith("-"):
                option = word
            else:
                yield option, word
                option = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """The texts of the files that declare, by path, and the folders of the tree that can be installed.

    `known` are packages that the tree imports or names elsewhere: conda has others by the same names. `git` is where
    the addresses begin that git reaches.
    """

    texts: Mapping[str, str]
    projects: frozenset[str]
    declared: Declared
    known: frozenset[str] = frozenset()
    git: tuple[str, ...] = ()

    def source(self, entries: Iterable[str], folder: str = "") -> Listing:
        """Return what entries say that stand in this folder: requirements, paths, and options with a value."""
        found = Listing()
        for entry in itertools.islice((entry for entry in entries if len(entry) <= _LONGEST), _MOST_ENTRIES):
            option, _, value = entry.partition(" ") if entry.startswith("-") else ("", "", entry)
            self._take(_VALUED.get(option, option), value.strip(), folder, found)
        return found

    def _take(self, option: str, value: str, folder: str, found: Listing) -> None:
        if option in {"-r", "-c"}:
            if (path := _inside(folder, value)) is not None and path in self.texts:
                found.arguments += [option, path]
        elif option in {"--group", "-G"}:
            for name in value.split(","):
                self._take_group(name.strip(), found)
        elif option == "-E":
            found.extras += re.findall(r"[\w.-]+", value)
        elif option in {"", "-e"}:
            self._take_requirement(value, folder, found, editable=option == "-e")

    def _take_group(self, name: str, found: Listing) -> None:
        if name in self.declared.own:
            found.arguments += ["--group", name]
        elif name in self.declared.groups:  # uv does not read it
            inner = self.source(self.declared.groups[name])
            found.extras += inner.extras
            found.folders += inner.folders
            found.arguments += inner.arguments

    def _take_requirement(self, value: str, folder: str, found: Listing, *, editable: bool) -> None:
        """Take a requirement or a path: what is a folder here that can be installed is no package of an index."""
        local = _LOCAL.fullmatch(value.removeprefix("file:"))
        path = _inside(folder, local["path"].strip().rstrip("/") or ".") if local else None
        extras = re.findall(r"[\w.-]+", (local["extras"] if local else None) or "")
        if path == "." and value.startswith("."):
            found.extras += extras
        elif path in self.projects:
            found.folders.append(f"{path}[{','.join(extras)}]" if extras else str(path))
        elif (address := _GIT.match(value)) and address["address"].startswith(self.git or ("\0",)):
            found.arguments.append(value)
        elif editable or "://" in value or " @ " in value or value.startswith(("/", ".", "~", "$", "git+", "-")):
            found.left_out += [value] if "{" not in value else []
        else:
            try:
                requirement = Requirement(value)
            except InvalidRequirement:
                return
            found.arguments.append(str(requirement))


def _inside(folder: str, value: str) -> str | None:
    """Return the path in the tree that a reference from a folder of it means, None where it leads out."""
    path = posixpath.normpath(posixpath.join(folder, value))
    if not value or "\0" in value or value.startswith(("~", "$")) or path.startswith(("../", "/")) or path == "..":
        return None
    return path


def words_of(name: str) -> set[str]:
    """Return the words in the name of a group, a file or an environment."""
    return {word for word in re.split(r"[^a-z0-9]+", name.lower()) if word}


def is_for_tests(name: str) -> bool:
    """Tell whether a name is one of something for tests and for nothing else."""
    return bool(words_of(name) & _TEST_WORDS) and not words_of(name) & _OTHER


def ranked(layout: Layout) -> list[Listing]:
    """Return the sources that say something, the best first. From `NEAR` on the best alone count."""
    found = sorted(_sources(layout), key=lambda pair: pair[0])
    best = min((rank for rank, source in found if source), default=Rank.DEV)
    most = best if best >= Rank.NEAR else Rank.CI
    kept = list[Listing]()
    for rank, source in found:
        if source and rank <= most and source not in kept:
            kept.append(source)
    return kept


def _sources(layout: Layout) -> Iterator[tuple[Rank, Listing]]:
    declared, texts = layout.declared, layout.texts
    for names, rank in ((TEST_NAMES, Rank.GROUP), (_DEV_NAMES, Rank.DEV)):
        groups = [name for name in names if name in declared.groups]
        extras = [name for name in names if name in declared.extras]
        yield from ((rank, layout.source([f"--group {name}"])) for name in groups[:1])
        yield from ((max(rank, Rank.EXTRA), Listing([name])) for name in extras[:1])
    yield Rank.TOX, layout.source(tox_entries(texts))
    yield Rank.NOX, layout.source(nox_entries(texts.get("noxfile.py", "")))
    for pattern, rank in ((_FILES, Rank.FILE), (_CI_FILES, Rank.CI), (_DEV_FILES, Rank.DEV)):
        files = sorted(filter(pattern.fullmatch, texts), key=lambda path: (path.endswith(".in"), path.count("/"), path))
        plain = {path for path in files if path in {"requirements.txt", "requirements.in"}}
        # A plain one that lists the runner is for those who run the tests.
        special = [path for path in files if path not in plain or _RUNNER.search(texts[path])]
        yield rank, layout.source(f"-r {path}" for path in special[:1])
    yield Rank.CI, layout.source(ci_entries(texts))
    yield from ((Rank.CI, source) for source in _of_conda(layout))
    near = [name for name in declared.groups if is_for_tests(name)]
    yield Rank.NEAR, layout.source(f"--group {name}" for name in near[:1])
    yield Rank.NEAR, Listing([name for name in declared.extras if is_for_tests(name)][:1])
    yield Rank.TOLD, layout.source(_of_steps([text for path, text in sorted(texts.items()) if TOLD.fullmatch(path)]))
    if not declared.project or not declared.dependencies:  # what the project itself needs
        yield Rank.CI, layout.source(["-r requirements.txt"])


def _of_conda(layout: Layout) -> Iterator[Listing]:
    """Yield what the environment of conda lists that is nearest to the top: from wheels alone what is conda's."""
    paths = (path for path in filter(CONDA.fullmatch, layout.texts) if not words_of(path) & (_OTHER - {"build"}))
    for path in sorted(paths, key=lambda path: (path.count("/"), len(path), path))[:1]:
        pip, found, rest = read_conda(layout.texts[path], layout.known)
        source = layout.source(pip, posixpath.dirname(path))
        source.arguments += [word for one in found for word in (one, "--only-binary", named(one))]
        source.left_out += [f"{name} (of conda)" for name in rest]
        yield source


# --- tox -------------------------------------------------------------------------------------------------------------


def tox_entries(texts: Mapping[str, str]) -> list[str]:
    """Return what the environment of tox lists in which the tests run on a Python like this one."""
    tools = table(parse_toml(texts.get("pyproject.toml", "")), "tool", "tox")
    legacy = tools.get("legacy_tox_ini")
    for text in (texts.get("tox.ini", ""), legacy if isinstance(legacy, str) else "", texts.get("setup.cfg", "")):
        config = parse_ini(text)
        top: Mapping[str, str] = next((config[name] for name in ("tox", "tox:tox") if config.has_section(name)), {})
        if config.has_section("testenv"):
            return _of_ini(config, top.get("env_list", top.get("envlist", "")))
    native = parse_toml(texts.get("tox.toml", "")) or tools
    base, environments = table(native, "env_run_base"), table(native, "env")
    own = next((table(environments, name) for name in TEST_NAMES if name in environments), {})
    return _of_native({**base, **own})


def _of_native(environment: Table) -> list[str]:
    commands = environment.get("commands")
    lines = (shlex.join(strings(command)) for command in commands) if isinstance(commands, list) else ()
    return [
        *strings(environment.get("deps")),
        *(f"--group {name}" for name in strings(environment.get("dependency_groups"))),
        *(f"-E {name}" for name in strings(environment.get("extras"))),
        *(entry for line in lines for entry in installs(line)),
    ]


def _of_ini(config: Mapping[str, Mapping[str, str]], listed: str) -> list[str]:
    """Return the entries of the section that is for tests, for the factors of the likeliest environment."""
    names = (name for part in _LISTED.findall(re.sub(r"#.*", "", listed)) for name in _expanded(part))
    name = _likeliest(list(itertools.islice(names, _MOST_ENVIRONMENTS)))
    factors = {*name.split("-"), name}
    sections = (f"testenv:{one}" for one in (name, *TEST_NAMES))
    own: Mapping[str, str] = next((config[section] for section in sections if section in config), {})
    entries = list[str]()
    for key, option in (("deps", ""), ("dependency_groups", "--group "), ("extras", "-E "), ("commands", "$ ")):
        text = own.get(key, config["testenv"].get(key, ""))
        for line in itertools.islice(_lines(config, text, factors, [_MOST_LINES]), _MOST_ENTRIES):
            entries += installs(line) if option == "$ " else [_dependency(line) if not option else option + line]
    return [one for one in entries if not one.startswith("-r ") or not words_of(posixpath.basename(one)) & _OTHER]


def _lines(
    config: Mapping[str, Mapping[str, str]], text: str, factors: set[str], left: list[int], depth: int = 0
) -> Iterator[str]:
    """Yield the lines of a setting that count for these factors, other sections' put in, as long as some are left."""
    for raw in text.splitlines():
        left[0] -= 1
        if left[0] < 0:
            return
        line = re.sub(r"(?:^|\s)#.*", "", raw).strip()
        if match := _FACTORS.fullmatch(line):
            if not any(_holds(condition, factors) for condition in match[1].split(",")):
                continue
            line = match[2]
        line = line.replace("{toxinidir}/", "").replace("{tox_root}/", "").replace("{toxinidir}", ".")
        if (found := _REFERENCE.search(line)) and depth < _NESTING:
            inner = config[found["section"]].get(found["key"], "") if found["section"] in config else ""
            yield from _lines(config, line.replace(found[0], inner)[:SIZE_LIMIT], factors, left, depth + 1)
        elif line and "{" not in line.replace("{posargs", "").replace("{envpython}", ""):
            yield line


def _holds(condition: str, factors: set[str]) -> bool:
    return all((part.lstrip("!") in factors) != part.startswith("!") for part in condition.split("-"))


def _dependency(line: str) -> str:
    """Return a line of deps as an entry: `-rfile` has its blank."""
    match = re.fullmatch(r"(-[rce]|--\w+)[\s=]*(.*)", line)
    return f"{match[1]} {match[2]}" if match else line


def _expanded(name: str) -> Iterator[str]:
    """Yield the names that braces stand for, as shells have it; a range of digits counts as one more way."""
    ways = list[list[str]]()
    for at, part in enumerate(re.split(r"\{([^{}]*)\}", name)):
        spread = re.fullmatch(r"(\d{1,2})-(\d{1,2})", part)
        listed = map(str, range(int(spread[1]), int(spread[2]) + 1)) if spread else part.split(",")
        ways.append([way.strip() for way in listed][:50] if at % 2 else [part])
    yield from map("".join, itertools.product(*ways))


def _likeliest(names: list[str]) -> str:
    """Return the environment that runs the tests on a Python like this one, with as little else as can be."""
    minor = sys.version_info.minor
    here = {f"py3{minor}", f"3.{minor}", f"py3.{minor}", "py", "py3", "python3"}

    def worth(name: str) -> tuple[int, int, int]:
        parts = set(name.split("-"))
        return len(words_of(name) & _OTHER), -len(parts & here), -len(parts & _TEST_WORDS)

    return min(names, key=worth, default="py")


# --- nox, continuous integration -------------------------------------------------------------------------------------


def nox_entries(text: str) -> list[str]:
    """Return what the sessions for tests install, as far as it stands there in words. Nothing is run."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    entries = list[str]()
    for function in (one for one in functions if is_for_tests(one.name) or one.name in {"unit", "default"}):
        for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
            words = [word for node in call.args for word in _said(node)]
            done = getattr(call.func, "attr", "")
            if done == "install":
                entries += installs(f"pip install {shlex.join(words)}")
            elif done in {"run", "run_install", "run_always"}:
                entries += installs(shlex.join(words))
    return list(once(entries))


def _said(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.Starred | ast.Tuple | ast.List):
        for inner in node.elts if isinstance(node, ast.Tuple | ast.List) else [node.value]:
            yield from _said(inner)
    else:
        yield "$"


def ci_entries(texts: Mapping[str, str]) -> list[str]:
    """Return what workflows and the Makefile install that run tests, save bare names: most of them are tools."""
    return _of_steps(_of_ci(texts))


def _of_ci(texts: Mapping[str, str]) -> Iterator[str]:
    """Yield the texts of workflows and of the Makefile that run tests."""
    for path, text in sorted(texts.items()):
        is_workflow = path.endswith((".yml", ".yaml")) and not words_of(posixpath.basename(path)) & (_OTHER - {"build"})
        if (is_workflow or path == "Makefile") and _TESTING.search(text):
            yield text


def system_packages(texts: Mapping[str, str]) -> list[str]:
    """Return the packages of Debian that the workflows with tests install, and those of the Dockerfile."""
    steps = [*_of_ci(texts), *(text for path, text in sorted(texts.items()) if path.endswith("Dockerfile"))]
    lines = (match["words"] for text in steps for match in _APT.finditer(_JOINED.sub(" ", text)))
    words = (word for line in lines for word in line.partition("#")[0].split())
    found = (word for word in words if re.fullmatch(r"[a-z0-9][a-z0-9+.-]{1,60}", word) and not _NO_SYSTEM.match(word))
    return list(once(found))[:_MOST_SYSTEM]


def _of_steps(steps: Iterable[str]) -> list[str]:
    entries = list[str]()
    for text in steps:
        entries += (one for match in _INSTALL.finditer(_JOINED.sub(" ", text)) for one in installs(match[0]))
    wanted = (one for one in entries if one.startswith(("-r", "-c", "--group", "-E", "-G", ".", "-e .")))
    return [one for one in once(wanted) if not words_of(one) & _OTHER]


def installs(line: str) -> list[str]:
    """Return what a command line installs, as entries; nothing where it installs nothing or cannot be read."""
    match = _INSTALL.search(line)
    if match is None:
        return []
    try:
        words = shlex.split(match["words"], comments=True)
    except ValueError:
        return []
    entries, option = list[str](), ""
    for word in words:
        name, equals, value = word.partition("=")
        if option:
            entries.append(f"{option} {word}")
            option = ""
        elif name in _VALUED and word.startswith("-"):
            entries += [f"{_VALUED[name]} {value}"] if equals else []
            option = "" if equals else _VALUED[name]
        elif re.match(r"-[rceEG].", word) and not word.startswith("--"):
            entries.append(f"{word[:2]} {word[2:]}")
        elif not word.startswith("-"):
            entries.append(word)
    return [entry for entry in entries if not re.search(r"[$`()]|/\*", entry)]
