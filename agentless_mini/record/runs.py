"""`RunLog`: which run used which samples and boxes, what became of each, and how the run was decided.

It decides nothing and asks nothing: it is written as a run goes on, and read by `amini show`.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from agentless_mini.domain import (
    Candidate,
    Case,
    Finish,
    Issue,
    Prediction,
    Reason,
    Rejected,
    Stage,
    canonical_json,
)
from agentless_mini.errors import UsageError
from agentless_mini.record.database import Database, Row, text
from agentless_mini.record.decisions import put_candidate, put_prediction, read_patches, read_prediction
from agentless_mini.record.executions import read_case
from agentless_mini.record.failures import named
from agentless_mini.record.packing import environment, tree, unpack
from agentless_mini.record.records import (
    BoxRecord,
    PatchRecord,
    RunId,
    RunRecord,
    RunStart,
    RunStatus,
    RunSummary,
    RunTrace,
    SampleRecord,
)
from agentless_mini.record.spending import read_usage

_RUN = (
    "runs.id, runs.started, runs.status, runs.finished, runs.exit_code, model, instance, repository, commit_id, tree,"
    " issue, issue_source, command, settings, versions"
)
_SUMMARY = f"""
    SELECT (SELECT count(*) FROM run_samples WHERE run = runs.id), coalesce(votes, 0), coalesce(valid, 0), {_RUN}
    FROM runs LEFT JOIN predictions ON run = runs.id ORDER BY runs.id DESC
"""  # noqa: S608 - built of constants alone
_SAMPLES = """
    SELECT used.key, used.idx, stage, prompt, finish, prompt_tokens, cached_tokens, completion_tokens, untold,
        EXISTS (SELECT 1 FROM run_samples AS earlier
                WHERE earlier.key = used.key AND earlier.idx = used.idx AND earlier.run < used.run),
        coalesce(outcomes.ord, generated.ord) AS place, coalesce(outcomes.round, 0), coalesce(outcomes.repeats, 0),
        patch, test,
        coalesce(outcomes.reason, generated.reason), coalesce(outcomes.detail, generated.detail)
    FROM run_samples AS used JOIN samples USING (key, idx) JOIN requests USING (key)
        LEFT JOIN outcomes ON (outcomes.run, outcomes.key, outcomes.idx) = (used.run, used.key, used.idx)
        LEFT JOIN generated ON (generated.run, generated.key, generated.idx) = (used.run, used.key, used.idx)
    WHERE used.run = ?
    ORDER BY CASE stage WHEN 'evolve' THEN 'repair' ELSE stage END, place IS NULL, place, used.rowid
"""
_BOXES = """
    SELECT key, job, seconds,
        EXISTS (SELECT 1 FROM run_boxes AS earlier WHERE earlier.key = used.key AND earlier.run < used.run)
    FROM run_boxes AS used JOIN boxes USING (key) WHERE run = ? ORDER BY used.rowid
"""


class RunLog:
    """The runs of an open store. Every method raises `StoreError` if the file cannot be used."""

    def __init__(self, database: Database) -> None:
        """Use an open database; `Store.runs` is one."""
        self._database = database

    # --- written as a run goes on ------------------------------------------------------------------------------------

    def begin(self, start: RunStart) -> RunId:
        """Record that a run begins and return its number, counted from 1."""
        row = self._database.write(
            "INSERT INTO runs (started, status, model, instance, repository, commit_id, tree, issue, issue_source,"
            " command, settings, versions) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                time.time(),
                RunStatus.RUNNING.value,
                start.model,
                start.instance,
                start.repository,
                start.commit,
                start.tree,
                start.issue.text,
                start.issue.source,
                canonical_json(start.command),
                start.settings,
                start.versions,
            ),
        )
        return RunId(row)

    def finish(self, run: RunId, status: RunStatus, exit_code: int) -> None:
        """Record how a run ended."""
        self._database.write(
            "UPDATE runs SET finished = ?, status = ?, exit_code = ? WHERE id = ?",
            (time.time(), status.value, exit_code, run),
        )

    def close_abandoned(self) -> None:
        """Mark the runs that are still open as interrupted: whoever holds the lock knows that they are dead."""
        self._database.write(
            "UPDATE runs SET status = ? WHERE status = ?", (RunStatus.INTERRUPTED.value, RunStatus.RUNNING.value)
        )

    def link(self, run: RunId, key: str, index: int) -> None:
        """Record that a run uses a recorded sample."""
        self._database.write("INSERT INTO run_samples VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (run, key, index))

    def link_box(self, run: RunId, key: str) -> None:
        """Record that a run uses a recorded sandbox run."""
        self._database.write("INSERT INTO run_boxes VALUES (?, ?) ON CONFLICT DO NOTHING", (run, key))

    def put_scores(self, run: RunId, scores: Mapping[str, float]) -> None:
        """Record what a reward model gave patches of a run, by normal form."""
        with self._database.transaction():
            for normal, score in scores.items():
                self._database.write("INSERT OR REPLACE INTO run_scores VALUES (?, ?, ?)", (run, normal, score))

    def unlink(self, run: RunId) -> None:
        """Forget what a run has used so far and what became of it: it is planned again from its start."""
        with self._database.transaction():
            for table in ("outcomes", "generated", "run_samples", "run_boxes", "run_scores"):
                self._database.write(f"DELETE FROM {table} WHERE run = ?", (run,))  # noqa: S608 - constants alone

    def put_candidate(self, run: RunId, candidate: Candidate) -> None:
        """Record what became of a recorded sample."""
        with self._database.transaction():
            put_candidate(self._database, run, candidate)

    def put_prediction(self, run: RunId, prediction: Prediction) -> None:
        """Record how a run was decided, with all of its candidates, its tests, and what these say."""
        with self._database.transaction():
            put_prediction(self._database, run, prediction)

    def newest_generation(self, model: str, issue: str) -> int:
        """Return the largest `generation` in the settings of the runs of a model on an issue, 0 where there is none."""
        rows = self._database.read("SELECT settings FROM runs WHERE model = ? AND issue = ?", (model, issue))
        return max((generation_of(text(settings)) for (settings,) in rows), default=0)

    # --- read to be shown --------------------------------------------------------------------------------------------

    def summaries(self) -> tuple[RunSummary, ...]:
        """Return all runs, the latest first."""
        return tuple(RunSummary(self._run(row[3:]), *row[:3]) for row in self._database.read(_SUMMARY))

    def latest(self) -> RunRecord | None:
        """Return the latest run, or None where there is none."""
        rows = self._database.read(f"SELECT {_RUN} FROM runs ORDER BY id DESC LIMIT 1")  # noqa: S608 - constants alone
        return self._run(rows[0]) if rows else None

    def trace(self, run: RunId) -> RunTrace:
        """Return a run with all that it used and decided. Raises `UsageError` if there is none of this number."""
        with self._database.snapshot():
            rows = self._database.read(f"SELECT {_RUN} FROM runs WHERE id = ?", (run,))  # noqa: S608 - constants alone
            if not rows:
                raise UsageError(f"There is no run {run} in {named(self._database.path)}: amini show lists the runs.")
            patches = read_patches(self._database, run)
            samples = tuple(_sample(row, patches) for row in self._database.read(_SAMPLES, (run,)))
            boxes = tuple(_box(row) for row in self._database.read(_BOXES, (run,)))
            scores = self._database.read("SELECT normal, score FROM run_scores WHERE run = ? ORDER BY normal", (run,))
            decided = read_prediction(self._database, run, patches)
            return RunTrace(self._run(rows[0]), samples, decided, boxes, tuple((name, score) for name, score in scores))

    def _run(self, row: Row) -> RunRecord:
        """Read a run. One that is open while no process holds the store was killed."""
        record = _run(row)
        killed = record.status is RunStatus.RUNNING and not self._database.held()
        return replace(record, status=RunStatus.INTERRUPTED) if killed else record


def generation_of(settings: str) -> int:
    """Return which generation of answers a run or an evaluation with these settings drew; the first is 0."""
    return json.loads(settings).get("generation") or 0


def _run(row: Row) -> RunRecord:
    number, started, status, finished, exit_code, model, instance, *rest = row
    repository, commit, tree, issue, source, command, settings, versions = rest
    start = RunStart(
        text(model),
        text(instance),
        text(repository),
        commit,
        tree,
        Issue(text(issue), text(source)),
        tuple(json.loads(command)),
        text(settings),
        text(versions),
    )
    return RunRecord(number, start, started, RunStatus(status), finished, exit_code)


def _sample(row: Row, patches: dict[str, PatchRecord]) -> SampleRecord:
    key, index, stage, prompt, finish, asked, cached, answered, untold, replayed, order, of_round, repeats, *outcome = (
        row
    )
    usage, became = read_usage(asked, cached, answered, untold), _outcome(outcome, patches)
    return SampleRecord(
        key, index, Stage(stage), prompt, Finish(finish), usage, bool(replayed), order, became, of_round, bool(repeats)
    )


def _outcome(columns: Sequence[Any], patches: dict[str, PatchRecord]) -> PatchRecord | Case | Rejected | None:
    patch, test, reason, detail = columns
    if patch:
        return patches[patch]
    if test:
        return read_case(test)
    return Rejected(Reason(reason), text(detail)) if reason else None


def _box(row: Row) -> BoxRecord:
    key, job, seconds, replayed = row
    values = unpack(job)
    return BoxRecord(
        key,
        environment(values["environment"]),
        tree(values["tree"]),
        tuple(values["files"]),
        tuple(tuple(argv) for argv in values["steps"]),
        seconds,
        bool(replayed),
    )
