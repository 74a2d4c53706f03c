"""What `amini show` says of recorded runs to people, as rich renderables; `document` says it to programs.

It reads no store and prints nothing: records in, renderables out. Issue texts, model answers and paths are not
trusted: none of them reaches a terminal as markup or as a control sequence.
"""

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from agentless_mini.domain import Case, Completion, Execution, Rejected, Stage
from agentless_mini.ranking import Level, counted_votes
from agentless_mini.report.cells import heading, plain_text, row, table
from agentless_mini.report.rounds import evolved, rounds_table, stopping
from agentless_mini.report.verdicts import counts, faults_table, patches_table, refusals, tests_table, trust_of
from agentless_mini.store import (
    PatchRecord,
    PredictionRecord,
    PromptRecord,
    RunRecord,
    RunSummary,
    RunTrace,
    SampleRecord,
    recorded_candidates,
)

if TYPE_CHECKING:
    from rich.console import RenderableType


DIGEST_LETTERS = 10
TITLE_LETTERS = 80


def runs_table(summaries: Iterable[RunSummary]) -> "RenderableType":
    """Return the list of runs as a table, in the order given."""
    shown = table("run", "started", "status", "repository", "model", "samples", "votes", "issue")
    for summary in summaries:
        run = summary.run
        row(
            shown,
            str(run.id),
            _moment(run.started),
            run.status,
            f"{run.start.repository}@{run.start.commit[:DIGEST_LETTERS]}",
            run.start.model,
            str(summary.samples),
            f"{summary.votes}/{summary.valid}" if summary.valid else "-",
            _first_line(run.start.issue.text)[:TITLE_LETTERS],
        )
    return shown


def run_view(trace: RunTrace) -> "RenderableType":
    """Return all of a run but its prompts and answers: where it started from, its samples, and how it was decided."""
    from rich.console import Group

    return Group(*_run_parts(trace))


def prompt_view(prompt: PromptRecord) -> "RenderableType":
    """Return a prompt as it was sent, message by message."""
    from rich.console import Group

    title = heading(f"prompt {prompt.digest[:DIGEST_LETTERS]}")
    parts = [part for message in prompt.messages for part in (heading(message.role), plain_text(message.content))]
    return Group(title, *parts)


def completion_view(sample: SampleRecord, completion: Completion) -> "RenderableType":
    """Return an answer as it came, the reasoning before it."""
    from rich.console import Group

    title = heading(
        f"{sample.stage} sample {sample.index} of prompt {sample.prompt[:DIGEST_LETTERS]}, ended by {sample.finish}"
    )
    reasoning = (
        [heading("reasoning"), plain_text(completion.reasoning), heading("answer")] if completion.reasoning else []
    )
    return Group(title, *reasoning, plain_text(completion.text))


def _run_parts(trace: RunTrace) -> "Iterator[RenderableType]":
    yield heading(f"run {trace.run.id}")
    yield _header(trace.run)
    prediction = trace.prediction
    if prediction is not None:
        yield heading("files to edit")
        yield _files_table(prediction)
    if trace.samples:
        yield heading("samples")
        yield _samples_table(trace)
    yield from _budget_parts(trace)
    if trace.boxes:
        yield heading(_boxes(trace))
    if prediction is not None:
        if prediction.execution is not None:
            yield from _execution_parts(prediction.execution, trace)
        yield from _decision_parts(prediction, trace)


def _budget_parts(trace: RunTrace) -> "Iterator[RenderableType]":
    found, told = evolved(trace), stopping(trace)
    if found is not None:
        yield heading(f"rounds (score: {found.scale.words})")
        yield rounds_table(found.values()["rounds"])
    if told is not None:
        yield heading(
            f"saved by stopping at a vote that is {told.bound:.0%} sure: {told.saved} of {told.wanted} samples"
        )


def _decision_parts(prediction: PredictionRecord, trace: RunTrace) -> "Iterator[RenderableType]":
    choice = prediction.choice
    if choice is None:
        yield heading("no sample became a valid patch")
    else:
        yield heading(f"chosen patch: {choice.votes} of {choice.valid} votes, {choice.reason}")
        yield from _trust_parts(trace)
        yield plain_text(_decoded(choice.patch.diff))
    for note in prediction.notes:
        yield plain_text(note)


def _trust_parts(trace: RunTrace) -> "Iterator[RenderableType]":
    required, shown = trust_of(trace) or (Level.ANY, None)
    if shown is not None:
        reached = ", ".join(level for level in Level if shown.suffices(level))
        lacking = f"; not trusted: {shown.lacks(required)}" if shown.lacks(required) else ""
        yield plain_text(f"trust: required {required}, shown {reached}{lacking}")


def _files_table(prediction: PredictionRecord) -> "RenderableType":
    shown = table("votes", "files, most important first")
    for votes, paths in zip(prediction.localization.votes, prediction.localization.lists, strict=True):
        row(shown, str(votes), "\n".join(paths))
    return shown


def _execution_parts(execution: Execution, trace: RunTrace) -> "Iterator[RenderableType]":
    yield heading(f"tests: {counts(execution.cases) or 'none'}")
    yield tests_table(execution)
    yield heading("patches, the best first (* chosen)")
    yield patches_table(trace, execution)[0]
    yield from (plain_text(line) for line in refusals(execution))
    choice = trace.prediction.choice if trace.prediction else None
    failing = faults_table(execution, choice.patch.normal) if choice else None
    if failing is not None:
        yield heading("what does not pass with the chosen patch")
        yield failing


def _boxes(trace: RunTrace) -> str:
    seconds = sum(box.seconds for box in trace.boxes)
    replayed = sum(box.replayed for box in trace.boxes)
    return f"boxes: {len(trace.boxes)}, {replayed} of them from the record; {seconds:.1f} s of tests"


def _header(run: RunRecord) -> "RenderableType":
    start = run.start
    ended = "" if run.finished is None else f", {run.finished - run.started:.1f} s, exit code {run.exit_code}"
    shown = table("", "")
    shown.show_header = False
    for name, value in (
        ("status", f"{run.status}{ended}"),
        ("started", _moment(run.started)),
        ("command", shlex.join(start.command)),
        ("model", start.model),
        ("repository", f"{start.repository} at {start.commit}"),
        ("tree", start.tree),
        ("instance", start.instance),
        ("issue", start.issue.source),
        ("", start.issue.text.strip()),
        ("settings", start.settings),
        ("versions", start.versions),
    ):
        row(shown, name, value)
    return shown


def _samples_table(trace: RunTrace) -> "RenderableType":
    votes = _votes(trace)
    several = any(sample.round for sample in trace.samples)
    shown = table(
        "stage", *(["round"] if several else []), "order", "prompt", "sample", "tokens in", "out", "from", "outcome"
    )
    for sample in trace.samples:
        row(
            shown,
            sample.stage,
            *([str(sample.round) if sample.stage.repairs else ""] if several else []),
            "" if sample.order is None else str(sample.order),
            sample.prompt[:DIGEST_LETTERS],
            str(sample.index),
            _tokens(sample.usage.prompt_tokens),
            _tokens(sample.usage.completion_tokens),
            "record" if sample.replayed else "model",
            _outcome(sample, votes),
        )
    return shown


def _tokens(count: int | None) -> str:
    return "not told" if count is None else str(count)


def _outcome(sample: SampleRecord, votes: Counter[str]) -> str:
    match sample.outcome:
        case PatchRecord(normal=normal, undefined=undefined):
            told = f"valid {normal[:DIGEST_LETTERS]}, {votes[normal]} of {votes.total()} votes"
            unsound = f", uses undefined names: {' '.join(undefined)}" if undefined else ""
            return f"{told}{', repeats another answer' if sample.repeats else ''}{unsound}"
        case Case(id=id, votes=count):
            return f"test {id}, written by {count}"
        case Rejected(reason=reason, detail=detail):
            return f"{reason}: {detail}"
    return "" if sample.stage is Stage.LOCALIZE else "not judged"


def _votes(trace: RunTrace) -> Counter[str]:
    return Counter({standing.normal: standing.votes for standing in counted_votes(recorded_candidates(trace))})


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _decoded(diff: bytes) -> str:
    return diff.decode("utf-8", "backslashreplace")
