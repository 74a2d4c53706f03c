"""`RunLog`: which run used which samples, what became of each, and how the run was decided.

It decides nothing and asks nothing: it is written as a run goes on, and read by `amini show`.
"""

import hashlib
import json
import time
from dataclasses import asdict, replace
from typing import Any

from agentless_mini.domain import (
    Candidate,
    Choice,
    Finish,
    Issue,
    Localization,
    Patch,
    Prediction,
    Reason,
    Rejected,
    Stage,
    Usage,
    canonical_json,
)
from agentless_mini.errors import UsageError
from agentless_mini.store.database import Database, Row, text
from agentless_mini.store.failures import named
from agentless_mini.store.records import (
    ChoiceRecord,
    PatchRecord,
    PredictionRecord,
    RunId,
    RunRecord,
    RunStart,
    RunStatus,
    RunSummary,
    RunTrace,
    SampleRecord,
)

_RUN = (
    "runs.id, runs.started, runs.status, runs.finished, runs.exit_code, model, instance, repository, commit_id, tree,"
    " issue, issue_source, command, settings, versions"
)
_SUMMARY = f"""
    SELECT (SELECT count(*) FROM run_samples WHERE run = runs.id), coalesce(votes, 0), coalesce(valid, 0), {_RUN}
    FROM runs LEFT JOIN predictions ON run = runs.id ORDER BY runs.id DESC
"""  # noqa: S608 - built of constants alone
_SAMPLES = """
    SELECT key, idx, stage, prompt, finish, prompt_tokens, cached_tokens, completion_tokens,
        EXISTS (SELECT 1 FROM run_samples AS earlier
                WHERE earlier.key = used.key AND earlier.idx = used.idx AND earlier.run < used.run),
        ord, patch, reason, detail
    FROM run_samples AS used JOIN samples USING (key, idx) JOIN requests USING (key)
        LEFT JOIN outcomes USING (run, key, idx)
    WHERE run = ? ORDER BY stage, ord IS NULL, ord, used.rowid
"""
_PATCHES = """
    SELECT digest, diff, normal, paths FROM patches
    WHERE digest IN (SELECT patch FROM outcomes WHERE run = ?1 UNION SELECT patch FROM predictions WHERE run = ?1)
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

    def put_candidate(self, run: RunId, candidate: Candidate) -> None:
        """Record what became of a recorded sample."""
        with self._database.transaction():
            self._put_candidate(run, candidate)

    def put_prediction(self, run: RunId, prediction: Prediction) -> None:
        """Record how a run was decided, with all of its candidates."""
        choice = prediction.choice
        with self._database.transaction():
            for candidate in prediction.candidates:
                self._put_candidate(run, candidate)
            self._database.write(
                "INSERT OR REPLACE INTO predictions VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    run,
                    canonical_json(asdict(prediction.localization)),
                    canonical_json(prediction.notes),
                    *self._choice_values(choice),
                ),
            )

    def _choice_values(self, choice: Choice | None) -> tuple[str | None, int, int, str]:
        if choice is None:
            return None, 0, 0, ""
        return self._put_patch(choice.patch), choice.votes, choice.valid, choice.reason

    def _put_candidate(self, run: RunId, candidate: Candidate) -> None:
        outcome = candidate.outcome
        values: tuple[str | None, str | None, str | None]
        if isinstance(outcome, Patch):
            values = self._put_patch(outcome), None, None
        else:
            values = None, outcome.reason.value, outcome.detail
        self._database.write(
            "INSERT OR REPLACE INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?)",
            (run, candidate.request, candidate.index, candidate.order, *values),
        )

    def _put_patch(self, patch: Patch) -> str:
        """Record a patch once and return its digest. The normal form is in it: how it is made may change."""
        digest = hashlib.sha256(patch.normal.encode() + b"\0" + patch.diff).hexdigest()
        paths = canonical_json([change.path for change in patch.changes])
        self._database.write(
            "INSERT INTO patches VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", (digest, patch.diff, patch.normal, paths)
        )
        return digest

    # --- read to be shown --------------------------------------------------------------------------------------------

    def summaries(self) -> tuple[RunSummary, ...]:
        """Return all runs, the latest first."""
        return tuple(RunSummary(self._run(row[3:]), *row[:3]) for row in self._database.read(_SUMMARY))

    def trace(self, run: RunId) -> RunTrace:
        """Return a run with all that it used and decided. Raises `UsageError` if there is none of this number."""
        with self._database.snapshot():
            rows = self._database.read(f"SELECT {_RUN} FROM runs WHERE id = ?", (run,))  # noqa: S608 - constants alone
            if not rows:
                raise UsageError(f"There is no run {run} in {named(self._database.path)}: amini show lists the runs.")
            patches = {
                digest: PatchRecord(diff, normal, tuple(json.loads(paths)))
                for digest, diff, normal, paths in self._database.read(_PATCHES, (run,))
            }
            samples = tuple(_sample(row, patches) for row in self._database.read(_SAMPLES, (run,)))
            return RunTrace(self._run(rows[0]), samples, self._prediction(run, patches))

    def _run(self, row: Row) -> RunRecord:
        """Read a run. One that is open while no process holds the store was killed."""
        record = _run(row)
        killed = record.status is RunStatus.RUNNING and not self._database.held()
        return replace(record, status=RunStatus.INTERRUPTED) if killed else record

    def _prediction(self, run: RunId, patches: dict[str, PatchRecord]) -> PredictionRecord | None:
        rows = self._database.read(
            "SELECT localization, notes, patch, votes, valid, reason FROM predictions WHERE run = ?", (run,)
        )
        for localization, notes, patch, votes, valid, reason in rows:
            choice = ChoiceRecord(patches[patch], votes, valid, text(reason)) if patch else None
            return PredictionRecord(_localization(json.loads(localization)), choice, tuple(json.loads(notes)))
        return None


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
    key, index, stage, prompt, finish, asked, cached, answered, replayed, order, patch, reason, detail = row
    outcome = patches[patch] if patch else Rejected(Reason(reason), text(detail)) if reason else None
    usage = Usage(asked, cached, answered)
    return SampleRecord(key, index, Stage(stage), prompt, Finish(finish), usage, bool(replayed), order, outcome)


def _localization(fields: dict[str, Any]) -> Localization:
    return Localization(
        tuple(tuple(paths) for paths in fields["lists"]),
        tuple(fields["votes"]),
        tuple(fields["named"]),
        fields["tree_shown"],
        fields["tree_total"],
    )
