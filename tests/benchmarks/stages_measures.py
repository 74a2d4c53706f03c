"""What the stages find for a fix: a function by the name of each."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterable, Mapping

from unidiff.patch import PatchedFile, PatchSet

from agentless_mini.chain.context import Gauge, fit_issue
from agentless_mini.chain.generated_tests import first_with_tests, style_examples
from agentless_mini.chain.lexical import survey
from agentless_mini.chain.pipeline import ISSUE_SHARE
from agentless_mini.chain.related_tests import related_tests, test_files
from agentless_mini.chain.repair import repair_requests
from agentless_mini.chain.session import Session, Subject
from agentless_mini.chain.templates import load_prompts
from agentless_mini.domain import Completion, Localization, Message, ModelCard, Patch, Runner, SampleRequest, ShownFile
from agentless_mini.edits import changed_files
from agentless_mini.edits.suspicion import suspicions
from agentless_mini.repository.patches import patch_reader
from agentless_mini.settings.run import RepairSettings
from agentless_mini.testing import harness_of
from tests.benchmarks import say
from tests.benchmarks.stages import Fix, Measures

FIRST_FILES, FIRST_TESTS = (1, 3, 5, 10, 20), (8, 16)
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


def ranking(fix: Fix) -> Measures:
    """Localization without a model: are all files of the fix among the first k of the ranking?"""
    ranked = survey(fix.issue, fix.snapshot).ranked
    return {f"files @{most}": float(set(fix.files) <= set(ranked[:most])) for most in FIRST_FILES}


def regression(fix: Fix) -> Measures:
    """Tell whether the first related tests hold those of the fix, and whether the style example lies beside one.

    The files that the true fix changes stand for those that the patches touch. The answer are the test files that the
    fix changes too and that hold tests; an issue without any counts for neither number. No patch is there yet when the
    style example is chosen: it goes by the ranking.
    """
    held, snapshot = fix.snapshot.by_path(), fix.snapshot
    related = related_tests(snapshot, frozenset(fix.files), fix.issue)
    wanted = {file.path for file in test_files(snapshot, Runner.PYTEST)} & set(fix.tests)
    runner = harness_of(snapshot).runner
    likely = style_examples(fix.issue, snapshot, survey(fix.issue, snapshot), runner)
    example = first_with_tests([held[path] for path in likely], runner)
    lines = str(fix.row.row["test_patch"]).split("\n")
    folders = {line.removeprefix("+++ b/").strip().rpartition("/")[0] for line in lines if line.startswith("+++ b/")}
    found = {f"regression @{most}": float(wanted <= set(related[:most])) if wanted else None for most in FIRST_TESTS}
    return {**found, "style folder": float(example is not None and example.path.rpartition("/")[0] in folders)}


def context(fix: Fix) -> Measures:
    """What repair prompts show: is every line of the tree that the fix changes or deletes visible in them?

    The files are those of the fix, or the first five of the ranking. A model's tokens are taken to be 3.3 bytes each.
    As `places` a line that the fix adds counts too: the lines around it must be visible.
    """
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


def suspicion(fix: Fix) -> Measures:
    """Tell whether the true fix is called suspicious, which none should be; it is printed by which rules."""
    with patch_reader(fix.snapshot) as read:
        patch = read(str(fix.row.row["patch"]).encode())
    if not isinstance(patch, Patch):
        return {"suspicious": None}
    if told := suspicions(changed_files(patch, fix.snapshot.by_path())):
        say(f"{fix.row.id}: {'; '.join(told)}")
    return {"suspicious": float(bool(told))}


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
