"""EvoScale (arXiv 2505.23604): the budget of samples is spent in rounds, and each round is shown earlier patches.

Round 0 samples plainly. A later prompt is a repair prompt with patches after it, asking for a review of each and a
better repair. The repair prompts leave an eighth of the window to the patches; these have all that is left, and are
cut to it: whole ones from the end, then the middle of a long one. They never push out code.

Nothing is chosen here: the answer is chosen over all rounds, by the same rules as without.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from agentless_mini.chain.context import Gauge
from agentless_mini.chain.drawing import Drawn, Draws, counted_once
from agentless_mini.chain.parents import (
    PROBLEM_LETTERS,
    attempts_of,
    best_parents,
    distinct,
    fit_attempts,
    random_parents,
    shuffled,
)
from agentless_mini.chain.prompts import Attempt
from agentless_mini.chain.repair import prompt_room, repair_requests
from agentless_mini.chain.session import Draft, Session, Subject, fit_prompt
from agentless_mini.domain import (
    Candidate,
    Localization,
    Message,
    ModelCard,
    Note,
    Role,
    SampleRequest,
    Stage,
    StageStarted,
)
from agentless_mini.edits import Tree
from agentless_mini.settings.run import EvolveSettings, RepairSettings, Selecting

# The share of the window that repair prompts leave to patches, and in small ones what some lines of a patch need.
PATCHES_SHARE = 8
LEAST_TOKENS = 100
UNSELECTED = (
    "Nothing selects what the later rounds are shown, and the model is not said to be trained for that: such models "
    "seldom gain from it (--select execution, or --self-evolving if it is)."
)
"""What is told of rounds in which an untrained model is shown patches at random."""

BestFirst = Callable[[Sequence[Candidate]], Awaitable[Sequence[str]]]
"""Returns the normal forms of the patches among all candidates so far, the best first; none if nothing tells them."""


@dataclass(frozen=True, slots=True)
class Evolution:
    """The settings of both: of the samples, and of the rounds."""

    repair: RepairSettings
    evolve: EvolveSettings


async def evolve(
    subject: Subject, localization: Localization, session: Session, settings: Evolution, best_first: BestFirst | None
) -> tuple[Candidate, ...]:
    """Return what became of each sample of all rounds, in order of sample; `Candidate.round` says of which.

    `best_first` is the selector; without one parents are drawn at random. The model must not be one that rewrites
    lines. Raises `ContextTooSmall` where the prompts cannot show any file, and what sampler and selector raise.
    """
    card = await session.sampler.card()
    _warn(settings.evolve, session)
    size = settings.evolve.size(settings.repair.samples)
    wanted = settings.repair.model_copy(update={"samples": size * settings.evolve.rounds})
    requests = await repair_requests(subject, localization, session, wanted, await _spare(card, session))
    breeding = _Breeding(requests, card, session, settings)
    draws = Draws(Tree.of(subject.snapshot), settings.repair.match, session)
    session.watch(StageStarted(Stage.REPAIR, size))
    drawn = await draws.draw(requests, range(size))
    for number in range(1, settings.evolve.rounds):
        places = range(number * size, (number + 1) * size)
        ranked = await best_first([one.candidate for one in drawn]) if best_first else ()
        if best_first and not ranked and distinct(drawn):
            session.watch(Note(f"Round {number} was shown patches at random: no test says which are better."))
        prompts = await breeding.requests(number, places, drawn, ranked)
        session.watch(StageStarted(Stage.EVOLVE, size))
        drawn += await draws.draw(prompts, places, number)
    candidates, note = counted_once(drawn, requests[0])
    if note:
        session.watch(Note(note))
    return candidates


async def _spare(card: ModelCard, session: Session) -> int:
    """Return the tokens that repair prompts leave free, so that later rounds have room for patches.

    The model counts: where an estimate is too low, a run would end after its first round was paid for.
    """
    asked = (Message(Role.USER, ""),)
    empty = [session.prompts.evolve(asked, (Attempt("", problem),)) for problem in ("", "x" * PROBLEM_LETTERS)]
    words = max([await session.sampler.count_tokens(messages) for messages in empty])
    return max(card.context_window // PATCHES_SHARE, words + LEAST_TOKENS)


class _Breeding:
    """Makes the prompts of later rounds out of those of the first."""

    def __init__(
        self, requests: Sequence[SampleRequest], card: ModelCard, session: Session, settings: Evolution
    ) -> None:
        self._requests = requests
        self._room = prompt_room(card, settings.repair.max_tokens)
        self._session = session
        self._settings = settings.evolve

    async def requests(
        self, number: int, places: range, drawn: Sequence[Drawn], best_first: Sequence[str]
    ) -> list[SampleRequest]:
        """Return the prompts of round `number`, which are shown the best of what is drawn, or some at random.

        One that no place is dealt to stays as it is: it is not asked.
        """
        asked = {place % len(self._requests) for place in places}
        best = best_parents(drawn, best_first, self._settings.parents)
        made = []
        for turn, request in enumerate(self._requests):
            seed = f"{self._settings.seed} {number} {turn}"
            parents = best or random_parents(drawn, self._settings.parents, seed)
            made.append(await self._request(request, parents, (number, seed)) if turn in asked else request)
        return made

    async def _request(self, asked: SampleRequest, parents: Sequence[Drawn], place: tuple[int, str]) -> SampleRequest:
        (number, seed), attempts = place, attempts_of(parents)

        def draft(budget: int, gauge: Gauge) -> Draft[tuple[Attempt, ...]]:
            bare = self._session.prompts.evolve(asked.messages, ())
            fixed = sum(gauge.tokens(message.content) for message in bare)
            kept = fit_attempts(attempts, budget - fixed, gauge)
            messages = self._session.prompts.evolve(asked.messages, shuffled(kept, f"{seed} order"))
            return Draft(messages, kept, cut=kept != attempts)

        made = await fit_prompt(self._session.sampler, self._room, draft)
        self._tell(number, attempts, made.shown)
        return replace(asked, messages=made.messages, stage=Stage.EVOLVE)

    def _tell(self, number: int, attempts: tuple[Attempt, ...], shown: tuple[Attempt, ...]) -> None:
        if attempts[0].problem:
            self._session.watch(Note(f"Round {number} was shown answers that are no patches: there was no patch yet."))
        if len(shown) < len(attempts):
            left = len(attempts) - len(shown)
            self._session.watch(
                Note(f"Round {number}: {left} of {len(attempts)} patches were left out of a prompt to fit the context.")
            )
        elif shown != attempts:
            self._session.watch(Note(f"Round {number}: a patch was shown in part to fit the context."))


def _warn(settings: EvolveSettings, session: Session) -> None:
    if settings.select is Selecting.RANDOM and not settings.self_evolving:
        session.watch(Note(UNSELECTED))
