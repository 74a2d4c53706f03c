"""The summary of a run on stderr: files, rounds, tests, patches, confidence, tokens, time.

Notes were shown when they arose, and are not repeated.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from rich.console import Group, RenderableType

from agentless_mini.domain import TOO_BUSY, Case, Choice, Origin, Outcome, Reason, Rejected, Stage
from agentless_mini.errors import printable
from agentless_mini.record import RunTrace, SampleRecord
from agentless_mini.report.cells import Labelled
from agentless_mini.report.rounds import evolved, rounds_table, stopping
from agentless_mini.report.verdicts import patches_table, repairs

ROWS = 12
# A share of the votes from which a patch was right more often than not, in three public runs of a 32B model.
SURE, LIKELY = 0.5, 0.25


def summary(trace: RunTrace, seconds: float | None, most: int | None = ROWS, *, hint: bool = True) -> RenderableType:
    """Return the summary of a run, `seconds` after it began (None where it goes on), with at most so many patches.

    With `hint` it says how `amini show` has the rest.
    """
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
        yield f"files      {', '.join(paths)}{f' ({votes} votes)' if votes else ''}"


def _samples(trace: RunTrace) -> Iterator[str]:
    patches = repairs(trace)
    valid = f"{len(patches)} valid ({len({patch.normal for patch in patches})} distinct)"
    yield from _fates((one for one in trace.samples if one.stage.repairs), "samples   ", valid)
    if (found := stopping(trace)) is not None:
        goal = f"sampling stops once the vote is {found.bound:.0%} sure"
        yield f"saved      {found.saved} of {found.wanted} samples: {goal}"
    if drawn := [sample for sample in trace.samples if sample.stage is Stage.REPRODUCE]:
        kept = [sample.outcome.id for sample in drawn if isinstance(sample.outcome, Case)]
        flaky = sum(isinstance(one.outcome, Rejected) and one.outcome.reason is Reason.FLAKY for one in drawn)
        dropped = f", dropped {flaky} flaky" if flaky else ""
        yield from _fates(drawn, "new tests ", f"{len(kept)} reproduce the issue ({len(set(kept))} distinct){dropped}")


def _rounds(trace: RunTrace) -> Iterator[RenderableType]:
    found = evolved(trace)
    if found is not None:
        yield _lines([f"rounds     {len(found.rounds)}; score: {found.scale.words}"])
        yield rounds_table(found.values()["rounds"])


def _fates(samples: Iterable[SampleRecord], title: str, valid: str) -> Iterator[str]:
    outcomes = [sample.outcome for sample in samples]
    reasons = Counter(outcome.reason.value for outcome in outcomes if isinstance(outcome, Rejected))
    open_ones = f", {outcomes.count(None)} not judged" if None in outcomes else ""
    yield f"{title} {len(outcomes)}: {valid}, {reasons.total()} rejected{open_ones}"
    if reasons:
        yield f"rejected   {', '.join(f'{reason} {count}' for reason, count in reasons.most_common())}"


def _verdicts(trace: RunTrace, most: int | None, *, hint: bool) -> Iterator[RenderableType]:
    execution = trace.execution
    if execution is None or not execution.cases or not execution.verdicts:
        return
    distinct = len({patch.normal for patch in repairs(trace)})
    patches = f"{len(execution.verdicts)} of {distinct} distinct patches" if distinct > 1 else "one distinct patch"
    number = Counter(case.origin for case in execution.cases)
    counts = ", ".join(f"{number[origin]} {origin}" for origin in Origin if number[origin])
    yield _lines([f"tests      {counts}; on {patches}, the best first (* chosen):"])
    shown, left = patches_table(trace, most)
    yield shown
    if left:
        yield _lines([f"           ... {left} more{f' (amini show {trace.run.id} --all)' if hint else ''}"])
    ran = [result for verdict in execution.verdicts for result in verdict.results]
    lost = [result for result in ran if result.outcome is Outcome.TIMEOUT]
    if lost:
        busy = sum(result.fault is not None and result.fault.message.startswith(TOO_BUSY) for result in lost)
        why = f", {busy} as the machine was too busy: run again for these" if busy else ""
        yield _lines([f"lost       {len(lost)} of {len(ran)} tests of patches ran out of time{why}"])


def _choice(trace: RunTrace) -> Iterator[str]:
    if trace.prediction is None:
        return
    choice = trace.prediction.choice
    if choice is None:
        yield f"patch      none: no sample became a valid patch (amini show {trace.run.id} --all has the reasons)"
        return
    yield f"patch      {', '.join(choice.patch.paths)}: {choice.reason}"
    trust = _trust(choice, len(repairs(trace)))
    yield f"confidence {trust}{_proof(choice)}"


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
        return f"{choice.passed} of {choice.reproducing} tests that failed before pass with it"
    if choice.valid == 1 < valid:
        return f"one vote: all {valid} valid samples gave the same answer"
    if choice.valid == 1:
        return "it is the only valid sample: nothing agrees with it"
    share = choice.votes / choice.valid
    agree = "agree" if share > SURE else "are divided" if share >= LIKELY else "hardly agree, so read it with care"
    return f"{share:.0%} of the votes: the samples {agree}"


def _sum(counts: list[int | None]) -> str:
    """Return the sum of what servers reported; never 0 where that is only not known."""
    known = [count for count in counts if count is not None]
    if len(known) == len(counts):
        return str(sum(known))
    return f"at least {sum(known)}" if any(known) else "unknown"


def _spent(trace: RunTrace, seconds: float | None) -> str:
    paid = [sample.usage for sample in trace.samples if not sample.replayed]
    prompt, cached, answers = (
        _sum([getattr(usage, name) for usage in paid])
        for name in ("prompt_tokens", "cached_tokens", "completion_tokens")
    )
    replayed = len(trace.samples) - len(paid)
    parts = [
        "no tokens"
        if not paid
        else "tokens are unknown: the server does not report them"
        if {prompt, cached, answers} == {"unknown"}
        else f"{prompt} prompt tokens ({cached} cached), {answers} generated",
        "" if seconds is None else f"{seconds:.1f} s",
        f"{replayed} of {len(trace.samples)} samples from the record" if replayed else "",
        f"{len(trace.boxes)} boxes ({sum(box.replayed for box in trace.boxes)} from the record)" if trace.boxes else "",
    ]
    return f"spent      {', '.join(filter(None, parts))}; run {trace.run.id}"
