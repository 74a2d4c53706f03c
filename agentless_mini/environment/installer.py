"""Builds an environment inside a box, by a plan, from the folder of the tree: see `main`. Its text is sent there.

The Python of the box runs it (3.7 or newer, the standard library alone), and the rest of the package never calls it.
What it reports is not to be believed: the code that it installs runs beside it.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

PLACE = ".amini-build"
NOT_KEPT = {".git", "__pycache__", PLACE, ".eggs", ".pytest_cache", ".mypy_cache", ".tox", ".nox", ".venv"}
NOT_KEPT |= {"node_modules"}
PIP = ["install", "--no-input", "--disable-pip-version-check", "--no-cache-dir", "--progress-bar=off"]
PIP += ["--prefer-binary"]
UV = ["install", "--no-config", "--no-cache", "--no-progress", "--link-mode=copy"]
UV += ["--index-strategy=unsafe-best-match"]
NOT_FOUND = 127
TOOLS = PLACE + "/tools"


def main() -> None:
    """Do what plan.json says; leave report.json, and overlay.tar with the files that it brought into the tree."""
    plan = json.loads(Path(PLACE, "plan.json").read_text())
    before = files()
    for name in plan["certificates"]:
        os.putenv(name, str(Path(PLACE, "certificates.pem").absolute()))
    report: dict[str, Any] = {"failed": [], "editable": False, "problem": "", "frozen": [], "left_out": 0}
    installation = Installation(plan, report)
    if plan["fresh"] and not installation.make_pip():
        report["problem"] = "pip cannot be put into a virtual environment"
    elif plan["setup"]:
        status = told("sh", "-c", plan["setup"])
        report["problem"] = f"the setup command exited with {status}" if status else ""
    elif plan["until"] and told(plan["python"], "-m", "pip", *PIP, "--only-binary=uv", "--target", TOOLS, "uv"):
        report["problem"] = "uv, which takes packages as of a date, cannot be installed"
    else:
        installation.run()
    report["frozen"] = frozen(plan["python"], "--all")
    report["left_out"] = collect(sorted(files() - before), plan["overlay_limit"])
    Path(PLACE, "report.json").write_text(json.dumps(report))


class Installation:
    """The default way: a virtual environment, the project in it, and what its tests need."""

    def __init__(self, plan: dict[str, Any], report: dict[str, Any]) -> None:
        """Take note of the plan."""
        self.plan = plan
        self.report = report
        self.python = plan["python"]

    def run(self) -> None:
        """Install everything together, so that the versions fit; where that fails, as much as possible."""
        plan, report, wanted = self.plan, self.report, list(self.plan["install"])
        extras = ",".join(plan["extras"])
        ways = [*([f"--editable=.[{extras}]"] if extras else []), "--editable=."] if plan["project"] else []
        if (ways or wanted) and self.pip(*ways[:1], *wanted):
            report["editable"] = any(not self.pip(way) for way in ways)
            failed = [] if report["editable"] else self.as_many(plan["alone"])
            report["failed"] = failed + self.as_many(wanted)
        else:
            report["editable"] = bool(ways)
        module = plan["module"]
        if module and told(self.python, "-c", "import " + module) and self.pip(module):
            report["problem"] = f"{module} cannot be installed"

    def make_pip(self) -> bool:
        """Make the environment where it is not there, and see that it has pip."""
        venv = self.plan["make"]
        if venv and told(sys.executable, "-m", "venv", "--without-pip", venv):
            return False
        if not told(self.python, "-m", "ensurepip", "--default-pip"):
            return True
        # A system may keep ensurepip from its Python, but have pip.
        return not told(sys.executable, "-m", "pip", "--python", self.python, *PIP, "pip")

    def as_many(self, wanted: list[str]) -> list[str]:
        """Install what can be without changing a version that is there; return the rest.

        Halves that fail are halved again: most often few of many do, and each call of pip takes its time.
        """
        if not wanted:
            return []
        # What came from a folder or an address has no version to hold.
        pins = [line for line in frozen(self.python) if re.fullmatch(r"[A-Za-z0-9][\w.-]*===?[^\s;]+", line)]
        Path(PLACE, "held.txt").write_text("\n".join(pins) + "\n", encoding="utf-8")
        if not self.pip("--constraint", PLACE + "/held.txt", *wanted):
            return []
        if len(wanted) == 1:
            sys.stdout.write(f"Left out, for it does not fit to what is installed or cannot be had: {wanted[0]}\n")
            return wanted
        middle = (len(wanted) + 1) // 2
        return self.as_many(wanted[:middle]) + self.as_many(wanted[middle:])

    def pip(self, *arguments: str) -> int:
        """Install, within the constraints and the date."""
        constraints = ("--constraint", PLACE + "/constraints.txt") if self.plan["constraints"] else ()
        installing: tuple[str, ...] = (self.python, "-m", "pip", *PIP)
        if self.plan["until"]:
            dated = ("--python", self.python, "--exclude-newer", self.plan["until"])
            installing = (TOOLS + "/bin/uv", "pip", *UV, *dated)
        return told(*installing, *self.plan["options"], *constraints, *arguments)


def told(*command: str) -> int:
    """Run a command, which is written into the log before what it says; return its status."""
    sys.stdout.write(f"\n$ {' '.join(command)}\n")
    sys.stdout.flush()
    try:
        status = subprocess.call(command, stdin=subprocess.DEVNULL)  # noqa: S603 - it is the box that is to contain it
    except OSError as error:
        sys.stdout.write(f"({error})\n")
        return NOT_FOUND
    if status:
        sys.stdout.write(f"(exited with {status})\n")
    return status


def frozen(python: str, *options: str) -> list[str]:
    """Return the versions of what is installed."""
    command = [python, "-m", "pip", "--disable-pip-version-check", "freeze", *options]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)  # noqa: S603 - as above
    except OSError:  # its Python is gone, which the probe will tell
        return []
    return done.stdout.decode("utf-8", "replace").splitlines()


def files() -> set[str]:
    """Return the paths of the regular files of the tree that may be kept."""
    found: set[str] = set()
    for folder, folders, names in os.walk("."):
        at_top = {"build"} if folder == "." else set()
        folders[:] = [name for name in folders if name not in NOT_KEPT | at_top]
        paths = (os.path.relpath(f"{folder}/{name}") for name in names if not name.endswith(".pyc"))
        found.update(path for path in paths if stat.S_ISREG(os.lstat(path).st_mode))
    return found


def collect(paths: list[str], limit: int) -> int:
    """Put the files into overlay.tar; where they are too large together none, and return their size in bytes."""
    size = sum(os.lstat(path).st_size for path in paths)
    with tarfile.open(PLACE + "/overlay.tar", "w") as tar:
        for path in paths if size <= limit else []:
            tar.add(path, recursive=False, filter=undated)
    return 0 if size <= limit else size


def undated(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Return the entry without what differs from one build to the next."""
    entry.mtime = entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    main()
