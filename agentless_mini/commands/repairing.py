"""One repair: builds the parts of a run, runs the chain, records it, prints the patch."""

import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from agentless_mini.chain.pipeline import NO_SANDBOX, check_named, resolve
from agentless_mini.chain.session import NoBoxes, Opening, Session
from agentless_mini.chain.templates import load_prompts
from agentless_mini.chain.trust import Chosen, Trust, trust
from agentless_mini.commands.config import Machine
from agentless_mini.commands.models import Surroundings, choose_model, open_scorer
from agentless_mini.commands.proposals import notes_on
from agentless_mini.commands.running import (
    amount,
    answerer,
    choosing,
    foreseen,
    identity,
    open_boxes,
    seeded,
    settled,
    versions,
)
from agentless_mini.commands.terminal import EXIT_FOUND, EXIT_NO_PATCH, EXIT_UNTRUSTED, people, without_passwords
from agentless_mini.domain import (
    GivenTests,
    Issue,
    Level,
    Note,
    Patch,
    Prediction,
    Proposal,
    Reason,
    Rejected,
    Snapshot,
)
from agentless_mini.errors import EnvironmentFailed, Untestable, UsageError, boundary, printable, reason
from agentless_mini.ports import Sampler
from agentless_mini.record import RecordedSampler, RunId, RunStart, Store, recorded_derive, traced_scoring
from agentless_mini.report.cells import flowed
from agentless_mini.report.progress import LiveProgress
from agentless_mini.report.summary import summary
from agentless_mini.repository.opening import Repository
from agentless_mini.repository.patches import read_pool, record_pool
from agentless_mini.run import recorded_run
from agentless_mini.settings import Config
from agentless_mini.settings.run import SandboxKind

if TYPE_CHECKING:
    from agentless_mini.repository.branches import NewBranch


NO_TESTS = NoBoxes("No test was run because of --sandbox none.")


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be repaired, and the settings that it is done with.

    `files` replaces localization where not empty, `given` has the user's own failing tests, `branch` gets the patch.
    It is chosen among the patches of `pool`, where there are some, and none is sampled.
    """

    issue: Issue
    repository: Repository
    config: Config
    files: tuple[str, ...] = ()
    given: GivenTests = field(default_factory=GivenTests)
    branch: "NewBranch | None" = None
    pool: tuple[Proposal, ...] = ()

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


def repair(
    task: Task, snapshot: Snapshot, store: Store, output: Output, machine: Machine, began: float | None = None
) -> int:
    """Run the chain on a task and the tree of its repository, print the result, and return the exit code.

    Whatever happens, the run's end is recorded. `began` is when, on the monotonic clock, else it is now. Raises
    `AminiError` and KeyboardInterrupt.
    """
    require_tests(task)
    console = Console(quiet=True) if output.quiet else people()
    began = time.monotonic() if began is None else began
    with LiveProgress(console, notes=output.notes) as progress:
        check_named(task.files, task.given, snapshot, NO_SANDBOX)  # before a model is looked for
        try:
            run, prediction, shown = asyncio.run(_run(task, snapshot, store, machine, progress, console))
        except Untestable:
            if output.file is not None:  # an older result there is not this run's
                _write(b"", output.file)
            raise
    if not output.quiet:
        told = summary(store.runs.trace(run), time.monotonic() - began, hint=output.kept)
        console.print(told, highlight=False)
    patch = prediction.choice.patch.diff if prediction.choice and shown and shown.suffices(task.required) else None
    _emit(patch, output, store, run)
    if output.file is not None:
        what = "document" if output.json else "patch" if patch is not None else "empty result"
        console.print(f"The {what} is in {printable(str(output.file))}.", markup=False, highlight=False)
    if output.apply and patch is not None:
        task.repository.apply(patch)
        console.print("The patch was applied to the working tree.")
    if task.branch is not None and patch is not None:
        from agentless_mini.repository.branches import commit_message

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


def require_tests(task: Task) -> None:
    """Refuse what no patch could show, before anything is paid for."""
    if task.required is Level.GIVEN and not task.given.ids():
        raise UsageError("--require given needs a test of yours: give --failing-test or --failing-cmd.")
    if task.required in {Level.GIVEN, Level.TESTS} and task.config.sandbox.kind is SandboxKind.NONE:
        asked = "--failing-test or --failing-cmd" if task.config.require is None else f"--require {task.required}"
        raise UsageError(
            f"{asked} needs tests, and --sandbox none runs none: leave out --sandbox none, or let the vote choose with "
            "--require any."
        )


async def _run(
    task: Task, snapshot: Snapshot, store: Store, machine: Machine, progress: LiveProgress, console: Console
) -> tuple[RunId, Prediction, Trust | None]:
    async with AsyncExitStack() as stack:
        around = Surroundings(task.config, machine, store, stack, progress)
        prompts, chosen = load_prompts(task.config.prompts), await choose_model(around, optional=bool(task.pool))
        scoring, _ = await open_scorer(around.config.scorer, around) if around.config.evolve.scored else (None, None)
        newest = store.runs.newest_generation(chosen.name, task.issue.text)
        config = settled(task.config, newest, chosen)
        config = choosing(config, chosen) if task.pool else config
        sandbox, given = config.sandbox, replace(task.given, required=task.required is Level.GIVEN)
        opening: Opening | NoBoxes = NO_TESTS
        if sandbox.kind is not SandboxKind.NONE:
            from agentless_mini.testing import harness_of

            opened = partial(open_boxes, sandbox, task.repository, snapshot, machine, stack)
            opening = Opening(harness_of(snapshot, sandbox.test_command), opened)

        async def ready() -> Sampler:
            """Look at the sandbox when the first answer is owed: nothing is paid for what cannot be tested."""
            if isinstance(opening, Opening):
                from agentless_mini.environment.opening import check_environment

                await check_environment(snapshot, opening.harness.runner, sandbox)
            return await chosen.start()

        def check(patch: Patch) -> Patch | Rejected:
            complaint = task.repository.refuses(patch.diff)
            return Rejected(Reason.REFUSED_BY_GIT, complaint) if complaint else patch

        pool = await asyncio.to_thread(read_pool, task.pool, snapshot, check)
        notes = (*task.repository.notes, *notes_on(task.pool, pool))
        if pool and not chosen.writes and opening is not NO_TESTS:
            notes = (
                *notes,
                "No model writes tests: your own and those of the repository choose (--base-url names one).",
            )

        async def chain(run: RunId, boxes: Opening | NoBoxes) -> Prediction:
            record_pool(store, run, task.pool, pool)
            sampler = RecordedSampler(ready, store, identity(chosen, config), run)
            scorer = traced_scoring(scoring, store, run) if scoring else None
            session = Session(
                sampler, prompts, check, progress, instance, scorer, derive=recorded_derive(store), pool=pool
            )
            return await resolve(task.issue, snapshot, session, seeded(config), boxes, given, task.files)

        async def begun(run: RunId) -> tuple[str, ...]:
            """Say who answers, and what of the tree was left out, before anything is spent."""
            asked = amount(config, chosen, await foreseen(sandbox, snapshot), len(given.ids()), len(pool))
            line = f"run {run}: {await answerer(chosen, config, store)}; {asked}"
            console.print(Text(flowed(printable(line), console, 4), style="bold"), highlight=False)
            for note in notes:
                progress(Note(note))
            return notes

        instance = f"{snapshot.name}@{snapshot.commit[:12]}"
        recorded = {**config.model_dump(mode="json"), "require": task.required, "given": given.ids()}
        start = RunStart(
            model=chosen.name,
            instance=instance,
            repository=snapshot.name,
            commit=snapshot.commit,
            tree=snapshot.digest,
            issue=task.issue,
            command=without_passwords(sys.argv),
            settings=json.dumps(recorded),
            versions=versions(chosen),
        )
        run, prediction = await recorded_run(
            store, start, opening, begun, chain, lambda prediction: _exit_code(task, _shown(task, prediction))
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


def _emit(patch: bytes | None, output: Output, store: Store, run: RunId) -> None:
    """Write the result: the patch in its own bytes, or the document. Without a patch stdout stays empty."""
    data = patch or b""
    if output.json:
        from agentless_mini.report.document import run_document

        data = (json.dumps(run_document(store.runs.trace(run)), ensure_ascii=True, indent=2) + "\n").encode()
    if output.file is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    _write(data, output.file)


def _write(data: bytes, file: Path) -> None:
    unwritable = f"The result cannot be written to {file}"
    with boundary({OSError: lambda error: EnvironmentFailed(f"{unwritable} ({reason(error)}): name another with -o.")}):
        file.write_bytes(data)
