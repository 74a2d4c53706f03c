"""What `amini repair` says on stderr when it is done: files, votes, confidence, tokens, time, and what was cut."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rich.text import Text

from agentless_mini.domain import Rejected, Stage
from agentless_mini.errors import printable
from agentless_mini.store import PatchRecord, RunTrace, SampleRecord

# A share of the votes from which a patch was right more often than not, in the runs that mission section 1.5 reports.
SURE, LIKELY = 0.5, 0.25


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of a run: of prompts, of these taken from the server's cache, and of answers."""

    prompt: int
    cached: int
    answers: int

    @classmethod
    def of(cls, samples: Iterable[SampleRecord]) -> "Tokens":
        """Sum up what the samples were booked."""
        usages = [sample.usage for sample in samples]
        return cls(
            sum(usage.prompt_tokens for usage in usages),
            sum(usage.cached_tokens for usage in usages),
            sum(usage.completion_tokens for usage in usages),
        )


def summary(trace: RunTrace, seconds: float) -> Text:
    """Return the summary of a run that came to an end, `seconds` after it began."""
    notes = trace.prediction.notes if trace.prediction else ()
    lines = [*_files(trace), *(f"note       {note}" for note in notes), *_votes(trace), _spent(trace, seconds)]
    return Text("\n").join(Text(printable(line)) for line in lines)


def _files(trace: RunTrace) -> Iterator[str]:
    if trace.prediction is None:
        return
    localization = trace.prediction.localization
    for votes, paths in zip(localization.votes, localization.lists, strict=True):
        told = f"{votes} votes" if votes else "no vote of the model"
        yield f"files      {', '.join(paths)} ({told})"


def _votes(trace: RunTrace) -> Iterator[str]:
    repairs = [sample for sample in trace.samples if sample.stage is Stage.REPAIR]
    valid = [sample.outcome for sample in repairs if isinstance(sample.outcome, PatchRecord)]
    reasons = Counter(sample.outcome.reason.value for sample in repairs if isinstance(sample.outcome, Rejected))
    distinct = len({patch.normal for patch in valid})
    yield f"samples    {len(repairs)}: {len(valid)} valid ({distinct} distinct), {len(repairs) - len(valid)} rejected"
    if reasons:
        yield f"rejected   {', '.join(f'{reason} {count}' for reason, count in reasons.most_common())}"
    choice = trace.prediction.choice if trace.prediction else None
    if choice is None:
        yield "patch      none: no sample became a valid patch (amini show tells why)"
    else:
        share = choice.votes / choice.valid
        yield f"patch      {', '.join(choice.patch.paths)}: {choice.reason}"
        trust = _trust(share) if choice.valid > 1 else "but it is the only valid sample: nothing agrees with it"
        yield f"confidence {share:.0%} of the votes, {trust}; it was chosen by vote alone, no test was run"


def _trust(share: float) -> str:
    if share > SURE:
        return "the samples agree"
    return "the samples are divided" if share >= LIKELY else "the samples hardly agree: read it with care"


def _spent(trace: RunTrace, seconds: float) -> str:
    tokens = Tokens.of(trace.samples)
    replayed = sum(sample.replayed for sample in trace.samples)
    told = f", {replayed} of {len(trace.samples)} samples from the record" if replayed else ""
    return (
        f"spent      {tokens.prompt} prompt tokens ({tokens.cached} cached), {tokens.answers} generated, "
        f"{seconds:.1f} s{told}; run {trace.run.id}"
    )
