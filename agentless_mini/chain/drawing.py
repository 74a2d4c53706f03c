"""Draws repairs: deals samples over prompts, and reads each answer into a patch that git accepts, or says why not.

Which prompts there are is the business of `repair` and `evolve`, which share this.
"""

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

from agentless_mini.chain.session import Session, together
from agentless_mini.domain import (
    Candidate,
    Completion,
    Decoding,
    Finish,
    Matching,
    Patch,
    Rejected,
    SampleDone,
    SampleRequest,
)
from agentless_mini.edits import Tree, read_answer

# The one thread of the process that reads answers, in their order, so that the event loop never waits for one. More of
# them would share one interpreter and take turns; and the forms of a tree are not for two at once.
_READING = ThreadPoolExecutor(1, "amini-reading")

MANY_REPEATS = 5
"""Samples that say what another said, from which on it is no chance if no prompt was answered in two ways."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A candidate, the answer that it was read from, and the reasoning that came apart from it."""

    candidate: Candidate
    answer: str
    reasoning: str = ""


def counted_once(drawn: Sequence[Drawn], request: SampleRequest) -> tuple[tuple[Candidate, ...], str]:
    """Return the candidates, those marked that repeat an answer and are no vote of their own; and a note, or "".

    At temperature 0 a prompt has one answer, however often it is sampled. Above it equal answers are agreement, which
    short edits of a sure model come to; but a whole run of `MANY_REPEATS` and in which no prompt was answered in two
    ways is the work of a server that does not sample, or of a cache. Decoding under a constraint leaves few answers
    to choose from, so there equality says nothing. `request` is any of those that were drawn.
    """
    seen: set[tuple[str, str, str]] = set()
    marked = []
    for one in drawn:
        said = one.candidate.request, one.answer, one.reasoning
        marked.append(replace(one.candidate, repeats=said in seen))
        seen.add(said)
    repeats = sum(candidate.repeats for candidate in marked)
    plain, temperature = tuple(one.candidate for one in drawn), request.params.temperature
    if request.decoding is not Decoding.FREE or not repeats:
        return plain, ""
    if temperature == 0:
        return tuple(marked), "At temperature 0 equal answers to one prompt are one vote."
    if repeats < MANY_REPEATS or len(seen) > len({candidate.request for candidate in plain}):
        return plain, ""
    alike = f"All {len(drawn)} answers are" if len(seen) == 1 else "The answers to each prompt are all"
    return tuple(marked), (
        f"{alike} the same text, though the temperature is {temperature:g}: the server ignores it and the seed, or "
        "answers from a cache. They count as one vote for each prompt; check how the server samples."
    )


@dataclass(frozen=True, slots=True)
class _Plan:
    """One prompt, the places (`Candidate.order`) of its samples among all of the run by index, and their round."""

    request: SampleRequest
    orders: dict[int, int]
    round: int


class Draws:
    """The samples of one issue, drawn round by round. A prompt that comes again goes on with its next sample."""

    def __init__(self, tree: Tree, match: Matching, session: Session) -> None:
        """Read answers against `tree`."""
        self._reader = _Reader(tree, match, session)
        self._session = session
        self._taken: Counter[str] = Counter()

    async def draw(self, requests: Sequence[SampleRequest], places: range, number: int = 0) -> list[Drawn]:
        """Draw a sample for each place, in round `number`; return them in order of place.

        They are dealt over the prompts like cards: place i goes to prompt i modulo their number. The requests have
        no indices and no instance yet. Raises what the sampler raises.
        """
        plans = [
            self._plan(request, tuple(place for place in places if place % len(requests) == turn), number)
            for turn, request in enumerate(requests)
        ]
        groups = await together([self._follow(plan) for plan in plans if plan.orders])
        return sorted((one for group in groups for one in group), key=lambda drawn: drawn.candidate.order)

    def _plan(self, request: SampleRequest, orders: tuple[int, ...], number: int) -> _Plan:
        key = request.key()
        indices = range(self._taken[key], self._taken[key] + len(orders))
        self._taken[key] += len(orders)
        whole = replace(request, indices=tuple(indices), instance=self._session.instance)
        return _Plan(whole, dict(zip(indices, orders, strict=True)), number)

    async def _follow(self, plan: _Plan) -> list[Drawn]:
        """Draw the samples of one prompt and read each as soon as it is there."""
        key, stage = plan.request.key(), plan.request.stage
        drawn = []
        async for completion in self._session.sampler.sample(plan.request):
            outcome = await self._reader.read(completion)
            order = plan.orders[completion.index]
            candidate = Candidate(key, completion.index, order, outcome, plan.round)
            drawn.append(Drawn(candidate, completion.text, completion.reasoning))
            self._session.watch(SampleDone(stage, completion, outcome if isinstance(outcome, Rejected) else None))
        return drawn


class _Reader:
    """Reads each distinct answer once, and asks git once for each distinct patch."""

    def __init__(self, tree: Tree, match: Matching, session: Session) -> None:
        self._tree = tree
        self._match = match
        self._session = session
        self._known: dict[tuple[str, str, Finish], Patch | Rejected] = {}
        self._checked: dict[bytes, Patch | Rejected] = {}

    async def read(self, completion: Completion) -> Patch | Rejected:
        outcome = await asyncio.get_running_loop().run_in_executor(_READING, self._outcome, completion)
        if isinstance(outcome, Rejected):
            return outcome
        if outcome.diff not in self._checked:
            self._checked[outcome.diff] = await asyncio.to_thread(self._session.check, outcome)
        return self._checked[outcome.diff]

    def _outcome(self, completion: Completion) -> Patch | Rejected:
        key = completion.text, completion.reasoning, completion.finish
        if key not in self._known:
            with _uncollected():
                self._known[key] = read_answer(completion, self._tree, self._match, self._session.marks)
        return self._known[key]


@contextmanager
def _uncollected() -> Iterator[None]:
    """Put garbage collection off: syntax trees are many objects and no cycle, and a collection stops all threads."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
