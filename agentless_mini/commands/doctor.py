"""`amini doctor`: what a repair with tests needs, whether it is here, and what to do where it is not.

Every look has a few seconds, all are taken side by side, and none fetches or starts anything that stays.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from rich.text import Text

from agentless_mini.commands.config import Machine
from agentless_mini.commands.terminal import results
from agentless_mini.domain import MIB
from agentless_mini.errors import AminiError, EnvironmentFailed, printable
from agentless_mini.installing import install_command
from agentless_mini.model.connection import Patience
from agentless_mini.model.embedded.llama import load_library
from agentless_mini.model.openai_api import OpenAISampler
from agentless_mini.model.process import Server, find_server
from agentless_mini.model.vllm import find_gpus, has_vllm
from agentless_mini.report.console import flowed
from agentless_mini.repository.gitcommand import GitCommand, require_recent_git
from agentless_mini.sandbox.bubblewrap import find_bubblewrap
from agentless_mini.sandbox.daemon import connect, find_image, require_pullable, translated
from agentless_mini.sandbox.landlock import find_landlock
from agentless_mini.settings import Config
from agentless_mini.settings.model import Engine
from agentless_mini.settings.run import SandboxKind

LIMIT = 30.0
"""Seconds for all looks together, which take three on an idle machine; what takes longer counts as missing."""
ROOM = 2048 * MIB
"""Bytes that should be free for records, environments and a small model."""
_SILENCE = 5.0  # seconds that the hub or the model server may take to answer
_NAMES = 12  # columns of the names, and of the word after them
_WORDS = 9
_USER_NAMESPACE = """
import ctypes, os, sys
user = os.geteuid()
if ctypes.CDLL(None, use_errno=True).unshare(0x10000000):
    sys.exit(os.strerror(ctypes.get_errno()))
try:
    with open("/proc/self/uid_map", "w") as file:
        file.write(f"0 {user} 1")
except OSError as error:
    sys.exit(error.strerror)
"""
# What switches them off where it has the first value, and the value that switches them on.
_SWITCHES = {
    "kernel.apparmor_restrict_unprivileged_userns": ("1", "0"),
    "kernel.unprivileged_userns_clone": ("0", "1"),
    "user.max_user_namespaces": ("0", "10000"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look found: whether it is there, and in a sentence what it is or what to do."""

    ok: bool
    said: str


Look = Callable[[], str]
"""Says what is here; raises where it is not."""


def run_doctor(config: Config, machine: Machine, as_json: bool) -> int:
    """Write what is found to stdout, and return 0 where a repair with tests can run here, else 4."""
    looks: dict[str, Look] = {
        "git": _git,
        "docker": lambda: _docker(config),
        "bubblewrap": lambda: _bubblewrap(config),
        "namespaces": _namespaces,
        "landlock": lambda: f"The kernel has Landlock, version {find_landlock().version} of its interface.",
        "endpoint": lambda: _endpoint(config, machine),
        "gpu": lambda: _gpu(machine),
        "vllm": lambda: _vllm(config),
        "embedded": lambda: f"llama.cpp {load_library().version} can be used.",
        "hub": lambda: _hub(config),
        "cache": lambda: _disk(machine.cache),
        "records": lambda: _disk(machine.state),
    }
    found = look_at_all(looks, LIMIT)
    found["repair"] = conclusion(found, config)
    if as_json:
        findings = [{"name": name, **asdict(finding)} for name, finding in found.items()]
        sys.stdout.write(json.dumps({"schema": 1, "findings": findings}, indent=2) + "\n")
        return 0 if found["repair"].ok else EnvironmentFailed.exit_code
    console = results()
    for name, finding in found.items():
        head = f"{name:{_NAMES}}{'ok' if finding.ok else 'missing':{_WORDS}}"
        told = Text(flowed(head + " ".join(finding.said.split()), console, len(head)))
        told.stylize("green" if finding.ok else "yellow", _NAMES, len(head))
        console.print(told)
    return 0 if found["repair"].ok else EnvironmentFailed.exit_code


def look_at_all(wanted: Mapping[str, Look], seconds: float) -> dict[str, Finding]:
    """Take all looks side by side. One that has not ended after so many seconds is left behind."""
    found: dict[str, Finding] = {}

    def look(name: str) -> None:
        try:
            found[name] = Finding(ok=True, said=wanted[name]())
        except Exception as error:  # noqa: BLE001 - whatever keeps it from working is what is to be told
            said = str(error) if isinstance(error, AminiError) else f"{type(error).__name__}: {printable(str(error))}"
            found[name] = Finding(ok=False, said=said)

    threads = [threading.Thread(target=look, args=(name,), daemon=True) for name in wanted]
    for thread in threads:
        thread.start()
    end = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    late = Finding(ok=False, said=f"It does not answer within {seconds:g} s: see what keeps it.")
    return {name: found.get(name, late) for name in wanted}


def conclusion(found: Mapping[str, Finding], config: Config) -> Finding:
    """Say whether a repair with tests can run here, by what was found and the settings."""
    here = {name for name, finding in found.items() if finding.ok}
    boxes: dict[SandboxKind, set[str]] = {
        SandboxKind.AUTO: {"docker", "bubblewrap", "landlock"},
        SandboxKind.LOCAL: {"bubblewrap"},
        SandboxKind.UNSAFE: {"git"},  # nothing more
        SandboxKind.NONE: set(),
    }
    if config.endpoint.base_url:
        answers = "endpoint" in here
    elif config.engine is Engine.AUTO:
        answers = bool({"endpoint", "embedded"} & here) or {"gpu", "vllm"} <= here
    else:
        answers = config.engine.value in here
    needed = {
        "git": "git" in here,
        "a sandbox for the tests": bool(boxes.get(config.sandbox.kind, {config.sandbox.kind.value}) & here),
        "a model that answers": answers,
        "room on the disk": {"cache", "records"} <= here,
    }
    missing = [what for what, is_there in needed.items() if not is_there]
    if missing:
        return Finding(ok=False, said=f"A repair with tests cannot run here; it lacks {' and '.join(missing)}.")
    return Finding(ok=True, said="A repair with tests can run here.")


def _git() -> str:
    require_recent_git()
    return GitCommand(".").read("version").decode("utf-8", "replace").strip()


def _docker(config: Config) -> str:
    """Look for a daemon, and ask it for the image without having it pulled."""
    image = config.sandbox.image or config.sandbox.base_image.replace("{version}", f"3.{sys.version_info.minor}")
    with closing(connect(1)) as client:
        api: Any = client.api  # it is not typed
        with translated():
            answers = f"Docker {api.version()['Version']} answers"
        if find_image(client, image):
            return f"{answers}, and has the image {image}."
        require_pullable(client, image)
    return f"{answers}, and can pull the image {image}."


def _bubblewrap(config: Config) -> str:
    if sys.platform != "linux":
        raise EnvironmentFailed("It needs Linux: use Docker.")
    found = find_bubblewrap(config.sandbox.bubblewrap)
    return f"{found.path} {'.'.join(map(str, found.version))}"


def _namespaces() -> str:
    if sys.platform != "linux":
        raise EnvironmentFailed("Only Linux has them: use Docker.")
    done = subprocess.run((sys.executable, "-I", "-S", "-c", _USER_NAMESPACE), capture_output=True, check=False)  # noqa: S603 - a fixed program
    if not done.returncode:
        return "User namespaces can be made."
    switched_off = [f"`sysctl {name}={on}`" for name, (off, on) in _SWITCHES.items() if _sysctl(name) == off]
    advice = f"as root, run {' and '.join(switched_off)}" if switched_off else "in a container, allow it to make some"
    reason = printable(done.stderr.decode("utf-8", "replace").strip())
    raise EnvironmentFailed(f"User namespaces cannot be made ({reason}): {advice}, or use Docker.")


def _sysctl(name: str) -> str:
    with suppress(OSError):
        return Path("/proc/sys", *name.split(".")).read_text().strip()
    return ""


def _gpu(machine: Machine) -> str:
    gpus = find_gpus(machine.environment.get("CUDA_VISIBLE_DEVICES"))
    if gpus:
        return f"{len(gpus)} to be used, the first {printable(gpus[0].partition(' (')[0])}."
    raise EnvironmentFailed(
        "nvidia-smi lists none: name a server elsewhere with --base-url, or use the embedded model."
    )


def _vllm(config: Config) -> str:
    if has_vllm(config.vllm):
        return "It is installed; `amini serve MODEL` starts it."
    raise EnvironmentFailed(f"It is not installed, and useful only with a GPU: {install_command('vllm')}.")


def _endpoint(config: Config, machine: Machine) -> str:
    """Ask the server that is named, else the one that `amini serve` left running."""
    endpoint = config.endpoint
    if endpoint.base_url is None:
        server = find_server(machine.served)
        if not isinstance(server, Server):
            said = "None is named, and `amini serve` runs none: name one with --base-url or in the settings."
            raise EnvironmentFailed(said)
        endpoint = endpoint.model_copy(update={"base_url": server.base_url, "model": endpoint.model or server.model})

    endpoint = endpoint.model_copy(update={"timeout_s": _SILENCE})

    async def ask() -> str:
        async with OpenAISampler(endpoint, patience=Patience(0), environment=machine.environment) as sampler:
            card = await sampler.card()
        name = f"{endpoint.base_url} serves {printable(card.name)}"
        return f"{name} with a window of {card.context_window:,} tokens."

    return asyncio.run(ask())


def _hub(config: Config) -> str:
    request = urllib.request.Request(config.embedded.hub, method="HEAD")  # noqa: S310 - http, by the setting's pattern
    try:
        urllib.request.urlopen(request, timeout=_SILENCE).close()  # noqa: S310 - likewise
    except urllib.error.HTTPError:  # it answers
        pass
    except (OSError, HTTPException) as error:
        reason = printable(str(getattr(error, "reason", error)))
        said = f"{config.embedded.hub} is not reached ({reason}): new models cannot be downloaded."
        raise EnvironmentFailed(said) from None
    return f"{config.embedded.hub} answers."


def _disk(folder: Path) -> str:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if not os.access(there, os.W_OK):
        raise EnvironmentFailed(f"{there} cannot be written: change its permissions, XDG_CACHE_HOME or XDG_STATE_HOME.")
    said = f"{free / 1024**3:,.1f} GiB are free for {folder}"
    if free < ROOM:
        raise EnvironmentFailed(f"{said}: make room, {ROOM // 1024**3} GiB at least.")
    return f"{said}."
