"""One issue, from text to the chosen patch. Reads like the chain that it runs."""

import asyncio
from dataclasses import replace

from pydantic import BaseModel, ConfigDict

from agentless_mini.context import Gauge, fit_issue
from agentless_mini.domain import Event, Issue, Localization, Note, Prediction, Snapshot
from agentless_mini.errors import RepositoryError
from agentless_mini.lexical import Survey, survey
from agentless_mini.ranking import vote
from agentless_mini.stages.localize import LocalizeSettings, given, localize
from agentless_mini.stages.repair import RepairSettings, repair
from agentless_mini.stages.session import Session, Subject

# The issue may take this share of the window at most: the rest is for code and for the answer.
ISSUE_SHARE = 4


class ChainSettings(BaseModel):
    """The settings of the chain's stages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    localize: LocalizeSettings = LocalizeSettings()
    """File localization."""
    repair: RepairSettings = RepairSettings()
    """Repair sampling."""
    files: tuple[str, ...] = ()
    """Files to edit, instead of localization."""


async def resolve(issue: Issue, snapshot: Snapshot, session: Session, settings: ChainSettings) -> Prediction:
    """Find the files, sample repairs, vote (mission section 1, without execution).

    What the stages have to note is in the prediction and is not told to `session.watch`.
    Raises `RepositoryError` where the tree holds no text file, `UsageError` for unknown files, `ContextTooSmall`, and
    what the sampler raises. No valid patch is a result: `Prediction.choice` is None.
    """
    notes: list[str] = []

    def watch(event: Event) -> None:
        if isinstance(event, Note):
            notes.append(event.text)
        else:
            session.watch(event)

    noting = replace(session, watch=watch)
    subject = await _subject(issue, snapshot, noting)
    localization = await _localization(subject, noting, settings)
    candidates = await repair(subject, localization, noting, settings.repair)
    return Prediction(localization, candidates, vote(candidates), tuple(notes))


async def _subject(issue: Issue, snapshot: Snapshot, session: Session) -> Subject:
    found: Survey = await asyncio.to_thread(survey, issue, snapshot)
    if not found.ranked:
        message = f"The repository {snapshot.name!r} holds no text file to repair: check --rev and the path."
        raise RepositoryError(message)
    card = await session.sampler.card()
    shown = fit_issue(issue, card.context_window // ISSUE_SHARE, Gauge())
    if shown is not issue:
        session.watch(Note("The middle of the issue was left out to fit the context."))
    return Subject(shown, snapshot, found)


async def _localization(subject: Subject, session: Session, settings: ChainSettings) -> Localization:
    if settings.files:
        return given(settings.files, subject.snapshot)
    return await localize(subject, session, settings.localize)
