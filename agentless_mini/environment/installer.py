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
    elif plan["until"] and not installation.make_uv():
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
        self.held = PLACE + "/held.txt"

    def run(self) -> None:
        """Install everything together, so that the versions fit; where that fails, as much as possible."""
        project, wanted = self.projects(), list(self.plan["install"])
        if (project or wanted) and not self.pip(*project[:1], *wanted):
            self.report["editable"] = bool(project)
        elif project or wanted:
            self.one_by_one(project, wanted)
        self.require_module()

    def make_pip(self) -> bool:
        """Make the environment where it is not there, and see that it has pip."""
        venv = self.plan["make"]
        if venv and told(sys.executable, "-m", "venv", "--without-pip", venv):
            return False
        if not told(self.python, "-m", "ensurepip", "--default-pip"):
            return True
        # A system may keep ensurepip from its Python, but have pip.
        return not told(sys.executable, "-m", "pip", "--python", self.python, *PIP, "pip")

    def projects(self) -> list[str]:
        """Return the ways to name the tree, the best first."""
        if not self.plan["project"]:
            return []
        extras = ",".join(self.plan["extras"])
        return [f"--editable=.[{extras}]", "--editable=."] if extras else ["--editable=."]

    def one_by_one(self, project: list[str], wanted: list[str]) -> None:
        """Install the project if it can be, then of the rest what fits to what is there, and note what fails."""
        self.report["editable"] = any(not self.pip(way) for way in project)
        failed = [] if self.report["editable"] else self.as_many(self.plan["alone"])
        self.report["failed"] = failed + self.as_many(wanted)

    def as_many(self, wanted: list[str]) -> list[str]:
        """Install what can be without changing a version that is there; return the rest.

        Halves that fail are halved again: most often few of many do, and each call of pip takes its time.
        """
        if not wanted:
            return []
        self.hold()
        if not self.pip("--constraint", self.held, *wanted):
            return []
        if len(wanted) == 1:
            sys.stdout.write(f"Left out, for it does not fit to what is installed or cannot be had: {wanted[0]}\n")
            return wanted
        middle = (len(wanted) + 1) // 2
        return self.as_many(wanted[:middle]) + self.as_many(wanted[middle:])

    def hold(self) -> None:
        """Write down the versions that are there as constraints, save that of the tree."""
        lines = frozen(self.python)
        Path(self.held).write_text("\n".join(pinned(lines)) + "\n", encoding="utf-8")

    def require_module(self) -> None:
        """See that what runs the tests is there."""
        module = self.plan["module"]
        if module and told(self.python, "-c", "import " + module) and self.pip(module):
            self.report["problem"] = f"{module} cannot be installed"

    def make_uv(self) -> bool:
        """See that there is what can leave out the packages that came later."""
        return not told(self.python, "-m", "pip", *PIP, "--only-binary=uv", "--target", PLACE + "/tools", "uv")

    def pip(self, *arguments: str) -> int:
        """Install, within the constraints and the date."""
        constraints = ("--constraint", PLACE + "/constraints.txt") if self.plan["constraints"] else ()
        installing: tuple[str, ...] = (self.python, "-m", "pip", *PIP)
        if self.plan["until"]:
            dated = ("--python", self.python, "--exclude-newer", self.plan["until"])
            installing = (PLACE + "/tools/bin/uv", "pip", *UV, *dated)
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


def pinned(lines: list[str]) -> list[str]:
    """Return the lines that are constraints: what came from a folder or an address has no version to hold."""
    return [line for line in lines if re.fullmatch(r"[A-Za-z0-9][\w.-]*===?[^\s;]+", line)]


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
