"""What `amini show` says of recorded runs: as rich tables for people, as plain values for `--json`.

It reads no store and prints nothing: records in, renderables or values out. Issue texts, model answers and paths are
not trusted: none of them reaches a terminal as markup or as a control sequence.
"""

import base64
import json
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agentless_mini.domain import Completion, Rejected, Stage
from agentless_mini.store import (
    PatchRecord,
    PromptRecord,
    RunRecord,
    RunSummary,
    RunTrace,
    SampleRecord,
)

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

DIGEST_LETTERS = 10
TITLE_LETTERS = 80


def escaped(text: str) -> str:
    """Return the text with every character that could steer a terminal, or hide, as its escape (`\\x1b`).

    That is all but printable characters, blanks, tabs and ends of lines: controls, marks that turn the direction of
    writing, lone surrogates, and blanks that only look like one (`\\xa0`), at which a SEARCH block fails.
    """
    return "".join(
        character
        if character.isprintable() or character in "\n\t"
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )


# --- for people ------------------------------------------------------------------------------------------------------


def runs_table(summaries: Iterable[RunSummary]) -> "RenderableType":
    """Return the list of runs as a table, in the order given."""
    table = _table("run", "started", "status", "repository", "model", "samples", "votes", "issue")
    for summary in summaries:
        run = summary.run
        _row(
            table,
            str(run.id),
            _moment(run.started),
            run.status,
            f"{run.start.repository}@{run.start.commit[:DIGEST_LETTERS]}",
            run.start.model,
            str(summary.samples),
            f"{summary.votes}/{summary.valid}" if summary.valid else "-",
            _first_line(run.start.issue.text)[:TITLE_LETTERS],
        )
    return table


def run_view(trace: RunTrace) -> "RenderableType":
    """Return all of a run but its prompts and answers: where it started from, its samples, and how it was decided."""
    from rich.console import Group

    return Group(*_run_parts(trace))


def prompt_view(prompt: PromptRecord) -> "RenderableType":
    """Return a prompt as it was sent, message by message."""
    from rich.console import Group

    heading = _heading(f"prompt {prompt.digest[:DIGEST_LETTERS]}")
    parts = [part for message in prompt.messages for part in (_heading(message.role), _text(message.content))]
    return Group(heading, *parts)


def completion_view(sample: SampleRecord, completion: Completion) -> "RenderableType":
    """Return an answer as it came, the reasoning before it."""
    from rich.console import Group

    heading = _heading(
        f"{sample.stage} sample {sample.index} of prompt {sample.prompt[:DIGEST_LETTERS]}, ended by {sample.finish}"
    )
    reasoning = [_heading("reasoning"), _text(completion.reasoning), _heading("answer")] if completion.reasoning else []
    return Group(heading, *reasoning, _text(completion.text))


def _run_parts(trace: RunTrace) -> "Iterator[RenderableType]":
    yield _heading(f"run {trace.run.id}")
    yield _header(trace.run)
    prediction = trace.prediction
    if prediction is not None:
        yield _heading("files to edit")
        table = _table("votes", "files, most important first")
        for votes, paths in zip(prediction.localization.votes, prediction.localization.lists, strict=True):
            _row(table, str(votes), "\n".join(paths))
        yield table
    if trace.samples:
        yield _heading("samples")
        yield _samples_table(trace)
    if prediction is None:
        return
    if prediction.choice is None:
        yield _heading("no sample became a valid patch")
    else:
        choice = prediction.choice
        yield _heading(f"chosen patch: {choice.votes} of {choice.valid} votes, {choice.reason}")
        yield _text(_decoded(choice.patch.diff))
    for note in prediction.notes:
        yield _text(note)


def _header(run: RunRecord) -> "RenderableType":
    start = run.start
    ended = "" if run.finished is None else f", {run.finished - run.started:.1f} s, exit code {run.exit_code}"
    table = _table("", "")
    table.show_header = False
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
        _row(table, name, value)
    return table


def _samples_table(trace: RunTrace) -> "RenderableType":
    votes = _votes(trace)
    table = _table("stage", "order", "prompt", "sample", "tokens in", "out", "from", "outcome")
    for sample in trace.samples:
        _row(
            table,
            sample.stage,
            "" if sample.order is None else str(sample.order),
            sample.prompt[:DIGEST_LETTERS],
            str(sample.index),
            str(sample.usage.prompt_tokens),
            str(sample.usage.completion_tokens),
            "record" if sample.replayed else "model",
            _outcome(sample, votes),
        )
    return table


def _outcome(sample: SampleRecord, votes: Counter[str]) -> str:
    match sample.outcome:
        case PatchRecord(normal=normal):
            return f"valid {normal[:DIGEST_LETTERS]}, {votes[normal]} of {votes.total()} votes"
        case Rejected(reason=reason, detail=detail):
            return f"{reason}: {detail}"
    return "" if sample.stage is Stage.LOCALIZE else "not judged"


def _votes(trace: RunTrace) -> Counter[str]:
    return Counter(sample.outcome.normal for sample in trace.samples if isinstance(sample.outcome, PatchRecord))


def _table(*headings: str) -> "Table":
    from rich import box
    from rich.table import Table

    return Table(*headings, box=box.SIMPLE_HEAD)


def _row(table: "Table", *cells: str) -> None:
    table.add_row(*(_text(cell) for cell in cells))


def _text(text: str) -> "Text":
    """Return what is shown exactly as it is written: no markup, no control sequence."""
    from rich.text import Text

    return Text(escaped(text))


def _heading(text: str) -> "Text":
    from rich.text import Text

    return Text(escaped(text), style="bold")


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _decoded(diff: bytes) -> str:
    return diff.decode("utf-8", "backslashreplace")


# --- for programs ----------------------------------------------------------------------------------------------------


def runs_document(summaries: Iterable[RunSummary]) -> dict[str, Any]:
    """Return the list of runs as JSON values, in the order given."""
    runs = [
        {**_run_values(summary.run), "samples": summary.samples, "votes": summary.votes, "valid": summary.valid}
        for summary in summaries
    ]
    return {"runs": runs}


def run_document(
    trace: RunTrace, prompts: Iterable[PromptRecord] = (), completions: Iterable[tuple[SampleRecord, Completion]] = ()
) -> dict[str, Any]:
    """Return a run as JSON values: prompts by digest, samples, and how it was decided (`prediction`, null if not).

    `text` and `reasoning` are in the samples whose completions are given. A diff that is UTF-8 is `{"encoding":
    "utf-8", "text": ...}`, any other `{"encoding": "base64", ...}`. Write it with `ensure_ascii`: a text may hold
    lone surrogates.
    """
    answers = {(sample.key, sample.index): completion for sample, completion in completions}
    return {
        "run": _run_values(trace.run),
        "prompts": {prompt.digest: [asdict(message) for message in prompt.messages] for prompt in prompts},
        "samples": [_sample_values(sample, answers.get((sample.key, sample.index))) for sample in trace.samples],
        "prediction": _prediction_values(trace),
    }


def _run_values(run: RunRecord) -> dict[str, Any]:
    start = run.start
    return {
        **asdict(run),
        "start": {**asdict(start), "settings": json.loads(start.settings), "versions": json.loads(start.versions)},
    }


def _sample_values(sample: SampleRecord, completion: Completion | None) -> dict[str, Any]:
    texts = {"text": completion.text, "reasoning": completion.reasoning} if completion else {}
    return {**asdict(sample), "outcome": _outcome_values(sample.outcome), **texts}


def _outcome_values(outcome: PatchRecord | Rejected | None) -> dict[str, Any] | None:
    match outcome:
        case PatchRecord():
            return {"valid": True, **_patch_values(outcome)}
        case Rejected(reason=reason, detail=detail):
            return {"valid": False, "reason": reason, "detail": detail}
    return None


def _prediction_values(trace: RunTrace) -> dict[str, Any] | None:
    prediction = trace.prediction
    if prediction is None:
        return None
    choice = prediction.choice
    return {
        "localization": asdict(prediction.localization),
        "choice": None if choice is None else {**asdict(choice), "patch": _patch_values(choice.patch)},
        "notes": list(prediction.notes),
    }


def _patch_values(patch: PatchRecord) -> dict[str, Any]:
    try:
        diff = {"encoding": "utf-8", "text": patch.diff.decode()}
    except UnicodeDecodeError:
        diff = {"encoding": "base64", "text": base64.b64encode(patch.diff).decode("ascii")}
    return {"normal": patch.normal, "paths": list(patch.paths), "diff": diff}
