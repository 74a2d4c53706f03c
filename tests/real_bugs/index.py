"""Fetches sdists from the package index that pip uses, by their SHA-256, into a cache. Nothing of them is run.

pip itself is not asked: it would build their metadata, which runs their code.
"""

import functools
import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from collections.abc import Mapping
from html import unescape
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urldefrag, urljoin

import platformdirs

CACHE = platformdirs.user_cache_path("amini-tests")
ANSWER_WITHIN_S = 60
PYPI = "https://pypi.org/simple"
_LINK = re.compile(r'<a\s[^>]*?href="([^"]+)"', re.IGNORECASE)


class IndexUnreachable(Exception):
    """The index does not answer, and the cache does not have it."""


class WrongContents(Exception):
    """The index has no such file, or another one than the recipe was written for."""


@functools.cache
def sdist_files(project: str, version: str, sha256: str, cache: Path = CACHE) -> Mapping[str, bytes]:
    """Return the regular files of a project's sdist, by their path below its one top folder.

    Raises `IndexUnreachable` or `WrongContents`.
    """
    archive = cache / "sdists" / f"{sha256}.tar.gz"
    if not archive.is_file():
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=archive.parent, delete=False) as file:
            file.write(_fetched(project, version, sha256))
        Path(file.name).replace(archive)
    data = _checked(archive.read_bytes(), project, version, sha256)
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        held = ((tarfile.data_filter(member, "."), tar.extractfile(member)) for member in tar if member.isreg())
        return {safe.name.partition("/")[2]: file.read() for safe, file in held if file}


def _checked(data: bytes, project: str, version: str, sha256: str) -> bytes:
    if hashlib.sha256(data).hexdigest() != sha256:
        raise WrongContents(f"the sdist of {project} {version} is not the one that is expected")
    return data


def _fetched(project: str, version: str, sha256: str) -> bytes:
    page = f"{index_url().rstrip('/')}/{project}/"
    links = [urljoin(page, unescape(link)) for link in _LINK.findall(_read(page).decode("utf-8", "replace"))]
    found = next((link for link in links if link.endswith(f"sha256={sha256}")), None)
    if found is None:
        raise WrongContents(f"{page} lists no file of {project} {version} with this SHA-256: {sha256}")
    return _checked(_read(urldefrag(found).url), project, version, sha256)


def _read(url: str) -> bytes:
    if not url.startswith(("https://", "http://")):
        raise IndexUnreachable(f"{url} is no web address")
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_WITHIN_S) as response:  # noqa: S310 - looked at above
            return bytes(response.read())
    except (OSError, HTTPException) as error:
        raise IndexUnreachable(f"{url} does not answer: {error}") from error


@functools.cache
def index_url() -> str:
    """Return the address of the index that pip is set to."""
    if told := os.environ.get("PIP_INDEX_URL"):
        return told
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else PYPI
