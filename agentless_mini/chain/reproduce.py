"""Sample tests that show the issue, and keep those that fail because of it ("Agentless Mini", arXiv 2502.18449).

Sampling needs no box and running needs no model, so they are two steps: the first can go on while an environment is
built. Each distinct test runs alone, in a box of its own, so that none of them can make another one fail; what then
counts is run again, for a flaky test would choose by luck. Given tests are confirmed here too: they must fail before
any patch.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from agentless_mini.chain.context import Gauge, Source, fit_files, fit_tree
from agentless_mini.chain.generated_tests import described, first_with_tests, read_test, style_examples, symptom
from agentless_mini.chain.given import ANYWAY
from agentless_mini.chain.repair import NO_FILE
from agentless_mini.chain.session import (
    Boxes,
    Draft,
    Refused,
    Session,
    Showing,
    Subject,
    answer_room,
    ask,
    fit_prompt,
    known_by,
    run_cases,
    together,
)
from agentless_mini.domain import (
    BoxDone,
    Case,
    CaseResult,
    Completion,
    Decoding,
    GeneratedCase,
    Harness,
    Issue,
    Message,
    Note,
    Outcome,
    Phase,
    PhaseStarted,
    Reason,
    Rejected,
    Runner,
    ShownFile,
    Stage,
)
from agentless_mini.domain.runners import ROWS
from agentless_mini.edits import answer_text
from agentless_mini.edits.paths import TakenNames
from agentless_mini.edits.sources import decode
from agentless_mini.errors import EnvironmentFailed, Untestable, UsageError, printable
from agentless_mini.settings.run import ReproduceSettings

# The example may take this share of the window at most: it shows a style, and its beginning does that.
EXAMPLE_SHARE = 4
# So much of the prompt is kept for it, at the cost of code.
LEAST_EXAMPLE = 8
# A test that passes by chance half of the time is found out by so many more runs three times of four.
RERUNS = 2


async def draft_cases(
    subject: Subject, session: Session, harness: Harness, settings: ReproduceSettings, showing: Showing
) -> tuple[GeneratedCase, ...]:
    """Return what each sample wrote, in order of sample. Equal tests are equal cases, which have all their votes.

    A new test lies beside the example, so that what that imports and is given is there for it too. The prompt begins
    as that of repair does, up to the first file that must be shorter beside the example. Empty where no sample is
    wanted or can be written for the runner, or the model rewrites lines and can write nothing else.
    Raises `ContextTooSmall`, and what the sampler does.
    """
    card, runner = await session.sampler.card(), harness.runner
    row = ROWS.get(runner)
    is_writable = bool(row.new) if row else runner is not Runner.REPORT
    if settings.samples == 0 or card.decoding is Decoding.LINES or not is_writable:
        return ()
    issue, snapshot, held = subject.issue, subject.snapshot, subject.snapshot.by_path()
    kind, of = f"style examples, {runner.value}", known_by(issue, snapshot)
    likely = await session.derive(kind, of, lambda: style_examples(issue, snapshot, subject.survey, runner))
    example = first_with_tests([held[path] for path in likely], runner)
    usual = row.folder if row else "tests" if runner is Runner.DJANGO else ""
    folder = example.path.rpartition("/")[0] if example else usual
    files = await showing()

    def messages(files: tuple[ShownFile, ...], shown: ShownFile | None) -> tuple[Message, ...]:
        return session.prompts.reproduce(issue, snapshot.name, files, runner, folder, shown)

    style = None if example is None else Source(example.path, decode(example).text)
    sources = [Source(one.path, decode(held[one.path]).text) for one in files]
    parts = {one.path: one for one in files}

    def draft(budget: int, gauge: Gauge) -> Draft[tuple[tuple[ShownFile, ...], ShownFile | None]]:
        least = 0 if style is None else min(gauge.tokens(style.path + style.text + " " * 99), budget // LEAST_EXAMPLE)
        code, shown = files, None
        if gauge.of(messages(code, None)) > budget - least:
            room = budget - gauge.of(messages((NO_FILE,), None)) - least
            code = fit_files(sources, issue, subject.survey.named, room, gauge, parts).files
        if style is not None:
            most = min(budget - gauge.of(messages(code, None)), card.context_window // EXAMPLE_SHARE)
            shown = next(iter(fit_files([style], issue, subject.survey.named, most, gauge, {}).files), None)
        is_cut = code != files or (style is not None and (shown is None or not shown.whole))
        return Draft(messages(code, shown), (code, shown), is_cut)

    room = card.context_window - answer_room(settings.max_tokens, card.context_window)
    made = await fit_prompt(session.sampler, room, draft)
    code, shown = made.shown
    here, before = ({one.path: sum(len(part.text) for part in one.excerpts) for one in of} for of in (code, files))
    if less := [path for path, letters in before.items() if here.get(path, 0) < letters]:
        session.watch(Note(f"For tests less is shown than for repairs, to fit the context, of {', '.join(less)}."))
    if style is not None and (shown is None or not shown.whole):
        how = "Shown in part" if shown else "Left out to fit the context"
        session.watch(Note(f"{how}, as an example of how tests are written: {style.path}."))
    taken = TakenNames.of(snapshot)
    key, answers = await ask(
        made.messages,
        Stage.REPRODUCE,
        session,
        settings,
        lambda said: read_test(said, folder, taken, runner, session.marks, example.path if example else ""),
    )
    cases = [answer for answer in answers.values() if isinstance(answer, Case)]
    votes = Counter(case.id for case in cases)
    merged = {case.id: replace(case, votes=votes[case.id]) for case in reversed(cases)}  # written as the earliest did
    outcomes = {index: merged[one.id] if isinstance(one, Case) else one for index, one in answers.items()}
    return tuple(GeneratedCase(key, index, index, outcome) for index, outcome in outcomes.items())


async def reproduce(
    drafts: Sequence[GeneratedCase], issue: Issue, boxes: Boxes, settings: ReproduceSettings
) -> tuple[GeneratedCase, ...]:
    """Run each distinct draft on the tree as it is; return the drafts with what came of it, in their order.

    Those that show the issue are run again, twice and all together: one that does not show it each time is flaky. At
    most `settings.most` distinct cases are kept: those with more votes first, then those that fail like most others,
    then the earliest. Raises what the sandbox raises.
    """
    cases = tuple(dict.fromkeys(draft.outcome for draft in drafts if isinstance(draft.outcome, Case)))
    if not cases:
        return tuple(drafts)

    async def tried(cases: Sequence[Case], attempt: int = 0) -> dict[Case, str | Rejected]:
        """Run cases in one box; return how each fails because of the issue, or why it does not count."""
        results = await run_cases(boxes, None, cases, attempt)
        if isinstance(results, Refused):
            boxes.watch(BoxDone(Phase.REPRODUCTION))
            refused = Rejected(Reason.OTHER_FAULT, f"it cannot be put into the tree: {results.detail}")
            return dict.fromkeys(cases, refused)
        boxes.watch(BoxDone(Phase.REPRODUCTION, tuple(result.outcome for result in results)))
        told = (symptom(result, case, issue, boxes.harness.runner) for case, result in zip(cases, results, strict=True))
        return dict(zip(cases, told, strict=True))

    boxes.watch(PhaseStarted(Phase.REPRODUCTION, len(cases)))
    alone = await together([tried((case,)) for case in cases])
    symptoms = {case: found for one in alone for case, found in one.items()}
    alike = Counter(symptoms.values())
    telling = [case for case, found in symptoms.items() if isinstance(found, str)]
    telling.sort(key=lambda case: (-case.votes, -alike[symptoms[case]]))  # sort() keeps the earliest of equals first
    if telling:
        boxes.watch(PhaseStarted(Phase.REPRODUCTION, RERUNS))
        for again in await together([tried(telling, attempt) for attempt in range(1, RERUNS + 1)]):
            failed = {case: found for case, found in again.items() if isinstance(found, Rejected)}
            symptoms |= {case: Rejected(Reason.FLAKY, f"run again: {found.detail}") for case, found in failed.items()}
    steady = [case for case in telling if isinstance(symptoms[case], str)]
    kept = frozenset(steady[: settings.most])

    def outcome(said: Case | Rejected) -> Case | Rejected:
        if isinstance(said, Rejected) or said in kept:
            return said
        found = symptoms[said]
        return found if isinstance(found, Rejected) else Rejected(Reason.SURPLUS, f"enough others do it too: {found}")

    return tuple(replace(draft, outcome=outcome(draft.outcome)) for draft in drafts)


async def confirm(
    own: Sequence[Case], named: Sequence[Case], boxes: Boxes, *, required: bool = False
) -> tuple[Case, ...]:
    """Run the user's `own` tests, and those that the issue names, on the tree as it is; return those that do not pass.

    One that the issue names has to fail because of the issue, as a generated one does. The user is told of own tests
    that say nothing. Raises `UsageError` where one is not there, `EnvironmentFailed` where none can be run,
    `Untestable` where all of the user's are `required` and one says nothing.
    """
    ids = {case.id for case in own}
    cases = (*own, *(case for case in named if case.id not in ids))
    if not cases:
        return ()
    boxes.watch(PhaseStarted(Phase.REPRODUCTION, 1))
    results = await run_cases(boxes, None, cases)
    if isinstance(results, Refused):
        raise EnvironmentFailed(f"The tests cannot be put over the tree ({results.detail}): use --sandbox none.")
    boxes.watch(BoxDone(Phase.REPRODUCTION, tuple(result.outcome for result in results)))
    runner = boxes.harness.runner
    notes = [note for case, result in zip(own, results, strict=False) if (note := _note(case, result, runner))]
    kept = []
    for case, result in zip(cases, results, strict=True):
        if result.outcome in {Outcome.FAIL, Outcome.ERROR, Outcome.TIMEOUT}:
            hint = symptom(result, case, boxes.issue, runner)
            if case.id in ids or isinstance(hint, str):
                kept.append(case)
            else:
                why = f"fails for another reason: left out ({hint.detail})"
                boxes.watch(Note(f"{printable(case.id)}, which the issue names, {why}."))
    if required and not ids.issubset(case.id for case in kept):
        raise Untestable(f"{' '.join(notes)} Name a test that fails now. {ANYWAY}.")
    for note in notes:
        boxes.watch(Note(note))
    return tuple(kept)


def _form(runner: Runner) -> str:
    """Return how a test is named that this runner runs."""
    if runner in ROWS:
        return f"PATH::NAME with the names that {runner} reports, such as {ROWS[runner].example}"
    if runner.is_python:
        way = "test_total" if runner is Runner.PYTEST else "CartTest::test_total"
        return f"PATH::NAME, such as tests/test_cart.py::{way}"
    return "PATH::NAME as the report of --test-cmd has it"


def _note(case: Case, result: CaseResult, runner: Runner) -> str:
    """Return what the user should know of a test of theirs, "" for nothing."""
    name = printable(case.id)
    match result.outcome:
        case Outcome.NOT_COLLECTED:
            raise UsageError(f"There is no test {name!r}: give --failing-test {_form(runner)}.")
        case Outcome.PASS:
            return f"Your test {name} passes already, so it cannot show a repair and was left out."
        case Outcome.SKIP:
            return f"Your test {name} is skipped here: it was left out."
        case Outcome.ERROR:
            why = f" ({described(result.fault)})" if result.fault else ""
            if case.command:
                raise UsageError(f"The command {name!r} cannot be run here{why}: correct --failing-cmd.")
            return f"Your test {name} does not run to its end{why}: if the issue does not say so, give --setup."
        case Outcome.TIMEOUT:
            return f"Your test {name} takes longer than a test may: give it more time if that is not the issue."
        case Outcome.FAIL:
            return ""


# --- which regression tests say nothing -------------------------------------------------------------------------------

_BLOCK = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


async def without_expected(
    cases: tuple[Case, ...], subject: Subject, session: Session, settings: ReproduceSettings
) -> tuple[Case, ...]:
    """Return the cases without those that the model, asked once, says a right fix must break; a note names them.

    After Agentless (arXiv 2407.01489). A model that rewrites lines is not asked, nor any about what does not fit its
    window. Raises `ContextTooSmall` and what the sampler raises.
    """
    card = await session.sampler.card()
    if not cases or card.decoding is Decoding.LINES:
        return cases
    ids = [case.id for case in cases]

    def draft(budget: int, gauge: Gauge) -> Draft[None]:
        bare = session.prompts.broken(subject.issue, subject.snapshot.name, ())
        shown = fit_tree(ids, budget - gauge.of(bare), gauge)
        messages = session.prompts.broken(subject.issue, subject.snapshot.name, shown)
        return Draft(messages, None, cut=len(shown) < len(ids))

    def read(completion: Completion) -> frozenset[str] | Rejected:
        said = answer_text(completion.text, session.marks)
        blocks = [] if isinstance(said, Rejected) else _BLOCK.findall(said)
        named = frozenset(line.strip() for line in blocks[-1].split("\n")) if blocks else frozenset()
        return named.intersection(ids) if blocks else Rejected(Reason.MALFORMED, "no fenced block names tests")

    room = card.context_window - answer_room(settings.max_tokens, card.context_window)
    made = await fit_prompt(session.sampler, room, draft)
    once = settings.model_copy(update={"samples": 1, "temperature": 0.0})
    _, answers = await ask(made.messages, Stage.REGRESS, session, once, read)
    named = {test for said in answers.values() if not isinstance(said, Rejected) for test in said}
    if named:
        told = ", ".join(map(printable, sorted(named)))
        session.watch(Note(f"The model expects a right fix to break {told}: not counted as broken (--expect-broken)."))
    return tuple(case for case in cases if case.id not in named)
