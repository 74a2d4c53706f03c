"""A run as people read it: the summary on stderr, and its patches with their tests as tables, the best first."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType

from agentless_mini.chain.rank import Standing, Totals, confidence, ordered, poll, standings, totals, valid_patches
from agentless_mini.chain.trust import Trust, trust
from agentless_mini.domain import (
    TOO_BUSY,
    Case,
    CaseResult,
    Choice,
    Execution,
    Level,
    Method,
    Origin,
    Outcome,
    Reason,
    Rejected,
    Stage,
)
from agentless_mini.errors import counted, few, printable
from agentless_mini.record import RunTrace, SampleRecord
from agentless_mini.report.console import Labelled, Table, row, table

ROWS = 12
FAULT_LETTERS, FEW_LETTERS = 160, 60


def summary(trace: RunTrace, seconds: float | None, most: int | None = ROWS, *, hint: bool = True) -> RenderableType:
    """Return the summary of a run, `seconds` after it began (None: it goes on); `hint` names `amini show`."""
    return Group(
        _lines([*_files(trace), *_samples(trace)]),
        *_rounds(trace),
        *_verdicts(trace, most, hint=hint),
        _lines([*_choice(trace), _spent(trace, seconds)]),
    )


def _lines(lines: Iterable[str]) -> Labelled:
    return Labelled(tuple(printable(line) for line in lines))


def _files(trace: RunTrace) -> Iterator[str]:
    if trace.prediction is None:
        return
    localization = trace.prediction.localization
    for votes, paths in zip(localization.votes, localization.lists, strict=True):
        told = f" ({counted(votes, 'vote')})" if votes else ""
        yield f"files      {', '.join(paths)}{told}"


def _samples(trace: RunTrace) -> Iterator[str]:
    patches = valid_patches(trace.candidates())
    valid = f"{len(patches)} valid ({len({patch.normal for patch in patches})} distinct)"
    title = "candidates" if sources(trace) else "samples   "
    yield from _fates((one for one in trace.samples if one.stage.repairs), title, valid)
    if (found := stopping(trace)) is not None:
        goal = f"sampling stops once the vote is {found.bound:.0%} sure"
        yield f"saved      {found.saved} of {counted(found.wanted, 'sample')}: {goal}"
    if drawn := [sample for sample in trace.samples if sample.stage is Stage.REPRODUCE]:
        kept = [sample.outcome.id for sample in drawn if isinstance(sample.outcome, Case)]
        flaky = sum(isinstance(one.outcome, Rejected) and one.outcome.reason is Reason.FLAKY for one in drawn)
        dropped = f", dropped {flaky} flaky" if flaky else ""
        yield from _fates(drawn, "new tests ", f"{len(kept)} reproduce the issue ({len(set(kept))} distinct){dropped}")


def _rounds(trace: RunTrace) -> Iterator[RenderableType]:
    if not any(sample.round for sample in trace.samples):
        return
    from agentless_mini.report.rounds import SCALES, evolved, rounds_table

    if (found := evolved(trace)) is not None:
        yield _lines([f"rounds     {len(found.rounds)}; score: {SCALES[found.scale]}"])
        yield rounds_table(found.values()["rounds"])


def _fates(samples: Iterable[SampleRecord], title: str, valid: str) -> Iterator[str]:
    outcomes = [sample.outcome for sample in samples]
    reasons = Counter(outcome.reason.value for outcome in outcomes if isinstance(outcome, Rejected))
    open_ones = f", {outcomes.count(None)} not judged" if None in outcomes else ""
    yield f"{title} {len(outcomes)}: {valid}, {reasons.total()} rejected{open_ones}"
    if reasons:
        yield f"rejected   {', '.join(f'{reason} {count}' for reason, count in reasons.most_common())}"


def _verdicts(trace: RunTrace, most: int | None, *, hint: bool) -> Iterator[RenderableType]:
    execution, own = trace.execution, trace.prediction and trace.prediction.regressions
    if own:
        yield _lines([f"regression {own}"])
    if execution is None or not execution.cases or not execution.verdicts:
        return
    distinct = len({patch.normal for patch in valid_patches(trace.candidates())})
    patches = f"{len(execution.verdicts)} of {distinct} distinct patches" if distinct > 1 else "one distinct patch"
    number = Counter(case.origin for case in execution.cases)
    counts = ", ".join(f"{number[origin]} {origin}" for origin in Origin if number[origin])
    yield _lines([f"tests      {counts}; on {patches}, the best first (* chosen):"])
    shown, left = patches_table(trace, most)
    yield shown
    if left:
        yield _lines([f"           ... {left} more{f' (amini show {trace.run.id} --all)' if hint else ''}"])
    ran = [result for verdict in execution.verdicts for result in verdict.results]
    if lost := [result for result in ran if result.outcome is Outcome.TIMEOUT]:
        busy = sum(result.fault is not None and result.fault.message.startswith(TOO_BUSY) for result in lost)
        why = f", {busy} as the machine was too busy: run again for these" if busy else ""
        yield _lines([f"lost       {len(lost)} of {counted(len(ran), 'test run')} on patches ran out of time{why}"])


def _choice(trace: RunTrace) -> Iterator[str]:
    if trace.prediction is None:
        return
    made = sources(trace)
    if (choice := trace.prediction.choice) is None:
        none = "no candidate can be used" if made else "no sample became a valid patch"
        yield f"patch      none: {none} (amini show {trace.run.id} --all has the reasons)"
        return
    yield f"patch      {', '.join(choice.patch.paths)}: {choice.reason}"
    if made:
        yield f"from       {made[choice.patch.normal]}"
    sure = confidence(trace.candidates(), trace.execution, choice)
    yield f"confidence {sure:.0%}: {_trust(choice, len(valid_patches(trace.candidates())))}{_proof(choice)}"


def _proof(choice: Choice) -> str:
    if not choice.reproducing + choice.regressions:
        return "; no test was run"
    if choice.reproducing and not choice.passed:
        return "; but no test that reproduces the issue passes with it"
    if choice.broken:
        return f"; but it breaks {choice.broken} that passed"
    return "" if choice.reproducing else "; no test shows that it repairs the issue"


def _trust(choice: Choice, valid: int) -> str:
    """Say what speaks for the patch: tests that it passes, where there are any, more than samples that agree."""
    if choice.passed:
        return f"it passes {choice.passed} of {counted(choice.reproducing, 'test')} that failed before"
    if choice.valid == 1 < valid:
        return f"one vote: all {valid} valid samples gave the same answer"
    if choice.valid == 1:
        return "it is the only valid sample: nothing agrees with it"
    return f"{choice.votes} of {choice.valid} votes"


def _sum(counts: list[int | None]) -> str:
    """Return the sum of what servers reported; never 0 where that is only not known."""
    known = [count for count in counts if count is not None]
    if len(known) == len(counts):
        return str(sum(known))
    return f"at least {sum(known)}" if any(known) else "unknown"


def _spent(trace: RunTrace, seconds: float | None) -> str:
    drawn = [sample for sample in trace.samples if sample.stage is not Stage.CHOOSE]
    paid = [sample.usage for sample in drawn if not sample.replayed]
    names = "prompt_tokens", "cached_tokens", "completion_tokens"
    prompt, cached, answers = (_sum([getattr(usage, name) for usage in paid]) for name in names)
    tokens = f"{prompt} prompt tokens ({cached} cached), {answers} generated" if paid else "no tokens"
    if {prompt, cached, answers} == {"unknown"}:
        tokens = "tokens are unknown: the server does not report them"
    replayed, boxes = len(drawn) - len(paid), counted(len(trace.boxes), "box")
    parts = [
        tokens,
        "" if seconds is None else f"{seconds:.1f} s",
        f"{replayed} of {counted(len(drawn), 'sample')} from the record" if replayed else "",
        f"{boxes} ({sum(box.replayed for box in trace.boxes)} from the record)" if trace.boxes else "",
    ]
    return f"spent      {', '.join(filter(None, parts))}; run {trace.run.id}"


@dataclass(frozen=True, slots=True)
class Stopping:
    """What a run drew of the samples that were wanted, where it was to stop once the vote is decided (`bound`)."""

    bound: float
    wanted: int
    drawn: int

    @property
    def saved(self) -> int:
        """Return how many were not drawn."""
        return max(0, self.wanted - self.drawn)

    def values(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**asdict(self), "saved": self.saved}


def stopping(trace: RunTrace) -> Stopping | None:
    """Return what the run saved, None where its samples were not to stop early, or it drew or decided nothing."""
    repair = json.loads(trace.run.start.settings).get("repair", {})
    bound = repair.get("stop_when")
    decided = trace.prediction if bound is not None else None
    drawn = len(decided.candidates) if decided else 0
    return Stopping(bound, repair["samples"], drawn) if drawn else None


def sources(trace: RunTrace) -> dict[str, str]:
    """Return who made each proposed patch, by normal form (""; those that cannot be used); empty for any other run."""
    found: dict[str, dict[str, None]] = {}
    for one in trace.samples:
        if one.stage is Stage.CHOOSE:
            found.setdefault(getattr(one.outcome, "normal", ""), {})[printable(one.source)] = None
    return {normal: few([*names]) for normal, names in found.items()}


def trust_of(trace: RunTrace) -> tuple[Level, Trust] | None:
    """Return what a run required of its patch, and what that has shown; None where it chose none."""
    if trace.prediction is None or (choice := trace.prediction.choice) is None:
        return None
    settings = json.loads(trace.run.start.settings)
    given, allowed = settings.get("given", ()), settings.get("allow_suspicious", False)
    shown = trust(choice, trace.prediction.execution, given, trace.prediction.notes, allows_suspicious=allowed)
    return Level(settings.get("require") or Level.ANY), shown


def distinct(trace: RunTrace) -> tuple[Standing, ...]:
    """Return the distinct patches, the best first: number n of what is shown is at the place n - 1.

    The chosen one stands first, by whatever method it was chosen; those that were not tested come last, by votes.
    """
    execution, choice = trace.execution, trace.choice
    polled = poll(trace.candidates())
    found = list(ordered(standings(polled, execution), totals(execution), Method.PROBABILITY)) if execution else []
    tested = {standing.normal for standing in found}
    found += ordered([standing for standing in polled if standing.normal not in tested], Totals(), Method.PROBABILITY)
    return tuple(sorted(found, key=lambda standing: choice is None or standing.normal != choice.patch.normal))


def patches_table(trace: RunTrace, most: int | None = None) -> tuple[Table, int]:
    """Return the table of `distinct` patches x kinds of tests, and how many of its rows were left out."""
    patches, found = valid_patches(trace.candidates()), distinct(trace)
    execution, choice = trace.execution, trace.choice
    count = totals(execution) if execution else Totals()
    tested = {verdict.normal for verdict in execution.verdicts} if execution else set()
    valid = sum(standing.votes for standing in found)
    kinds = ("given", count.given), ("generated", count.generated), ("broken", count.regressions)
    names = [name for name, of in kinds if of]
    made = sources(trace)
    result = table("", "votes", *(["from"] if made else []), "files", *names, right=names)
    for number, standing in enumerate(found[:most], 1):
        mark = " *" if choice is not None and choice.patch.normal == standing.normal else ""
        cells = {
            "given": f"{len(standing.given)}/{count.given}",
            "generated": f"{len(standing.generated)}/{count.generated}",
            "broken": f"{count.regressions - len(standing.kept)}/{count.regressions}",
        }
        if standing.untried:
            cells |= {"generated": "not run", "broken": "not run"}
        if standing.refused or standing.normal not in tested:
            cells = dict.fromkeys(cells, "refused" if standing.refused else "-")
        tally = [f"{standing.votes}/{valid}", *([made[standing.normal]] if made else [])]
        files = printable(", ".join(patches[standing.first].paths))
        row(result, f"{number}{mark}", *tally, files, *(cells[name] for name in names))
    return result, len(found) - len(found[:most])


def tests_table(execution: Execution, normal: str) -> Table:
    """Return one row for each case, those first that do not pass with the patch of this normal form ("" for none)."""
    passing = Counter(id for verdict in execution.verdicts for id in verdict.passed())
    before = {result.id: result.outcome for result in execution.before}
    after = {result.id: result.outcome for result in _results(execution, normal)}
    result = table("test", "from", "votes", "before", "after", "passes with")
    for case in sorted(execution.cases, key=lambda case: after.get(case.id) is Outcome.PASS):
        votes = str(case.votes) if case.origin is Origin.GENERATED else ""
        passes = f"{passing[case.id]} of {len(execution.verdicts)}"
        row(result, printable(case.id), case.origin, votes, before.get(case.id, ""), after.get(case.id, ""), passes)
    return result


def groups(execution: Execution, normal: str) -> tuple[str, ...]:
    """Return how many cases of each origin pass with the patch of this normal form, groups with failures first."""
    origin = {case.id: case.origin for case in execution.cases}
    of = Counter(origin.values())
    passed = Counter(origin[one.id] for one in _results(execution, normal) if one.outcome is Outcome.PASS)
    every = sorted((one for one in Origin if of[one]), key=lambda one: passed[one] == of[one])
    return tuple(f"{group:<10} {passed[group]} of {of[group]} pass" for group in every)


def faults_table(execution: Execution, normal: str, most: int | None = None) -> tuple[Table, int]:
    """Return what does not pass with the patch of this normal form and why, and how many rows were left out."""
    failing = [result for result in _results(execution, normal) if result.outcome is not Outcome.PASS]
    shown = table("test", "outcome", "what it ended with")
    for result in failing[:most]:
        row(shown, printable(result.id), result.outcome, _fault(result, FEW_LETTERS if most else FAULT_LETTERS))
    return shown, len(failing) - len(failing[:most])


def _results(execution: Execution, normal: str) -> tuple[CaseResult, ...]:
    return next((verdict.results for verdict in execution.verdicts if verdict.normal == normal), ())


def _fault(result: CaseResult, letters: int) -> str:
    if result.fault is None:
        return ""
    text = ": ".join(filter(None, (result.fault.kind, result.fault.message)))
    place = f" ({result.fault.path}:{result.fault.line})" if result.fault.path else ""
    return printable(" ".join(text.split())[:letters] + place)
