"""`amini eval --submission DIR`: what a submission to SWE-bench needs, told from the record of an evaluation."""

import json
from collections.abc import Iterator
from pathlib import Path

from agentless_mini.commands.config import STORE
from agentless_mini.commands.evaluate import OFFICIAL, Evaluation
from agentless_mini.commands.terminal import people
from agentless_mini.domain import Case, Patch, Rejected, Stage
from agentless_mini.errors import counted
from agentless_mini.evaluation.attempt import grade_key, row_digest
from agentless_mini.evaluation.grading import Grader
from agentless_mini.evaluation.submission import SubmissionFacts, Submitted, write_submission
from agentless_mini.record import AttemptRecord, RunTrace, SampleRecord, Store


def submit(evaluation: Evaluation, split: str, folder: Path) -> None:
    """Write the submission to a split to `folder` and tell what it lacks.

    Raises `GradingFailed` where it cannot be written.
    """
    with Store.open_readonly(evaluation.folder / STORE) as store:
        facts, parts = _facts(evaluation, split, store), _parts(evaluation, store)
        lacking = write_submission(
            folder, facts, parts, ((one.instance, "".join(_lines(store, one))) for one in store.evals.attempts())
        )
    console = people()
    for what, names in lacking.items():
        if names:
            told = f"note: {counted(len(names), 'instance')} of the submission without {what}."
            console.print(told, style="yellow")


def _facts(evaluation: Evaluation, split: str, store: Store) -> SubmissionFacts:
    start, config = store.evals.start(), evaluation.config
    graded = {"swebench": ", ".join(versions)} if (versions := store.evals.grade_versions()) else {}
    return SubmissionFacts(
        model=start.model,
        split={"full": "test"}.get(split, split),
        attempts=evaluation.systems or config.evolve.size(config.repair.samples) * config.evolve.rounds,
        repos={one.id: one.repo for one in evaluation.dataset.instances},
        versions={**json.loads(start.versions), **graded},
        oracle_files=evaluation.oracle,
    )


def _parts(evaluation: Evaluation, store: Store) -> dict[str, Submitted]:
    model = store.evals.start().model
    grader = Grader(evaluation.folder / OFFICIAL, model)  # asked where logs are, never to grade
    parts = {}
    for name, diff in store.evals.submitted().items():
        row = evaluation.dataset.solutions[name].row
        grade = store.evals.get_grade(grade_key(row_digest(row), diff))
        resolved = grade.resolved if grade else None if diff else False
        parts[name] = Submitted(diff, resolved, grader.logs(row, diff))
    return parts


# --- trajectories ----------------------------------------------------------------------------------------------------


def _lines(store: Store, attempt: AttemptRecord) -> Iterator[str]:
    yield f"# {attempt.instance}\n"
    if attempt.run is None:
        yield f"\n{attempt.stage}: {attempt.failure}\n"
        return
    trace = store.runs.trace(attempt.run)
    if trace.prediction is not None:
        yield "\n## Files\n\n"
        located = trace.prediction.localization
        for paths, votes in zip(located.lists, located.votes, strict=True):
            yield f"* {', '.join(paths)} ({counted(votes, 'vote')})\n"
    yield "\n## Samples\n\n"
    yield from (_told(sample) for sample in trace.samples if sample.stage is not Stage.LOCALIZE)
    yield from _choice(store, trace)


def _told(sample: SampleRecord) -> str:
    match sample.outcome:
        case Patch(normal=normal):
            became = f"patch {normal[:12]}"
        case Case(id=name):
            became = f"test {name}"
        case Rejected(reason=reason, detail=detail):
            became = f"{reason}: {detail}"
        case _:
            became = "not read"
    return f"* {sample.stage} {sample.index}: {became}\n"


def _choice(store: Store, trace: RunTrace) -> Iterator[str]:
    """Tell why the winner won, and show the answer that it came from."""
    choice = trace.choice
    if choice is None:
        yield "\nNo sample became a valid patch.\n"
        return
    yield f"\n## Choice\n\n{choice.reason}\n\n```diff\n{choice.patch.diff.decode('utf-8', 'replace')}```\n"
    for sample in trace.samples:
        answer = store.get_sample(sample.key, sample.index) if sample.outcome == choice.patch else None
        if answer is not None:
            yield f"\n## Its first answer\n\n{answer.reasoning}\n\n{answer.text}\n"
            return
