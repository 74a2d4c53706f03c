"""What the tests of a repository need to run, read from its tree: Python, what to install of it, and from which lists.

Nothing of the tree is run or imported here, and nothing outside of it is read. What cannot be read is left out: the
build then finds out, and a user can say it with --setup.
"""

import fnmatch
import hashlib
import json
import posixpath
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from agentless_mini.domain import FileKind, Runner, Snapshot, SourceFile
from agentless_mini.environment.declared import LOCKS, READERS, Declared, named, normal, once, read_lock
from agentless_mini.environment.ecosystems import Ecosystem, ecosystem_of, is_of_python
from agentless_mini.environment.machine import PythonRequirement
from agentless_mini.environment.sources import (
    CONDA,
    SIZE_LIMIT,
    TEST_NAMES,
    TOLD,
    Layout,
    Listing,
    ranked,
    system_packages,
)
from agentless_mini.errors import printable

VERSION = "5"
_CONFIGURATION = frozenset(
    {"pyproject.toml", "setup.cfg", "setup.py", "hatch.toml", "tox.ini", "tox.toml", "noxfile.py", "Makefile"}
    | {"pytest.ini", ".python-version", "MANIFEST.in", *LOCKS}
)
_LISTS = (".txt", ".in", ".pip")
_COMPILED = (".c", ".h", ".cc", ".cpp", ".cxx", ".hpp", ".pyx", ".pxd", ".pxi", ".f", ".f90", ".rs", ".toml", ".build")
_OF_GIT = re.compile(r"\bgit\+(?:https?|ssh|git)://|\bgit\s*=\s*\"")
_NO_MEMBERS = frozenset(
    {"test", "tests", "testing", "example", "examples", "docs", "doc", "fixtures", "testdata", "data", "templates"}
)
_FEW_MEMBERS, _MOST_MEMBERS, _MOST_MISSED = 8, 32, 200
# Modules whose distribution has another name; it counts only where a file of the project mentions it.
_KNOWN = {
    "yaml": "pyyaml", "PIL": "pillow", "sklearn": "scikit-learn", "skimage": "scikit-image", "bs4": "beautifulsoup4",
    "dateutil": "python-dateutil", "dotenv": "python-dotenv", "jwt": "pyjwt", "OpenSSL": "pyopenssl", "attr": "attrs",
    "Crypto": "pycryptodome", "serial": "pyserial", "git": "gitpython", "zmq": "pyzmq", "magic": "python-magic",
    "MySQLdb": "mysqlclient", "psycopg2": "psycopg2-binary", "pkg_resources": "setuptools", "socks": "pysocks",
    "docx": "python-docx", "jose": "python-jose", "multipart": "python-multipart", "environ": "django-environ",
    "rest_framework": "djangorestframework", "websocket": "websocket-client", "ruamel": "ruamel-yaml",
    "cv2": "opencv-python-headless", "google": "protobuf", "grpc": "grpcio", "nacl": "pynacl", "ldap": "python-ldap"
}  # fmt: skip
_IMPORTED = re.compile(rb"^(?:import|from)[ \t]+([A-Za-z_]\w*)", re.MULTILINE)
_TEST_NAME = re.compile(r"(?:^|/)(?:test_[^/]*|tests_[^/]*|[^/]*_tests?|tests?|conftest)\.py$")
_REFERS = re.compile(r"^[ \t]*(?:-[rc]|--requirement|--constraint)[ \t=]*(\S+)", re.MULTILINE)
_EDITABLE = re.compile(r"^[ \t]*(?:-e|--editable)[ \t=]*(?:file:)?([^\s#;\[]+)", re.MULTILINE)
_BLANKS = re.compile(r"[^\S\n]{200,}")  # which only slow down what reads
_NO_EXTENSIONS = re.compile(r"\b[A-Z][A-Z0-9]*_(?:NO|SKIP|DISABLE|WITHOUT)_(?:EXT|EXTENSION|CYTHON|C_EXT|SPEEDUP)\w*\b")


@dataclass(frozen=True, slots=True)
class Needs:
    """What to install, and on which Python.

    `ways` are arguments that install the project, the best first, and `members` those that install each of its members;
    none where there is no project. `best` is what its tests need, and each of `others` is added where it fits. `alone`
    is what the project and its members require, for where they cannot be installed, and `simple` those that name a
    version of an index, of the best. `locked` are the versions of its lock file. `modules` are those that its tests
    import, each with the number of files that do and the distribution that is to bring it, "" where the project names
    none. `variables` are for a second try. `packages` are the top-level packages of the tree. `module` is what must be
    importable for the tests to be run, "" where nothing is. `digest` names all of the tree that a build depends on;
    `system` are packages of Debian, which an image gets beside that.
    `ecosystem` is there where the tests are of another language, and nothing else then; `of_python` tells whether there
    is anything for a Python to do but to run boxes.
    """

    python: PythonRequirement
    ways: tuple[tuple[str, ...], ...] = ()
    members: tuple[tuple[str, ...], ...] = ()
    best: tuple[str, ...] = ()
    others: tuple[tuple[str, ...], ...] = ()
    alone: tuple[str, ...] = ()
    simple: tuple[str, ...] = ()
    locked: tuple[str, ...] = ()
    modules: tuple[tuple[str, int, str], ...] = ()
    variables: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    module: str = ""
    digest: str = ""
    notes: tuple[str, ...] = ()
    rust: bool = False
    names: tuple[str, ...] = ()
    system: tuple[str, ...] = ()
    ecosystem: Ecosystem | None = None
    of_python: bool = True

    @property
    def project(self) -> bool:
        """Tell whether something of the tree can be installed."""
        return bool(self.ways or self.members)


def needs_of(snapshot: Snapshot, runner: Runner, near: Iterable[str] = (), git: tuple[str, ...] = ()) -> Needs:
    """Read the needs off a tree, in which the paths `near` matter, the first ones most.

    `git` is where the addresses begin that a build reaches by git; requirements of others are left out.
    """
    if (other := ecosystem_of(snapshot, runner)) is not None:
        return Needs(PythonRequirement(), digest=other.digest, ecosystem=other, of_python=False)
    texts = _texts(snapshot.files)
    declared = _declared(texts, "")
    projects = {
        posixpath.dirname(path) or "." for path in texts if posixpath.basename(path) in {"setup.py", "pyproject.toml"}
    }
    layout = Layout(texts, frozenset(projects - {"."}), declared, frozenset(_known(snapshot.files, texts)), git)
    best, *others = ranked(layout) or [Listing()]
    members = _nearest(_members(texts, declared, projects - {"."}, _named((best, *others), texts)), near, texts)
    ways, also, lists = _ways(layout, best, others, members)
    locked = next((lines for path in LOCKS if (lines := read_lock(texts.get(path, "")))), ())
    listed = [text for name in best.extras for text in declared.extras.get(name, ())]
    for option, value in best.words():
        listed += {"": [value], "--group": declared.groups.get(value, ())}.get(option, ())
    version = re.match(r"\s*3\.(\d{1,2})\b", texts.get(".python-version", ""))
    needs = Needs(
        PythonRequirement(once(declared.python), (int(version[1]),) if version else tuple(sorted(declared.tested))),
        ways,
        also,
        tuple(best.arguments),
        lists,
        once((*declared.dependencies, *_of_members(texts, members))),
        once(text for text in (*declared.dependencies, *listed) if named(text)),
        tuple(line for line in locked if not line.startswith(f"{normal(declared.name)}==")),
        tuple(_modules(snapshot.files, texts)),
        once(_NO_EXTENSIONS.findall(texts.get("setup.py", ""))),
        tuple(_packages(snapshot.files)),
        "pytest" if runner is Runner.PYTEST else "",
        "",
        tuple(_left_out((best, *others))),
        any(file.path.rpartition("/")[2] == "Cargo.toml" for file in snapshot.files),
        once(filter(None, (normal(_declared(texts, path).name) for path in ("", *(f"{one}/" for one in members))))),
        once((*_tools(snapshot.files, texts), *system_packages(texts))),
        of_python=runner.is_python or is_of_python(snapshot) or any((ways, also, best.arguments, lists, locked)),
    )
    return _with_digest(needs, snapshot.files, texts, runner)


def _tools(files: Iterable[SourceFile], texts: Mapping[str, str]) -> Iterator[str]:
    """Yield the packages of Debian with which the project is fetched and compiled: git, compilers."""
    if any(_OF_GIT.search(text) for path, text in texts.items() if path not in LOCKS):
        yield "git"
    kept = (file.path for file in files if not _NO_MEMBERS & set(file.path.lower().split("/")))
    ends = {posixpath.splitext(path)[1] for path in kept}
    for package, of in (("build-essential", _COMPILED[:-2]), ("gfortran", (".f", ".f90")), ("cargo", (".rs",))):
        if ends & set(of):
            yield package


def _left_out(sources: Iterable[Listing]) -> Iterator[str]:
    """Yield sentences on entries of lists that are left out; those of conda share one."""
    entries = once(entry for source in sources for entry in source.left_out)
    conda = [printable(entry)[:60] for entry in entries if entry.endswith(" (of conda)")]
    for entry in entries:
        if not entry.endswith(" (of conda)"):
            yield f"A requirement outside of the repository is left out: {printable(entry)[:80]}"
    if conda:
        yield f"Left out, for no package of Python is known by that name: {', '.join(conda)}."


def _texts(files: Iterable[SourceFile]) -> dict[str, str]:
    """Return the texts of the files that may declare something, by path."""

    def declares(file: SourceFile) -> bool:
        path, name = file.path, file.path.rpartition("/")[2]
        is_list = name.endswith(_LISTS) and path.count("/") <= 3
        is_ci = path.startswith(".github/workflows/") or path == ".gitlab-ci.yml" or bool(TOLD.fullmatch(path))
        may = name in _CONFIGURATION or is_list or is_ci or bool(CONDA.fullmatch(path))
        return file.kind is FileKind.TEXT and may and (len(file.data) <= SIZE_LIMIT or name in LOCKS)

    kept = filter(declares, files)
    return {file.path: _BLANKS.sub(" ", file.data.decode("utf-8-sig", "replace")) for file in kept}


def _declared(texts: Mapping[str, str], folder: str) -> Declared:
    """Return what the files of a folder declare; `folder` ends with a slash, unless it is the top."""
    found = Declared()
    for name, read in READERS.items():
        if (text := texts.get(folder + name)) is not None:
            read(text, found)
    return found


def _members(texts: Mapping[str, str], declared: Declared, projects: set[str], named: set[str]) -> list[str]:
    """Return the folders of a workspace that are projects of their own, those at the top first.

    Where none is declared, those are taken that the lists to be installed name, else all that lie in no other one.
    """
    below = sorted(projects, key=lambda path: (path.count("/"), path))
    if declared.members:
        of = [path for path in below if any(_matches(path, pattern) for pattern in declared.members)]
        return [path for path in of if not any(_matches(path, pattern) for pattern in declared.strangers)]
    if declared.project:
        return []
    if named & projects:
        return [path for path in below if path in named]
    likely = [path for path in below if path.count("/") <= 2 and not _NO_MEMBERS & set(path.split("/"))]
    found = [path for path in likely if _declared(texts, f"{path}/").project]
    return [path for path in found if not any(path.startswith(f"{above}/") for above in found)]


def _nearest(members: list[str], near: Iterable[str], texts: Mapping[str, str]) -> list[str]:
    """Return the members to be installed: all where they are few, else those near the paths, with what they need."""
    if len(members) <= _FEW_MEMBERS:
        return members
    folders = {path: [path[:at] for at, letter in enumerate(f"{path}/") if letter == "/"][::-1] for path in near}
    known = set(members)
    holding = (next((one for one in above if one in known), "") for above in folders.values())
    wanted = list(dict.fromkeys(filter(None, holding)))[:_FEW_MEMBERS]
    found = {member: _declared(texts, f"{member}/") for member in members}
    owners = {normal(one.name): member for member, one in found.items() if one.name}
    for member in wanted:  # it grows by what they need
        needed = (owners.get(named(text), member) for text in _required(found[member]))
        wanted += [one for one in dict.fromkeys(needed) if one not in wanted]
    kept = wanted[:_MOST_MEMBERS] or members[:_MOST_MEMBERS]
    return [member for member in members if member in kept]


def _required(one: Declared) -> Iterator[str]:
    """Yield what a member requires to run, and by its extras and groups for tests."""
    yield from one.dependencies
    yield from (text for name in TEST_NAMES for of in (one.extras, one.groups) for text in of.get(name, ()))


def _matches(path: str, pattern: str) -> bool:
    """Tell whether a pattern of folders means this one: a star stands for one level, two for any number."""
    levels = "**" in pattern or path.count("/") == pattern.strip("./").count("/")
    return levels and fnmatch.fnmatch(path, pattern.strip("./"))


def _named(sources: Iterable[Listing], texts: Mapping[str, str]) -> set[str]:
    """Return the folders that lists of requirements name, with those that they refer to."""
    lists = _referred([value for source in sources for option, value in source.words() if option == "-r"], texts)
    found = {folder for path in lists for folder in _meant(path, _EDITABLE, texts)}
    return found | {folder.partition("[")[0] for source in sources for folder in source.folders}


def _referred(lists: list[str], texts: Mapping[str, str]) -> list[str]:
    """Return lists of requirements, with those that they refer to."""
    for path in lists:  # it grows
        lists += [name for name in _meant(path, _REFERS, texts) if name in texts and name not in lists]
    return lists


def _meant(path: str, pattern: re.Pattern[str], texts: Mapping[str, str]) -> list[str]:
    """Return the paths in the tree that a list names after an option."""
    folder = posixpath.dirname(path)
    return [posixpath.normpath(posixpath.join(folder, name)) for name in pattern.findall(texts.get(path, ""))]


def _ways(
    layout: Layout, best: Listing, others: Iterable[Listing], members: list[str]
) -> tuple[tuple[tuple[str, ...], ...], ...]:
    """Return how the project is installed, the best way first, how each member is, and the lists to be added then.

    A backend of meson rebuilds what it installed for development whenever that is imported, which no test's box can: it
    is installed as it is for users, and what is compiled is put beside its sources.
    """
    declared, lists = layout.declared, [tuple(source.arguments) for source in others if source.arguments]
    folders = list(best.folders)
    for member in members:
        start = f"{member}/"
        below = {path.removeprefix(start): text for path, text in layout.texts.items() if path.startswith(start)}
        inner, *_ = [*ranked(Layout(below, frozenset(), _declared(below, ""), git=layout.git)), Listing()]
        folders.append(f"{member}[{','.join(inner.extras)}]" if inner.extras else member)
        # Its arguments as they are from the top.
        places = {"-r": start, "-c": start, "--group": f"{start}pyproject.toml:"}
        moved = ((option, places.get(option, "") + value) for option, value in inner.words())
        lists += [tuple(word for pair in moved for word in pair if word)] if inner.arguments else []
    kept = [folder for folder in once(folders) if folder.partition("[")[0] != "."]
    also = tuple(("-e", f"./{folder}") for folder in kept[:_MOST_MEMBERS])
    options = () if declared.backend == "mesonpy" else ("-e",)
    more = [name for source in others for name in source.extras]
    asked = (f".[{','.join(once(names))}]" for names in ((*best.extras, *more), best.extras) if names)
    ways = [*((*options, text) for text in once(asked)), (*options, "."), (".",)] if declared.project else []
    return tuple(dict.fromkeys(ways)), also, tuple(dict.fromkeys(lists))


def _of_members(texts: Mapping[str, str], members: Iterable[str]) -> list[str]:
    """Return what members require that is no member: to run, and by their extras and groups for tests."""
    found = [_declared(texts, f"{member}/") for member in members]
    own = {normal(one.name) for one in found}
    return [text for one in found for text in _required(one) if named(text) not in own]


def _modules(files: Iterable[SourceFile], texts: Mapping[str, str]) -> Iterator[tuple[str, int, str]]:
    """Yield the modules of others that tests import at their top, by how many, with the distributions to bring them."""
    own, found = set[str](), Counter[str]()
    for file in files:
        if file.path.endswith((".py", ".pyi", ".pyx", ".so")):
            own |= {part.partition(".")[0] for part in file.path.split("/")}
            if _TEST_NAME.search(file.path) and len(file.data) <= SIZE_LIMIT:
                found.update({name.decode() for name in _IMPORTED.findall(file.data)})
    said = _words(texts.values())
    for name, count in sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))[:_MOST_MISSED]:
        if name not in own and name not in sys.stdlib_module_names:
            plain = normal(name)
            ways = (_KNOWN.get(name, plain), plain, f"python-{plain}", f"py{plain}", f"{plain}-python")
            mentioned = (way for way in ways if way in said)
            yield name, count, next(mentioned, "")


def _known(files: Iterable[SourceFile], texts: Mapping[str, str]) -> Iterator[str]:
    """Yield the normal forms of what the tree imports or names in lists of requirements, where conda is used."""
    if any(map(CONDA.fullmatch, texts)):
        for file in files:
            if file.path.endswith(".py") and len(file.data) <= SIZE_LIMIT:
                modules = {name.decode() for name in _IMPORTED.findall(file.data)}
                yield from (normal(_KNOWN.get(name, name)) for name in modules)
        lists = (text for path, text in texts.items() if not path.endswith((".yml", ".yaml")))
        yield from _words(lists)


def _words(texts: Iterable[str]) -> set[str]:
    """Return the words in texts that could be names of packages, in normal form."""
    return set(re.findall(r"[a-z0-9]+(?:-[a-z0-9]+)*", normal("\n".join(texts))))


def _packages(files: Iterable[SourceFile]) -> Iterator[str]:
    """Yield the importable packages at the top of the tree and of src, tests and the like left out."""
    for file in files:
        parts = file.path.removeprefix("src/").split("/")
        if len(parts) == 2 and parts[1] == "__init__.py" and parts[0].isidentifier() and parts[0] not in _NOT_PACKAGES:
            yield parts[0]


_NOT_PACKAGES = frozenset({"test", "tests", "testing", "doc", "docs", "example", "examples", "benchmarks", "scripts"})


def _with_digest(needs: Needs, files: Iterable[SourceFile], texts: Mapping[str, str], runner: Runner) -> Needs:
    """Name all that a build depends on: what is to be installed, the files that say it or are compiled, and packages.

    Not the lists of those who only develop, nor which files of tests import what.
    """
    wanting = [(name, way) for name, _, way in needs.modules]
    plan = [needs.ways, needs.members, needs.best, needs.others, needs.locked, wanting]
    total = hashlib.sha256(f"{VERSION} {runner} {json.dumps(plan)} {needs.python}".encode())
    pairs = (pair for listed in (needs.best, *needs.others) for pair in Listing(arguments=list(listed)).words())
    lists = [value for option, value in pairs if option in {"-r", "-c"}]
    lists += [path for path in texts if path.startswith("requirements") and path.endswith(_LISTS)]
    configuring = {"setup.py", "setup.cfg", "MANIFEST.in"}
    wanted = {path for path in texts if path.rpartition("/")[2] in configuring} | {*_referred(lists, texts)}
    for file in files:
        is_package = file.path.endswith("__init__.py") and file.path.count("/") <= 2
        if file.path in wanted or file.path.endswith(_COMPILED) or is_package:
            data = b"" if is_package else hashlib.sha256(file.data).digest()
            total.update(file.path.encode("utf-8", "surrogateescape") + b"\0" + data)
    return replace(needs, digest=total.hexdigest())
