"""One issue, from text to the chosen patch. Reads like the chain that it runs."""

import asyncio
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from agentless_mini.chain.context import Gauge, fit_issue
from agentless_mini.chain.file_roles import candidate_files
from agentless_mini.chain.given import ANYWAY, named_cases, own_cases
from agentless_mini.chain.lexical import Survey, mentions, rank_files
from agentless_mini.chain.localize import given as given_files
from agentless_mini.chain.localize import localize
from agentless_mini.chain.rank import rank, valid_patches
from agentless_mini.chain.repair import repair, repair_requests
from agentless_mini.chain.session import Boxes, NoBoxes, Opening, Session, Showing, Subject, known_by, side_by_side
from agentless_mini.chain.trust import UNTESTED
from agentless_mini.domain import (
    Candidate,
    Case,
    Choice,
    Decoding,
    Event,
    FileKind,
    GeneratedCase,
    GivenTests,
    Issue,
    Localization,
    Method,
    ModelCard,
    Note,
    Phase,
    Planned,
    Prediction,
    ShownFile,
    Snapshot,
    Stage,
)
from agentless_mini.edits import Marks
from agentless_mini.errors import NothingToEdit, Untestable, UsageError
from agentless_mini.ports import Watch
from agentless_mini.settings import Config
from agentless_mini.settings.run import Selecting, Until
from agentless_mini.testing import ran_without

if TYPE_CHECKING:
    from agentless_mini.chain.evolve import BestFirst
    from agentless_mini.chain.execute import Batches

# The issue may take this share of the window at most: the rest is for code and for the answer.
ISSUE_SHARE = 4
# Of rewrites of lines, which are ranked, so many are tried before it is looked whether one passes all tests.
TRIED_AT_ONCE = 20
NO_SANDBOX = NoBoxes("No sandbox was asked for.")
NONE_GIVEN = GivenTests()


def check_rounds(config: Config, until: Until, card: ModelCard | None, opening: Opening | NoBoxes | None) -> None:
    """Raise `UsageError` where more rounds than one, or an early end, do not go with other settings or the model.

    `card` is None where the model is not known yet, `opening` where it is not known yet whether there will be tests.
    """
    if until is Until.LOCALIZE:
        return
    rounds, stop_when = config.evolve.rounds, config.repair.stop_when
    if card is not None and card.decoding is Decoding.LINES:
        if rounds > 1:
            raise UsageError(
                "This model cannot be shown patches: leave out --rounds (evolve.rounds), or use another model."
            )
        if stop_when is not None:
            raise UsageError(
                "This model ranks changes instead of sampling, so --stop-when does not apply: leave it out "
                "(repair.stop_when), or use another model."
            )
        if config.repair.greedy_first:
            raise UsageError("This model ranks changes instead of sampling: leave out --greedy-first.")
    if rounds == 1:
        return
    if stop_when is not None:
        raise UsageError("--stop-when cannot be combined with --rounds: leave one of them out.")
    untested = isinstance(opening, NoBoxes) or until is Until.REPAIR
    if untested and config.evolve.select is Selecting.EXECUTION:
        raise UsageError("--select execution needs tests, and none will be run: allow them, or select otherwise.")


def check_named(files: Sequence[str], given: GivenTests, snapshot: Snapshot, opening: Opening | NoBoxes) -> None:
    """Raise `UsageError` where files or tests are named that the tree does not have, before anything is paid for."""
    if files:
        given_files(files, snapshot)
    own_cases(given, snapshot, None if isinstance(opening, NoBoxes) else opening.harness.runner)


async def resolve(
    issue: Issue,
    snapshot: Snapshot,
    session: Session,
    config: Config,
    opening: Opening | NoBoxes = NO_SANDBOX,
    given: GivenTests = NONE_GIVEN,
    files: tuple[str, ...] = (),
    until: Until = Until.TESTS,
) -> Prediction:
    """Find the files and sample repairs, while tests are written and proven; run all tests on all patches; choose.

    This is Agentless Mini (SWE-RL, arXiv 2502.18449), and with more than one round EvoScale (Satori-SWE, arXiv
    2505.23604). Where `opening` gives no boxes, the vote alone chooses. Notes are told to `session.watch` when they
    arise, and are in the prediction, once. `given` are the user's own failing tests, `files` replace localization,
    `until` is the last stage. No valid patch is a result: `Prediction.choice` is None.
    Raises `NothingToEdit` where the tree holds no text file, `UsageError` as `check_named` and `check_rounds` do,
    `ContextTooSmall`, and what the sampler and the sandbox raise.
    """
    check_named(files, given, snapshot, opening)
    watch, notes = _noting(session.watch)
    marks = Marks(config.answer.start, config.answer.end, config.think.start, config.think.end)
    session = replace(session, watch=watch, marks=marks)
    if session.pool and not valid_patches(session.pool):
        return Prediction(Localization((), ()), session.pool, None)
    watch(_planned(config, files or session.pool, given, until, tested=not isinstance(opening, NoBoxes)))
    subject = await _subject(issue, snapshot, session, files)
    opening = _near(opening, subject, session.pool, (*files, *(name.partition("::")[0] for name in given.ids())))
    localizing = partial(localize, subject, session, config.localize, files)
    if until is Until.LOCALIZE:
        return Prediction(await localizing(), (), None, tuple(notes))
    check_rounds(config, until, await session.sampler.card(), opening)
    if until is Until.REPAIR:
        opening = NoBoxes("No test was run: the chain was to end after repair.")
    proven: asyncio.Future[Batches | None] = asyncio.get_running_loop().create_future()
    shown: asyncio.Future[tuple[ShownFile, ...]] = asyncio.get_running_loop().create_future()
    session = replace(session, told=shown.set_result)
    boxes = await _opened(subject, session, config, opening, given) if given.required else opening
    selector = _selector(subject, session, config, proven)

    async def repaired() -> tuple[Localization, tuple[Candidate, ...]]:
        if session.pool:
            return _touched(session.pool, subject), session.pool
        localization = await localizing()
        if config.evolve.rounds == 1:
            return localization, await repair(subject, localization, session, config.repair)
        from agentless_mini.chain.evolve import evolve

        return localization, await evolve(subject, localization, session, config.repair, config.evolve, selector)

    showing = partial(_shown, subject, session, config, shown)

    async def reproduced() -> tuple[GeneratedCase, ...]:
        tests, generated = await _reproduce(subject, session, config, boxes, given, showing)
        if not proven.done():  # where who waited for it was cancelled, it is too
            proven.set_result(tests)
        return generated

    async with side_by_side() as group:
        repairing, reproducing = group.create_task(repaired()), group.create_task(reproduced())
    (localization, candidates), generated = repairing.result(), reproducing.result()
    tests = proven.result()
    execution = await tests.over(candidates) if tests else None
    if execution and not execution.cases:
        watch(Note("No test distinguishes the patches, so the vote chooses."))
        execution = None
    choice = _doubted(await asyncio.to_thread(rank, candidates, execution, config.rank), notes, tests)
    return Prediction(
        localization, candidates, choice, tuple(notes), generated, execution, tests.regressions if tests else None
    )


def _doubted(choice: Choice | None, notes: Collection[str], tests: "Batches | None") -> Choice | None:
    """Return a choice whose reason says why what the tests say of it may not be the whole truth."""
    if choice is None:
        return None
    without = [path for path in choice.patch.paths if ran_without(path) in notes]
    reason = f"{choice.reason}; tests ran without its {', '.join(without)}" if without else choice.reason
    for odd in tests.doubts(choice.patch) if tests else ():
        reason += f"; suspicious: {odd}"
    return replace(choice, reason=reason)


def _noting(told: Watch) -> tuple[Watch, dict[str, None]]:
    """Return what keeps each note once and passes all events on, and where it keeps them."""
    notes: dict[str, None] = {}

    def watch(event: Event) -> None:
        if isinstance(event, Note):
            notes[event.text] = None
        told(event)

    return watch, notes


def _planned(config: Config, known: Sequence[object], given: GivenTests, until: Until, *, tested: bool) -> Planned:
    """Return the steps of the chain one after the other; what runs side by side is one step.

    `known` is what no file need be found for: files, or candidates.
    """
    first: tuple[Stage | Phase, ...] = ()
    finding: tuple[Stage | Phase, ...] = () if known or not config.localize.samples else (Stage.LOCALIZE,)
    sampling: tuple[Stage | Phase, ...] = () if until is Until.LOCALIZE else (Stage.REPAIR, Stage.EVOLVE)
    last: tuple[Stage | Phase, ...] = ()
    if tested and until is Until.TESTS:
        proving = (Phase.ENVIRONMENT, Phase.REPRODUCTION)
        first = proving if given.required else ()
        sampling += (Stage.REPRODUCE, *(() if first else proving))
        last = (Phase.REGRESSION, Phase.EXECUTION)
    return Planned(tuple(filter(None, (first, finding, sampling, last))))


async def _subject(issue: Issue, snapshot: Snapshot, session: Session, given: Sequence[str]) -> Subject:
    files = candidate_files(snapshot)
    named = await asyncio.to_thread(mentions, issue, files)
    of = known_by(issue, snapshot)
    ranked = await session.derive("candidate files", of, lambda: rank_files(issue, files, named, snapshot.history))
    if not ranked and not given:
        raise NothingToEdit(f"The repository {snapshot.name!r} holds no text file to repair: check --rev and the path.")
    card = await session.sampler.card()
    shown = fit_issue(issue, card.context_window // ISSUE_SHARE, Gauge())
    if shown is not issue:
        session.watch(Note("The middle of the issue was left out to fit the context."))
    return Subject(shown, snapshot, Survey(ranked, named))


def _touched(pool: Sequence[Candidate], subject: Subject) -> Localization:
    """Return the text files that candidates made elsewhere change, those first that most of them do."""
    texts = {file.path for file in subject.snapshot.files if file.kind is FileKind.TEXT}
    changed = Counter(path for patch in valid_patches(pool) for path in patch.paths)
    files = tuple(path for path, _ in changed.most_common() if path in texts)
    return Localization((files,), (0,)) if files else Localization((), ())


def _near(
    opening: Opening | NoBoxes, subject: Subject, pool: Sequence[Candidate], known: Sequence[str]
) -> Opening | NoBoxes:
    """Return the opening for what the user named and what the candidates change, then for what the issue may mean."""
    if isinstance(opening, NoBoxes) or opening.near is None:
        return opening
    touched = (path for paths in _touched(pool, subject).lists for path in paths)
    return opening.near(tuple(dict.fromkeys((*known, *touched, *subject.survey.ranked))))


async def _shown(
    subject: Subject, session: Session, config: Config, shown: "asyncio.Future[tuple[ShownFile, ...]]"
) -> tuple[ShownFile, ...]:
    """Return the files that repairs are shown; where none is sampled, those that the candidates change."""
    if session.pool and (touched := _touched(session.pool, subject)).lists:
        await repair_requests(subject, touched, session, config.repair)
    return () if session.pool and not shown.done() else await shown


def _selector(
    subject: Subject, session: Session, config: Config, proven: "asyncio.Future[Batches | None]"
) -> "BestFirst | None":
    """Return what ranks the patches for the next round, None where they are drawn at random."""
    if config.evolve.rounds == 1 or config.evolve.select is Selecting.RANDOM:
        return None
    from agentless_mini.chain.evolve import by_execution, by_reward

    if config.evolve.select is Selecting.REWARD_MODEL:
        return by_reward(subject.issue, session)
    return by_execution(lambda: proven, config.rank)


async def _opened(
    subject: Subject, session: Session, config: Config, opening: Opening | NoBoxes, given: GivenTests
) -> Boxes | NoBoxes:
    """Open the boxes, and run the user's tests and those that the issue names on the tree as it is.

    Raises `Untestable` where one of the user's is required and does not fail here.
    """
    boxes: Boxes | NoBoxes
    if isinstance(opening, NoBoxes):
        boxes = opening
    elif opening.build and config.setup.samples and (await session.sampler.card()).decoding is not Decoding.LINES:
        from agentless_mini.chain.setup import set_up

        boxes = await set_up(subject, session, opening, opening.build, config.setup)
    else:
        boxes = await opening.open(session.watch)
    if isinstance(boxes, NoBoxes):
        if given.required:
            raise Untestable(f"Your failing test cannot be run: {boxes.reason} {ANYWAY}.")
        return boxes
    from agentless_mini.chain.reproduce import confirm  # what runs tests is imported where tests are run

    runner = boxes.harness.runner
    own, named = own_cases(given, subject.snapshot, runner), named_cases(subject.issue, subject.snapshot, runner)
    boxes = replace(boxes, derive=session.derive, issue=subject.issue, seed=config.repair.seed)
    return replace(boxes, failing=await confirm(own, named, boxes, required=given.required))


async def _reproduce(
    subject: Subject,
    session: Session,
    config: Config,
    opening: Opening | Boxes | NoBoxes,
    given: GivenTests,
    showing: Showing,
) -> "tuple[Batches | None, tuple[GeneratedCase, ...]]":
    """Draft tests while the boxes are opened; keep those that fail on the tree as it is because of the issue."""
    if isinstance(opening, NoBoxes):
        session.watch(Note(f"{UNTESTED} {opening.reason}"))
        return None, ()
    from agentless_mini.chain.execute import Batches
    from agentless_mini.chain.reproduce import draft_cases, reproduce

    async with side_by_side() as group:
        drafting = group.create_task(draft_cases(subject, session, opening.harness, config.reproduce, showing))
        boxes = opening if isinstance(opening, Boxes) else await _opened(subject, session, config, opening, given)
    if isinstance(boxes, NoBoxes):
        session.watch(Note(f"{UNTESTED} {boxes.reason}"))
        return None, ()
    generated = await reproduce(drafting.result(), subject.issue, boxes, config.reproduce)
    kept = dict.fromkeys(one.outcome for one in generated if isinstance(one.outcome, Case))
    # Given tests come before all others where these rules order the patches of one round. Rewrites of lines come the
    # likeliest first, so that few of them need be tried.
    decides = bool(given.ids()) and config.rank in (Method.PROBABILITY, Method.AGREEMENT) and config.evolve.rounds == 1
    is_ranked = not session.pool and (await session.sampler.card()).decoding is Decoding.LINES
    portion = (TRIED_AT_ONCE if is_ranked else 0) if decides else None
    spare = None
    if config.regress.expect_broken:
        from agentless_mini.chain.reproduce import without_expected

        spare = partial(without_expected, subject=subject, session=session, settings=config.reproduce)
    reproducing = (*boxes.failing, *kept)
    return Batches(boxes, reproducing, config.regress, given_first=portion, spare=spare), generated
