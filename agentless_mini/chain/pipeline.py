"""One issue, from text to the chosen patch. Reads like the chain that it runs."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace

from agentless_mini.chain.bench import Bench, NoBench, Opening
from agentless_mini.chain.context import Gauge, fit_issue
from agentless_mini.chain.evolve import BestFirst, Evolution, evolve
from agentless_mini.chain.given import check_given, confirm, given_cases
from agentless_mini.chain.lexical import Survey, candidate_files, mentions, rank_files
from agentless_mini.chain.localize import given, localize
from agentless_mini.chain.ranking import rank
from agentless_mini.chain.ranking.trusting import UNTESTED
from agentless_mini.chain.repair import repair
from agentless_mini.chain.reproduce import draft_cases, reproduce
from agentless_mini.chain.selecting import by_execution, by_reward
from agentless_mini.chain.session import Session, Subject, both
from agentless_mini.chain.trials import Trials
from agentless_mini.domain import (
    Candidate,
    Case,
    Decoding,
    Event,
    Execution,
    GeneratedCase,
    Issue,
    Localization,
    Method,
    ModelCard,
    Note,
    Phase,
    Planned,
    Prediction,
    Snapshot,
    Stage,
)
from agentless_mini.edits import Marks
from agentless_mini.errors import NothingToEdit, Untestable, UsageError
from agentless_mini.settings.run import (
    ChainSettings,
    Selecting,
    Until,
)

# The issue may take this share of the window at most: the rest is for code and for the answer.
ISSUE_SHARE = 4
# Of rewrites of lines, which are ranked, so many are tried before it is looked whether one passes all tests.
TRIED_AT_ONCE = 20


def check_rounds(settings: ChainSettings, card: ModelCard | None, opening: Opening | NoBench | None) -> None:
    """Raise `UsageError` where more rounds than one, or an early end, do not go with other settings or the model.

    `card` is None where the model is not known yet, `opening` where it is not known yet whether there will be tests.
    """
    if settings.until is Until.LOCALIZE:
        return
    if card is not None and card.decoding is Decoding.LINES:
        _check_plain(settings)
    if settings.evolve.rounds == 1:
        return
    if settings.repair.stop_when is not None:
        raise UsageError("--stop-when cannot be combined with --rounds: leave one of them out.")
    untested = isinstance(opening, NoBench) or settings.until is Until.REPAIR
    if untested and settings.evolve.select is Selecting.EXECUTION:
        raise UsageError("--select execution needs tests, and none will be run: allow them, or select otherwise.")


def check_named(settings: ChainSettings, snapshot: Snapshot, opening: Opening | NoBench) -> None:
    """Raise `UsageError` where files or tests are named that the tree does not have, before anything is paid for."""
    if settings.files:
        given(settings.files, snapshot)
    check_given(settings.given, snapshot, None if isinstance(opening, NoBench) else opening.harness.runner)


def _steps(settings: ChainSettings, opening: Opening | NoBench) -> tuple[tuple[Stage | Phase, ...], ...]:
    """Return the steps of a chain one after the other; what runs side by side is one step."""
    finding: list[Stage | Phase] = [] if settings.files or not settings.localize.samples else [Stage.LOCALIZE]
    sampling: list[Stage | Phase] = [] if settings.until is Until.LOCALIZE else [Stage.REPAIR, Stage.EVOLVE]
    if settings.until is not Until.TESTS or isinstance(opening, NoBench):
        return tuple(tuple(step) for step in (finding, sampling) if step)
    proving = (Phase.ENVIRONMENT, Phase.REPRODUCTION)
    first = proving if settings.given.required else ()
    sampling += [Stage.REPRODUCE, *(() if first else proving)]
    return tuple(tuple(step) for step in (first, finding, sampling, (Phase.REGRESSION, Phase.EXECUTION)) if step)


def _check_plain(settings: ChainSettings) -> None:
    if settings.evolve.rounds > 1:
        raise UsageError(
            "This model cannot be shown patches: leave out --rounds (evolve.rounds), or use another model."
        )
    if settings.repair.stop_when is not None:
        raise UsageError(
            "This model ranks changes instead of sampling, so --stop-when does not apply: leave it out "
            "(repair.stop_when), or use another model."
        )


NO_SANDBOX = NoBench("No sandbox was asked for.")


_Ground = tuple[Bench | NoBench, tuple[Case, ...]]
"""Where tests run, and those of the user and the issue that fail there before any patch."""


@dataclass(frozen=True, slots=True)
class _Reproduction:
    """What became of the drafts of tests, and the trials that begin with those that fail on the tree as it is."""

    trials: Trials | None
    generated: tuple[GeneratedCase, ...] = ()


async def resolve(
    issue: Issue, snapshot: Snapshot, session: Session, settings: ChainSettings, opening: Opening | NoBench = NO_SANDBOX
) -> Prediction:
    """Find the files and sample repairs, while tests are written and proven; run all tests on all patches; choose.

    This is Agentless Mini (SWE-RL, arXiv 2502.18449), and with more than one round EvoScale (Satori-SWE, arXiv
    2505.23604). Where `opening` gives no bench, the vote alone chooses. What the stages have to note is told to
    `session.watch` when it arises, and is in the prediction, once.
    Raises `NothingToEdit` where the tree holds no text file, `UsageError` as `check_named` and `check_rounds` do,
    `ContextTooSmall`, and what the sampler and the sandbox raise. No valid patch is a result: `Prediction.choice` is
    None.
    """
    notes: dict[str, None] = {}

    def watch(event: Event) -> None:
        if isinstance(event, Note):
            notes[event.text] = None
        session.watch(event)

    check_named(settings, snapshot, opening)
    marks = Marks(settings.answer.start, settings.answer.end, settings.think.start, settings.think.end)
    noting = replace(session, watch=watch, marks=marks)
    watch(Planned(_steps(settings, opening)))
    subject = await _subject(issue, snapshot, noting, settings)
    if settings.until is Until.LOCALIZE:
        return Prediction(await _localize(subject, noting, settings), (), None, tuple(notes))
    check_rounds(settings, await session.sampler.card(), opening)
    if settings.until is Until.REPAIR:
        opening = NoBench("No test was run: the chain was to end after repair.")
    proven: asyncio.Future[_Reproduction] = asyncio.get_running_loop().create_future()

    ground = await _open(subject, noting, settings, opening) if settings.given.required else None
    selector = _selector(subject, noting, settings, proven)

    async def prove() -> _Reproduction:
        reproduction = await _reproduce(subject, noting, settings, opening, ground)
        if not proven.done():  # where who waited for it was cancelled, it is too
            proven.set_result(reproduction)
        return reproduction

    (localization, candidates), reproduction = await both(_repair(subject, noting, settings, selector), prove())
    execution = await _execute(candidates, reproduction, noting)
    choice = await asyncio.to_thread(rank, candidates, execution, settings.rank)
    return Prediction(localization, candidates, choice, tuple(notes), reproduction.generated, execution)


async def _subject(issue: Issue, snapshot: Snapshot, session: Session, settings: ChainSettings) -> Subject:
    files = candidate_files(snapshot)
    named = await asyncio.to_thread(mentions, issue, files)
    given = (snapshot.digest, snapshot.name, issue.text)
    ranked = await session.derive("candidate files", given, lambda: rank_files(issue, files, named))
    if not ranked and not settings.files:
        message = f"The repository {snapshot.name!r} holds no text file to repair: check --rev and the path."
        raise NothingToEdit(message)
    card = await session.sampler.card()
    shown = fit_issue(issue, card.context_window // ISSUE_SHARE, Gauge())
    if shown is not issue:
        session.watch(Note("The middle of the issue was left out to fit the context."))
    return Subject(shown, snapshot, Survey(ranked, named))


async def _repair(
    subject: Subject, session: Session, settings: ChainSettings, selector: BestFirst | None
) -> tuple[Localization, tuple[Candidate, ...]]:
    localization = await _localize(subject, session, settings)
    if settings.evolve.rounds == 1:
        return localization, await repair(subject, localization, session, settings.repair)
    evolution = Evolution(settings.repair, settings.evolve)
    return localization, await evolve(subject, localization, session, evolution, selector)


def _selector(
    subject: Subject, session: Session, settings: ChainSettings, proven: Awaitable[_Reproduction]
) -> BestFirst | None:
    """Return what ranks the patches for the next round, None where they are drawn at random."""
    if settings.evolve.rounds == 1 or settings.evolve.select is Selecting.RANDOM:
        return None
    if settings.evolve.select is Selecting.REWARD_MODEL:
        return by_reward(subject.issue, session)

    async def trials() -> Trials | None:
        return (await proven).trials

    return by_execution(trials, settings.rank)


async def _localize(subject: Subject, session: Session, settings: ChainSettings) -> Localization:
    if settings.files:
        return given(settings.files, subject.snapshot)
    return await localize(subject, session, settings.localize)


async def _reproduce(
    subject: Subject, session: Session, settings: ChainSettings, opening: Opening | NoBench, ground: _Ground | None
) -> _Reproduction:
    """Draft tests while the bench is opened; keep those that fail on the tree as it is because of the issue."""
    if isinstance(opening, NoBench):
        session.watch(Note(f"{UNTESTED} {opening.reason}"))
        return _Reproduction(None)
    opened = _open(subject, session, settings, opening) if ground is None else _at_once(ground)
    drafting = draft_cases(subject, session, opening.harness, settings.reproduce)
    (bench, own), drafts = await both(opened, drafting)
    if isinstance(bench, NoBench):
        session.watch(Note(f"{UNTESTED} {bench.reason}"))
        return _Reproduction(None)
    generated = await reproduce(drafts, subject.issue, bench, settings.reproduce)
    kept = dict.fromkeys(one.outcome for one in generated if isinstance(one.outcome, Case))
    portion = await _given_first(session, settings)
    return _Reproduction(Trials(bench, (*own, *kept), settings.regress, given_first=portion), generated)


async def _given_first(session: Session, settings: ChainSettings) -> int | None:
    """Return `Trials.given_first`: it is for the order in which given tests come before all others, and for one round.

    Rewrites of lines come the likeliest first, so that few of them need be tried.
    """
    decides = bool(settings.given.ids()) and settings.rank is Method.AGREEMENT and settings.evolve.rounds == 1
    is_ranked = (await session.sampler.card()).decoding is Decoding.LINES
    return (TRIED_AT_ONCE if is_ranked else 0) if decides else None


async def _open(subject: Subject, session: Session, settings: ChainSettings, opening: Opening | NoBench) -> _Ground:
    """Open the bench, and run the user's tests and those that the issue names on the tree as it is.

    Raises `Untestable` where one of the user's is required and does not fail here.
    """
    bench = opening if isinstance(opening, NoBench) else await opening.open(session.watch)
    if isinstance(bench, NoBench):
        if settings.given.required:
            raise Untestable(f"Your failing test cannot be run: {bench.reason} {_ANYWAY}.")
        return bench, ()
    bench = replace(bench, derive=session.derive)
    own, notes = await confirm(given_cases(settings.given, subject.snapshot, subject.issue, bench.harness), bench)
    if settings.given.required and not {case.id for case in own}.issuperset(settings.given.ids()):
        raise Untestable(f"{' '.join(notes)} Name a test that fails now. {_ANYWAY}.")
    for note in notes:
        session.watch(Note(note))
    return bench, own


async def _at_once(ground: _Ground) -> _Ground:
    return ground


_ANYWAY = "Use --require any to go on without it"


async def _execute(candidates: Sequence[Candidate], reproduction: _Reproduction, session: Session) -> Execution | None:
    """Add the regression tests of what the patches touch, and run all tests on each distinct patch."""
    execution = await reproduction.trials.over(candidates) if reproduction.trials else None
    if execution is None or execution.cases:
        return execution
    session.watch(Note("No test distinguishes the patches, so the vote chooses."))
    return None
