"""Sample full-file repairs (SWE-RL, arXiv 2502.18449, "Agentless Mini"): the prompts, one for each distinct file list.

Sample i goes to prompt i modulo their number, so more samples later only add to the ones that are there. Within
the prompts the files stand in one order for all, the most wanted first, so that prompts share what they can of their
beginning.

With a bound (`stop_when`) they are drawn in portions, and no further once the winner of the vote is settled. What is
drawn is always a whole beginning of the run, so that a rerun finds it in the record and stops at the same place.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from agentless_mini.chain.context import Fitted, Gauge, Source, fit_files
from agentless_mini.chain.drawing import Drawn, Draws, counted_once
from agentless_mini.chain.prompts import Prompts
from agentless_mini.chain.session import Draft, Session, Subject, answer_room, fit_prompt
from agentless_mini.chain.stopping import decided
from agentless_mini.domain import (
    Candidate,
    Decoding,
    EditTask,
    Issue,
    Localization,
    Message,
    ModelCard,
    Note,
    SampleRequest,
    SamplingParams,
    ShownFile,
    Snapshot,
    Stage,
    StageStarted,
)
from agentless_mini.edits import Tree
from agentless_mini.edits.sources import decode
from agentless_mini.errors import ContextTooSmall
from agentless_mini.settings.run import RepairSettings

# With a bound on the vote it is looked at so many times at most.
PORTIONS = 8


async def repair(
    subject: Subject, localization: Localization, session: Session, settings: RepairSettings
) -> tuple[Candidate, ...]:
    """Return what became of each sample, in order of sample: of fewer than wanted where `stop_when` ended it.

    Raises `ContextTooSmall` where the prompts cannot show any file, and what the sampler raises.
    """
    requests = await repair_requests(subject, localization, session, settings)
    session.watch(StageStarted(Stage.REPAIR, settings.samples))
    draws = Draws(Tree.of(subject.snapshot), settings.match, session)
    drawn: list[Drawn] = []
    candidates: tuple[Candidate, ...] = ()
    note = ""
    for places in _portions(settings, len(requests)):
        drawn += await draws.draw(requests, places)
        candidates, note = counted_once(drawn, requests[0])
        if settings.stop_when and decided(candidates, settings.samples - len(drawn), settings.stop_when):
            break
    _tell_saved(len(drawn), settings, session)
    if note:
        session.watch(Note(note))
    return candidates


def _portions(settings: RepairSettings, prompts: int) -> Iterator[range]:
    """Yield the places that are drawn together: an eighth of all, and at least one of each prompt."""
    whole = settings.samples
    size = max(prompts, -(-whole // PORTIONS)) if settings.stop_when else whole
    for begin in range(0, whole, size):
        yield range(begin, min(begin + size, whole))


async def repair_requests(
    subject: Subject, localization: Localization, session: Session, settings: RepairSettings, spare: int = 0
) -> list[SampleRequest]:
    """Return the distinct prompts as requests, without indices and instance, those of the most votes first.

    Each leaves `spare` tokens of what a prompt may have. Raises `ContextTooSmall`, and what the sampler raises.
    """
    card = await session.sampler.card()
    room = prompt_room(card, settings.max_tokens) - spare
    drafts = await _drafts(subject, localization, session, (room, settings.samples))
    _tell_answers(card, settings.max_tokens, session)
    return [_request(subject.issue, draft, card, settings) for draft in drafts]


def prompt_room(card: ModelCard, max_tokens: int) -> int:
    """Return the tokens that a prompt may have: half of the window for line rewriting, which shows a file twice."""
    if card.decoding is Decoding.LINES:
        return card.context_window // 2
    return card.context_window - answer_room(max_tokens, card.context_window)


async def _drafts(
    subject: Subject, localization: Localization, session: Session, most: tuple[int, int]
) -> list[Draft[Fitted]]:
    """Return the distinct prompts, one for each file list that still differs once it fits, most votes first.

    `most` are the tokens of a prompt and the number of lists.
    """
    common = _common_order(localization)
    sources = _sources(subject.snapshot, common)
    room, lists = most
    drafts: list[Draft[Fitted]] = []
    for paths in localization.lists[:lists]:
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


def _tell_saved(drawn: int, settings: RepairSettings, session: Session) -> None:
    if drawn < settings.samples:
        session.watch(
            Note(
                f"Sampling ended after {drawn} of {settings.samples} samples ({settings.samples - drawn} saved): "
                f"the winner of the vote stays with a probability of {settings.stop_when:g} at least (--stop-when)."
            )
        )


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
