"""What of this machine a build uses: a Python that suits the project, Rust, and the indexes where pip finds packages.

Of Pythons there are this one, those on PATH, and pyenv's. Minor versions of Python 3 are compared, patch versions not.

The indexes are those of the user's variables and pip's own configuration files, with the folders, the hosts to trust,
the certificates, the time limits, the proxies and the passwords that they contain: `proxy` says what a build is told.
"""

import configparser
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.specifiers import InvalidSpecifier, Specifier

from agentless_mini.domain import PlacedFile
from agentless_mini.errors import EnvironmentFailed, printable

OLDEST = 7
"""The oldest minor version of Python 3 that can run a box."""
_PATCHES = 31
"""No minor version has had more patch versions."""
_CLAUSE = re.compile(
    r"(?P<sign>===|==|~=|!=|<=|>=|<|>|\^|~)?v?(?P<numbers>\d{1,9}(?:\.\d{1,9})*)(?P<wild>\.[*xX])?[\w.+*-]*"
)
_LONGEST_CLAUSE = 200
_CLASSIFIER = re.compile(r"Programming Language :: Python :: 3\.(\d{1,2})\Z")
_NAME = re.compile(r"python3\.(\d{1,2})")
_VERSION = re.compile(r"3\.(\d{1,2})(?:\.\d+)?")
_LOOK = "print(json.dumps([getattr(sys, '_base_executable', sys.executable), list(sys.version_info[:3])]))"
_LISTS = ("extra-index-url", "find-links", "trusted-host")
_SINGLE = ("index-url", "timeout", "default-timeout", "retries", "no-index")
_OF_UV = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
}
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
CERTIFICATES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS")
"""The variables that name a file of certificates, to pip and to what a build may use beside it."""
_BUNDLE_LIMIT = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PythonRequirement:
    """What a project says of Python: its specifiers (all hold) and the minor versions of 3 that it is tested on."""

    specifiers: tuple[str, ...] = ()
    tested: tuple[int, ...] = ()

    def allows(self, minor: int) -> bool:
        """Return whether some patch version of 3.`minor` satisfies every specifier. What cannot be read allows all."""
        asked = [_ways(specifier) for specifier in self.specifiers if len(specifier) <= _LONGEST_CLAUSE]
        return any(
            all(any(all(clause.contains(version) for clause in way) for way in ways) for ways in asked)
            for version in (f"3.{minor}.{patch}" for patch in range(_PATCHES))
        )

    def ordered(self, available: Collection[int], here: int) -> tuple[int, ...]:
        """Return those of the available minor versions that are allowed, the most suitable first.

        The one `here` comes first if it is tested, or nothing is said of tests; then tested ones, the newest first;
        then newer ones, the oldest first, for little has changed in them; then the rest, the newest first.
        """
        newest = max(self.tested, default=here)

        def place(minor: int) -> tuple[int, int]:
            if minor == here and (not self.tested or here in self.tested):
                return 0, 0
            if minor in self.tested:
                return 1, -minor
            return (2, minor) if minor > newest else (3, -minor)

        return tuple(sorted((minor for minor in set(available) if self.allows(minor)), key=place))


def classified_minors(classifiers: Collection[str]) -> set[int]:
    """Return the minor versions of 3 that trove classifiers name."""
    found = (_CLASSIFIER.fullmatch(line.strip()) for line in classifiers)
    return {int(match[1]) for match in found if match}


def _ways(specifier: str) -> list[list[Specifier]]:
    """Return the ways to satisfy a specifier, which poetry separates by "||": all clauses of one must hold."""
    joined = re.sub(r"([<>=!~^])\s+(?=\d)", r"\1", specifier)
    return [[found for clause in re.split(r"[,\s]+", way) for found in _clause(clause)] for way in joined.split("||")]


def marker_of(specifier: str) -> str:
    """Return what a specifier of Python says as a marker of a requirement, "" where it allows all."""
    names = ("python_version", "python_full_version")  # of which `3.8` means each 3.8.x by the first, as poetry does
    told = (
        [f"{names[one.version.count('.') > 1]} {one.operator} '{one.version}'" for one in way]
        for way in _ways(specifier)
    )
    ways = [" and ".join(clauses) for clauses in told]
    return " or ".join(ways) if all(ways) else ""


def _clause(text: str) -> Iterator[Specifier]:
    """Yield what a clause of Python's or poetry's means; nothing where it cannot be read."""
    match = _CLAUSE.fullmatch(text) if len(text) <= _LONGEST_CLAUSE else None
    if match is None:
        return
    sign, numbers, wild = match["sign"] or "==", match["numbers"], ".*" if match["wild"] else ""
    if sign == "^":
        yield Specifier(f">={numbers}")
        sign, numbers = "<", str(int(numbers.partition(".")[0]) + 1)
    elif sign == "~":
        sign, wild = ("~=", "") if numbers.count(".") > 1 else ("==", ".*")
    with suppress(InvalidSpecifier):
        yield Specifier(f"{sign}{numbers}{wild if sign in {'==', '!='} else ''}")


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python by its real path, not that of a virtual environment, and its version."""

    path: Path
    version: tuple[int, int, int]


def choose_python(
    wish: PythonRequirement,
    variables: Mapping[str, str],
    usable: Callable[[Path], bool] | None = None,
    *,
    is_bare: bool = False,
) -> tuple[Interpreter, tuple[str, ...]]:
    """Return the most suitable Python that can make virtual environments, and sentences on where it does not suit.

    `variables` says where to look (PATH, PYENV_ROOT, HOME); what is not `usable` by its real path is passed over. Where
    none is to be made (`is_bare`), it need not be able to. Raises `EnvironmentFailed` where there is none at all.
    """
    here = sys.version_info.minor
    found: dict[int, list[Path]] = {}
    for minor, path in ((here, _own()), *_candidates(variables)):
        if usable is None or usable(path.resolve()):
            found.setdefault(minor, []).append(path)
    for minor in wish.ordered([minor for minor in found if minor >= OLDEST], here):
        for path in found[minor]:
            if (interpreter := _look_at(path, is_bare)) is not None and interpreter.version[1] == minor:
                named = ", ".join(f"3.{one}" for one in wish.tested)
                note = f"The project names Python {named}, which is not here: its tests run on 3.{minor}."
                return interpreter, () if not wish.tested or minor in wish.tested else (note,)
    last = found.get(here, [_own()])[0]
    interpreter = _look_at(last, is_bare)
    if interpreter is None:
        raise EnvironmentFailed(
            f"{printable(str(last))} cannot make virtual environments: install its venv and ensurepip "
            "(package python3-venv), or use --sandbox docker."
        )
    asked = printable(" and ".join(wish.specifiers)[:80])
    return interpreter, (f"The project asks for Python {asked}, which is not here: its tests run on 3.{here}.",)


def _own() -> Path:
    """Return the Python that runs this, not that of its virtual environment."""
    return Path(getattr(sys, "_base_executable", sys.executable))


def _candidates(variables: Mapping[str, str]) -> Iterator[tuple[int, Path]]:
    for folder in filter(None, variables.get("PATH", "").split(":")):
        for path in sorted(Path(folder).glob("python3.*")):
            if (match := _NAME.fullmatch(path.name)) and os.access(path, os.X_OK):
                yield int(match[1]), path
    home = variables.get("HOME", "/nonexistent")
    for path in sorted(Path(variables.get("PYENV_ROOT") or f"{home}/.pyenv").glob("versions/3.*/bin/python3")):
        if match := _VERSION.fullmatch(path.parts[-3]):
            yield int(match[1]), path


def _look_at(path: Path, is_bare: bool) -> Interpreter | None:
    """Return what a program is; None where it is no Python (a shim), or has to make environments and cannot."""
    if path == _own():  # so that no program is started in every run
        can = is_bare or all(importlib.util.find_spec(module) for module in ("venv", "ensurepip"))
        return Interpreter(path.resolve(), sys.version_info[:3]) if can else None
    look = f"import sys, json{'' if is_bare else ', venv, ensurepip'}\n{_LOOK}"
    try:
        done = subprocess.run((path, "-I", "-c", look), capture_output=True, timeout=20, check=False)  # noqa: S603 - it is on the user's PATH
        executable, (major, minor, patch) = json.loads(done.stdout)
        return Interpreter(Path(executable).resolve(), (int(major), int(minor), int(patch)))
    except (OSError, ValueError, TypeError, subprocess.TimeoutExpired):
        return None


def find_rust(variables: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the folder of the toolchain that rustup takes by default, which no box sees by itself, if there is one.

    Neither what cargo keeps beside it (passwords of registries) nor rustup, which would fetch others, is in there.
    """
    own = Path(variables.get("RUSTUP_HOME") or Path(variables.get("HOME", "/nonexistent"), ".rustup"))
    with suppress(OSError, ValueError):
        settings = tomllib.loads((own / "settings.toml").read_text("utf-8"))
        folder = own / "toolchains" / str(settings.get("default_toolchain") or "none")
        return (folder,) if (folder / "bin" / "cargo").is_file() else ()
    return ()


@dataclass(frozen=True, slots=True)
class Index:
    """Pip's settings by their long names, the proxies' variables, and certificates (b"": those of uv)."""

    settings: tuple[tuple[str, str], ...] = ()
    proxies: tuple[tuple[str, str], ...] = ()
    certificates: bytes = b""

    def variables(self, *, here: bool = True) -> tuple[tuple[str, str], ...]:
        """Return what pip and uv in the box are to be told, save where the certificates lie there.

        uv takes a folder that is not there for an error, as those of this machine are which a box does not see.
        """
        told = [(f"PIP_{name.upper().replace('-', '_')}", value) for name, value in self.settings]
        of_uv = list[tuple[str, str]]()
        for name, value in ((_OF_UV[name], value) for name, value in self.settings if name in _OF_UV):
            places = ((one, _path_of(one)) for one in value.split())
            kept = [one for one, path in places if path is None or (here and path.is_dir())]
            # uv installs, which separates links by commas; a user's own command may call pip.
            of_uv += [(name, ("," if name == "UV_FIND_LINKS" else " ").join(kept))] if kept else []
        return (*told, *of_uv, *self.proxies, ("PIP_CONFIG_FILE", "/dev/null"))

    def options(self) -> tuple[str, ...]:
        """Return what uv is told in words, for it knows no variable for that."""
        return ("--no-index",) if dict(self.settings).get("no-index", "0").lower() not in {"0", "false", "no"} else ()

    def folders(self) -> tuple[Path, ...]:
        """Return the folders of this machine that serve as indexes.

        The files of one that is called "simple" lie beside it, by custom.
        """
        values = [value for name, text in self.settings if name.endswith(("url", "links")) for value in text.split()]
        paths = [path for value in values if (path := _path_of(value)) is not None and path.is_dir()]
        return tuple(dict.fromkeys(path.parent if path.name == "simple" else path for path in paths))

    def placed(self, path: str) -> tuple[PlacedFile, ...]:
        """Return the file of certificates to be put into the box at `path`, if there is one."""
        return (PlacedFile(path, self.certificates),) if self.certificates else ()


def _path_of(value: str) -> Path | None:
    with suppress(ValueError):  # no address: uv will tell
        if value.startswith("file:"):
            return Path(unquote(urlsplit(value).path))
    return Path(value) if value.startswith("/") else None


def find_index(variables: Mapping[str, str]) -> Index:
    """Return the settings that the variables and the files that they lead to make."""
    values: dict[str, str] = {}
    for path in _files(variables):
        config = configparser.RawConfigParser(strict=False)
        with suppress(OSError, ValueError, configparser.Error):  # not there, not ours to read, or not to be parsed
            config.read_string(path.read_text("utf-8"))
            for section in filter(config.has_section, ("global", "install")):
                values |= {name: value for name, value in config.items(section) if name in {*_LISTS, *_SINGLE, "cert"}}
    named = {f"PIP_{name.upper().replace('-', '_')}": name for name in (*_LISTS, *_SINGLE)}
    named |= {"UV_DEFAULT_INDEX": "index-url", "UV_INDEX_URL": "index-url", "UV_EXTRA_INDEX_URL": "extra-index-url"}
    values |= {named[name]: value for name, value in variables.items() if name in named and value}
    proxies = [(name, value) for name, value in sorted(variables.items()) if name.lower() in _PROXIES]
    bundle, certificates = next(filter(None, map(variables.get, CERTIFICATES)), values.pop("cert", "")), b""
    with suppress(OSError):
        certificates = Path(bundle).read_bytes() if bundle else b""
    kept = tuple(sorted((name, " ".join(value.split())) for name, value in values.items() if name != "cert"))
    return Index(kept, tuple(proxies), certificates if len(certificates) <= _BUNDLE_LIMIT else b"")


def _files(variables: Mapping[str, str]) -> list[Path]:
    """Return pip's configuration files, the ones that count more last."""
    named = variables.get("PIP_CONFIG_FILE", "")
    if named == "/dev/null":
        return []
    home = Path(variables.get("HOME", "/nonexistent"))
    own = Path(variables.get("XDG_CONFIG_HOME") or home / ".config")
    files = [Path("/etc/xdg/pip/pip.conf"), Path("/etc/pip.conf"), home / ".pip/pip.conf", own / "pip/pip.conf"]
    return [*files, Path(named)] if named else files
