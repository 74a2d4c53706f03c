"""What repair prompts show: is every line of the tree that the fix changes or deletes visible in them?

The files are those of the fix, or the first five of the ranking. A model's tokens are taken to be 3.3 bytes each. As
`places` a line that the fix adds counts too: the lines around it must be visible.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Iterable, Mapping

from unidiff.patch import PatchedFile, PatchSet

from agentless_mini.chain.context import Gauge, fit_issue
from agentless_mini.chain.lexical import survey
from agentless_mini.chain.pipeline import ISSUE_SHARE
from agentless_mini.chain.repair import repair_requests
from agentless_mini.chain.session import Session, Subject
from agentless_mini.chain.templates import load_prompts
from agentless_mini.domain import Completion, Localization, Message, ModelCard, SampleRequest, ShownFile
from agentless_mini.settings.run import RepairSettings
from tests.benchmarks.stages import Fix, Measures

WINDOWS = (8, 16, 32)
RANKED = 5


class Counting:
    """A model of a window that is asked for counts of tokens alone."""

    def __init__(self, window: int) -> None:
        self._card = ModelCard("counting", window)

    async def card(self) -> ModelCard:
        return self._card

    async def count_tokens(self, messages: tuple[Message, ...]) -> int:
        return math.ceil(0.3 * sum(len(message.content.encode(errors="replace")) for message in messages))

    async def sample(self, request: SampleRequest) -> AsyncIterator[Completion]:
        raise AssertionError(f"{request.stage} is not asked for here")
        yield


def measure(fix: Fix) -> Measures:
    """Return for each window whether all changed lines are visible, in the files of the fix and in five ranked ones."""
    found = survey(fix.issue, fix.snapshot)
    patch = PatchSet(str(fix.row.row["patch"]))
    changed = {file.source_file.removeprefix("a/"): changed_lines(file) for file in patch if not file.is_added_file}
    around = {file.source_file.removeprefix("a/"): lines_around(file) for file in patch if not file.is_added_file}
    length = {path: len(file.data.splitlines()) for path, file in fix.snapshot.by_path().items() if path in changed}
    measures: dict[str, float | None] = {}
    for name, paths in (("given", fix.files), ("five", found.ranked[:RANKED])):
        for window in WINDOWS:
            issue = fit_issue(fix.issue, window * 1024 // ISSUE_SHARE, Gauge())
            files = asyncio.run(shown(Subject(issue, fix.snapshot, found), tuple(paths), window * 1024))
            shows = visible(files)
            measures[f"{name} {window}k"] = float(all(changed[path] <= shows.get(path, set()) for path in changed))
            if window != WINDOWS[1]:
                there = {path: {n for n in around[path] if 1 <= n <= length.get(path, 0)} for path in changed}
                seen = [there[path] | changed[path] <= shows.get(path, set()) for path in changed]
                measures[f"{name} {window}k places"] = float(all(seen))
    return measures


def changed_lines(file: PatchedFile) -> set[int]:
    """Return the numbers, in the old file, of the lines that are changed or deleted."""
    return {line.source_line_no for hunk in file for line in hunk if line.is_removed and line.source_line_no}


def lines_around(file: PatchedFile) -> set[int]:
    """Return the numbers, in the old file, of the lines around each run of lines that only adds some."""
    numbers: set[int] = set()
    for hunk in file:
        following, run = hunk.source_start + (hunk.source_length == 0), ""
        for line in (*hunk, None):
            if line is not None and (line.is_added or line.is_removed):
                run += line.line_type
                following += line.is_removed
                continue
            if run and "-" not in run:
                numbers |= {following - 1, following}
            run = ""
            following += 1
    return numbers


async def shown(subject: Subject, paths: tuple[str, ...], window: int) -> tuple[ShownFile, ...]:
    """Return the files as the repair prompt of one list shows them."""
    told: list[tuple[ShownFile, ...]] = []
    model, prompts = Counting(window), load_prompts(None)
    session = Session(model, prompts, lambda patch: patch, lambda event: None, "stages", told=told.append)
    await repair_requests(subject, Localization((paths,), (1,)), session, RepairSettings())
    return told[0]


def visible(files: Iterable[ShownFile]) -> Mapping[str, set[int]]:
    """Return the numbers of the lines that are shown, by path."""
    return {
        file.path: {one.first + n for one in file.excerpts for n in range(len(one.text.split("\n")))} for file in files
    }
