"""Runs tests on patches as they come, round by round: no patch meets a test twice.

The first patches bring the tests: those that reproduce the issue, and the regression tests of what they touch. Patches
of a later round that touch more files bring the regression tests of these. Tests that came together stay together, in
boxes of their own, so that every patch meets each test in the same company.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from agentless_mini.chain.baseline import baseline
from agentless_mini.chain.bench import Bench
from agentless_mini.chain.execute import execute
from agentless_mini.chain.regress import regress
from agentless_mini.domain import Candidate, Case, CaseResult, Event, Execution, Note, Origin, Patch, Verdict
from agentless_mini.settings.run import RegressSettings


@dataclass(frozen=True, slots=True)
class _Company:
    """Tests that are run together, what they say without a patch, and the verdicts so far by normal form."""

    cases: tuple[Case, ...]
    before: tuple[CaseResult, ...]
    verdicts: dict[str, Verdict] = field(default_factory=dict)


class Trials:
    """All tests of one issue, and what they say of its patches so far."""

    def __init__(
        self, bench: Bench, reproducing: Sequence[Case], settings: RegressSettings, *, given_first: int | None = None
    ) -> None:
        """Begin with the tests that reproduce the issue; nothing is run yet.

        With `given_first` the tests that are given run alone on all patches of the one round that there is, and the
        others on those patches alone that pass as many of them as any does: no other could be chosen. A number means
        candidates that are ranked: so many are tried at a time, until one passes all tests; 0: all at once.
        """
        self._bench = bench
        self._reproducing = tuple(reproducing)
        self._settings = settings
        self._touched: frozenset[str] = frozenset()
        self._companies: list[_Company] = []
        self._given_first = given_first

    async def over(self, candidates: Sequence[Candidate]) -> Execution | None:
        """Return what all tests say of each distinct patch, by first sample, or None where there is no patch yet.

        Only what is not known is run. Without a single test that tells something there is no verdict either.
        Raises `EnvironmentFailed` as the sandbox does; the other boxes are ended then.
        """
        if not _touched(candidates):
            return None
        if self._given_first is None or self._companies:
            await self._others(candidates)
        else:
            await self._add([case for case in self._reproducing if case.origin is Origin.GIVEN])
            await self._in_portions(candidates, (self._companies and self._given_first) or len(candidates))
        return self._execution()

    async def _in_portions(self, candidates: Sequence[Candidate], size: int) -> None:
        """Try so many more candidates at a time, until one passes all tests."""
        best: list[Candidate] = []  # whoever was among the best for a while meets all tests
        for end in range(size, len(candidates) + size, size):
            await self._run(self._companies[:1], candidates[:end])
            best += self._most_passing(candidates[:end])
            await self._others(best)
            if end < len(candidates) and any(self._passes_all(one) for one in best):
                self._bench.watch(
                    Note(
                        f"{len(candidates) - end} of {len(candidates)} samples were not tested: one that the model "
                        "finds likelier passes all tests."
                    )
                )
                break

    async def _others(self, candidates: Sequence[Candidate]) -> None:
        """Run on the candidates all tests of what they touch."""
        if touched := _touched(candidates):
            await self._gather(touched)
            await self._run(self._companies, candidates)

    async def _run(self, companies: Sequence[_Company], candidates: Sequence[Candidate]) -> None:
        """Run on each distinct patch what it has not met."""
        for company in companies:
            owed = [one for one in candidates if _owed(one, company)]
            found = await execute(self._bench, owed, company.cases) if owed else ()
            company.verdicts.update({verdict.normal: verdict for verdict in found})

    def _passes_all(self, candidate: Candidate) -> bool:
        normal = candidate.outcome.normal if isinstance(candidate.outcome, Patch) else ""
        said = [company.verdicts.get(normal) for company in self._companies]
        pairs = zip(said, self._companies, strict=True)
        return all(verdict is not None and len(verdict.passed()) == len(company.cases) for verdict, company in pairs)

    def _most_passing(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """Return the candidates that pass the most of the tests that were run; none where nothing passes any."""
        if not self._companies:  # no test is given that says something
            return candidates
        passed = {normal: len(verdict.passed()) for normal, verdict in self._companies[0].verdicts.items()}
        most = max(1, *passed.values())
        patches = {normal for normal, number in passed.items() if number == most}
        return [one for one in candidates if isinstance(one.outcome, Patch) and one.outcome.normal in patches]

    async def _gather(self, touched: frozenset[str]) -> None:
        """Add the tests of what was not touched before."""
        if touched <= self._touched:
            return
        known = {case.id for company in self._companies for case in company.cases}
        regression = await self._regression(touched)
        wanted = (() if self._touched else self._reproducing) + regression
        await self._add([case for case in wanted if case.id not in known])
        self._touched |= touched

    async def _add(self, wanted: Sequence[Case]) -> None:
        """Add those tests that say something, as they are together."""
        cases, before = await baseline(self._bench, wanted)
        if cases:
            self._companies.append(_Company(cases, before))

    async def _regression(self, touched: frozenset[str]) -> tuple[Case, ...]:
        """Return the tests of what was not touched before, within what those before left of the limits."""
        there = [
            result.seconds
            for company in self._companies
            for case, result in zip(company.cases, company.before, strict=True)
            if case.origin is Origin.REGRESSION
        ]
        most = self._settings.most - len(there)
        if most <= 0:
            return ()
        left = {"budget": max(0.0, self._settings.budget - sum(there)), "most": most}
        own = () if self._touched else [case.path for case in self._reproducing if case.origin is Origin.GIVEN]
        settings = self._settings.model_copy(update=left)
        return await regress(self._asking(), touched - self._touched, settings, filter(None, own))

    def _asking(self) -> Bench:
        """Return the bench. What is noted of tests that come later holds for the files that bring them alone."""
        if not self._touched:
            return self._bench

        def watch(event: Event) -> None:
            said = Note(f"Of what later rounds touch: {event.text}") if isinstance(event, Note) else event
            self._bench.watch(said)

        return replace(self._bench, watch=watch)

    def _execution(self) -> Execution:
        """Join what the companies say."""
        cases = tuple(case for company in self._companies for case in company.cases)
        before = tuple(result for company in self._companies for result in company.before)
        normals = self._companies[0].verdicts if self._companies else {}
        return Execution(cases, before, tuple(self._verdict(normal) for normal in normals))

    def _verdict(self, normal: str) -> Verdict:
        said = [company.verdicts[normal] for company in self._companies if normal in company.verdicts]
        refusal = next((verdict.refusal for verdict in said if verdict.refusal), "")
        results = () if refusal else tuple(result for verdict in said for result in verdict.results)
        return Verdict(normal, results, refusal)


def _touched(candidates: Sequence[Candidate]) -> frozenset[str]:
    patches = (one.outcome for one in candidates if isinstance(one.outcome, Patch))
    return frozenset(path for patch in patches for path in patch.paths)


def _owed(candidate: Candidate, company: _Company) -> bool:
    return isinstance(candidate.outcome, Patch) and candidate.outcome.normal not in company.verdicts
