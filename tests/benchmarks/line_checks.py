"""One-line bugs, and which versions of a bug's module pass its check.

The versions run one after the other, each in a forked process with limits, all in one box: without network or files of
its own where `bwrap` is installed.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

DRIVER = """
import json, os, resource, signal, sys, types
job = json.load(sys.stdin)
passed = []
for code in job["versions"]:
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (2, 2))
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        signal.setitimer(signal.ITIMER_PROF, 0.5)
        signal.alarm(5)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(null, stream)
        status = 1
        try:
            module = sys.modules[job["name"]] = types.ModuleType(job["name"])
            exec(compile(code, job["name"] + ".py", "exec"), module.__dict__)
            exec(compile(job["check"], "check.py", "exec"), {"__name__": "check"})
            status = 0
        finally:
            os._exit(status)
    passed.append(os.waitpid(child, 0)[1] == 0)
json.dump(passed, sys.stdout)
"""


@dataclass(frozen=True, slots=True)
class Bug:
    """A module with a bug in one line, what a user says of it, the line as it should be, and a check."""

    name: str
    issue: str
    code: str
    fix: tuple[str, str]
    check: str

    @property
    def fixed(self) -> str:
        old, new = self.fix
        return "\n".join(new if line == old else line for line in self.code.split("\n"))


def load_bugs(names: Iterable[str] = ()) -> list[Bug]:
    """Read the bugs, all of them or those named, and see that each check tells the bug from its fix."""
    paths = sorted((Path(__file__).parent / "line_bugs").glob("*.md"))
    wanted = set(names)
    bugs = [_bug(path) for path in paths if not wanted or path.stem in wanted]
    for bug in bugs:
        if passing(bug, [bug.code, bug.fixed]) != (False, True):
            raise SystemExit(f"The check of {bug.name} does not tell the bug from its fix.")
    return bugs


def _bug(path: Path) -> Bug:
    title, code, fix, check = path.read_text().split("\n## ")
    old, new = _fenced(fix).rstrip("\n").split("\n")
    return Bug(path.stem, title.split("\n", 1)[1].strip(), _fenced(code), (old, new), _fenced(check))


def _fenced(section: str) -> str:
    return section.split("````python\n", 1)[1].rsplit("````", 1)[0]


def passing(bug: Bug, versions: Sequence[str]) -> tuple[bool, ...]:
    """Say of each version of a bug's module whether it passes the check."""
    job = json.dumps({"name": bug.name, "check": bug.check, "versions": list(versions)})
    command = [*_box(), sys.executable, "-I", "-c", DRIVER]
    done = subprocess.run(command, input=job, capture_output=True, text=True, check=True)
    return tuple(json.loads(done.stdout))


def _box() -> list[str]:
    if shutil.which("bwrap") is None:
        return []
    hidden = ["--tmpfs", tempfile.gettempdir(), "--ro-bind", sys.prefix, sys.prefix, "--dev", "/dev"]
    return ["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", *hidden]
