"""A second environment for an old tree: with the packages of its time, where today's do not serve it.

A tree seldom says below which versions of its dependencies it works, so that an old one can meet releases that broke
with it. Which of the two environments serves is decided by what was built, never by guessing at versions. Nothing is
built here: `virtual` and `imaged` do.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta

from agentless_mini.environments.shelf import Manifest, Slot
from agentless_mini.environments.work import Unfit, Work
from agentless_mini.errors import BuildFailed

_OLD = timedelta(days=180)
"""A younger tree is taken to work with what its authors have today."""


@dataclass(frozen=True, slots=True)
class Builder:
    """How a place is made: `slot` says where it is kept, `ready` builds it where it is not there."""

    slot: Callable[[Work], Slot]
    ready: Callable[[Work], Awaitable[Manifest]]


async def fitting(work: Work, builder: Builder) -> tuple[Work, Manifest]:
    """Return the environment that serves, and what it was made for: with packages of today, or of the tree's time.

    One of the tree's time is kept only where it is better than the other, and then taken at once. Raises what
    `builder.ready` raises for packages of today where it makes neither.
    """
    until = last_day(work, date.today())
    if not until:
        return work, await builder.ready(work)
    dated = replace(work, until=until)
    if builder.slot(dated).read() is not None:
        return dated, await builder.ready(dated)
    try:
        first = await builder.ready(work)
    except Unfit as error:
        return await _instead(work, dated, builder, error)
    if not first.lacking or first.tried == until:
        return work, first
    return await _better(work, dated, builder, first)


def last_day(work: Work, today: date) -> str:
    """Return the day of the tree in ISO form, "" where the tree is young or what is installed is not chosen here."""
    if work.settings.image or work.settings.setup:
        return ""
    try:
        day = date.fromisoformat(work.request.until[:10])
    except ValueError:  # none is given, or the commit was dated by a clock that was wrong
        return ""
    return day.isoformat() if today - day > _OLD else ""


async def _instead(work: Work, dated: Work, builder: Builder, error: Unfit) -> tuple[Work, Manifest]:
    work.note(f"{error.problem.capitalize()}: trying packages as of {dated.until}.")
    try:
        return dated, await builder.ready(dated)
    except BuildFailed:
        raise error from None  # what a user can mend is the first


async def _better(work: Work, dated: Work, builder: Builder, first: Manifest) -> tuple[Work, Manifest]:
    work.note(f"A package of the tree cannot be imported: trying packages as of {dated.until}.")
    try:
        second = await builder.ready(dated)
    except BuildFailed:
        second = first
    if second.lacking < first.lacking:
        return dated, second
    builder.slot(dated).clear()
    slot = builder.slot(work)
    slot.keep(first.model_copy(update={"tried": dated.until}), slot.overlay())
    return work, first
