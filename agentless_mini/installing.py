"""How an extra of amini is installed into this very environment: no index has amini, so from where it came itself."""

import importlib.util
import json
import shlex
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

NAME = "agentless-mini"


def install_command(extra: str) -> str:
    """Return the command line that adds an extra, in backquotes, for a sentence that says what to try."""
    python = shlex.quote(sys.executable)
    # Environments that uv made have no pip.
    pip = f"{python} -m pip install" if importlib.util.find_spec("pip") else f"uv pip install -p {python}"
    return f"`{pip} {requirement(_origin(), extra)}`"


def requirement(origin: Mapping[str, Any], extra: str) -> str:
    """Return the words that name amini with an extra to an installer, by the origin on record (PEP 610; {}: none)."""
    url = str(origin.get("url", ""))
    if "vcs_info" in origin:
        url = f"{origin['vcs_info']['vcs']}+{url}@{origin['vcs_info']['commit_id']}"
    if origin.get("dir_info", {}).get("editable"):
        return f"-e {shlex.quote(f'{unquote(urlsplit(url).path)}[{extra}]')}"
    return shlex.quote(f"{NAME}[{extra}] @ {url}" if url else f"{NAME}[{extra}]")


def _origin() -> Mapping[str, Any]:
    from importlib import metadata  # slow to import, and seldom wanted

    try:
        text = metadata.distribution(NAME).read_text("direct_url.json")
    except metadata.PackageNotFoundError:  # it runs from its folder
        return {}
    found: Mapping[str, Any] = json.loads(text or "{}")
    return found
