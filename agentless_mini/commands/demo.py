"""`amini demo`: a packaged sample with a fault in it, repaired by the embedded model; its own tests judge the result.

Nothing is prepared: what the model answers is what is shown. The tests run what a model wrote, so they run in a
bubblewrap sandbox (no network, nothing writable, no environment) or not at all.
"""

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import git
from rich.console import Console
from rich.text import Text

from agentless_mini import sample
from agentless_mini.commands.models import Machine
from agentless_mini.commands.repair import Output, Task, repair
from agentless_mini.commands.terminal import people
from agentless_mini.config import Config
from agentless_mini.issue_sources import literal_issue
from agentless_mini.repository import open_repository
from agentless_mini.store import Store

SAMPLE = Path(sample.__file__).parent
SOURCES = ("durations.py", "test_durations.py")
TESTS_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What running the sample's tests came to: whether they ran, whether they passed, and what they printed."""

    ran: bool
    passed: bool
    output: str


def demo(config: Config, keep: Path | None, machine: Machine) -> int:
    """Repair the sample in a new repository (in `keep`, else one that is removed) and return `repair`'s exit code."""
    console = people()
    with tempfile.TemporaryDirectory(prefix="amini-demo-") as scratch:
        folder = make_repository(keep or Path(scratch) / "sample")
        issue = literal_issue((SAMPLE / "issue.md").read_text(encoding="utf-8"), "the sample's issue.md")
        console.print(Text(f"A repository with a fault was made in {folder}. The issue:\n", style="bold"))
        console.print(Text(issue.text))
        tell(run_tests(folder), "before the repair", console)
        task = Task(issue, open_repository(str(folder), None, machine.cache), config)
        with Store.open(Path(scratch) / "store.sqlite") as store:
            code = repair(task, store, Output(apply=True), machine)
        tell(run_tests(folder), "after the repair", console)
    return code


def make_repository(folder: Path) -> Path:
    """Make a git repository of the sample's module and tests, with one commit, in a new folder."""
    folder.mkdir(parents=True)
    for name in SOURCES:
        shutil.copyfile(SAMPLE / name, folder / name)
    with git.Repo.init(folder, initial_branch="main") as repository:
        author = git.Actor("amini demo", "demo@example.invalid")
        repository.index.add(list(SOURCES))
        repository.index.commit("Add durations", author=author, committer=author, skip_hooks=True)
    return folder


def run_tests(folder: Path) -> Verdict:
    """Run the sample's tests on the folder as it is, in a sandbox; without one they are not run."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        return Verdict(ran=False, passed=False, output="there is no sandbox: install bubblewrap to see them run")
    box = [bwrap, "--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--ro-bind", "/", "/"]
    box += ["--dev", "/dev", "--proc", "/proc", "--chdir", str(folder)]
    if subprocess.run([*box, "true"], capture_output=True, check=False).returncode:  # noqa: S603 - our own words
        return Verdict(ran=False, passed=False, output="bubblewrap does not work here: user namespaces may be off")
    command = [*box, sys.executable, "-B", "-s", "-E", "-m", "unittest", "-q"]
    try:
        done = subprocess.run(  # noqa: S603 - our own words, in a sandbox
            command, capture_output=True, text=True, errors="replace", check=False, timeout=TESTS_TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return Verdict(ran=True, passed=False, output=f"stopped after {TESTS_TIMEOUT:.0f} s")
    return Verdict(ran=True, passed=done.returncode == 0, output=done.stderr.strip())


def tell(verdict: Verdict, when: str, console: Console) -> None:
    """Say on the console how the tests went."""
    if not verdict.ran:
        console.print(Text(f"The sample's tests were not run {when}: {verdict.output}.", style="yellow"))
        return
    said, style = ("pass", "bold green") if verdict.passed else ("FAIL", "bold red")
    last = verdict.output.rsplit("\n", 1)[-1]
    console.print(Text(f"The sample's own tests {when}: {said} ({last})", style=style))
