"""Which environment serves an old tree: one with the packages of its time, or one with those of today.

A tree seldom says below which versions of its dependencies it works, and one that meets later releases may well start
and fail in half of its tests. So those of its time come first. Those of today stand in where the others cannot be had
(no uv for this machine, an index that does not say when a package came) or lack more. Both are decided by what was
built, never by guessing at versions. Nothing is built here: `virtual` and `imaged` do.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta

from agentless_mini.environment.shelf import Manifest, Slot
from agentless_mini.environment.work import Work
from agentless_mini.errors import BuildFailed, printable

_OLD = timedelta(days=180)
"""A younger tree is taken to work with what its authors have today."""


@dataclass(frozen=True, slots=True)
class Builder:
    """How a place is made: `slot` says where it is kept, `ready` builds it where it is not there."""

    slot: Callable[[Work], Slot]
    ready: Callable[[Work], Awaitable[Manifest]]


async def fitting(work: Work, builder: Builder) -> tuple[Work, Manifest]:
    """Return the environment that serves, and what it was made for: with packages of the tree's time, or of today.

    What came of a comparison is kept, and nothing is built for it twice. Raises what `builder.ready` raises for
    packages of today where it makes neither.
    """
    until = last_day(work, date.today())
    if not until:
        return work, await builder.ready(work)
    dated = replace(work, until=until)
    if _has_won(builder.slot(work), until):
        return work, _told(await builder.ready(work), until)
    try:
        first = await builder.ready(dated)
    except BuildFailed:
        return await _instead(dated, builder)
    if not first.lacking or _has_won(builder.slot(dated), until):
        return dated, first
    return await _better(dated, builder, first)


def last_day(work: Work, today: date) -> str:
    """Return the day of the tree in ISO form, "" where the tree is young or what is installed is not chosen here."""
    if work.settings.image or work.settings.setup:
        return ""
    try:
        day = date.fromisoformat(work.request.until[:10])
    except ValueError:  # none is given, or the commit was dated by a clock that was wrong
        return ""
    return day.isoformat() if today - day > _OLD else ""


def _has_won(slot: Slot, until: str) -> bool:
    kept = slot.read()
    return kept is not None and kept.tried == until


async def _instead(dated: Work, builder: Builder) -> tuple[Work, Manifest]:
    log = printable(str(builder.slot(dated).log))
    dated.note(f"Packages as of {dated.until}, the day of the tree, do not do (log: {log}): taking those of today.")
    work = replace(dated, until="")
    return work, _told(_won(builder.slot(work), await builder.ready(work), dated.until), dated.until)


async def _better(dated: Work, builder: Builder, first: Manifest) -> tuple[Work, Manifest]:
    dated.note(f"The tree lacks something with the packages of {dated.until}, its day: trying those of today.")
    work = replace(dated, until="")
    try:
        second = await builder.ready(work)
    except BuildFailed:
        second = first
    if second.lacking >= first.lacking:
        return dated, _won(builder.slot(dated), first, dated.until)
    builder.slot(dated).clear()
    return work, _told(_won(builder.slot(work), second, dated.until), dated.until)


def _won(slot: Slot, manifest: Manifest, until: str) -> Manifest:
    """Keep that this one serves the trees of a day."""
    won = manifest.model_copy(update={"tried": until})
    slot.keep(won, slot.overlay())
    return won


def _told(manifest: Manifest, until: str) -> Manifest:
    """Return it with a sentence for people; it is not kept, since younger trees may share the environment."""
    sentence = f"Its packages are those of today; those of {until}, the day of the tree, do not do."
    return manifest.model_copy(update={"notes": (*manifest.notes, sentence)})
