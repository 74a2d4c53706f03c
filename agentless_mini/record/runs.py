"""`RunLog`: which run used which samples and boxes, what became of each, and how the run was decided.

It decides nothing and asks nothing: it is written as a run goes on, and read by `amini show`.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from agentless_mini.domain import (
    Candidate,
    Case,
    Choice,
    Execution,
    Finish,
    GeneratedCase,
    Issue,
    Localization,
    Patch,
    Prediction,
    Reason,
    Rejected,
    Stage,
    Verdict,
    canonical_json,
)
from agentless_mini.errors import UsageError
from agentless_mini.record.database import Database, Row, named, text
from agentless_mini.record.packing import (
    Packed,
    case_of,
    case_result,
    case_values,
    environment,
    outcome_values,
    pack,
    read_usage,
    tree,
    unpack,
)
from agentless_mini.record.records import (
    BoxRecord,
    RunId,
    RunRecord,
    RunStart,
    RunStatus,
    RunSummary,
    RunTrace,
    SampleRecord,
    recorded_candidates,
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
_PATCHES = """
    SELECT digest, diff, normal, paths, undefined FROM patches
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
            _put_candidate(self._database, run, candidate)

    def put_prediction(self, run: RunId, prediction: Prediction) -> None:
        """Record how a run was decided, with all of its candidates, its tests, and what these say."""
        with self._database.transaction():
            _put_prediction(self._database, run, prediction)

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
            patches = {
                digest: Patch(diff, normal, tuple(json.loads(paths)), tuple(json.loads(undefined)))
                for digest, diff, normal, paths, undefined in self._database.read(_PATCHES, (run,))
            }
            samples = tuple(_sample(row, patches) for row in self._database.read(_SAMPLES, (run,)))
            boxes = tuple(_box(row) for row in self._database.read(_BOXES, (run,)))
            scores = self._database.read("SELECT normal, score FROM run_scores WHERE run = ? ORDER BY normal", (run,))
            decided = _prediction(self._database, run, samples, patches)
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


def _sample(row: Row, patches: dict[str, Patch]) -> SampleRecord:
    key, index, stage, prompt, finish, asked, cached, answered, untold, replayed, order, of_round, repeats, *outcome = (
        row
    )
    usage, became = read_usage(asked, cached, answered, untold), _outcome(outcome, patches)
    return SampleRecord(
        key, index, Stage(stage), prompt, Finish(finish), usage, bool(replayed), order, became, of_round, bool(repeats)
    )


def _outcome(columns: Sequence[Any], patches: dict[str, Patch]) -> Patch | Case | Rejected | None:
    patch, test, reason, detail = columns
    if patch:
        return patches[patch]
    if test:
        return case_of(unpack(test))
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


# --- how a run was decided -------------------------------------------------------------------------------------------


def _put_candidate(database: Database, run: RunId, candidate: Candidate) -> None:
    """Record what became of a recorded sample."""
    outcome = candidate.outcome
    values: tuple[str | None, str | None, str | None]
    if isinstance(outcome, Patch):
        values = _put_patch(database, outcome), None, None
    else:
        values = None, outcome.reason.value, outcome.detail
    database.write(
        "INSERT OR REPLACE INTO outcomes (run, key, idx, ord, round, repeats, patch, reason, detail)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (run, candidate.request, candidate.index, candidate.order, candidate.round, candidate.repeats, *values),
    )


def _put_prediction(database: Database, run: RunId, prediction: Prediction) -> None:
    """Record how a run was decided, with its candidates, its tests and what they say. To be called in a transaction."""
    for candidate in prediction.candidates:
        _put_candidate(database, run, candidate)
    for generated in prediction.generated:
        _put_generated(database, run, generated)
    if prediction.execution is not None:
        _put_execution(database, run, prediction.execution)
    database.write(
        "INSERT OR REPLACE INTO predictions (run, localization, notes, patch, votes, valid, reason,"
        " passed, reproducing, broken, regressions) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            run,
            canonical_json(asdict(prediction.localization)),
            canonical_json(prediction.notes),
            *_choice_values(database, prediction.choice),
        ),
    )


def _prediction(
    database: Database, run: RunId, samples: Sequence[SampleRecord], patches: dict[str, Patch]
) -> Prediction | None:
    """Return what a run came to, or None where it was not decided."""
    rows = database.read(
        "SELECT localization, notes, patch, votes, valid, reason, passed, reproducing, broken, regressions"
        " FROM predictions WHERE run = ?",
        (run,),
    )
    for localization, notes, patch, votes, valid, reason, *tested in rows:
        return Prediction(
            _localization(json.loads(localization)),
            recorded_candidates(samples),
            Choice(patches[patch], votes, valid, text(reason), *tested) if patch else None,
            tuple(json.loads(notes)),
            tuple(
                GeneratedCase(one.key, one.index, one.order, one.outcome)
                for one in samples
                if one.stage is Stage.REPRODUCE and one.order is not None and isinstance(one.outcome, Case | Rejected)
            ),
            _execution(database, run),
        )
    return None


def _choice_values(database: Database, choice: Choice | None) -> tuple[str | int | None, ...]:
    if choice is None:
        return None, 0, 0, "", 0, 0, 0, 0
    tested = choice.passed, choice.reproducing, choice.broken, choice.regressions
    return _put_patch(database, choice.patch), choice.votes, choice.valid, choice.reason, *tested


def _put_patch(database: Database, patch: Patch) -> str:
    """Record a patch once and return its digest. The normal form is in it: how it is made may change."""
    paths, undefined = canonical_json(patch.paths), canonical_json(patch.undefined)
    told = undefined.encode() if patch.undefined else b""
    digest = hashlib.sha256(patch.normal.encode() + b"\0" + told + patch.diff).hexdigest()
    database.write(
        "INSERT INTO patches (digest, diff, normal, paths, undefined) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (digest, patch.diff, patch.normal, paths, undefined),
    )
    return digest


def _localization(fields: dict[str, Any]) -> Localization:
    return Localization(
        tuple(tuple(paths) for paths in fields["lists"]),
        tuple(fields["votes"]),
        tuple(fields["named"]),
        fields["tree_shown"],
        fields["tree_total"],
    )


# --- what its tests said ---------------------------------------------------------------------------------------------


def _put_generated(database: Database, run: RunId, generated: GeneratedCase) -> None:
    """Record what became of a sampled test."""
    outcome = generated.outcome
    values: tuple[Packed | None, str | None, str | None]
    if isinstance(outcome, Case):
        values = pack(case_values(outcome)), None, None
    else:
        values = None, outcome.reason.value, outcome.detail
    database.write(
        "INSERT OR REPLACE INTO generated VALUES (?, ?, ?, ?, ?, ?, ?)",
        (run, generated.request, generated.index, generated.order, *values),
    )


def _put_execution(database: Database, run: RunId, execution: Execution) -> None:
    """Record what the tests say of each distinct patch, in place of what is recorded of this run."""
    database.write("DELETE FROM verdicts WHERE run = ?", (run,))
    database.write(
        "INSERT OR REPLACE INTO executions VALUES (?, ?, ?)",
        (
            run,
            pack([case_values(case) for case in execution.cases]),
            pack([outcome_values(result) for result in execution.before]),
        ),
    )
    for order, verdict in enumerate(execution.verdicts):
        results = pack([outcome_values(result) for result in verdict.results])
        database.write(
            "INSERT INTO verdicts VALUES (?, ?, ?, ?, ?)", (run, order, verdict.normal, verdict.refusal, results)
        )


def _execution(database: Database, run: RunId) -> Execution | None:
    """Return what the tests said, or None where none was run."""
    for cases, before in database.read("SELECT cases, before FROM executions WHERE run = ?", (run,)):
        rows = database.read("SELECT normal, refusal, results FROM verdicts WHERE run = ? ORDER BY ord", (run,))
        return Execution(
            tuple(case_of(values) for values in unpack(cases)),
            tuple(case_result(values) for values in unpack(before)),
            tuple(
                Verdict(normal, tuple(case_result(values) for values in unpack(results)), text(refusal))
                for normal, refusal, results in rows
            ),
        )
    return None
