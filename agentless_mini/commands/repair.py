"""`amini repair`: from the words of a command line to what is repaired, refused before anything is paid for."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
from rich.console import Console
from rich.text import Text

from agentless_mini.chain.pipeline import NO_SANDBOX, check_named, resolve
from agentless_mini.chain.session import NoBoxes, Opening, Session
from agentless_mini.chain.templates import load_prompts
from agentless_mini.chain.trust import Trust, trust
from agentless_mini.commands.config import (
    APP,
    Machine,
    given_here,
    is_there,
    read_config,
    require_tests,
    require_together,
    store_of,
    this_machine,
    top_of,
    tree_path,
)
from agentless_mini.commands.models import Models
from agentless_mini.commands.options import ExecutionOptions, Flags
from agentless_mini.commands.terminal import (
    EXIT_FOUND,
    EXIT_NO_PATCH,
    EXIT_UNTRUSTED,
    noted,
    people,
    require_place,
    without_passwords,
    write_result,
)
from agentless_mini.domain import (
    Candidate,
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
from agentless_mini.errors import Untestable, UsageError, printable
from agentless_mini.ports import Sampler
from agentless_mini.record import RecordedSampler, RunId, RunStart, Store, recorded_derive, traced_scoring
from agentless_mini.report.console import ProgressLines, flowed
from agentless_mini.report.progress import LiveProgress
from agentless_mini.report.summary import summary
from agentless_mini.repository.gitcommand import GitCommand
from agentless_mini.repository.issue_sources import GitHub, literal_issue, read_issue
from agentless_mini.repository.opening import Repository, open_repository
from agentless_mini.run import (
    amount,
    answerer,
    choosing,
    foreseen,
    identity,
    opening_of,
    recorded_run,
    seeded,
    settled,
    versions,
)
from agentless_mini.settings import Config

if TYPE_CHECKING:
    from agentless_mini.cli import ChoiceOptions, IssueOptions, OutputOptions
    from agentless_mini.repository.branches import NewBranch


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


def run_repair(
    source: "IssueOptions",
    execution: ExecutionOptions,
    output: "OutputOptions",
    path: Path | None,
    flags: Flags,
    files: Sequence[str] = (),
    among: "ChoiceOptions | None" = None,
) -> int:
    """Read what the options name, run the chain, and return the exit code. `path` is the file of settings.

    `files` replace localization; `among` names patches that are chosen among instead of sampling some.
    """
    given = GivenTests(tuple(execution.failing_test or ()), tuple(execution.failing_cmd or ()))
    config = read_config(path, flags)
    require_together(config, flags)
    patches = among.patches or [] if among else []
    if among and source.text is not None and source.issue is not None:  # the issue is said: that word is a patch
        patches, source = [source.issue, *patches], replace(source, issue=None)
    words = {"--files": files, "PATCH": patches, "--failing-test": given.tests, "--failing-cmd": given.commands}
    _require_words(source, words, "choose" if among else "repair")
    require_place(output.file)
    rev = _commit_of(source, output)
    issue = _issue(source)
    if among and not patches and among.runs is None:
        raise UsageError("No patch is given after ISSUE: name files or folders of patches, or runs with --runs.")
    here, local = Path.cwd(), is_there(source.repository)
    if not (output.apply or output.quiet) and here != (top := top_of(here)) and local:
        people().print(f"note: In {here}, git apply ignores changes outside of this folder: run it in {top}.")
    repository = _opened(source.repository, rev, output)
    branch = None
    if output.commit is not None:
        from agentless_mini.repository.branches import plan_branch

        branch = plan_branch(source.repository, output.commit, rev or "HEAD")
    waiting = noted(people(quiet=output.quiet))
    with Store.open(output.store or store_of(source.repository), waiting) as opened:
        pool: tuple[Proposal, ...] = ()
        if among:
            from agentless_mini.repository.patches import of_runs, read_proposals

            of_others = of_runs(opened, among.runs) if among.runs is not None else ()
            pool = (*read_proposals(patches, among.instance), *of_others)
        task = Task(issue, repository, config, tuple(files), given, branch, pool)
        require_tests(task.required, given, config)
        began = time.monotonic()
        snapshot = replace(repository.snapshot(), history=repository.history())
        if local:
            top, names = top_of(Path(source.repository)), {file.path for file in snapshot.files}
            there = tuple(tree_path(said, names, top, here) for said in files)
            task = replace(task, files=there, given=given_here(given, snapshot, top, here))
        if output.dry_run:
            from agentless_mini.commands.show import show_plan

            show_plan(task, snapshot, opened, output.as_json)
            return EXIT_FOUND
        return repair(task, snapshot, opened, output, this_machine(), began)


def _require_words(source: "IssueOptions", words: dict[str, Sequence[str]], command: str) -> None:
    """Refuse a word that is empty, and REPO and ISSUE where each is in the other's place."""
    single = {"REPO": source.repository, "ISSUE": source.issue, "--rev": source.rev}
    for name, said in ({name: [word] for name, word in single.items() if word is not None} | words).items():
        if any(not word.strip() for word in said):
            raise UsageError(f"{name} is empty: give a value, or check the shell variable that you used.")
    first, second = printable(source.repository), printable(source.issue or ".")
    is_file = os.path.isfile(source.repository)  # noqa: PTH113 - false for what cannot be looked at or is no path
    names_issue = ("#" in first or "/issues/" in first) and not is_there(source.repository)
    alone = source.issue is None and source.text is None
    if (is_file or names_issue) and (alone or (source.issue and os.path.isdir(source.issue))):  # noqa: PTH112
        told = f"write amini {command} {second} {first}"
        raise UsageError(f"{first} is no repository, and REPO comes before ISSUE: {told}.")


def _commit_of(source: "IssueOptions", output: "OutputOptions") -> str | None:
    """Return the commit that is repaired instead of the working tree, None where it is that.

    Refuses --apply and --commit where there is no place for the patch. What is no repository is refused later.
    """
    where, rev, local = source.repository, source.rev, is_there(source.repository)
    if output.apply:
        if rev:
            raise UsageError(
                "A patch for another commit cannot be applied to the working tree: leave out --apply or --rev."
            )
        if not local:
            raise UsageError(
                "--apply changes a working tree, and REPO is no folder: leave it out, or name a local clone."
            )
        if GitCommand(where).ask("rev-parse", "--is-inside-work-tree").out.strip() == b"false":
            raise UsageError(f"{printable(where)} has no working tree for --apply: leave it out, or name one that has.")
    if output.commit is None:
        return rev
    if output.apply:
        raise UsageError("A patch of a commit cannot be applied to the working tree: leave out --apply or --commit.")
    if not local:
        raise UsageError("--commit makes a branch, and REPO is no folder: leave it out, or name a local clone.")
    from agentless_mini.repository.branches import has_changes

    if rev is None and not output.quiet and has_changes(where):
        people().print("note: Uncommitted changes are left out, because --commit repairs HEAD.", style="yellow")
    return rev or "HEAD"


def _opened(where: str, rev: str | None, output: "OutputOptions") -> Repository:
    """Open the repository; that one is fetched, which may take minutes, is shown."""
    cache = platformdirs.user_cache_path(APP) / "clones"
    if is_there(where):
        return open_repository(where, rev, cache)
    with ProgressLines(people(quiet=output.quiet)) as lines:
        lines.begin(f"Fetching {printable(*without_passwords((where,)))}")
        return open_repository(where, rev, cache)


def _issue(source: "IssueOptions") -> Issue:
    if source.text is not None and source.issue is not None:
        raise UsageError("The issue is given twice: leave out either ISSUE or --text.")
    if source.text is not None:
        return literal_issue(source.text, "--text")
    if source.issue is None:
        raise UsageError("No issue is given after REPO: name a file, - for stdin, owner/name#12, or use --text.")
    # GitHub's runners name the API of the server that they belong to.
    api = os.environ.get("GITHUB_API_URL") or "https://api.github.com"
    return read_issue(source.issue, sys.stdin.buffer, GitHub(api, os.environ.get("GITHUB_TOKEN", "")))


# --- the run: its parts are built, the chain runs and is recorded, the patch is printed -------------------------------


def repair(
    task: Task,
    snapshot: Snapshot,
    store: Store,
    output: "OutputOptions",
    machine: Machine,
    began: float | None = None,
    notes: set[str] | None = None,
    kept: bool = True,
) -> int:
    """Run the chain on a task and the tree of its repository, print the result, and return the exit code.

    Whatever happens, the run's end is recorded. `began` is when, on the monotonic clock, else it is now. `notes`
    were told before, and are not again; `kept` tells whether the record outlives the run, so that `amini show` finds
    it. Raises `AminiError` and KeyboardInterrupt.
    """
    require_tests(task.required, task.given, task.config)
    console = people(quiet=output.quiet)
    began = time.monotonic() if began is None else began
    with LiveProgress(console, notes=notes) as progress:
        check_named(task.files, task.given, snapshot, NO_SANDBOX)  # before a model is looked for
        try:
            run, prediction, shown = asyncio.run(_run(task, snapshot, store, machine, progress, console))
        except Untestable:
            if output.file is not None:  # an older result there is not this run's
                write_result(b"", output.file)
            raise
    if not output.quiet:
        console.print(summary(store.runs.trace(run), time.monotonic() - began, hint=kept))
    patch = prediction.choice.patch.diff if prediction.choice and shown and shown.suffices(task.required) else None
    result = patch or b""
    if output.as_json:
        from agentless_mini.report.document import run_document

        result = (json.dumps(run_document(store.runs.trace(run)), ensure_ascii=True, indent=2) + "\n").encode()
    write_result(result, output.file)
    if output.file is not None:
        what = "document" if output.as_json else "patch" if patch is not None else "empty result"
        console.print(f"The {what} is in {printable(str(output.file))}.")
    if output.apply and patch is not None:
        task.repository.apply(patch)
        console.print("The patch was applied to the working tree.")
    if task.branch is not None and patch is not None:
        from agentless_mini.repository.branches import commit_message

        message = commit_message(task.issue, f"{run} ({store.runs.trace(run).run.start.model})")
        commit = task.branch.commit(snapshot.commit, patch, message)
        console.print(f"The patch is commit {commit[:12]} on the branch {task.branch.name}.")
    if shown and (lacking := shown.lacks(task.required)):
        advice = f"it is not printed; amini show {run} --patch 1 shows it, --require any prints it"
        told = lacking if patch is not None else f"{lacking} (--require {task.required}): {advice}"
        trusting = people()
        trusting.print(Text(flowed(f"not trusted: {told}.", trusting, 4), style="bold red"))
    return _exit_code(task, shown)


async def _run(
    task: Task, snapshot: Snapshot, store: Store, machine: Machine, progress: LiveProgress, console: Console
) -> tuple[RunId, Prediction, Trust | None]:
    async with AsyncExitStack() as stack:
        models = Models(task.config, machine, store, stack, progress)
        prompts, chosen = load_prompts(task.config.prompts), await models.choose(optional=bool(task.pool))
        scorer = task.config.scorer if task.config.evolve.scored else None
        scoring, _ = await models.open_scorer(scorer) if scorer else (None, None)
        newest = store.runs.newest_generation(chosen.name, task.issue.text)
        config = settled(task.config, newest, chosen)
        config = choosing(config, chosen) if task.pool else config
        sandbox, given = config.sandbox, replace(task.given, required=task.required is Level.GIVEN)
        opening = opening_of(
            sandbox, task.repository, snapshot, machine.cache, machine.environment, stack, bool(given.commands)
        )

        async def ready() -> Sampler:
            """Look at the sandbox when the first answer is owed: nothing is paid for what cannot be tested."""
            if isinstance(opening, Opening):
                from agentless_mini.environment.opening import check_environment

                await check_environment(snapshot, opening.harness.runner, sandbox)
            return await chosen.start()

        def check(patch: Patch) -> Patch | Rejected:
            complaint = task.repository.refuses(patch.diff)
            return Rejected(Reason.REFUSED_BY_GIT, complaint) if complaint else patch

        pool, notes = tuple[Candidate, ...](), task.repository.notes
        if task.pool:
            from agentless_mini.repository.patches import notes_on, read_pool, record_pool

            pool = await read_pool(task.pool, snapshot, check, progress)
            notes = (*notes, *notes_on(task.pool, pool))
        if pool and not chosen.writes and isinstance(opening, Opening):
            notes = (*notes, "No model writes tests: your own and those of the repository choose.")

        async def chain(run: RunId, boxes: Opening | NoBoxes) -> Prediction:
            if pool:
                record_pool(store, run, task.pool, pool)
            sampler = RecordedSampler(ready, store, identity(chosen, config), run)
            scorer = traced_scoring(scoring, store, run) if scoring else None
            derive = recorded_derive(store)
            session = Session(sampler, prompts, check, progress, instance, scorer, derive=derive, pool=pool)
            return await resolve(task.issue, snapshot, session, seeded(config), boxes, given, task.files)

        async def begun(run: RunId) -> tuple[str, ...]:
            """Say who answers, and what of the tree was left out, before anything is spent."""
            asked = amount(
                config, chosen, await foreseen(sandbox, snapshot, bool(given.commands)), len(given.ids()), len(pool)
            )
            line = f"run {run}: {await answerer(chosen, config, store)}; {asked}"
            console.print(Text(flowed(printable(line), console, 4), style="bold"))
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
    allowed = task.config.allow_suspicious
    return trust(choice, prediction.execution, task.given.ids(), prediction.notes, allows_suspicious=allowed)


def _exit_code(task: Task, shown: Trust | None) -> int:
    if shown is None:
        return EXIT_NO_PATCH
    return EXIT_FOUND if shown.suffices(task.required) else EXIT_UNTRUSTED
