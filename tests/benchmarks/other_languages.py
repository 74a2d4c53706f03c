"""Measures how often `amini repair` chooses the true fix of a bug in another language from among wrong patches.

Run with `python -m tests.benchmarks.other_languages [NAME ...]`. A bug is a file in `languages/`: the package that npm
publishes it in, or the source that Debian has of it, fetched when this runs; the patches that a scripted server offers,
the wrong ones by several samples; and tests that it writes, some of which do not compile or tell little. Everything
else is the product, with boxes of bubblewrap. It prints what was chosen by the tests, and what by the vote alone.
"""

import argparse
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tests.fakes.model import Answer, Rule, Script
from tests.fakes.protocol import ServedModel
from tests.fakes.server import ScriptedServer
from tests.gitrepo import ISOLATED, make_repository

BUGS = Path(__file__).parent / "languages"
DEBIAN = "http://deb.debian.org/debian/"


class Told(BaseModel):
    """A part of a file that says what there is; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Offer(Told):
    """A patch of one place, which so many samples propose."""

    path: str
    search: str
    replace: str
    right: bool = False
    votes: int = 1

    def answer(self) -> str:
        """Return it as a model writes it."""
        blocks = f"<<<<<<< SEARCH\n{self.search}=======\n{self.replace}>>>>>>> REPLACE\n"
        return f"```\n### {self.path}\n{blocks}```\n"


class Made(Told):
    """A change that makes a fault anew, or takes its test out."""

    path: str
    search: str
    replace: str


class Written(Told):
    """A test that the model writes."""

    code: str


class Bug(Told):
    """A bug. `files` are put over those of the `package`, whose archive has the digest, `without` some of them.

    A package is npm's, or the path of an archive in Debian, after "debian:"; `made` is done to it first. `options` are
    those of `amini repair` that this project needs. `cheats` are put before the file that the right patch changes, to
    make tests pass that fail.
    """

    name: str
    what: str
    issue: str
    patches: tuple[Offer, ...]
    tests: tuple[Written, ...]
    files: Mapping[str, str]
    package: str
    sha256: str
    made: tuple[Made, ...] = ()
    without: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    cheats: Mapping[str, str] = {}

    def cheated(self, folder: Path) -> "Bug":
        """Return it with the cheats for wrong patches, each with more votes than the right one."""
        right = next(offer for offer in self.patches if offer.right)
        first = self.tree(folder)[right.path].decode().partition("\n")[0] + "\n"
        wrong = (
            Offer(path=right.path, search=first, replace=code.rstrip() + "\n" + first, votes=2)
            for code in self.cheats.values()
        )
        return self.model_copy(update={"patches": (right, *wrong)})

    def tree(self, folder: Path) -> dict[str, bytes]:
        """Return the files of the faulty project; `folder` is for the archive of its package."""
        data = self.archive(folder)
        assert hashlib.sha256(data).hexdigest() == self.sha256, self.package
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            held = ((member.name.partition("/")[2], tar.extractfile(member)) for member in tar)
            files = {name: file.read() for name, file in held if file and name not in self.without}
        for change in self.made:
            assert change.search.encode() in files[change.path], change
            files[change.path] = files[change.path].replace(change.search.encode(), change.replace.encode(), 1)
        return files | {name: text.lstrip("\n").encode() for name, text in self.files.items()}

    def archive(self, folder: Path) -> bytes:
        """Return the archive of the package."""
        kind, _, path = self.package.rpartition(":")
        if kind == "debian":
            fetched = folder / "archive"
            command = ("/usr/lib/apt/apt-helper", "download-file", DEBIAN + path, fetched, f"SHA256:{self.sha256}")
            subprocess.run(command, capture_output=True, check=True)
            return fetched.read_bytes()
        told = subprocess.run(["npm", "pack", "--silent", path], cwd=folder, capture_output=True, check=True)
        return (folder / told.stdout.decode().strip()).read_bytes()

    def script(self) -> Script:
        """Return what the model answers."""
        repairs = [Answer(text=offer.answer()) for offer in self.patches for _ in range(offer.votes)]
        tests = [Answer(text=f"```\n{test.code.lstrip()}```\n") for test in self.tests]
        listed = Answer(text=f"```\n{self.patches[0].path}\n```")
        return Script(
            rules=(
                Rule(stage="localize", answers=(listed,)),
                Rule(stage="repair", answers=tuple(repairs)),
                Rule(stage="reproduce", answers=tuple(tests)),
            )
        )


def load_bugs() -> tuple[Bug, ...]:
    """Return all bugs, by name."""
    files = sorted(BUGS.glob("*.toml"))
    return tuple(Bug.model_validate({"name": path.stem, **tomllib.loads(path.read_text())}) for path in files)


def try_bug(bug: Bug, folder: Path, *options: str) -> tuple[str, str]:
    """Run `amini repair` on a bug; return "right", "wrong" or "nothing", and what it said."""
    files = bug.tree(folder)
    repository = make_repository(folder / bug.name, files)
    (folder / "issue.md").write_text(bug.issue.strip() + "\n")
    home = {name: str(folder / name) for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "HOME")}
    rustup = os.environ.get("RUSTUP_HOME", str(Path.home() / ".rustup"))
    numbers = ("-n", str(sum(offer.votes for offer in bug.patches)), "--tests", str(len(bug.tests)))
    with ScriptedServer(ServedModel(script=bug.script())) as server:
        asked = (".", "../issue.md", "--base-url", server.url, "--model", "scripted", *options, *numbers)
        done = subprocess.run(
            [sys.executable, "-m", "agentless_mini", "repair", *asked],
            cwd=repository,
            env={
                "RUSTUP_HOME": rustup,
                "PATH": os.environ["PATH"],
                "XDG_CACHE_HOME": str(folder / "cache"),
                **home,
                **ISOLATED,
            },
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        return "nothing", done.stderr
    right = next(offer for offer in bug.patches if offer.right)
    subprocess.run(["git", "apply", "-"], cwd=repository, input=done.stdout.encode(), check=True)
    wanted = files[right.path].replace(right.search.encode(), right.replace.encode(), 1)
    return "right" if (repository / right.path).read_bytes() == wanted else "wrong", done.stderr


def main() -> None:
    """Print for each bug what was chosen."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("names", nargs="*", help="of the bugs; by default all")
    parser.add_argument("--cheats", action="store_true", help="let the wrong patches cheat, where there are such")
    parser.add_argument("--verbose", action="store_true", help="print what each run says")
    asked = parser.parse_args()
    for bug in (one for one in load_bugs() if not asked.names or one.name in asked.names):
        if asked.cheats and not bug.cheats:
            continue
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            tried = bug.cheated(Path(one)) if asked.cheats else bug
            chosen, said = try_bug(tried, Path(one), "--sandbox", "local", *bug.options)
            voted, _ = try_bug(tried, Path(other), "--sandbox", "none")
        print(f"{bug.name}: the tests choose {chosen}, the vote {voted}", flush=True)  # noqa: T201 - its result
        if asked.verbose:
            print(said, flush=True)  # noqa: T201 - asked for


if __name__ == "__main__":
    main()
