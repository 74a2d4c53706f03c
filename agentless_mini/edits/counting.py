"""Which edits of an answer count: models repeat themselves, and write a draft before what they mean.

An edit that is repeated word for word is one edit. Of several blocks (edits without a fence or prose between them) that
edit one place of a file, each as the file was, the last one counts, if it changes all that the earlier edit changes.
"""

from collections.abc import Callable, Sequence

from agentless_mini.domain import Edit, Matching, Rejected
from agentless_mini.edits.matching import Lines, changed_by
from agentless_mini.edits.placing import MOST_LOOSE, place

_Span = tuple[int, int]


def counting(edits: Sequence[Edit], original: Callable[[str], Lines], matching: Matching) -> list[Edit]:
    """Return the edits that count, in their order. `original` gives the lines of a file as it was.

    Places are looked for loosely only where edits are so few that the applier looks for all of them so.
    """
    edits = _once(edits)
    if len({edit.block for edit in edits}) <= 1:
        return edits
    if len(edits) > MOST_LOOSE:
        matching = Matching.STRICT
    superseded: set[int] = set()
    for path in {edit.path for edit in edits}:
        superseded |= _superseded(
            [at for at, edit in enumerate(edits) if edit.path == path], edits, original(path), matching
        )
    return [edit for at, edit in enumerate(edits) if at not in superseded]


def _once(edits: Sequence[Edit]) -> list[Edit]:
    """Leave out repetitions: in one block all but the first, of several blocks all but the last."""
    by_text: dict[tuple[object, ...], dict[int, int]] = {}
    for at, edit in enumerate(edits):
        by_text.setdefault((edit.path, edit.readings), {}).setdefault(edit.block, at)
    return [edits[at] for at in sorted(max(places.values()) for places in by_text.values())]


def _superseded(places: Sequence[int], edits: Sequence[Edit], file: Lines, matching: Matching) -> set[int]:
    """Return which of the edits of one file change nothing but what edits of later blocks change, too."""
    superseded: set[int] = set()
    later: dict[int, tuple[int, _Span]] = {}
    blocks: dict[_Span, int] = {}
    for at in reversed(places):
        block = edits[at].block
        span, touched = _reach(edits[at], file, matching)
        if span is None:
            continue
        over = [later[one] for one in touched if one in later]
        is_over = len(over) == len(touched) > 0 and all(other > block and _share(span, there) for other, there in over)
        if is_over or blocks.get(span, block) > block:
            superseded.add(at)
        else:
            later.update(dict.fromkeys(touched, (block, span)))
            blocks.setdefault(span, block)
    return superseded


def _reach(edit: Edit, file: Lines, matching: Matching) -> tuple[_Span | None, set[int]]:
    """Return the lines [start, stop) that an edit finds in a file, None for no one place, and what it changes.

    Line n of the file is 2n + 1, and the place before it, where lines may be added, 2n.
    """
    if not file.lines:
        creates = any(not reading.search.strip() for reading in edit.readings)
        return (0, 0) if creates else None, set()
    placed = place(edit, file, matching)
    if isinstance(placed, Rejected):
        return None, set()
    start, stop = placed.match.start, placed.match.stop
    touched: set[int] = set()
    for begin, end, _ in changed_by(placed.match, file):
        touched.update(range(2 * begin + 1, 2 * end) if begin < end else (2 * begin,))
    return (start, stop), touched


def _share(one: _Span, other: _Span) -> bool:
    return max(one[0], other[0]) < min(one[1], other[1])
