"""Sample full-file repairs (SWE-RL, arXiv 2502.18449, "Agentless Mini"): the prompts, one for each distinct file list.

Sample i goes to prompt i modulo their number, so more samples later only add to the ones that are there. In all prompts
the files stand in one order, the most wanted first, so that these share their beginning. Each answer is read into a
patch that git accepts, or the reason why not. With a bound (`stop_when`) samples are drawn in portions, and no further
once the winner of the vote is settled: a whole beginning of the run, so that a rerun stops at the same place.
"""

import asyncio
import gc
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from agentless_mini.chain.context import Fitted, Gauge, Source, fit_files
from agentless_mini.chain.session import Draft, Session, Subject, answer_room, fit_prompt, together
from agentless_mini.domain import (
    Candidate,
    Completion,
    Decoding,
    EditTask,
    Excerpt,
    Finish,
    Localization,
    Matching,
    Message,
    ModelCard,
    Note,
    Patch,
    Rejected,
    SampleDone,
    SampleRequest,
    SamplingParams,
    ShownFile,
    Stage,
    StageStarted,
)
from agentless_mini.edits import Tree, read_answer
from agentless_mini.edits.sources import decode
from agentless_mini.errors import ContextTooSmall
from agentless_mini.settings.run import RepairSettings

# With a bound on the vote it is looked at so many times at most.
PORTIONS = 8
MANY_REPEATS = 5
"""Samples that say what another said, from which on it is no chance if no prompt was answered in two ways."""

# The one thread of the process that reads answers, in their order, so that the event loop never waits for one. More of
# them would share one interpreter and take turns; and the forms of a tree are not for two at once.
_READING = ThreadPoolExecutor(1, "amini-reading")


NO_FILE = ShownFile("", (Excerpt(1, ""),), whole=False)
"""Stands for files where it is measured what a prompt takes beside them."""


async def repair(
    subject: Subject, localization: Localization, session: Session, settings: RepairSettings
) -> tuple[Candidate, ...]:
    """Return what became of each sample, in order of sample: of fewer than wanted where `stop_when` ended it.

    Raises `ContextTooSmall` where the prompts cannot show any file, and what the sampler raises.
    """
    requests = await repair_requests(subject, localization, session, settings)
    whole, bound = settings.samples, settings.stop_when
    session.watch(StageStarted(Stage.REPAIR, whole))
    draws = Draws(Tree.of(subject.snapshot), settings.match, session, greedy_first=settings.greedy_first)
    drawn: list[Drawn] = []
    candidates: tuple[Candidate, ...] = ()
    note = ""
    # With a bound an eighth of all is drawn together, and at least one of each prompt.
    size = max(len(requests), -(-whole // PORTIONS)) if bound else whole
    for begin in range(0, whole, size):
        drawn += await draws.draw(requests, range(begin, min(begin + size, whole)))
        candidates, note = counted_once(drawn, requests[0])
        if bound:
            from agentless_mini.chain.stopping import decided

            if decided(candidates, whole - len(drawn), bound):
                break
    if bound and len(drawn) < whole:
        ended = f"Sampling ended after {len(drawn)} of {whole} samples ({whole - len(drawn)} saved)"
        sure = f"the winner of the vote stays with a probability of {bound:g} at least (--stop-when)"
        session.watch(Note(f"{ended}: {sure}."))
    if note:
        session.watch(Note(note))
    return candidates


# --- the prompts -----------------------------------------------------------------------------------------------------


async def repair_requests(
    subject: Subject, localization: Localization, session: Session, settings: RepairSettings, spare: int = 0
) -> list[SampleRequest]:
    """Return the distinct prompts as requests, without indices and instance, those of the most votes first.

    There is one for each file list that still differs once it fits; each leaves `spare` tokens of what a prompt may
    have. A file in part is shown alike in all prompts where that suits them. Raises `ContextTooSmall`, and what
    the sampler raises.
    """
    card = await session.sampler.card()
    place = _common_order(localization)
    held = subject.snapshot.by_path()
    sources = {path: Source(path, decode(held[path]).text) for path in place}

    parts: dict[str, ShownFile] = {}

    async def fitted(wanted: Sequence[Source]) -> Draft[Fitted]:
        def messages(files: tuple[ShownFile, ...]) -> tuple[Message, ...]:
            ordered = tuple(sorted(files, key=lambda file: place[file.path]))
            return session.prompts.repair(subject.issue, subject.snapshot.name, ordered)

        def draft(budget: int, gauge: Gauge) -> Draft[Fitted]:
            room = budget - gauge.of(session.prompts.repair(subject.issue, subject.snapshot.name, (NO_FILE,)))
            fitted = fit_files(wanted, subject.issue, subject.survey.named, room, gauge, parts)
            if not fitted.files:
                raise ContextTooSmall(
                    f"No part of {wanted[0].path} fits {budget} tokens: serve the model with a larger context."
                )
            return Draft(messages(fitted.files), fitted, cut=bool(fitted.left_out or fitted.windowed))

        return await fit_prompt(session.sampler, prompt_room(card, settings.max_tokens) - spare, draft)

    drafts: list[Draft[Fitted]] = []
    for paths in localization.lists[: settings.samples]:
        made = await fitted([sources[path] for path in paths])
        parts = {file.path: file for file in made.shown.files} | parts
        if all(made.messages != other.messages for other in drafts):
            drafts.append(made)
            if made.shown.left_out:
                session.watch(Note(f"Left out of a prompt to fit the context: {', '.join(made.shown.left_out)}."))
            for path in made.shown.windowed:
                session.watch(Note(f"Shown in part to fit the context: {path}."))
    session.told(tuple(sorted(drafts[0].shown.files, key=lambda file: place[file.path])))
    room = answer_room(settings.max_tokens, card.context_window)
    if room < settings.max_tokens and card.decoding is not Decoding.LINES:  # a rewritten line is short
        said = f"An answer may have {room} tokens, not {settings.max_tokens}: a quarter of the model's context at most."
        session.watch(Note(said))
    params = SamplingParams(room, settings.temperature, seed=settings.seed)
    free = card.decoding is Decoding.FREE
    tasks = [None if free else EditTask(subject.issue.text, made.shown.files) for made in drafts]
    return [
        SampleRequest(card.name, made.messages, params, (), Stage.REPAIR, "", card.decoding, task)
        for made, task in zip(drafts, tasks, strict=True)
    ]


def prompt_room(card: ModelCard, max_tokens: int) -> int:
    """Return the tokens that a prompt may have: half of the window for line rewriting, which shows a file twice."""
    if card.decoding is Decoding.LINES:
        return card.context_window // 2
    return card.context_window - answer_room(max_tokens, card.context_window)


def _common_order(localization: Localization) -> dict[str, int]:
    """Return each path's place in the order that all prompts share: most votes first, then best place in a list."""
    votes: Counter[str] = Counter()
    best: dict[str, int] = {}
    for paths, count in zip(localization.lists, localization.votes, strict=True):
        for place, path in enumerate(paths):
            votes[path] += max(count, 1)
            best[path] = min(place, best.get(path, place))
    ordered = sorted(best, key=lambda path: (-votes[path], best[path], path))
    return {path: place for place, path in enumerate(ordered)}


# --- the samples -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Drawn:
    """A candidate, the answer that it was read from, and the reasoning that came apart from it."""

    candidate: Candidate
    answer: str
    reasoning: str = ""


@dataclass(slots=True)
class Draws:
    """The samples of one issue, drawn round by round. A prompt that comes again goes on with its next sample.

    Each distinct answer is read once, against `tree`, and git asked once for each distinct patch. With `greedy_first`
    place 0 goes to the first prompt at temperature 0.
    """

    tree: Tree
    match: Matching
    session: Session
    greedy_first: bool = field(default=False, kw_only=True)
    _taken: Counter[str] = field(default_factory=Counter, init=False)
    _known: dict[tuple[str, str, Finish], Patch | Rejected] = field(default_factory=dict, init=False)
    _checked: dict[bytes, Patch | Rejected] = field(default_factory=dict, init=False)

    async def draw(self, requests: Sequence[SampleRequest], places: range, number: int = 0) -> list[Drawn]:
        """Draw a sample for each place, in round `number`; return them in order of place.

        They are dealt over the prompts like cards: place i goes to prompt i modulo their number. The requests have
        no indices and no instance yet. Raises what the sampler raises.
        """
        jobs = []
        if self.greedy_first and 0 in places:
            params = replace(requests[0].params, temperature=0.0)
            greedy = replace(requests[0], params=params, indices=(0,), instance=self.session.instance)
            jobs, places = [self._follow(greedy, {0: 0}, number)], range(1, places.stop)
        for turn, request in enumerate(requests):
            key, dealt = request.key(), [place for place in places if place % len(requests) == turn]
            indices = range(self._taken[key], self._taken[key] + len(dealt))
            self._taken[key] += len(dealt)
            if dealt:
                whole = replace(request, indices=tuple(indices), instance=self.session.instance)
                jobs.append(self._follow(whole, dict(zip(indices, dealt, strict=True)), number))
        drawn = [one for group in await together(jobs) for one in group]
        return sorted(drawn, key=lambda one: one.candidate.order)

    async def _follow(self, request: SampleRequest, orders: dict[int, int], number: int) -> list[Drawn]:
        """Draw the samples of one prompt and read each as soon as it is there; `orders` has their places by index."""
        key, drawn = request.key(), []
        async for completion in self.session.sampler.sample(request):
            outcome = await asyncio.get_running_loop().run_in_executor(_READING, self._read, completion)
            if isinstance(outcome, Patch):
                if outcome.diff not in self._checked:
                    self._checked[outcome.diff] = await asyncio.to_thread(self.session.check, outcome)
                outcome = self._checked[outcome.diff]
            candidate = Candidate(key, completion.index, orders[completion.index], outcome, number)
            drawn.append(Drawn(candidate, completion.text, completion.reasoning))
            rejected = outcome if isinstance(outcome, Rejected) else None
            self.session.watch(SampleDone(request.stage, completion, rejected))
        return drawn

    def _read(self, completion: Completion) -> Patch | Rejected:
        key = completion.text, completion.reasoning, completion.finish
        if key not in self._known:
            was_on = gc.isenabled()
            gc.disable()  # syntax trees are many objects and no cycle, and a collection stops all threads
            try:
                self._known[key] = read_answer(completion, self.tree, self.match, self.session.marks)
            finally:
                (gc.enable if was_on else gc.disable)()
        return self._known[key]


def counted_once(drawn: Sequence[Drawn], request: SampleRequest) -> tuple[tuple[Candidate, ...], str]:
    """Return the candidates, those marked that repeat an answer and are no vote of their own; and a note, or "".

    At temperature 0 a prompt has one answer. Above it equal answers are agreement, but a run of `MANY_REPEATS` in which
    no prompt was answered in two ways is the work of a server that does not sample, or of a cache. Decoding under a
    constraint leaves few answers to choose from, so there equality says nothing. `request` is any of those drawn.
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
