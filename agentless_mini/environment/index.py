"""Where pip finds packages, as the user's variables and pip's own configuration files say, for a build in a box.

Passed on are the indexes and folders, the hosts to trust, the certificates, the time limits and the proxies, with the
passwords that they contain: a build runs foreign code, which can read and send them away. Use addresses without
passwords where that matters.
"""

import configparser
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from agentless_mini.domain import PlacedFile

_LISTS = ("extra-index-url", "find-links", "trusted-host")
_SINGLE = ("index-url", "timeout", "default-timeout", "retries", "no-index")
_OF_UV = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "no-index": "UV_NO_INDEX",
}
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
CERTIFICATES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
"""The variables that name a file of certificates, to pip and to what a build may use beside it."""
_BUNDLE_LIMIT = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Index:
    """Pip's settings by their long names, the proxies' variables, and the certificates to trust (b"": pip's own)."""

    settings: tuple[tuple[str, str], ...] = ()
    proxies: tuple[tuple[str, str], ...] = ()
    certificates: bytes = b""

    def variables(self) -> tuple[tuple[str, str], ...]:
        """Return what pip and uv in the box are to be told, save where the certificates lie there."""
        told = [(f"PIP_{name.upper().replace('-', '_')}", value) for name, value in self.settings]
        # A build that takes packages as of a date has uv beside pip, which separates links by commas.
        same = [(_OF_UV[name], value) for name, value in self.settings if name in _OF_UV]
        fitted = [(name, ",".join(value.split()) if name == "UV_FIND_LINKS" else value) for name, value in same]
        return (*told, *fitted, *self.proxies, ("PIP_CONFIG_FILE", "/dev/null"))

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
