"""What the tests of other languages need: commands of their package managers, by the files of a tree.

They run in the box of a build, whose network leads to their registry alone; what they fetch is kept beside the
environment ($AMINI_KEEP), where the boxes of tests can read it. Scripts of packages run there too, as native modules
need it; where such a script fails, the packages of npm, pnpm and yarn are installed without them.
"""

import hashlib
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agentless_mini.domain import FileKind, Runner, Snapshot
from agentless_mini.domain.runners import ROWS
from agentless_mini.errors import printable

VERSION = "1"
_NPM = "--no-audit --no-fund --loglevel=error"
_LOCKED = {
    "package-lock.json": f"npm ci {_NPM}",
    "npm-shrinkwrap.json": f"npm ci {_NPM}",
    "pnpm-lock.yaml": "npx --yes pnpm@{version} install --frozen-lockfile --config.dangerously-allow-all-builds=true",
    "yarn.lock": "npx --yes yarn@1 install --frozen-lockfile --non-interactive",
}
_BERRY = (
    "node --disable-wasm-trap-handler -e 0 2>/dev/null && export NODE_OPTIONS=--disable-wasm-trap-handler; "
    'export YARN_NODE_LINKER=node-modules YARN_HTTP_PROXY="$HTTP_PROXY" YARN_HTTPS_PROXY="$HTTPS_PROXY"; '
    "npx --yes -p @yarnpkg/cli-dist@{version} yarn install --immutable"
    " || YARN_ENABLE_SCRIPTS=false npx --yes -p @yarnpkg/cli-dist@{version} yarn install --no-immutable"
)
"""Yarn since its version 2, whose lock files the first one cannot read. It unpacks by WebAssembly, which reserves more
memory than a box on this machine may have, unless node is told not to."""
_WRITTEN_BY = re.compile(rb"^(?:lockfileVersion:|__metadata:\s+version:)\s*['\"]?(\d{1,3})", re.MULTILINE)
_READERS = {"pnpm-lock.yaml": {"5": "7", "6": "8", "9": "10"}, "yarn.lock": {"4": "3", "5": "3", "6": "3", "8": "4"}}
"""Which version of a program reads the lock files of some version; the newest one is for those that are not here."""


@dataclass(frozen=True, slots=True)
class Ecosystem:
    """How the packages of a language are had.

    `commands` run in turn, from `hosts`; `variables` of the tests lead below $AMINI_KEEP. `image` is Docker's, on which
    an environment is built. `root` is the file that makes a folder a project, and `digest` names all of those files
    that any of it depends on.
    """

    commands: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    image: str = ""
    root: str = ""
    digest: str = ""

    def variables_in(self, keep: str) -> tuple[tuple[str, str], ...]:
        """Return the variables where $AMINI_KEEP is this folder."""
        return tuple((name, f"{keep}/{place}") for name, place in self.variables)


_TABLE: Mapping[str, Ecosystem] = {
    "package.json": Ecosystem((), ("registry.npmjs.org", "registry.yarnpkg.com"), (), "node:{version}-slim"),
    "go.mod": Ecosystem(
        ("go mod download", "go test -count=1 -vet=off -run '^$' ./... || true"),
        ("proxy.golang.org", "sum.golang.org", "storage.googleapis.com"),
        (("GOMODCACHE", "gomod"), ("AMINI_GOCACHE", "gocache")),
        "golang:{version}",
    ),
    "Cargo.toml": Ecosystem(
        ("cargo fetch",), ("index.crates.io", "static.crates.io"), (("CARGO_HOME", "cargo"),), "rust:{version}"
    ),
    "Gemfile": Ecosystem(
        ("test ! -s Gemfile || BUNDLE_PATH=$AMINI_KEEP/bundle bundle install --quiet",),
        ("rubygems.org", "index.rubygems.org"),
        (("BUNDLE_PATH", "bundle"),),
        "ruby:{version}-slim",
    ),
    "composer.json": Ecosystem(
        ("composer install --no-interaction --prefer-dist",), ("repo.packagist.org", "packagist.org", "api.github.com")
    ),
}
_OF_PYTHON = re.compile(r"(?:.*/)?(?:pyproject\.toml|setup\.cfg|tox\.ini|[\w.-]*requirements[\w.-]*\.(?:txt|in))")
_VERSIONS: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "package.json": ("22", r"\A\s*v?(\d{1,3})\b", (".nvmrc", ".node-version")),
    "go.mod": ("1", r"(?m)^go (\d+\.\d+)", ("go.mod",)),
    "Cargo.toml": ("1", r'(?:\A\s*|channel\s*=\s*")(\d+\.\d+)', ("rust-toolchain", "rust-toolchain.toml")),
    "Gemfile": ("3", r"\A\s*(?:ruby-)?(\d+\.\d+)", (".ruby-version",)),
}
"""The newest version of each language, and the pattern and files by which a project names its own."""
_LOCKS = {
    "package.json": (*_LOCKED, ".npmrc"),
    "go.mod": ("go.sum",),
    "Cargo.toml": ("Cargo.lock",),
    "Gemfile": ("Gemfile.lock",),
    "composer.json": ("composer.lock",),
}


def ecosystem_of(snapshot: Snapshot, runner: Runner) -> Ecosystem | None:
    """Return how the packages of a runner's language are had for a tree, None for Python.

    A user's command is taken to be of the language that the tree has a package for, if it has no file of Python's.
    """
    held = snapshot.by_path()
    own = "" if runner.is_python or any(path.endswith(".py") for path in held) else next(filter(held.get, _TABLE), "")
    root = ROWS[runner].root if runner in ROWS else own
    if not root:
        return None
    found, (newest, pattern, naming) = _TABLE.get(root, Ecosystem()), _VERSIONS.get(root, ("", "(?!)", ()))
    names = {root, *_LOCKS[root], *naming} if root in _TABLE else set[str]()
    said = {path: file.data for path, file in held.items() if path.rpartition("/")[2] in names}
    below = sorted(path.rpartition("/")[0] for path in said if path.count("/") == 1 and path.endswith(f"/{root}"))
    folders = [""] if root in said or not below else below
    commands = tuple(
        f"cd {shlex.quote(folder)} && {{ {command}; }}" if folder else command
        for folder in folders
        for command in _commands(root, folder, said)
    )
    total = hashlib.sha256(f"{VERSION} {runner} {commands}".encode())
    for path, data in sorted(said.items()):
        total.update(path.encode() + b"\0" + hashlib.sha256(data).digest())
    version = re.search(pattern, b"".join(said.get(name, b"") for name in naming).decode("utf-8", "replace"))
    image = found.image.replace("{version}", version[1] if version else newest)
    return Ecosystem(commands, found.hosts, found.variables, image, root, total.hexdigest())


def is_of_python(snapshot: Snapshot) -> bool:
    """Tell whether a tree has sources of Python, or a file that says what they need, or nothing at all."""
    paths = [file.path for file in snapshot.files]
    return not paths or any(path.endswith((".py", ".pyx")) or _OF_PYTHON.fullmatch(path) for path in paths)


def unreadable(snapshot: Snapshot) -> str:
    """Return why the package.json at the top of a tree cannot be read, "" where it can or there is none."""
    file = snapshot.by_path().get("package.json")
    try:
        if file is None or file.kind is not FileKind.TEXT:
            return ""
        problem = "" if isinstance(json.loads(file.data), dict) else "it is no object"
    except (ValueError, RecursionError) as error:
        problem = printable(str(error))
    return f"package.json cannot be read ({problem})" if problem else ""


def without_tests(snapshot: Snapshot, runner: Runner) -> str:
    """Return why a tree of other languages has no tests to be run, "" where it has, or may have some of Python's."""
    if not runner.is_python or is_of_python(snapshot):
        return ""
    paths = tuple(file.path for file in snapshot.files)
    sizes = {one: sum(path.endswith(row.suffixes) for path in paths) for one, row in ROWS.items()}
    *names, last = [one for one, size in sizes.items() if size == max(sizes.values())]
    if not sizes[last]:
        return ""
    kinds = f"{', '.join(names)} or {last}" if names else last
    problem, advice = unreadable(snapshot), "give --test-cmd"
    why, advice = (problem, f"mend it, or {advice}") if problem else ("the tree has no Python", advice)
    return f"{why}, and no test of {kinds} is found: {advice}"


def _commands(root: str, folder: str, said: Mapping[str, bytes]) -> tuple[str, ...]:
    """Return the commands of a project in a folder; packages of npm may be those of folders below it too."""
    above = f"{folder}/" if folder else ""
    if root == "package.json":
        texts = b"".join(data for path, data in said.items() if path.startswith(above))
        if not re.search(rb'"(?:dev|peer)?[dD]ependencies"\s*:\s*\{\s*"', texts):
            return ()
        lock = next((name for name in _LOCKED if above + name in said), "")
        if not lock:
            return (f"npm install --no-package-lock {_NPM}",)
        return (_installed(lock, said[above + lock], said.get(above + root, b"")),)
    if root == "composer.json" and not re.search(rb'"require(?:-dev)?"\s*:\s*\{\s*"', said.get(above + root, b"")):
        return ()
    return _TABLE.get(root, Ecosystem()).commands if above + root in said else ()


def _installed(lock: str, locked: bytes, manifest: bytes) -> str:
    """Return the command that installs what a lock file for JavaScript says, by the program that wrote it."""
    written = _WRITTEN_BY.search(locked)
    if lock == "yarn.lock" and written:
        return _BERRY.format(version=_version(lock, written, manifest))
    command = _LOCKED[lock].format(version=_version(lock, written, manifest))
    return f"{command} || {command} --ignore-scripts"


def _version(lock: str, written: re.Match[bytes] | None, manifest: bytes) -> str:
    """Return the version that a package.json names for the program of a lock file, or the one that reads the file."""
    program = lock.partition("-")[0].removesuffix(".lock").encode()
    named = re.search(rb'"packageManager"\s*:\s*"%s@((\d+)\.\d+\.\d+(?:-[\w.]+)?)["+]' % program, manifest)
    readers = _READERS.get(lock, {})
    is_its = named and (named[2] != b"1" or program != b"yarn")  # the first yarn writes no version
    return named[1].decode() if named and is_its else readers.get(written[1].decode() if written else "", "latest")


def tools(runner: Runner, path: str) -> tuple[Path, ...]:
    """Return the folder of a language's tools on this machine where they lie outside of what every box sees."""
    program = shutil.which(ROWS[runner].check[0], path=path) if runner in ROWS else None
    if program is None:
        return ()
    found = Path(program).resolve()
    if found.name == "rustup":
        asked = (found, "which", ROWS[runner].check[0])
        done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=20)  # noqa: S603 - on the user's PATH
        found = Path(done.stdout.strip() or "/usr")
    home = found.parent.parent
    return () if found.is_relative_to("/usr") or home == Path("/") else (home,)
