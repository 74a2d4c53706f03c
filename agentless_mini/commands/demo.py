"""`amini demo`: a packaged sample with a fault in it, repaired by the embedded model; its failing test chooses.

Nothing is prepared: what the model answers is what is tried, and what the tests say is what is shown.
"""

import asyncio
import shutil
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import git
from rich.console import Console
from rich.text import Text

from agentless_mini import sample
from agentless_mini.commands.boxes import Yard, open_bench
from agentless_mini.commands.models import Machine
from agentless_mini.commands.repair import Output, Task, repair
from agentless_mini.commands.terminal import people, require_stdout
from agentless_mini.config import Config
from agentless_mini.domain import CaseResult, Event, Outcome
from agentless_mini.environments import SandboxKind, SandboxSettings
from agentless_mini.errors import EnvironmentFailed, Translation, UsageError, boundary, printable, reason
from agentless_mini.issue_sources import literal_issue
from agentless_mini.repository import open_repository
from agentless_mini.sandboxes.bubblewrap import find_bubblewrap
from agentless_mini.stages.bench import NoBench
from agentless_mini.stages.evolve import EvolveSettings
from agentless_mini.stages.execute import run_files
from agentless_mini.stages.given import GivenSettings
from agentless_mini.store import Store

SAMPLE = Path(sample.__file__).parent
TESTS = "test_durations.py"
SOURCES = ("durations.py", TESTS)
FAILING = f"{TESTS}::DurationsTest::test_formats_one_of_a_unit"
CANDIDATES = 100
TESTS_TIMEOUT = 60.0


def demo(config: Config, keep: Path | None, machine: Machine) -> int:
    """Repair the sample in a new repository (in `keep`, else one that is removed) and return `repair`'s exit code."""
    require_stdout()
    console = people()
    chosen = settings_of(config)
    with tempfile.TemporaryDirectory(prefix="amini-demo-") as scratch:
        folder = make_repository(keep or Path(scratch) / "sample")
        issue = literal_issue((SAMPLE / "issue.md").read_text(encoding="utf-8"), "the sample's issue.md")
        console.print(Text(f"A repository with a fault was made in {folder}. The issue:\n", style="bold"))
        console.print(Text(issue.text))
        tell(run_tests(folder, chosen.sandbox, machine), "before the repair", console)
        task = Task(
            issue, open_repository(str(folder), None, machine.cache), chosen, given=GivenSettings(tests=(FAILING,))
        )
        with Store.open(Path(scratch) / "store.sqlite") as store:
            code = repair(task, store, Output(apply=True), machine)
        tell(run_tests(folder, chosen.sandbox, machine), "after the repair", console)
    return code


def settings_of(config: Config) -> Config:
    """Return the user's settings with what the demo is for: many candidates, and the sandbox that starts at once.

    What the model of the demo cannot do, rounds and an early end, is left out.
    """
    repaired = config.repair.model_copy(update={"samples": CANDIDATES, "stop_when": None})
    changed: dict[str, object] = {"repair": repaired, "evolve": EvolveSettings()}
    if config.sandbox.kind is SandboxKind.AUTO:
        try:
            find_bubblewrap(config.sandbox.bubblewrap)
        except EnvironmentFailed:
            return config.model_copy(update=changed)
        changed["sandbox"] = config.sandbox.model_copy(update={"kind": SandboxKind.LOCAL})
    return config.model_copy(update=changed)


def make_repository(folder: Path) -> Path:
    """Make a git repository of the sample's module and tests, with one commit, in a new folder."""
    name = printable(str(folder))
    taken = UsageError(f"--keep makes a new folder, and {name} is there or below a file: name another one.")
    cannot: Translation = {
        **dict.fromkeys((FileExistsError, NotADirectoryError), lambda _: taken),
        OSError: lambda error: EnvironmentFailed(f"The folder {name} cannot be made ({reason(error)}): name another."),
    }
    with boundary(cannot):
        folder.mkdir(parents=True)
    for name in SOURCES:
        shutil.copyfile(SAMPLE / name, folder / name)
    with git.Repo.init(folder, initial_branch="main") as repository:
        author = git.Actor("amini demo", "demo@example.invalid")
        repository.index.add(list(SOURCES))
        repository.index.commit("Add durations", author=author, committer=author, skip_hooks=True)
    return folder


def run_tests(folder: Path, settings: SandboxSettings, machine: Machine) -> tuple[CaseResult, ...] | NoBench:
    """Run the sample's tests on the folder as it is, in a box; without one they are not run."""
    return asyncio.run(_run_tests(folder, settings, machine))


async def _run_tests(folder: Path, settings: SandboxSettings, machine: Machine) -> tuple[CaseResult, ...] | NoBench:
    async with AsyncExitStack() as stack:
        repository = open_repository(str(folder), None, machine.cache)
        yard = Yard(settings, repository, repository.snapshot(), machine, stack)
        try:
            bench = await open_bench(yard, _ignore)
        except EnvironmentFailed as error:
            return NoBench(str(error))
        return bench if isinstance(bench, NoBench) else await run_files(bench, (TESTS,), TESTS_TIMEOUT)


def _ignore(event: Event) -> None:
    """Take an event that was told before, or will be."""


def tell(results: tuple[CaseResult, ...] | NoBench, when: str, console: Console) -> None:
    """Say on the console how the tests went."""
    if isinstance(results, NoBench):
        console.print(Text(f"The sample's tests were not run {when}: {results.reason}", style="yellow"))
        return
    counted = Counter(result.outcome for result in results)
    passed = set(counted) == {Outcome.PASS}
    said, style = ("pass", "bold green") if passed else ("FAIL", "bold red")
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counted.items())) or "none was found"
    console.print(Text(f"The sample's own tests {when}: {said} ({told})", style=style))
