"""`amini repair`: builds the parts of a run, runs the chain, records it, prints the patch."""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from agentless_mini.chain.bench import Opening
from agentless_mini.chain.pipeline import NO_SANDBOX, check_named
from agentless_mini.chain.ranking import Chosen, Trust, trust
from agentless_mini.chain.session import Session
from agentless_mini.chain.templates import load_prompts
from agentless_mini.commands.boxes import Yard, foreseen, plan_boxes
from agentless_mini.commands.chain import chain_of, identity, settled, versions
from agentless_mini.commands.headline import amount, answerer
from agentless_mini.commands.models import ChosenModel, Machine, Surroundings, choose_model
from agentless_mini.commands.paths import given_here, tree_path
from agentless_mini.commands.scorers import open_scorer
from agentless_mini.commands.terminal import (
    EXIT_FOUND,
    EXIT_NO_PATCH,
    EXIT_UNTRUSTED,
    people,
    without_passwords,
)
from agentless_mini.domain import Issue, Level, Note, Patch, Prediction, Reason, Rejected, Snapshot
from agentless_mini.errors import (
    EnvironmentFailed,
    UsageError,
    boundary,
    printable,
    reason,
)
from agentless_mini.ports import PatchCheck, Sampler
from agentless_mini.record import (
    RecordedSampler,
    RunId,
    RunStart,
    Store,
    recorded_derive,
    traced_scoring,
)
from agentless_mini.report.cells import flowed
from agentless_mini.report.progress import LiveProgress
from agentless_mini.report.summary import summary
from agentless_mini.repository.branches import NewBranch, commit_message
from agentless_mini.repository.opening import Repository
from agentless_mini.run import recorded_run
from agentless_mini.settings import Config
from agentless_mini.settings.run import ChainSettings, GivenSettings, SandboxKind


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be repaired, and the settings that it is done with.

    `files` replaces localization where not empty, `given` has the user's own failing tests, `branch` gets the patch.
    `top` is the folder of the repository, None where it is not on this machine: paths of it may be written from where
    the user stands.
    """

    issue: Issue
    repository: Repository
    config: Config
    files: tuple[str, ...] = ()
    given: GivenSettings = field(default_factory=GivenSettings)
    branch: NewBranch | None = None
    top: Path | None = None

    def located(self, snapshot: Snapshot) -> "Task":
        """Return it with the paths as the tree has them. Raises `UsageError` where one may be two files."""
        if self.top is None:
            return self
        here, names = Path.cwd(), {file.path for file in snapshot.files}
        files = tuple(tree_path(said, names, self.top, here) for said in self.files)
        return replace(self, files=files, given=given_here(self.given, snapshot, self.top, here))

    @property
    def required(self) -> Level:
        """Return what a patch must have shown to be printed."""
        return self.config.require or (Level.GIVEN if self.given.ids() else Level.ANY)


@dataclass(frozen=True, slots=True)
class Output:
    """Where the result goes: a JSON document or the patch, to a file or stdout; `apply` changes the work tree too.

    `commit` names a new branch for it. `notes` were told before, and are not again; `kept` tells whether the record
    outlives the run, so that `amini show` finds it.
    """

    json: bool = False
    file: Path | None = None
    apply: bool = False
    quiet: bool = False
    commit: str | None = None
    notes: set[str] = field(default_factory=set)
    kept: bool = True


def repair(task: Task, store: Store, output: Output, machine: Machine) -> int:
    """Run the chain on a task, print its result, and return the exit code.

    Whatever happens, the run's end is recorded. Raises `AminiError` and KeyboardInterrupt.
    """
    _require_tests(task)
    console = Console(quiet=True) if output.quiet else people()
    began = time.monotonic()
    with LiveProgress(console, notes=output.notes) as progress:
        snapshot = task.repository.snapshot()
        task = task.located(snapshot)
        check_named(_settings(task), snapshot, NO_SANDBOX)  # before a model is looked for
        run, prediction, shown = asyncio.run(_run(_Parts(task, store, machine, snapshot, progress, console)))
    if not output.quiet:
        told = summary(store.runs.trace(run), time.monotonic() - began, hint=output.kept)
        console.print(told, highlight=False)
    patch = prediction.choice.patch.diff if prediction.choice and shown and shown.suffices(task.required) else None
    _emit(patch, output, lambda: _document(store, run))
    if output.file is not None:
        what = "document" if output.json else "patch" if patch is not None else "empty result"
        console.print(f"The {what} is in {printable(str(output.file))}.", markup=False, highlight=False)
    if output.apply and patch is not None:
        task.repository.apply(patch)
        console.print("The patch was applied to the working tree.")
    if task.branch is not None and patch is not None:
        message = commit_message(task.issue, f"{run} ({store.runs.trace(run).run.start.model})")
        commit = task.branch.commit(snapshot.commit, patch, message)
        told = f"The patch is commit {commit[:12]} on the branch {task.branch.name}."
        console.print(told, markup=False, highlight=False)
    if shown and (lacking := shown.lacks(task.required)):
        advice = f"it is not printed; amini show {run} --patch 1 shows it, --require any prints it"
        told = lacking if patch is not None else f"{lacking} (--require {task.required}): {advice}"
        trusting = people()
        trusting.print(Text(flowed(f"not trusted: {told}.", trusting, 4), style="bold red"), highlight=False)
    return _exit_code(task, shown)


def _require_tests(task: Task) -> None:
    """Refuse what no patch could show, before anything is paid for."""
    if task.required is Level.GIVEN and not task.given.ids():
        raise UsageError("--require given needs a test of yours: give --failing-test or --failing-cmd.")
    if task.required in {Level.GIVEN, Level.TESTS} and task.config.sandbox.kind is SandboxKind.NONE:
        raise UsageError(
            f"--require {task.required} needs tests, and --sandbox none runs none: leave out --sandbox none, or let "
            "the vote choose with --require any."
        )


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a run is built from."""

    task: Task
    store: Store
    machine: Machine
    snapshot: Snapshot
    progress: LiveProgress
    console: Console


async def _run(parts: _Parts) -> tuple[RunId, Prediction, Trust | None]:
    store, snapshot = parts.store, parts.snapshot
    async with AsyncExitStack() as stack:
        prompts = load_prompts(parts.task.config.prompts)
        around = Surroundings(parts.task.config, parts.machine, store, stack, parts.progress)
        chosen = await choose_model(around)
        scoring, _ = await open_scorer(around.config.scorer, around) if around.config.evolve.scored else (None, None)
        newest = store.runs.newest_generation(chosen.name, parts.task.issue.text)
        task = replace(parts.task, config=settled(parts.task.config, newest, chosen))
        parts = replace(parts, task=task)
        yard = Yard(task.config.sandbox, task.repository, snapshot, parts.machine, stack)
        opening = plan_boxes(yard)

        async def ready() -> Sampler:
            """Look at the sandbox when the first answer is owed: nothing is paid for what cannot be tested."""
            if isinstance(opening, Opening):
                from agentless_mini.environment.opening import check_environment

                await check_environment(snapshot, opening.harness.runner, task.config.sandbox)
            return await chosen.start()

        def session(run: RunId) -> Session:
            return Session(
                RecordedSampler(ready, store, identity(chosen, task.config), run),
                prompts,
                _check(task.repository),
                parts.progress,
                _instance(snapshot),
                traced_scoring(scoring, store, run) if scoring else None,
                derive=recorded_derive(store),
            )

        async def begun(run: RunId) -> tuple[str, ...]:
            await _tell(parts, chosen, run)
            return task.repository.notes

        run, prediction = await recorded_run(
            store,
            _start(parts, chosen),
            snapshot,
            session,
            opening,
            _settings(task),
            begun,
            lambda prediction: _exit_code(task, _shown(task, prediction)),
        )
        return run, prediction, _shown(task, prediction)


def _shown(task: Task, prediction: Prediction) -> Trust | None:
    if (choice := prediction.choice) is None:
        return None
    chosen = Chosen(choice.patch.normal, choice.votes, choice.valid)
    return trust(chosen, prediction.execution, task.given.ids(), prediction.notes)


def _exit_code(task: Task, shown: Trust | None) -> int:
    if shown is None:
        return EXIT_NO_PATCH
    return EXIT_FOUND if shown.suffices(task.required) else EXIT_UNTRUSTED


async def _tell(parts: _Parts, chosen: ChosenModel, run: RunId) -> None:
    """Say who answers, and what of the tree was left out, before anything is spent."""
    config, given = parts.task.config, len(parts.task.given.ids())
    tests_run = await foreseen(config.sandbox, parts.snapshot)
    line = f"run {run}: {await answerer(chosen, config, parts.store)}; {amount(config, chosen, tests_run, given)}"
    parts.console.print(Text(flowed(printable(line), parts.console, 4), style="bold"), highlight=False)
    for note in parts.task.repository.notes:
        parts.progress(Note(note))


def _settings(task: Task) -> ChainSettings:
    given = task.given.model_copy(update={"required": task.required is Level.GIVEN})
    return chain_of(task.config).model_copy(update={"given": given, "files": task.files})


def _instance(snapshot: Snapshot) -> str:
    return f"{snapshot.name}@{snapshot.commit[:12]}"


def _check(repository: Repository) -> PatchCheck:
    def check(patch: Patch) -> Patch | Rejected:
        complaint = repository.refuses(patch.diff)
        return Rejected(Reason.REFUSED_BY_GIT, complaint) if complaint else patch

    return check


def _start(parts: _Parts, chosen: ChosenModel) -> RunStart:
    snapshot = parts.snapshot
    return RunStart(
        model=chosen.name,
        instance=_instance(snapshot),
        repository=snapshot.name,
        commit=snapshot.commit,
        tree=snapshot.digest,
        issue=parts.task.issue,
        command=without_passwords(sys.argv),
        settings=_recorded_settings(parts.task),
        versions=versions(chosen),
    )


def _recorded_settings(task: Task) -> str:
    """Return the settings as JSON, with what is required and the user's failing tests."""
    values = task.config.model_dump(mode="json")
    return json.dumps({**values, "require": task.required, "given": task.given.ids()})


def _document(store: Store, run: RunId) -> dict[str, Any]:
    from agentless_mini.report.document import run_document

    return run_document(store.runs.trace(run))


def _emit(patch: bytes | None, output: Output, document: Callable[[], dict[str, Any]]) -> None:
    """Write the result: the patch in its own bytes, or the document. Without a patch stdout stays empty."""
    data = (json.dumps(document(), ensure_ascii=True, indent=2) + "\n").encode() if output.json else patch or b""
    if output.file is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    unwritable = f"The result cannot be written to {output.file}"
    with boundary({OSError: lambda error: EnvironmentFailed(f"{unwritable} ({reason(error)}): name another with -o.")}):
        output.file.write_bytes(data)
