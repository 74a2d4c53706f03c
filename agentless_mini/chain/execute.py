"""Runs all tests on each distinct patch, round by round. Nothing is chosen here.

The first patches bring the tests: those that reproduce the issue, and the regression tests of what they touch. Patches
of a later round that touch more files bring the regression tests of these. Tests that came together stay together as
a batch, in boxes of their own, so that every patch meets each test with the same others.

The most related test files are run first, some at a time, until the budget is used up (after "Agentless Mini" of
SWE-RL, arXiv 2502.18449). What a test takes is counted as its process says (see `CaseResult`): neither the start of a
runner nor the reading of files counts, nor how busy the machine is. These have a limit by the clock, as recorded, so
that a rerun asks for the same boxes again.
"""

import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from agentless_mini.chain.file_roles import is_test_path, is_test_tool, runs_here
from agentless_mini.chain.rank import counted_votes, valid_patches
from agentless_mini.chain.related_tests import related_tests
from agentless_mini.chain.session import CANARIES, FORGED, Boxes, Refused, known_by, run_cases, run_files, together
from agentless_mini.domain import (
    BoxDone,
    Candidate,
    Case,
    CaseResult,
    Execution,
    Note,
    Origin,
    Outcome,
    Patch,
    Phase,
    PhaseSaid,
    PhaseStarted,
    Regressions,
    Runner,
    Verdict,
)
from agentless_mini.errors import EnvironmentFailed, counted, printable
from agentless_mini.settings.run import RegressSettings
from agentless_mini.testing.records import LEFT

_COUNTED = re.compile(r"\b\d+ (?:passed|failed|errors?)\b|^(?:OK|FAILED)\b")
_NUMBER = re.compile(r"[\d.]+")
AGAIN_SHARE = 20
"""Of so many regression tests one may be run again, and one at least."""
UNTOLD = "WARNING: tests of ours do not come out as they should before any patch, so forged results are not told."
Spare = Callable[[tuple[Case, ...]], Awaitable[tuple[Case, ...]]]
"""Leaves out regression tests that a right fix must break."""


async def execute(
    boxes: Boxes, candidates: Sequence[Candidate], cases: Sequence[Case], canaries: int = CANARIES
) -> tuple[Verdict, ...]:
    """Return what the cases say of each distinct patch, in the order of its first sample. Boxes run side by side.

    In each box so many `canaries` run too, tests of ours: where they come out otherwise than known, the patch is
    refused. Where a patch breaks few regression tests, these run once more: one that passes then is flaky, or met a
    busy machine, and is kept. Raises `EnvironmentFailed` as the sandbox does; the other boxes are ended then.
    """
    valid = valid_patches(candidates)
    patches = [valid[one.first] for one in counted_votes(candidates)]
    if not cases:
        return tuple(Verdict(patch.normal, ()) for patch in patches)

    async def verdict(patch: Patch) -> Verdict:
        results = await run_cases(boxes, patch, cases, canaries=canaries)
        if isinstance(results, Refused):
            boxes.watch(BoxDone(Phase.EXECUTION))
            if results.detail.startswith(FORGED):
                boxes.watch(Note(f"A patch of {printable(', '.join(patch.paths))} was refused: {results.detail}."))
            return Verdict(patch.normal, (), results.detail)
        results = await second_look(patch, results)
        boxes.watch(BoxDone(Phase.EXECUTION, tuple(result.outcome for result in results)))
        return Verdict(patch.normal, results)

    async def second_look(patch: Patch, results: tuple[CaseResult, ...]) -> tuple[CaseResult, ...]:
        own = [case for case in cases if case.origin is Origin.REGRESSION]
        broken = {result.id for result in results if result.outcome is not Outcome.PASS} & {case.id for case in own}
        if not 0 < len(broken) <= max(1, len(own) // AGAIN_SHARE):
            return results
        again = [case for case in own if case.id in broken]
        came = await run_cases(boxes, patch, again, attempt=1, canaries=canaries)
        kept = {} if isinstance(came, Refused) else {one.id: one for one in came if one.outcome is Outcome.PASS}
        return tuple(kept.get(result.id, result) for result in results)

    boxes.watch(PhaseStarted(Phase.EXECUTION, len(patches)))
    return tuple(await together([verdict(patch) for patch in patches]))


@dataclass(frozen=True, slots=True)
class _Batch:
    """Tests that are run together, what they say without a patch, and the verdicts so far by normal form."""

    cases: tuple[Case, ...]
    before: tuple[CaseResult, ...]
    canaries: int = CANARIES
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    def owes(self, candidate: Candidate) -> bool:
        return isinstance(candidate.outcome, Patch) and candidate.outcome.normal not in self.verdicts


@dataclass(slots=True)
class Batches:
    """All tests of one issue, and what they say of its patches so far.

    `reproducing` are the tests that show the issue. With `given_first` the given ones run alone on all patches of the
    one round that there is, and the others on those patches alone that pass as many of them as any does: no other could
    be chosen. A number means candidates that are ranked: so many are tried at a time, until one passes all tests; 0:
    all at once. `spare` returns the regression tests that count.
    """

    boxes: Boxes
    reproducing: Sequence[Case]
    settings: RegressSettings
    given_first: int | None = field(default=None, kw_only=True)
    spare: Spare | None = field(default=None, kw_only=True)
    _touched: frozenset[str] = field(default=frozenset(), init=False)
    _batches: list[_Batch] = field(default_factory=list, init=False)
    _found: int = field(default=0, init=False)
    _why: list[str] = field(default_factory=list, init=False)
    _none: str = field(default="none passes beside the others", init=False)

    async def over(self, candidates: Sequence[Candidate]) -> Execution | None:
        """Return what all tests say of each distinct patch, by first sample, or None where there is no patch yet.

        Only what is not known is run. Raises `EnvironmentFailed` as the sandbox does; the other boxes are ended then.
        """
        if not _touched(candidates):
            return None
        if self.given_first is None or self._batches:
            await self._all(candidates)
        else:
            await self._add([case for case in self.reproducing if case.origin is Origin.GIVEN])
            await self._in_portions(candidates, (self._batches and self.given_first) or len(candidates))
        verdicts = []
        for normal in self._batches[0].verdicts if self._batches else ():
            said = [batch.verdicts[normal] for batch in self._batches if normal in batch.verdicts]
            refusal = next((verdict.refusal for verdict in said if verdict.refusal), "")
            results = () if refusal else tuple(result for verdict in said for result in verdict.results)
            verdicts.append(Verdict(normal, results, refusal))
        cases = tuple(case for batch in self._batches for case in batch.cases)
        before = tuple(result for batch in self._batches for result in batch.before)
        return Execution(cases, before, tuple(verdicts))

    @property
    def regressions(self) -> Regressions | None:
        """Return what became of the repository's own tests so far; None where none was wanted."""
        run = sum(case.origin is Origin.REGRESSION for batch in self._batches for case in batch.cases)
        told = Regressions(self._found, run, ", ".join(filter(None, self._why)) or ("" if run else self._none))
        return told if self.settings.budget and self._touched else None

    def doubts(self, patch: Patch) -> tuple[str, ...]:
        """Return what is odd about the user's commands that pass with a patch, which may just end them."""
        every = self.boxes.harness.runner is Runner.COMMAND
        return tuple(
            f"{now.id} passes {odd}"
            for batch in self._batches
            if patch.normal in batch.verdicts
            for case, first, now in zip(batch.cases, batch.before, batch.verdicts[patch.normal].results, strict=False)
            if (every or case.command) and now.outcome is Outcome.PASS and (odd := _odd(first, now))
        )

    async def _in_portions(self, candidates: Sequence[Candidate], size: int) -> None:
        """Try so many more candidates at a time, until one passes all tests."""
        best: list[Candidate] = []  # whoever was among the best for a while meets all tests
        for end in range(size, len(candidates) + size, size):
            await self._run(self._batches[:1], candidates[:end])
            best += self._most_passing(candidates[:end])
            await self._all(best)
            missed = [
                sum(len(batch.cases) - len(batch.verdicts[patch.normal].passed()) for batch in self._batches)
                for patch in valid_patches(best)
            ]
            if end < len(candidates) and 0 in missed:
                told = f"{len(candidates) - end} of {len(candidates)} samples were not tested"
                self.boxes.watch(Note(f"{told}: one that the model finds likelier passes all tests."))
                break

    def _most_passing(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """Return the candidates that pass the most of the tests that were run; none where nothing passes any."""
        if not self._batches:  # no test is given that says something
            return candidates
        passed = {normal: len(verdict.passed()) for normal, verdict in self._batches[0].verdicts.items()}
        most = max(1, *passed.values())
        patches = {normal for normal, number in passed.items() if number == most}
        return [one for one in candidates if isinstance(one.outcome, Patch) and one.outcome.normal in patches]

    async def _all(self, candidates: Sequence[Candidate]) -> None:
        """Run on the candidates all tests of what they touch."""
        if touched := _touched(candidates):
            await self._gather(touched)
            await self._run(self._batches, candidates)

    async def _run(self, batches: Sequence[_Batch], candidates: Sequence[Candidate]) -> None:
        """Run on each distinct patch what it has not met."""
        for batch in batches:
            if owed := [one for one in candidates if batch.owes(one)]:
                found = await execute(self.boxes, owed, batch.cases, batch.canaries)
                batch.verdicts.update({verdict.normal: verdict for verdict in found})

    async def _gather(self, touched: frozenset[str]) -> None:
        """Add the tests of what was not touched before, within what those before left of the limits."""
        if touched <= self._touched:
            return
        there = [pair for batch in self._batches for pair in zip(batch.cases, batch.before, strict=True)]
        spent = [result.seconds for case, result in there if case.origin is Origin.REGRESSION]
        wanted = [] if self._touched else list(self.reproducing)
        if self.settings.budget and len(spent) < self.settings.most:
            left = {"budget": max(0.0, self.settings.budget - sum(spent)), "most": self.settings.most - len(spent)}
            own = [case.path for case in wanted if case.origin is Origin.GIVEN and case.path]
            settings = self.settings.model_copy(update=left)
            cases, came = await regress(self.boxes, touched - self._touched, settings, own)
            kept = await self.spare(cases) if self.spare else cases
            wanted += kept
            self._found += came.found
            self._none = self._none if came.found else came.why
            self._why += [
                came.why if came.found else "",
                f"{spared} expected to break" if (spared := len(cases) - len(kept)) else "",
            ]
        known = {case.id for case, _ in there}
        await self._add([case for case in wanted if case.id not in known])
        self._touched |= touched

    async def _add(self, cases: Sequence[Case]) -> None:
        """Add those tests that say something without a patch, run together as the patches will meet them.

        Left out is one that says something else beside others: it would tell patches apart by chance.
        """
        if not cases:
            return
        own = sum(case.origin is Origin.REGRESSION for case in cases)
        if own:
            self.boxes.watch(PhaseSaid(Phase.REGRESSION, "all that pass a second time, together"))
        canaries = CANARIES
        results = await run_cases(self.boxes, None, cases, canaries=canaries)
        if isinstance(results, Refused):
            canaries = 0
            results = await run_cases(self.boxes, None, cases)
            self.boxes.watch(Note(UNTOLD))
        if isinstance(results, Refused):
            raise EnvironmentFailed(f"The tests cannot be put over the tree ({results.detail}): use --sandbox none.")
        pairs = zip(cases, results, strict=True)
        told = [(case, one) for case, one in pairs if (one.outcome is Outcome.PASS) is not case.origin.reproduces]
        if own:
            self.boxes.watch(BoxDone(Phase.REGRESSION, tuple(one.outcome for one in results)))
            lost = own - sum(case.origin is Origin.REGRESSION for case, _ in told)
            self._why.append(f"{lost} not passing a second time" if lost else "")
        if dropped := len(cases) - len(told):
            self.boxes.watch(Note(f"Tests with another result beside the others were dropped: {dropped}."))
        if told:
            held, before = tuple(case for case, _ in told), tuple(result for _, result in told)
            self._batches.append(_Batch(held, before, canaries))


def _odd(first: CaseResult, now: CaseResult) -> str:
    """Say how a command that passes differs from how it went without a patch; "" where it does not."""
    if first.seconds >= 1 and now.seconds < first.seconds / 4:
        return "in a fraction of its time without the patch"
    before, after = (one.fault.message.strip().rpartition("\n")[2] if one.fault else "" for one in (first, now))
    usual = _COUNTED.search(before) if first.outcome is not Outcome.PASS else ":" in before
    alike = _COUNTED.search(after) or _NUMBER.sub("_", before) == _NUMBER.sub("_", after)
    return "without its usual last line" if usual and not alike else ""


def _touched(candidates: Sequence[Candidate]) -> frozenset[str]:
    return frozenset(path for patch in valid_patches(candidates) for path in patch.paths)


# --- the repository's own tests that no patch may break: they pass before any patch -----------------------------------

# A runner imports all files that it is given before the first test runs: with many, nothing would be left of the time.
FILES_AT_ONCE = 8
# What a box costs at least, as a share of the budget and of the time for reading: there are only so many.
LEAST_SHARE = 0.1
# Seconds of the clock that starting runners and reading files may take in all.
READING = 240.0
# A test may take this part of the budget, as all of its file may: one that waits for ever costs no more.
SHARES = 4


async def regress(
    boxes: Boxes, touched: Collection[str], settings: RegressSettings, own: Iterable[str] = ()
) -> tuple[tuple[Case, ...], Regressions]:
    """Return the repository's tests that matter for the touched paths and pass on the tree, and how many there are.

    The files of the user's tests (`own`) come first, then the most related. Their contents are the tree's: what a patch
    does to test files is undone in every box. Raises what the sandbox raises.
    """
    issue, snapshot, runner = boxes.issue, boxes.snapshot, boxes.harness.runner
    of = (*known_by(issue, snapshot), runner.value, *sorted(touched))
    found = await boxes.derive("related tests", of, lambda: related_tests(snapshot, touched, issue, runner))
    related = [path for path in dict.fromkeys((*own, *found)) if runs_here(path, runner)]
    if not related:
        return (), Regressions(why="no test of the repository is related to the files that the patches touch")
    boxes.watch(PhaseStarted(Phase.REGRESSION, seconds=READING + 2 * settings.budget))
    held, is_tool = snapshot.by_path(), is_test_tool(snapshot)
    passing, told = await _passing(boxes, related, settings)
    cases = []
    for test in (result.id for result in passing):
        path = test.partition("::")[0]
        again = path in held and (is_tool or not is_test_path(path))  # a patch of it would not be undone (`guards`)
        cases.append(Case(test, Origin.REGRESSION, path, held[path].data if again else None))
    return tuple(cases), told


async def _passing(
    boxes: Boxes, paths: Sequence[str], settings: RegressSettings
) -> tuple[list[CaseResult], Regressions]:
    """Run test files until a limit is reached; return the tests that pass, and what became of all."""
    left, clock, ran, late, found = settings.budget, READING + settings.budget, 0, False, list[CaseResult]()
    most, passed, unread = min(boxes.case_seconds, settings.budget / SHARES), dict[str, CaseResult](), False
    timed = replace(boxes, case_seconds=most)
    while ran < len(paths) and left > 0 and clock > READING * LEAST_SHARE and len(passed) < settings.most:
        some = tuple(paths[ran : ran + FILES_AT_ONCE])
        boxes.watch(PhaseSaid(Phase.REGRESSION, f"finding them, from file {ran + 1} of {len(paths)}"))
        run = await run_files(timed, some, left, clock)
        boxes.watch(BoxDone(Phase.REGRESSION, tuple(result.outcome for result in run.results)))
        found, unread = found + list(run.results), unread or run.unread
        passed |= {result.id: result for result in run.results if result.outcome is Outcome.PASS}
        ran, clock, late = ran + len(some), clock - run.seconds, late or not run.results
        # A file of which there is no result was cut off: its share of the budget is used up.
        spent = min(left, sum(result.seconds for result in run.results))
        silent = len(set(some) - {result.id.partition("::")[0] for result in run.results})
        left -= max(settings.budget * LEAST_SHARE, spent + (left - spent) * silent / len(some))
    if ran < len(paths):
        left_out = f"{len(paths) - ran} of {len(paths)} related test files were left out to keep within"
        boxes.watch(Note(f"{left_out} {settings.budget:g} seconds of their own (--regression-budget)."))
    if late:
        boxes.watch(Note("Some related test files were not run: reading them took too long, or ended their box."))
    kept, left = [], settings.budget
    for result in list(passed.values())[: settings.most]:
        if result.seconds <= left:
            left -= result.seconds
            kept.append(result)
    lost = {
        "not reached within the budget": sum(one.fault is not None and one.fault.message == LEFT for one in found),
        f"over {most:g} s": sum(one.outcome is Outcome.TIMEOUT for one in found),
        "over the limits": len(passed) - len(kept),
    }
    why = ", ".join(f"{number} {said}" for said, number in lost.items() if number)
    if not passed and not why:
        tried = sum(one.outcome is not Outcome.NOT_COLLECTED for one in found)
        none = f"none of {counted(tried, 'related test')} passes before any patch"
        why = none if tried else f"no test was reached in {counted(ran, 'related test file')}"
        why = "no report of tests could be read (--test-report)" if unread else why
    return kept, Regressions(len(kept) + sum(lost.values()), len(kept), why)
