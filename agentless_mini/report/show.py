"""What `amini show` shows people of recorded runs, as rich renderables; `document` is for programs."""

import json
import shlex
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from rich.console import Group, RenderableType

from agentless_mini.chain.rank import counted_votes, valid_patches
from agentless_mini.domain import Case, Completion, Level, Patch, Rejected, Stage
from agentless_mini.errors import counted, printable
from agentless_mini.record import PromptRecord, RunRecord, RunSummary, RunTrace, SampleRecord, generation_of
from agentless_mini.report.console import LABEL, Labelled, Table, heading, plain_text, row, table
from agentless_mini.report.summary import faults_table, groups, patches_table, summary, tests_table, trust_of

DIGEST_LETTERS, NORMAL_LETTERS, TITLE_LETTERS, COMMAND_LETTERS = 8, 10, 80, 400
# What one screen has of the patches, of what fails with the chosen one, and of its diff.
ROWS, FAULTS, DIFF_LINES = 8, 5, 12


def runs_table(summaries: Iterable[RunSummary]) -> Table:
    """Return the list of runs as a table, in the order given."""
    found = list(summaries)
    several = ["repository"] if len({one.run.start.repository for one in found}) > 1 else []
    shown = table("run", "started (UTC)", "status", *several, "commit", "model", "samples", "votes", "issue")
    for one in found:
        run, start = one.run, one.run.start
        repository = [start.repository] if several else []
        votes, issue = f"{one.votes}/{one.valid}" if one.valid else "-", _first_line(start.issue.text)
        cells = [str(run.id), _moment(run.started)[:16], run.status, *repository, start.commit[:DIGEST_LETTERS]]
        row(shown, *cells, start.model, str(one.samples), votes, issue[:TITLE_LETTERS])
    return shown


def run_view(trace: RunTrace, every: bool = False) -> RenderableType:
    """Return a run on one screen, or with `every` each sample, test and patch, and all that it started from."""
    seconds = None if trace.run.finished is None else trace.run.finished - trace.run.started
    notes = trace.prediction.notes if trace.prediction else ()
    lines = [*run_facts(trace.run), *(("note", note) for note in notes)]
    more = f"more       amini show {trace.run.id} with --all, --patch K, --prompts, --completions or --html FILE"
    return Group(
        Labelled(tuple(f"{name:<{LABEL}}{value}" for name, value in lines)),
        summary(trace, seconds, None if every else ROWS),
        *_trust(trace),
        *_untested(trace, every),
        *_tests(trace, every),
        *_diff(trace, every),
        *(_started(trace) if every else (plain_text(""), Labelled((more,)))),
    )


def run_facts(run: RunRecord) -> list[tuple[str, str]]:
    """Return what a run started from and how it ended, as names and one line each."""
    start, fresh = run.start, generation_of(run.start.settings)
    ended = "" if run.finished is None else f", {run.finished - run.started:.1f} s, exit code {run.exit_code}"
    return [
        ("run", f"{run.id}, {run.status}{ended}; started {_moment(run.started)}"),
        *([("error", run.failure)] if run.failure else []),
        ("command", textwrap.shorten(shlex.join(start.command), COMMAND_LETTERS, placeholder=" ...")),
        ("model", start.model),
        *([("answers", f"those of --fresh number {fresh}")] if fresh else []),
        ("tree", f"{start.repository} at {start.commit[:DIGEST_LETTERS]}"),
        ("issue", ": ".join(filter(None, (start.issue.source, _first_line(start.issue.text)[:TITLE_LETTERS])))),
    ]


def prompt_view(prompt: PromptRecord) -> RenderableType:
    """Return a prompt as it was sent, message by message."""
    title = heading(f"prompt {prompt.digest[:DIGEST_LETTERS]}")
    parts = [part for message in prompt.messages for part in (heading(message.role), plain_text(message.content))]
    return Group(title, *parts)


def completion_view(sample: SampleRecord, completion: Completion) -> RenderableType:
    """Return an answer as it came, the reasoning before it."""
    prompt, reasoning = sample.prompt[:DIGEST_LETTERS], completion.reasoning
    return Group(
        heading(f"{sample.stage} sample {sample.index} of prompt {prompt}, ended by {sample.finish}"),
        *([heading("reasoning"), plain_text(reasoning), heading("answer")] if reasoning else []),
        plain_text(completion.text),
    )


def _trust(trace: RunTrace) -> Iterator[RenderableType]:
    required, shown = trust_of(trace) or (Level.ANY, None)
    if shown is not None:
        reached = ", ".join(level for level in Level if shown.suffices(level))
        asked = "" if required is Level.ANY else f" ({required} is required)"
        lacking = f"; not trusted: {shown.lacks(required)}" if shown.lacks(required) else ""
        yield Labelled((f"{'trust':<{LABEL}}meets {reached}{asked}{lacking}",))


def _untested(trace: RunTrace, every: bool) -> Iterator[RenderableType]:
    """Yield the patches where the summary has no table of them: no test was run."""
    if valid_patches(trace.candidates()) and not ((tests := trace.execution) and tests.cases and tests.verdicts):
        yield heading("patches, the best first (* chosen)")
        yield from _some(*patches_table(trace, None if every else ROWS), trace)


def _tests(trace: RunTrace, every: bool) -> Iterator[RenderableType]:
    if (execution := trace.execution) is None:
        return
    normal = trace.choice.patch.normal if trace.choice else ""
    yield heading("tests with the chosen patch")
    yield Labelled(groups(execution, normal) if normal else ("there is none",))
    faults, left = faults_table(execution, normal, None if every else FAULTS)
    if faults.rows:
        yield from _some(faults, left, trace)
    for verdict in [one for one in execution.verdicts if one.refusal][: None if every else FAULTS]:
        yield plain_text(printable(f"refused {verdict.normal[:NORMAL_LETTERS]}: {verdict.refusal}"))
    if every:
        yield heading("every test")
        yield tests_table(execution, normal)


def _some(shown: Table, left: int, trace: RunTrace) -> Iterator[RenderableType]:
    yield shown
    if left:
        yield plain_text(f"... {left} more (amini show {trace.run.id} --all)")


def _diff(trace: RunTrace, every: bool) -> Iterator[RenderableType]:
    if trace.choice is None:
        return
    lines = trace.choice.patch.diff.decode("utf-8", "backslashreplace").removesuffix("\n").split("\n")
    shown = lines if every or len(lines) <= DIFF_LINES + 1 else lines[:DIFF_LINES]
    yield heading("chosen patch")
    yield plain_text("\n".join(shown))
    if len(shown) < len(lines):
        yield plain_text(f"... {counted(len(lines) - len(shown), 'more line')} (amini show {trace.run.id} --patch 1)")


def _started(trace: RunTrace) -> Iterator[RenderableType]:
    """Yield what one screen leaves out of a run: its samples, and all that it started from."""
    start = trace.run.start
    if trace.samples:
        yield heading("samples")
        yield _samples_table(trace)
    yield heading("issue")
    yield plain_text(start.issue.text.strip())
    yield heading("settings")
    used = {"commit": start.commit, "tree": start.tree, **json.loads(start.versions), **json.loads(start.settings)}
    yield Labelled(tuple(f"{name:<{LABEL - 1}} {json.dumps(value)}" for name, value in used.items()))


def _samples_table(trace: RunTrace) -> Table:
    votes = votes_of(trace)
    several = ["round"] if any(sample.round for sample in trace.samples) else []
    shown = table("stage", *several, "sample", "prompt", "in", "out", "from", "outcome", right=("in", "out"))
    for sample in trace.samples:
        number = str(sample.index if sample.order is None else sample.order)
        drawn = [str(sample.round) if sample.stage.repairs else ""] if several else []
        usage = sample.usage.prompt_tokens, sample.usage.completion_tokens
        tokens = ("unknown" if count is None else str(count) for count in usage)
        source = sample.source if sample.stage is Stage.CHOOSE else "record" if sample.replayed else "model"
        prompt = sample.prompt[:DIGEST_LETTERS]
        row(shown, sample.stage, *drawn, number, prompt, *tokens, source, outcome(sample, votes))
    return shown


def outcome(sample: SampleRecord, votes: Counter[str]) -> str:
    """Return what became of a sample; `votes` are those of each patch of its run."""
    match sample.outcome:
        case Patch(normal=normal, undefined=undefined, suspicious=suspicious):
            repeats = ", repeats another answer" if sample.repeats else ""
            unsound = f", uses undefined names: {' '.join(undefined)}" if undefined else ""
            unsound += f", suspicious: {', '.join(suspicious)}" if suspicious else ""
            of = counted(votes.total(), "vote")
            return f"valid {normal[:DIGEST_LETTERS]}, {votes[normal]} of {of}{repeats}{unsound}"
        case Case(id=id, votes=count):
            return f"test {id}, written by {count}"
        case Rejected(reason=reason, detail=detail):
            return f"{reason}: {detail}"
    return "" if sample.stage in {Stage.LOCALIZE, Stage.REGRESS, Stage.SETUP} else "not judged"


def votes_of(trace: RunTrace) -> Counter[str]:
    """Return the votes of each patch of a run by its normal form."""
    return Counter({standing.normal: standing.votes for standing in counted_votes(trace.candidates())})


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
