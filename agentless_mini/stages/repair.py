"""Sample full-file repairs (mission section 1.2) and turn each answer into a patch that git accepts, or say why not.

Each distinct file list becomes a prompt; sample i goes to prompt i modulo their number, so more samples later only add
to the ones that are there. Within the prompts the files stand in one order for all, the most wanted first, so that
prompts share what they can of their beginning.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict, Field

from agentless_mini.context import Fitted, Gauge, Source, fit_files
from agentless_mini.domain import (
    Candidate,
    Completion,
    Decoding,
    EditTask,
    Issue,
    Localization,
    Message,
    ModelCard,
    Note,
    Patch,
    Rejected,
    SampleDone,
    SampleRequest,
    SamplingParams,
    ShownFile,
    Snapshot,
    Stage,
    StageStarted,
)
from agentless_mini.edits import Matching, Tree, read_answer
from agentless_mini.errors import ContextTooSmall
from agentless_mini.prompts import Prompts
from agentless_mini.sources import decode
from agentless_mini.stages.session import Draft, Session, Subject, answer_room, fit_prompt, together


class RepairSettings(BaseModel):
    """How repairs are sampled and read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples: int = Field(10, ge=1, le=100_000)
    """Repairs sampled, over all file lists (the paper: 500)."""
    temperature: float = Field(1.0, ge=0, le=2)
    """Sampling temperature."""
    max_tokens: int = Field(8192, ge=1)
    """Most tokens of one answer, reasoning included; never more than a quarter of the context."""
    match: Matching = Matching.STRICT
    """How SEARCH lines are found in a file."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Seed of the first sample of each prompt."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """One prompt, and the places (`Candidate.order`) of its samples among all of the run."""

    request: SampleRequest
    orders: tuple[int, ...]


async def repair(
    subject: Subject, localization: Localization, session: Session, settings: RepairSettings
) -> tuple[Candidate, ...]:
    """Return what became of each sample, in order of sample.

    Raises `ContextTooSmall` where the prompts cannot show any file, and what the sampler raises.
    """
    card = await session.sampler.card()
    drafts = await _drafts(subject, localization, session, settings)
    plans = _plans([_request(subject.issue, draft, card, settings) for draft in drafts], session, settings.samples)
    _tell_answers(card, settings.max_tokens, session)
    session.watch(StageStarted(Stage.REPAIR, settings.samples))
    reader = _Reader(Tree.of(subject.snapshot), settings.match, session)
    groups = await together([_draw(plan, reader, session) for plan in plans])
    return tuple(sorted((one for group in groups for one in group), key=lambda candidate: candidate.order))


async def _drafts(
    subject: Subject, localization: Localization, session: Session, settings: RepairSettings
) -> list[Draft[Fitted]]:
    """Return the distinct prompts, one for each file list that still differs once it fits, most votes first."""
    common = _common_order(localization)
    sources = _sources(subject.snapshot, common)
    card = await session.sampler.card()
    room = _room(card, settings.max_tokens)
    drafts: list[Draft[Fitted]] = []
    for paths in localization.lists[: settings.samples]:
        wanted = [sources[path] for path in paths]
        draft = await fit_prompt(session.sampler, room, _drafter(subject, wanted, common, session.prompts))
        if all(draft.messages != other.messages for other in drafts):
            drafts.append(draft)
            _tell(draft.shown, session)
    return drafts


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


def _sources(snapshot: Snapshot, paths: Iterable[str]) -> dict[str, Source]:
    files = snapshot.by_path()
    return {path: Source(path, decode(files[path]).text) for path in paths}


def _room(card: ModelCard, max_tokens: int) -> int:
    """Return the tokens that a prompt may have: half of the window for line rewriting, which shows a file twice."""
    if card.decoding is Decoding.LINES:
        return card.context_window // 2
    return card.context_window - answer_room(max_tokens, card.context_window)


def _drafter(
    subject: Subject, wanted: Sequence[Source], common: Mapping[str, int], prompts: Prompts
) -> Callable[[int, Gauge], Draft[Fitted]]:
    def messages(files: tuple[ShownFile, ...]) -> tuple[Message, ...]:
        ordered = tuple(sorted(files, key=lambda file: common[file.path]))
        return prompts.repair(subject.issue, subject.snapshot.name, ordered)

    def draft(budget: int, gauge: Gauge) -> Draft[Fitted]:
        fixed = sum(gauge.tokens(message.content) for message in messages(()))
        fitted = fit_files(wanted, subject.survey.named, budget - fixed, gauge)
        if not fitted.files:
            text = f"No part of {wanted[0].path} fits {budget} tokens: serve the model with a larger context."
            raise ContextTooSmall(text)
        return Draft(messages(fitted.files), fitted, cut=bool(fitted.left_out or fitted.windowed))

    return draft


def _tell(fitted: Fitted, session: Session) -> None:
    if fitted.left_out:
        session.watch(Note(f"Left out of a prompt to fit the context: {', '.join(fitted.left_out)}."))
    for path in fitted.windowed:
        session.watch(Note(f"Shown in part to fit the context: {path}."))


def _tell_answers(card: ModelCard, wanted: int, session: Session) -> None:
    """Say that answers are shorter than wanted. A rewritten line is short: there it makes no difference."""
    room = answer_room(wanted, card.context_window)
    if room < wanted and card.decoding is not Decoding.LINES:
        session.watch(
            Note(f"An answer may have {room} tokens, not {wanted}: a quarter of the model's context at most.")
        )


def _request(issue: Issue, draft: Draft[Fitted], card: ModelCard, settings: RepairSettings) -> SampleRequest:
    """Return the request for a prompt, its indices and instance still to be filled in."""
    task = None if card.decoding is Decoding.FREE else EditTask(issue.text, draft.shown.files)
    params = SamplingParams(
        answer_room(settings.max_tokens, card.context_window), settings.temperature, seed=settings.seed
    )
    return SampleRequest(card.name, draft.messages, params, (), Stage.REPAIR, "", card.decoding, task)


def _plans(requests: Sequence[SampleRequest], session: Session, samples: int) -> list[_Plan]:
    """Deal the samples out over the prompts like cards."""
    plans = []
    for number, request in enumerate(requests):
        orders = tuple(range(number, samples, len(requests)))
        whole = replace(request, indices=tuple(range(len(orders))), instance=session.instance)
        plans.append(_Plan(whole, orders))
    return plans


async def _draw(plan: _Plan, reader: "_Reader", session: Session) -> list[Candidate]:
    """Draw the samples of one prompt and read each as soon as it is there."""
    key = plan.request.key()
    candidates = []
    async for completion in session.sampler.sample(plan.request):
        outcome = await reader.read(completion)
        candidates.append(Candidate(key, completion.index, plan.orders[completion.index], outcome))
        session.watch(SampleDone(Stage.REPAIR, completion, outcome if isinstance(outcome, Rejected) else None))
    return candidates


class _Reader:
    """Reads answers into patches, and asks git once for each distinct patch."""

    def __init__(self, tree: Tree, match: Matching, session: Session) -> None:
        self._tree = tree
        self._match = match
        self._session = session
        self._checked: dict[bytes, Patch | Rejected] = {}

    async def read(self, completion: Completion) -> Patch | Rejected:
        outcome = read_answer(completion, self._tree, self._match)
        if isinstance(outcome, Rejected):
            return outcome
        if outcome.diff not in self._checked:
            self._checked[outcome.diff] = await asyncio.to_thread(self._session.check, outcome)
        return self._checked[outcome.diff]
