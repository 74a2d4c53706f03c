"""EvoScale (Satori-SWE, arXiv 2505.23604): the samples are spent in rounds, and each round is shown earlier patches.

Round 0 samples plainly. A later prompt is a repair prompt with patches after it, asking for a review of each and a
better repair. The repair prompts leave an eighth of the window to the patches, which never push out code: they are cut
to what is left, whole ones from the end, then the middle of a long one.

Parents, the patches that a prompt shows, are drawn at random or the best by a selector: tests, or a reward model. No
two are of one normal form, and an answer that became no patch is a parent only while there is no patch. The patch is
chosen over all rounds, by the same rules as without.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, TypeVar

from agentless_mini.chain.context import Gauge, without_middle
from agentless_mini.chain.prompts import Attempt, Prompts
from agentless_mini.chain.rank import ordered, poll, standings, totals, valid_patches
from agentless_mini.chain.repair import Drawn, Draws, counted_once, prompt_room, repair_requests
from agentless_mini.chain.session import Draft, Scoring, Session, Subject, fit_prompt
from agentless_mini.domain import (
    Candidate,
    Issue,
    Localization,
    Message,
    Method,
    Note,
    Patch,
    Rejected,
    RewardModel,
    Role,
    SampleRequest,
    ScoreRequest,
    Stage,
    StageStarted,
)
from agentless_mini.edits import Tree
from agentless_mini.errors import UsageError, counted, printable
from agentless_mini.ports import Scorer
from agentless_mini.settings.run import EvolveSettings, RepairSettings, Selecting

if TYPE_CHECKING:
    from agentless_mini.chain.execute import Batches

# The share of the window that repair prompts leave to patches, and in small ones what some lines of a patch need.
PATCHES_SHARE = 8
LEAST_TOKENS = 100
# The most that is shown of an answer that became no patch: what it says of itself, and the edits at its end.
ANSWER_LETTERS = 4000
# What a heading, its fence and the sentence on a rejection cost an attempt beside its text.
OVERHEAD_BYTES = 80
# The most that is said of why an answer became no patch: what it quotes of the answer may be long.
PROBLEM_LETTERS = 300
LONGEST = 16_000  # characters that a reward model is shown of an issue, and of a patch: some 4,000 tokens each
UNSELECTED = (
    "Nothing selects what the later rounds are shown, and the model is not said to be trained for that: such models "
    "seldom gain from it (--select execution, or --self-evolving if it is)."
)
"""What is told of rounds in which an untrained model is shown patches at random."""

BestFirst = Callable[[Sequence[Candidate]], Awaitable[Sequence[str]]]
"""Returns the normal forms of the patches among all candidates so far, the best first; none if nothing tells them."""

Item = TypeVar("Item")


async def evolve(
    subject: Subject,
    localization: Localization,
    session: Session,
    sampling: RepairSettings,
    settings: EvolveSettings,
    best_first: BestFirst | None,
) -> tuple[Candidate, ...]:
    """Return what became of each sample of all rounds, in order of sample; `Candidate.round` says of which.

    `best_first` is the selector; without one parents are drawn at random. The model must not be one that rewrites
    lines. Raises `ContextTooSmall` where the prompts cannot show any file, and what sampler and selector raise.
    """
    card = await session.sampler.card()
    if settings.select is Selecting.RANDOM and not settings.self_evolving:
        session.watch(Note(UNSELECTED))
    size = settings.size(sampling.samples)
    wanted = sampling.model_copy(update={"samples": size * settings.rounds})
    # The model counts what patches need: where an estimate is too low, a run would end after its first round.
    empty = [
        session.prompts.evolve((Message(Role.USER, ""),), (Attempt("", said),)) for said in ("", "x" * PROBLEM_LETTERS)
    ]
    words = max([await session.sampler.count_tokens(messages) for messages in empty])
    spare = max(card.context_window // PATCHES_SHARE, words + LEAST_TOKENS)
    requests = await repair_requests(subject, localization, session, wanted, spare)
    draws = Draws(Tree.of(subject.snapshot), sampling.match, session, greedy_first=sampling.greedy_first)
    session.watch(StageStarted(Stage.REPAIR, size))
    drawn = await draws.draw(requests, range(size))
    for number in range(1, settings.rounds):
        places = range(number * size, (number + 1) * size)
        ranked = await best_first([one.candidate for one in drawn]) if best_first else ()
        if best_first and not ranked and distinct(drawn):
            session.watch(Note(f"Round {number} was shown patches at random: no test says which are better."))
        best = best_parents(drawn, ranked, settings.parents)
        asked = {place % len(requests) for place in places}
        prompts = list(requests)  # one that no place is dealt to stays as it is: it is not asked
        for turn in sorted(asked):
            seed = f"{settings.seed} {number} {turn}"
            parents = best or random_parents(drawn, settings.parents, seed)
            room = prompt_room(card, sampling.max_tokens)
            prompts[turn] = await _shown(requests[turn], attempts_of(parents), room, session, number, f"{seed} order")
        session.watch(StageStarted(Stage.EVOLVE, size))
        drawn += await draws.draw(prompts, places, number)
    candidates, note = counted_once(drawn, requests[0])
    if note:
        session.watch(Note(note))
    return candidates


async def _shown(
    request: SampleRequest, attempts: tuple[Attempt, ...], room: int, session: Session, number: int, seed: str
) -> SampleRequest:
    """Return the prompt of round `number` that shows the attempts, those that fit `room` tokens, in a random order."""

    def draft(budget: int, gauge: Gauge) -> Draft[tuple[Attempt, ...]]:
        bare = session.prompts.evolve(request.messages, ())
        kept = fit_attempts(attempts, budget - gauge.of(bare), gauge)
        return Draft(session.prompts.evolve(request.messages, shuffled(kept, seed)), kept, cut=kept != attempts)

    made = await fit_prompt(session.sampler, room, draft)
    if attempts[0].problem:
        session.watch(Note(f"Round {number} was shown answers that are no patches: there was no patch yet."))
    if left := len(attempts) - len(made.shown):
        said = f"Round {number}: {left} of {counted(len(attempts), 'patch')} did not fit a prompt."
        session.watch(Note(said))
    elif made.shown != attempts:
        session.watch(Note(f"Round {number}: a patch was shown in part to fit the context."))
    return replace(request, messages=made.messages, stage=Stage.EVOLVE)


# --- parents ---------------------------------------------------------------------------------------------------------


def distinct(drawn: Sequence[Drawn]) -> dict[str, Drawn]:
    """Return the samples that are patches by normal form: of several of one form the earliest."""
    found: dict[str, Drawn] = {}
    for one in sorted(drawn, key=lambda one: one.candidate.order):
        if isinstance(one.candidate.outcome, Patch):
            found.setdefault(one.candidate.outcome.normal, one)
    return found


def shuffled(items: Sequence[Item], seed: str) -> tuple[Item, ...]:
    """Return the items in a random order, which the seed and their number alone decide."""
    places = sorted(range(len(items)), key=lambda place: hashlib.sha256(f"{seed} {place}".encode()).digest())
    return tuple(items[place] for place in places)


def random_parents(drawn: Sequence[Drawn], most: int, seed: str) -> tuple[Drawn, ...]:
    """Return at most `most` patches of the last round that has any, in random order; else distinct last answers."""
    last = max((one.candidate.round for one in drawn if isinstance(one.candidate.outcome, Patch)), default=None)
    if last is not None:
        found = distinct([one for one in drawn if one.candidate.round == last])
    else:
        last = max((one.candidate.round for one in drawn), default=0)
        found = {}
        for one in drawn:
            if one.candidate.round == last:
                found.setdefault(one.answer, one)
    return shuffled(tuple(found.values()), seed)[:most]


def best_parents(drawn: Sequence[Drawn], best_first: Sequence[str], most: int) -> tuple[Drawn, ...]:
    """Return the `most` best patches of all rounds, the best first, by an order of normal forms."""
    patches = distinct(drawn)
    return tuple(patches[normal] for normal in dict.fromkeys(best_first) if normal in patches)[:most]


def attempts_of(parents: Sequence[Drawn]) -> tuple[Attempt, ...]:
    """Return what a prompt shows of the parents: the patch, or the answer and why it became none."""
    attempts = []
    for parent in parents:
        outcome = parent.candidate.outcome
        if isinstance(outcome, Rejected):
            problem = printable(f"{outcome.reason}: {outcome.detail}")[:PROBLEM_LETTERS]
            attempts.append(Attempt(without_middle(parent.answer, ANSWER_LETTERS), problem))
        else:
            attempts.append(Attempt(outcome.diff.decode("utf-8", "backslashreplace")))
    return tuple(attempts)


def fit_attempts(attempts: tuple[Attempt, ...], budget: int, gauge: Gauge) -> tuple[Attempt, ...]:
    """Return the attempts within `budget` tokens: whole ones go from the end, then the middle of the first.

    Where even what is said of the first is too long, its end goes.
    """
    costs = accumulate(gauge.tokens(one.text + one.problem + " " * OVERHEAD_BYTES) for one in attempts)
    if kept := sum(cost <= budget for cost in costs):
        return attempts[:kept]

    def letters(text: str, budget: int) -> int:
        """Return how many letters of a text take `budget` tokens, about."""
        return len(text) * max(budget, 0) // max(gauge.tokens(text), 1)

    first, room = attempts[0], budget - gauge.tokens(" " * OVERHEAD_BYTES)
    problem = first.problem[: max(letters(first.problem, room), 1)]
    text = without_middle(first.text, letters(first.text, room - gauge.tokens(problem)))
    return (replace(first, text=text, problem=problem),)


# --- selectors: which patches of all rounds so far are the best ------------------------------------------------------


def by_execution(tests: Callable[[], Awaitable["Batches | None"]], method: Method) -> BestFirst:
    """Return the selector that runs the tests on new patches, and ranks all as the choice does, if a test tells any."""

    async def best_first(candidates: Sequence[Candidate]) -> Sequence[str]:
        held = await tests()
        execution = await held.over(candidates) if held else None
        if execution is None or not execution.cases:
            return ()
        known = standings(poll(candidates), execution)
        return tuple(standing.normal for standing in ordered(known, totals(execution), method))

    return best_first


def by_reward(issue: Issue, session: Session) -> BestFirst:
    """Return the selector that has a reward model score the patches that are new; the earliest of equals comes first.

    Raises `UsageError` where there is no reward model.
    """
    scoring = session.scoring
    if scoring is None:
        raise UsageError("No reward model is named: name one in [scorer], or choose another --select.")
    scores: dict[str, float] = {}

    async def best_first(candidates: Sequence[Candidate]) -> Sequence[str]:
        patches: dict[str, Patch] = {}
        for patch in valid_patches(candidates):
            patches.setdefault(patch.normal, patch)
        if new := [patch for normal, patch in patches.items() if normal not in scores]:
            scores.update(await scoring(issue, new))
        return sorted(patches, key=lambda normal: -scores[normal])

    return best_first


def scoring_of(scorer: Scorer, model: RewardModel, prompts: Prompts) -> Scoring:
    """Return the function by which a reward model scores patches, asked in the words of `prompts`.

    The model is shown the issue and the patch, as a unified diff, as its answer; neither the repository nor the tests.
    Of patches with one normal form the first is scored for all. The function raises as `Scorer.scores`.
    """

    async def scores(issue: Issue, patches: Sequence[Patch]) -> Mapping[str, float]:
        answers: dict[str, str] = {}
        for patch in patches:
            answers.setdefault(patch.normal, answer_text(patch))
        shown = Issue(without_middle(issue.text.strip(), LONGEST), issue.source)
        request = ScoreRequest(model, prompts.score(shown), tuple(answers.values()))
        return dict(zip(answers, await scorer.scores(request), strict=True))

    return scores


def answer_text(patch: Patch) -> str:
    """Return what is scored of a patch: its unified diff; what is not UTF-8 in it is replaced."""
    return without_middle(patch.diff.decode("utf-8", "replace"), LONGEST)
