"""Builds an environment inside a box, by a plan, from the folder of the tree: see `main`. Its text is sent there.

The Python of the box runs it (3.7 or newer, the standard library alone), and the rest of the package never calls it.
What it reports is not to be believed: the code that it installs runs beside it.
"""

from __future__ import annotations

import csv
import json
import os
import re
import select
import shutil
import stat
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

PLACE = ".amini-build"
NOT_KEPT = {".git", "__pycache__", PLACE, ".eggs", ".pytest_cache", ".mypy_cache", ".tox", ".nox", ".venv"}
NOT_KEPT |= {"node_modules"}
UV = ["--no-config", "--no-progress", "--index-strategy=unsafe-best-match"]
NOT_FOUND, NOT_TRIED, TOO_SLOW = 127, 125, 124
MOST_CALLS = 16  # of uv's installations, whatever fails, beside one for each member
SHARE = 0.5  # of a build's seconds, after which what is not installed together is installed in parts
RESERVE = 20  # seconds that are left for what comes after the installations
MOST_ROUNDS = 5  # in which a list is installed without what could not be
BROUGHT = (3, 12)  # until then an environment had setuptools, which nobody needed to name
COMPILED = (".so", ".pyd", ".dylib")
COMPILING = 120  # seconds
# What uv says of a package because of which nothing is installed.
REFUSED = [
    re.compile(r"Failed to (?:download and build|build|download|fetch|extract|read|prepare)[^`]*`([A-Za-z0-9][\w.-]*)"),
    re.compile(r"[Bb]ecause ([A-Za-z0-9][\w.-]*) was not found"),
    re.compile(r"[Bb]ecause there (?:is|are) no versions? of ([A-Za-z0-9][\w.-]*)"),
    re.compile(r"[Bb]ecause ([A-Za-z0-9][\w.-]*)[^\n]*? has no (?:wheels|usable)"),
]
REFUSALS = len(REFUSED)
UNREACHED = re.compile(r"unable to access '\w+://(?:[^/@']*@)?([^/':]+)")
DEVELOPED = re.compile(r"^[ \t]*(?:-e|--editable)[ \t=]+(?!\S*://)([./]?)", re.MULTILINE)
LISTS = (".txt", ".in", ".toml", ".cfg")
NO_NAMES = {"pytest", "python", "and", "or", "you", "we", "it", "your", "project", "requirements", "unsatisfiable"}
REQUIRED = re.compile(r"(?:you require|depends on) ([^,]*)(?=[,\n]| and)")


def main() -> None:
    """Do what plan.json says; leave report.json, and overlay.tar with the files that it brought into the tree."""
    plan = json.loads(Path(PLACE, "plan.json").read_text())
    before = files()
    for name in plan["certificates"]:
        os.putenv(name, str(Path(PLACE, "certificates.pem").absolute()))
    report: dict[str, Any] = {"failed": [], "editable": False, "problem": "", "frozen": [], "left_out": 0}
    report["missing"] = []
    installation = Installation(plan, report)
    report["failed"] += without_system(plan["system"])
    if not installation.make():
        report["problem"] = "a virtual environment cannot be made"
    elif plan["commands"] is not None and not plan["setup"]:
        failed = next((command for command in plan["commands"] if told("sh", "-c", command)), "")
        report["problem"] = f"{failed} failed" if failed else ""
        report["editable"] = True
    elif plan["setup"]:
        status = told("sh", "-c", plan["setup"])
        report["problem"] = f"the setup command exited with {status}" if status else ""
    elif told(installation.program, "--version"):
        report["problem"] = "uv cannot be run here, which needs a system with glibc"
    else:
        installation.run()
    links = keep_modules(plan["keep"])
    report["frozen"] = installation.frozen() if plan["commands"] is None or plan["setup"] else []
    if installation.cache:
        shutil.rmtree(installation.cache, ignore_errors=True)
    report["left_out"] = collect(sorted(files() - before) + links, plan["overlay_limit"])
    Path(PLACE, "report.json").write_text(json.dumps(report))


class Installation:
    """The default way: a virtual environment, the project in it, and what its tests need."""

    def __init__(self, plan: dict[str, Any], report: dict[str, Any]) -> None:
        """Take note of the plan."""
        self.plan = plan
        self.report = report
        self.python = plan["python"]
        self.program = str(Path(PLACE, "uv").absolute())
        self.cache = ""
        self.calls = 0
        self.said = ""
        self.options: list[str] = list(plan["options"])
        self.ends = time.monotonic() + plan["seconds"] * SHARE
        self.last = time.monotonic() + plan["seconds"] - RESERVE
        self.is_slow = self.is_plain = False
        self.versioned: list[str] = list(plan["versioned"])

    def make(self) -> bool:
        """Make the environment where it is not there, and give it pip where a user's command may want it."""
        plan = self.plan
        if plan["make"] and told(sys.executable, "-m", "venv", "--without-pip", plan["make"]):
            return False
        if plan["setup"]:
            pip = (sys.executable, "-m", "pip", "--python", self.python, "install", "--no-cache-dir", "pip")
            # A system may keep ensurepip from its Python, but have pip.
            return not plan["fresh"] or not told(self.python, "-m", "ensurepip", "--default-pip") or not told(*pip)
        # It lies where the environment does, so that files are linked; nobody else uses it.
        self.cache = str(Path(self.python).absolute().parent.parent / ".amini-cache")
        return True

    def run(self) -> None:
        """Install everything together, so that the versions fit; where that fails, as much as possible."""
        plan, report, ways, members = self.plan, self.report, list(self.plan["ways"]), list(self.plan["members"])
        module = [plan["module"]] if plan["module"] else []
        best = [*plan["best"], *(module if plan["module"] not in plan["best"] else [])]
        if (ways or members or best) and not self.together(ways, [word for one in members for word in one] + best):
            self.ends = self.last
            bare = ["--no-deps"] if self.is_slow else []  # they come as wheels
            report["editable"] = any(not self.uv(*way, *bare) for way in ways)
            lost = [member for member in members if self.beside([*member, *bare])]
            report["editable"] |= len(lost) < len(members)
            report["failed"] += [member[-1] for member in lost]
            self.options += ["--only-binary", ":all:"] if self.is_slow else []
            alone = plan["alone"] if bare or not report["editable"] else []
            report["failed"] += self.as_many(alone) + self.as_many(best)
        else:
            self.ends = self.last
            report["editable"] = bool(ways or members)
        old = [["setuptools"]] if plan["until"] and sys.version_info < BROUGHT else []
        for others in old + plan["others"]:
            report["failed"] += self.as_many(others)
        report["missing"] = self.without_modules()
        if module and told(self.python, "-c", "import " + module[0]) and self.uv(*module, last=True):
            report["problem"] = module[0] + " cannot be installed"
        beside_sources(self.python)
        seconds = min(COMPILING, max(1.0, self.ends - time.monotonic()))
        # Boxes of tests cannot write, and would compile everything each time.
        compiling = (self.python, "-m", "compileall", "-qq", "-j", "0", str(site(self.python)))
        heard(*compiling, seconds=(seconds, seconds))

    def beside(self, member: list[str]) -> bool:
        """Tell whether a member of the workspace does not fit to what is installed; else it is installed."""
        self.hold()
        self.calls -= 1
        return bool(self.uv(*member, "--constraint", PLACE + "/held.txt"))

    def together(self, ways: list[list[str]], best: list[str]) -> bool:
        """Install the project and what its tests need in one call, in the first way that works."""
        first, at = ways or [[]], 0
        limits = ["--constraint", PLACE + "/locked.txt"] if self.plan["locked"] else []
        words = list(self.plan["variables"])
        left_out: list[str] = []
        for _ in range(MOST_ROUNDS * 2):
            if not self.uv(*first[at], *best, *limits, *self.leaving_out(left_out)):
                self.report["failed"] += left_out
                return True
            if self.is_slow:
                return False
            name = self.offender(left_out, REFUSED)
            if name and "Git operation failed" in self.said and name not in self.options:
                self.options += ["--no-sources-package", name]  # the index may have it too
            elif limits:
                limits = []
            elif name and "`" + name + " @ file://" not in self.said.lower().replace("_", "-"):
                left_out.append(name)
            elif words:  # without its compiled parts
                for word in words:
                    os.putenv(word, "1")
                words = []
            else:
                at += 1
            if at == len(first):
                break
        return False

    def as_many(self, wanted: list[str]) -> list[str]:
        """Install what can be without changing a version that is there; return the names of the rest."""
        left_out: list[str] = []
        for _ in range(MOST_ROUNDS if wanted else 0):
            self.hold()
            if not self.uv(*wanted, "--constraint", PLACE + "/held.txt", *self.leaving_out(left_out)):
                return left_out
            name = self.offender(left_out, [*REFUSED, REQUIRED])
            if not name:
                break
            sys.stdout.write(f"Left out, for it does not fit to what is installed or cannot be had: {name}\n")
            left_out.append(name)
        return left_out or [word for word in wanted if word[:1] != "-" and word != self.plan["module"]][-1:]

    def hold(self) -> None:
        """Write down the versions that are there. What came from a folder or an address has none to hold."""
        held = [line for line in self.frozen() if re.fullmatch(r"[A-Za-z0-9][\w.-]*===?[^\s;]+", line)]
        Path(PLACE, "held.txt").write_text("\n".join(held) + "\n", encoding="utf-8")

    def leaving_out(self, names: list[str]) -> list[str]:
        """Return the arguments for an installation without these packages."""
        Path(PLACE, "left-out.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
        return ["--excludes", PLACE + "/left-out.txt"] if names else []

    def offender(self, known: list[str], patterns: list[re.Pattern[str]]) -> str:
        """Return the package because of which uv has just installed nothing, "" where it does not say so."""
        found = [name for pattern in patterns[:REFUSALS] for name in pattern.findall(self.said)]
        for pattern in patterns[REFUSALS:]:
            for part in pattern.findall(self.said)[::-1]:
                found += re.findall(r"(?:^|\s)([A-Za-z][\w.-]*)(?=[\s\[<>=!~]|$)", part)
        names = [re.sub(r"[-_.]+", "-", name).lower() for name in found]
        return next((name for name in names if name not in known and name not in NO_NAMES), "")

    def mended(self) -> bool:
        """Change what made uv install nothing, if it is one of the known faults; tell whether it was."""
        if "build_editable" in self.said and not self.is_plain:  # a backend of before 2022, which uv asks all the same
            self.is_plain = True
            for path in files():
                if path.endswith(LISTS[:2]) and path.count("/") <= 3:
                    text = Path(path).read_bytes().decode("utf-8", "replace")
                    Path(path).write_text(DEVELOPED.sub(lambda match: match[1] or "./", text), encoding="utf-8")
            return True
        if "Package metadata version `" + self.plan["version"] in self.said and self.versioned:
            for name in self.versioned:  # what is the project's alone was told a dependency too
                os.unsetenv(name)
            self.versioned = []
            return True
        return self.struck()

    def struck(self) -> bool:
        """Strike from the lists what lies on a host of git's that uv has just not reached; tell whether there is any.

        Of one that has a name the name is left, for the index may have it too.
        """
        failed = self.report["failed"]
        known = len(failed)
        hosts = "|".join(re.escape(host) for host in set(UNREACHED.findall(self.said)))
        address = re.compile(
            r"(?:-e|--editable)?[ =]*(?:(?P<name>[\w.-]+(?:\[[^\]]*\])?)[ ]*@[ ]*)?git\+\w+://(?:[^/@\s]*@)?"
            rf"(?:{hosts})[/:][^\s\"';#]*(?:\#(?:egg=(?P<egg>[\w.-]+))?[^\s\"';]*)?"
        )
        for path in files() if hosts else ():
            if path.endswith(LISTS) and path.count("/") <= 3:
                text = Path(path).read_bytes().decode("utf-8", "replace")
                kept = address.sub(lambda match: match["name"] or match["egg"] or "#", text)
                if kept != text:
                    Path(path).write_text(kept, encoding="utf-8")
                    failed += [match[0].strip() for match in address.finditer(text)]
        return len(failed) > known

    def without_modules(self) -> list[list[Any]]:
        """Install what brings modules that tests import and are not there; return those that stay missing."""
        modules = self.plan["modules"]
        missing = self.absent([name for name, _, _ in modules])
        wanted = [way for name, _, way in modules if name in missing and way]
        if wanted:
            self.as_many(sorted(set(wanted)))
            missing = self.absent(missing)
        return [[name, count] for name, count, _ in modules if name in missing]

    def absent(self, names: list[str]) -> list[str]:
        """Return the modules that the environment has not, of which nothing is imported."""
        code = "import sys, importlib.util as u\nprint(*(n for n in sys.argv[1:] if u.find_spec(n) is None))"
        command = [self.python, "-c", code, *names]
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, check=False, timeout=60)  # noqa: S603 - as `told`
        except (OSError, subprocess.TimeoutExpired):
            return []
        return done.stdout.decode("utf-8", "replace").split() if not done.returncode else []

    def uv(self, *arguments: str, last: bool = False) -> int:
        """Install, within the date, the time and the cap of calls."""
        if self.calls >= MOST_CALLS and not last:
            sys.stdout.write("(not tried, for there were too many calls)\n")
            return NOT_TRIED
        self.calls += 1
        dated = ["--exclude-newer", self.plan["until"]] if self.plan["until"] else []
        command = [self.program, "pip", "install", *UV, "--cache-dir", self.cache, "--python", self.python, *dated]
        words = [word for word in arguments if word != "-e" or not self.is_plain]
        times = [max(1.0, end - time.monotonic()) for end in (self.ends, self.last)]
        status, self.said = heard(*command, *self.options, *words, seconds=(times[0], times[1]))
        self.is_slow |= status == TOO_SLOW
        return self.uv(*arguments, last=last) if status and self.mended() else status

    def frozen(self) -> list[str]:
        """Return the versions of what is installed."""
        command = [self.program, "pip", "freeze", "--no-config", "--python", self.python]
        command += ["--cache-dir", self.cache] if self.cache else ["--no-cache"]
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, check=False)  # noqa: S603 - as `told`
        except OSError:  # its Python is gone, which the probe will tell
            return []
        return done.stdout.decode("utf-8", "replace").splitlines()


def told(*command: str) -> int:
    """Run a command, which is written into the log before what it says; return its status."""
    return heard(*command)[0]


def heard(*command: str, seconds: tuple[float, float] | None = None) -> tuple[int, str]:
    """Run a command as `told`; return the end of what it says too.

    It has so many seconds, and once it has said what it resolved, those of the second number: to build takes its time.
    """
    sys.stdout.write(f"\n$ {' '.join(command)}\n")
    sys.stdout.flush()
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # noqa: S603 - it is the box that is to contain it
    except OSError as error:
        sys.stdout.write(f"({error})\n")
        return NOT_FOUND, ""
    said, began = b"", time.monotonic()
    with child:
        while child.stdout:
            left = began + seconds[b"Resolved " in said] - time.monotonic() if seconds else 0.0
            if seconds and not select.select([child.stdout], [], [], max(0.0, left))[0]:
                child.kill()
                sys.stdout.write(f"(ended after {time.monotonic() - began:.0f} s)\n")
                return TOO_SLOW, said.decode("utf-8", "replace")
            part = os.read(child.stdout.fileno(), 65536)
            if not part:
                break
            said = (said + part)[-65536:]
            sys.stdout.buffer.write(part)
            sys.stdout.flush()
    if child.returncode:
        sys.stdout.write(f"(exited with {child.returncode})\n")
    return child.returncode, said.decode("utf-8", "replace")


def without_system(names: list[str]) -> list[str]:
    """Install packages of the system, together or else one by one; return those that it does not have."""
    if not names:
        return []
    os.putenv("DEBIAN_FRONTEND", "noninteractive")
    apt = ["apt-get", "-q", "-o", "APT::Sandbox::User=root"]  # a box has no other users
    install = [*apt, "install", "-y", "--no-install-recommends"]
    if told(*apt, "update"):
        return names
    return [name for name in names if told(*install, name)] if told(*install, *names) else []


def site(python: str) -> Path:
    """Return where the environment of a Python has its packages."""
    found = sorted(Path(python).absolute().parent.parent.glob("lib/python3*/site-packages"))
    return found[0] if found else Path()


def beside_sources(python: str) -> None:
    """Put what an installed project has and its tree has not beside the sources, which tests import: compiled parts."""
    here = str(Path.cwd())
    for origin in site(python).glob("*.dist-info/direct_url.json"):
        said = json.loads(origin.read_text("utf-8"))
        if said.get("dir_info", {}).get("editable") or said.get("url") != "file://" + here:
            continue
        with origin.with_name("RECORD").open(newline="") as file:
            paths = [row[0] for row in csv.reader(file) if row]
        for path in paths:
            installed, top = site(python) / path, path.split("/")[0]
            root = next((at for at in (".", "src", "lib", "python") if Path(at, top).is_dir()), "")
            inside = root and ".." not in path.split("/") and "/" in path and ".dist-info/" not in path
            target = Path(root, path)
            if inside and target.parent.is_dir() and not target.exists() and path.endswith((*COMPILED, ".py")):
                shutil.copyfile(str(installed), str(target))


def keep_modules(keep: str) -> list[str]:
    """Move what npm installed out of the tree, and leave a link for each package; return the paths of the links."""
    found = []
    for folder, folders, _ in os.walk("."):
        found += [os.path.relpath(f"{folder}/{name}") for name in folders if name == "node_modules"]
        folders[:] = [name for name in folders if name not in NOT_KEPT]
    links = []
    for folder in found if keep else ():
        place = Path(keep, "modules", folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder, str(place))
        for entry in sorted(place.iterdir()):
            for path in sorted(entry.iterdir()) if entry.name[0] == "@" and entry.is_dir() else [entry]:
                link = Path(folder, path.relative_to(place))
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(os.readlink(str(path)) if path.is_symlink() else path)  # noqa: PTH115 - Python 3.7
                links.append(str(link))
    return links


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
