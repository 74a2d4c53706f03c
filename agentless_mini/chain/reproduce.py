"""Sample tests that show the issue, and keep those that really fail because of it.

After "Agentless Mini" of SWE-RL (arXiv 2502.18449).

Sampling needs no box and running needs no model, so they are two steps: the first can go on while an environment is
built. All samples share one prompt. Each distinct test runs alone, in a box of its own, so that none of them can make
another one fail.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from agentless_mini.chain.bench import Bench
from agentless_mini.chain.context import Gauge, Source
from agentless_mini.chain.execute import Refused, run_cases
from agentless_mini.chain.prompts import NewTest
from agentless_mini.chain.reproduction import symptom
from agentless_mini.chain.session import Draft, Session, Subject, answer_room, fit_prompt, together
from agentless_mini.chain.style_example import first_with_tests, fit_example, style_examples
from agentless_mini.chain.written_tests import Shelf, read_test
from agentless_mini.domain import (
    BoxDone,
    Case,
    Decoding,
    GeneratedCase,
    Harness,
    Issue,
    Note,
    Phase,
    PhaseStarted,
    Reason,
    Rejected,
    Runner,
    SampleDone,
    SampleRequest,
    SamplingParams,
    ShownFile,
    SourceFile,
    Stage,
    StageStarted,
)
from agentless_mini.edits.paths import TakenNames
from agentless_mini.edits.sources import decode
from agentless_mini.settings.run import ReproduceSettings

# The example may take this share of the window at most: it shows a style, and its beginning does that.
EXAMPLE_SHARE = 4


# --- writing -------------------------------------------------------------------------------------------------------


async def draft_cases(
    subject: Subject, session: Session, harness: Harness, settings: ReproduceSettings
) -> tuple[GeneratedCase, ...]:
    """Return what each sample wrote, in order of sample. Equal tests are equal cases, which have all their votes.

    Empty where no sample is wanted, or the model rewrites lines and can write nothing else. Raises `ContextTooSmall`
    and what the sampler raises.
    """
    card = await session.sampler.card()
    if settings.samples == 0 or card.decoding is Decoding.LINES:
        return ()
    issue, snapshot, found = subject.issue, subject.snapshot, subject.survey
    given = (snapshot.digest, snapshot.name, issue.text)
    likely = await session.derive("style examples", given, lambda: style_examples(issue, snapshot, found))
    held = snapshot.by_path()
    example = first_with_tests([held[path] for path in likely], harness.runner)
    shelf = Shelf(_folder(example, harness.runner), TakenNames.of(subject.snapshot), harness.runner)
    answer = answer_room(settings.max_tokens, card.context_window)
    drafter = _Drafter(subject, session, shelf, example, card.context_window // EXAMPLE_SHARE)
    draft = await fit_prompt(session.sampler, card.context_window - answer, drafter.draft)
    if draft.cut and example is not None:
        how = "Shown in part" if draft.shown else "Left out to fit the context"
        session.watch(Note(f"{how}, as an example of how tests are written: {example.path}."))
    request = SampleRequest(
        card.name,
        draft.messages,
        SamplingParams(answer, settings.temperature, seed=settings.seed),
        tuple(range(settings.samples)),
        Stage.REPRODUCE,
        session.instance,
    )
    return _counted(request.key(), await _ask(request, shelf, session))


def _folder(example: SourceFile | None, runner: Runner) -> str:
    """Return where a new test lies: beside the example, so that what that imports and is given is there for it too."""
    if example is None or runner is Runner.SCRIPT:
        return "tests" if runner is Runner.DJANGO else ""
    return example.path.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class _Drafter:
    """Makes the prompt. `most` is what of it the example may take, in tokens."""

    subject: Subject
    session: Session
    shelf: Shelf
    example: SourceFile | None
    most: int

    def draft(self, budget: int, gauge: Gauge) -> Draft[ShownFile | None]:
        bare = self._draft(None)
        if self.example is None:
            return bare
        fixed = sum(gauge.tokens(message.content) for message in bare.messages)
        source = Source(self.example.path, decode(self.example).text)
        return self._draft(fit_example(source, min(budget - fixed, self.most), gauge))

    def _draft(self, shown: ShownFile | None) -> Draft[ShownFile | None]:
        wanted = NewTest(self.subject.snapshot.name, self.shelf.runner, self.shelf.folder, shown)
        is_cut = self.example is not None and (shown is None or not shown.whole)
        return Draft(self.session.prompts.reproduce(self.subject.issue, wanted), shown, is_cut)


async def _ask(request: SampleRequest, shelf: Shelf, session: Session) -> Mapping[int, Case | Rejected]:
    """Draw the samples; return what each wrote, by index."""
    session.watch(StageStarted(Stage.REPRODUCE, len(request.indices)))
    answers: dict[int, Case | Rejected] = {}
    async for completion in session.sampler.sample(request):
        answer = read_test(completion, shelf, session.marks)
        answers[completion.index] = answer
        session.watch(SampleDone(Stage.REPRODUCE, completion, answer if isinstance(answer, Rejected) else None))
    return answers


def _counted(request: str, answers: Mapping[int, Case | Rejected]) -> tuple[GeneratedCase, ...]:
    """Make one case of those that say the same, written as the earliest sample did."""
    ordered = sorted(answers.items())
    cases = [answer for _, answer in ordered if isinstance(answer, Case)]
    votes = Counter(case.id for case in cases)
    merged = {case.id: replace(case, votes=votes[case.id]) for case in reversed(cases)}
    outcomes = ((index, merged[one.id] if isinstance(one, Case) else one) for index, one in ordered)
    return tuple(GeneratedCase(request, index, index, outcome) for index, outcome in outcomes)


# --- proving -------------------------------------------------------------------------------------------------------


async def reproduce(
    drafts: Sequence[GeneratedCase], issue: Issue, bench: Bench, settings: ReproduceSettings
) -> tuple[GeneratedCase, ...]:
    """Run each distinct draft on the tree as it is; return the drafts with what came of it, in their order.

    At most `settings.most` distinct cases are kept: those with more votes first, then those that fail like most
    others, then the earliest. Raises what the sandbox raises.
    """
    cases = tuple(dict.fromkeys(draft.outcome for draft in drafts if isinstance(draft.outcome, Case)))
    if not cases:
        return tuple(drafts)
    bench.watch(PhaseStarted(Phase.REPRODUCTION, len(cases)))
    symptoms = dict(zip(cases, await together([_tried(case, issue, bench) for case in cases]), strict=True))
    kept = _most_telling(symptoms, settings.most)
    return tuple(replace(draft, outcome=_outcome(draft.outcome, symptoms, kept)) for draft in drafts)


async def _tried(case: Case, issue: Issue, bench: Bench) -> str | Rejected:
    """Run one case alone; return how it fails because of the issue, or why it does not count."""
    results = await run_cases(bench, None, (case,))
    if isinstance(results, Refused):
        bench.watch(BoxDone(Phase.REPRODUCTION))
        return Rejected(Reason.OTHER_FAULT, f"it cannot be put into the tree: {results.detail}")
    bench.watch(BoxDone(Phase.REPRODUCTION, tuple(result.outcome for result in results)))
    return symptom(results[0], case, issue, bench.harness.runner)


def _most_telling(symptoms: Mapping[Case, str | Rejected], most: int) -> frozenset[Case]:
    alike = Counter(symptoms.values())
    kept = [case for case, found in symptoms.items() if isinstance(found, str)]
    kept.sort(key=lambda case: (-case.votes, -alike[symptoms[case]]))  # sort() keeps the earliest of equals first
    return frozenset(kept[:most])


def _outcome(
    outcome: Case | Rejected, symptoms: Mapping[Case, str | Rejected], kept: frozenset[Case]
) -> Case | Rejected:
    if isinstance(outcome, Rejected) or outcome in kept:
        return outcome
    found = symptoms[outcome]
    return found if isinstance(found, Rejected) else Rejected(Reason.SURPLUS, f"enough others do it too: {found}")
