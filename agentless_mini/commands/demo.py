"""`amini demo`: a packaged sample with a fault in it, repaired by the embedded model; its failing test chooses.

Nothing is prepared: what the model answers is what is tried, and what the tests say is what is shown. It is the same
everywhere, whatever model the settings name. Where no test can be run it ends before anything is fetched: the model
alone would choose a wrong patch.
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

from agentless_mini.chain.session import NoBoxes, run_files
from agentless_mini.cli import OutputOptions
from agentless_mini.commands import sample
from agentless_mini.commands.config import Machine
from agentless_mini.commands.repair import Task, repair
from agentless_mini.commands.terminal import people, require_stdout
from agentless_mini.domain import CaseResult, GivenTests, Outcome
from agentless_mini.errors import EnvironmentFailed, Translation, UsageError, boundary, printable, reason
from agentless_mini.ports import Watch
from agentless_mini.record import Store
from agentless_mini.report.progress import LiveProgress
from agentless_mini.repository.issue_sources import literal_issue
from agentless_mini.repository.opening import open_repository
from agentless_mini.run import REWRITES, open_boxes
from agentless_mini.settings import Config
from agentless_mini.settings.model import EndpointSettings, Engine
from agentless_mini.settings.run import EvolveSettings, SandboxSettings

SAMPLE = Path(sample.__file__).parent
TESTS = "test_durations.py"
SOURCES = ("durations.py", TESTS)
FAILING = f"{TESTS}::DurationsTest::test_formats_one_of_a_unit"
ANSWERS = 10
"""Answers of a named model, each of which can cost as much as all rewrites together."""
TESTS_TIMEOUT = 60.0


def demo(config: Config, model: str | None, keep: Path | None, machine: Machine) -> int:
    """Repair the sample in a new repository (in `keep`, else one that is removed) and return `repair`'s exit code.

    Raises `EnvironmentFailed` where its tests cannot be run, before a model is looked for.
    """
    require_stdout()
    console = people()
    chosen = settings_of(config, model)
    with tempfile.TemporaryDirectory(prefix="amini-demo-") as scratch:
        folder = make_repository(keep or Path(scratch) / "sample")
        console.print(Text(f"A repository with a fault was made in {folder}.", style="bold"))
        notes = set[str]()
        before = run_tests(folder, chosen.sandbox, machine, console, notes)
        issue = literal_issue((SAMPLE / "issue.md").read_text(encoding="utf-8"), "the sample's issue.md")
        console.print(Text("The issue:\n", style="bold"))
        console.print(Text(issue.text))
        tell(before, "before the repair", console)
        repository = open_repository(str(folder), None, machine.cache)
        task = Task(issue, repository, chosen, given=GivenTests(tests=(FAILING,)))
        output, tree = OutputOptions(apply=True), repository.snapshot()
        with Store.open(Path(scratch) / "store.sqlite") as store:
            code = repair(task, tree, store, output, machine, notes=notes, kept=False)
        tell(run_tests(folder, chosen.sandbox, machine, people(quiet=True), notes), "after the repair", console)
    return code


def settings_of(config: Config, model: str | None) -> Config:
    """Return the user's settings with what the demo is for: the carried model or a named one, inside amini.

    What is about the user's own project is left out, and what the carried model cannot do: rounds, an early end, tests,
    a vote for files.
    """
    samples = ANSWERS if model else REWRITES
    changed: dict[str, object] = {
        "engine": Engine.EMBEDDED,
        "endpoint": EndpointSettings(model=model),
        "embedded": config.embedded.model_copy(update={"model": None}),
        "localize": config.localize.model_copy(update={"samples": 0}),
        "repair": config.repair.model_copy(update={"samples": samples, "stop_when": None}),
        "reproduce": config.reproduce.model_copy(update={"samples": 0}),
        "evolve": EvolveSettings(),
        "sandbox": config.sandbox.model_copy(update={"image": "", "setup": "", "test_command": ""}),
    }
    return config.model_copy(update=changed)


def make_repository(folder: Path) -> Path:
    """Make a git repository of the sample's module and tests, with one commit, in a new folder."""
    name = printable(str(folder))
    taken = UsageError(f"--keep needs a new folder, and {name} exists or is below a file: name another one.")
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


def run_tests(
    folder: Path, settings: SandboxSettings, machine: Machine, console: Console, notes: set[str]
) -> tuple[CaseResult, ...]:
    """Run the sample's tests on the folder as it is, in a box. Raises `EnvironmentFailed` where there is none."""
    repository = open_repository(str(folder), None, machine.cache)
    tree, cache, variables = repository.snapshot(), machine.cache, machine.environment

    async def run(watch: Watch) -> tuple[CaseResult, ...]:
        async with AsyncExitStack() as stack:
            boxes = await open_boxes(settings, repository, tree, cache, variables, stack, watch)
            if isinstance(boxes, NoBoxes):
                needed = "The demo chooses by the sample's failing test, so it needs a sandbox."
                raise EnvironmentFailed(f"{needed} {boxes.reason}")
            return (await run_files(boxes, (TESTS,), TESTS_TIMEOUT, boxes.limits.seconds)).results

    with LiveProgress(console, notes=notes) as progress:
        return asyncio.run(run(progress))


def tell(results: tuple[CaseResult, ...], when: str, console: Console) -> None:
    """Say on the console how the tests went."""
    counted = Counter(result.outcome for result in results)
    passed = set(counted) == {Outcome.PASS}
    said, style = ("pass", "bold green") if passed else ("FAIL", "bold red")
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counted.items())) or "none was found"
    console.print(Text(f"The sample's own tests {when}: {said} ({told})", style=style))
