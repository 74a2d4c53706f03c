"""`RunLog`: which run used which samples and boxes, what became of each, and how the run was decided.

It decides nothing and asks nothing: it is written as a run goes on, and read by `amini show`.
"""

import hashlib
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from agentless_mini.domain import (
    Case,
    CaseResult,
    Choice,
    Environment,
    Execution,
    Finish,
    GeneratedCase,
    ImageTree,
    Localization,
    PackedTree,
    Patch,
    Prediction,
    Reason,
    Regressions,
    Rejected,
    Stage,
    Verdict,
    canonical_json,
    plain,
)
from agentless_mini.errors import UsageError
from agentless_mini.record.database import (
    Database,
    Packed,
    Row,
    Value,
    named,
    pack,
    read,
    text,
    unpack,
    usage_of,
    written,
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

MESSAGE_LETTERS = 500
_NO_CHOICE = {"patch": None, "votes": 0, "valid": 0, "reason": ""}
_SUMMARY = """
    SELECT (SELECT count(*) FROM run_samples WHERE run = runs.id), coalesce(votes, 0), coalesce(valid, 0), runs.*
    FROM runs LEFT JOIN predictions ON run = runs.id ORDER BY runs.id DESC
"""
_SAMPLES = """
    SELECT used.key, used.idx, stage, prompt, finish,
        EXISTS (SELECT 1 FROM run_samples AS earlier
                WHERE earlier.key = used.key AND earlier.idx = used.idx AND earlier.run < used.run),
        coalesce(outcomes.ord, generated.ord) AS place, coalesce(outcomes.round, 0), coalesce(outcomes.repeats, 0),
        patch, test, coalesce(outcomes.reason, generated.reason), coalesce(outcomes.detail, generated.detail),
        prompt_tokens, cached_tokens, completion_tokens, untold, model
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
    """The runs of an open store, as `Store.runs`. All methods raise `StoreError` if the file cannot be used."""

    def __init__(self, database: Database) -> None:
        """Use an open database."""
        self._database = database

    def begin(self, start: RunStart) -> RunId:
        """Record that a run begins and return its number, counted from 1."""
        same = {
            name: getattr(start, name) for name in ("model", "instance", "repository", "tree", "settings", "versions")
        }
        issue = {"issue": start.issue.text, "issue_source": start.issue.source}
        other = {"commit_id": start.commit, "command": canonical_json(start.command)}
        begun: dict[str, Value] = {"started": time.time(), "status": RunStatus.RUNNING.value}
        return RunId(self._database.insert("runs", **begun, **same, **issue, **other))

    def finish(self, run: RunId, status: RunStatus, exit_code: int, failure: str = "") -> None:
        """Record how a run ended, and the sentence that it failed with."""
        ended = time.time(), status.value, exit_code, failure
        self._database.write(
            "UPDATE runs SET finished = ?, status = ?, exit_code = ?, failure = ? WHERE id = ?", *ended, run
        )

    def close_abandoned(self) -> None:
        """Mark the runs that are still open as interrupted: whoever holds the lock knows that they are dead."""
        self._database.write(
            "UPDATE runs SET status = ? WHERE status = ?", RunStatus.INTERRUPTED.value, RunStatus.RUNNING.value
        )

    def link(self, run: RunId, key: str, index: int) -> None:
        """Record that a run uses a recorded sample."""
        self._database.insert("run_samples", run=run, key=key, idx=index)

    def link_box(self, run: RunId, key: str) -> None:
        """Record that a run uses a recorded sandbox run."""
        self._database.insert("run_boxes", run=run, key=key)

    def put_scores(self, run: RunId, scores: Mapping[str, float]) -> None:
        """Record what a reward model gave patches of a run, by normal form."""
        with self._database.transaction():
            for normal, score in scores.items():
                self._database.replace("run_scores", run=run, normal=normal, score=score)

    def unlink(self, run: RunId) -> None:
        """Forget what a run has used so far and what became of it: it is planned again from its start."""
        with self._database.transaction():
            for table in ("outcomes", "generated", "run_samples", "run_boxes", "run_scores"):
                self._database.write(f"DELETE FROM {table} WHERE run = ?", run)  # noqa: S608 - constants alone

    def put_prediction(self, run: RunId, prediction: Prediction) -> None:
        """Record how a run was decided, with all of its candidates, its tests, and what these say."""
        database, execution, choice = self._database, prediction.execution, prediction.choice
        with database.transaction():
            for one in prediction.candidates:
                fate = {"patch": self._put_patch(one.outcome)} if isinstance(one.outcome, Patch) else _why(one.outcome)
                part = {"ord": one.order, "round": one.round, "repeats": one.repeats}
                database.replace("outcomes", run=run, key=one.request, idx=one.index, **part, **fate)
            for test in prediction.generated:
                became = {"test": pack(written(test.outcome))} if isinstance(test.outcome, Case) else _why(test.outcome)
                database.replace("generated", run=run, key=test.request, idx=test.index, ord=test.order, **became)
            if execution is not None:
                database.write("DELETE FROM verdicts WHERE run = ?", run)
                cases, before = pack(written(execution.cases)), _packed(execution.before)
                database.replace("executions", run=run, cases=cases, before=before)
                for order, verdict in enumerate(execution.verdicts):
                    said = {"refusal": verdict.refusal, "results": _packed(verdict.results)}
                    database.insert("verdicts", run=run, ord=order, normal=verdict.normal, **said)
            chosen = {**plain(choice), "patch": self._put_patch(choice.patch)} if choice else _NO_CHOICE
            located, notes = canonical_json(plain(prediction.localization)), canonical_json(prediction.notes)
            own = canonical_json(plain(prediction.regressions))
            database.replace("predictions", run=run, localization=located, notes=notes, own=own, **chosen)

    def _put_patch(self, patch: Patch) -> str:
        """Record a patch once and return its digest. The normal form is in it: how it is made may change."""
        marks = {"undefined": patch.undefined, "suspicious": patch.suspicious} if patch.suspicious else patch.undefined
        paths, undefined = canonical_json(patch.paths), canonical_json(marks)
        told = undefined.encode() if marks else b""
        digest = hashlib.sha256(patch.normal.encode() + b"\0" + told + patch.diff).hexdigest()
        self._database.insert(
            "patches", digest=digest, diff=patch.diff, normal=patch.normal, paths=paths, undefined=undefined
        )
        return digest

    def newest_generation(self, model: str, issue: str) -> int:
        """Return the largest `generation` in the settings of the runs of a model on an issue, 0 where there is none."""
        rows = self._database.read("SELECT settings FROM runs WHERE model = ? AND issue = ?", model, issue)
        return max((generation_of(text(settings)) for (settings,) in rows), default=0)

    def summaries(self) -> tuple[RunSummary, ...]:
        """Return all runs, the latest first."""
        return tuple(RunSummary(self._run(row[3:]), *row[:3]) for row in self._database.read(_SUMMARY))

    def latest(self) -> RunRecord | None:
        """Return the latest run, or None where there is none."""
        rows = self._database.read("SELECT * FROM runs ORDER BY id DESC LIMIT 1")
        return self._run(rows[0]) if rows else None

    def trace(self, run: RunId) -> RunTrace:
        """Return a run with all that it used and decided. Raises `UsageError` if there is none of this number."""
        with self._database.snapshot():
            rows = self._database.read("SELECT * FROM runs WHERE id = ?", run)
            if not rows:
                raise UsageError(f"There is no run {run} in {named(self._database.path)}: amini show lists the runs.")
            patches = {
                digest: Patch(diff, normal, tuple(json.loads(paths)), *_marks(json.loads(undefined)))
                for digest, diff, normal, paths, undefined in self._database.read(_PATCHES, run)
            }
            samples = tuple(_sample(row, patches) for row in self._database.read(_SAMPLES, run))
            boxes = tuple(_box(row) for row in self._database.read(_BOXES, run))
            scores = self._database.read("SELECT normal, score FROM run_scores WHERE run = ? ORDER BY normal", run)
            decided = self._prediction(run, samples, patches)
            return RunTrace(self._run(rows[0]), samples, decided, boxes, tuple((name, score) for name, score in scores))

    def _prediction(self, run: RunId, samples: Sequence[SampleRecord], patches: dict[str, Patch]) -> Prediction | None:
        """Return what a run came to, or None where it was not decided."""
        rows = self._database.read(
            "SELECT localization, notes, own, patch, votes, valid, reason, passed, reproducing, broken, regressions"
            " FROM predictions WHERE run = ?",
            run,
        )
        for localization, notes, own, patch, votes, valid, reason, *tested in rows:
            return Prediction(
                read(Localization, json.loads(localization)),
                recorded_candidates(samples),
                Choice(patches[patch], votes, valid, text(reason), *tested) if patch else None,
                tuple(json.loads(notes)),
                tuple(
                    GeneratedCase(one.key, one.index, one.order, one.outcome)
                    for one in samples
                    if one.stage is Stage.REPRODUCE
                    and one.order is not None
                    and isinstance(one.outcome, Case | Rejected)
                ),
                self._execution(run),
                read(Regressions, told) if (told := json.loads(own)) else None,
            )
        return None

    def _execution(self, run: RunId) -> Execution | None:
        """Return what the tests said, or None where none was run."""
        for cases, before in self._database.read("SELECT cases, before FROM executions WHERE run = ?", run):
            rows = self._database.read("SELECT normal, results, refusal FROM verdicts WHERE run = ? ORDER BY ord", run)
            return Execution(
                read(tuple[Case, ...], unpack(cases)),
                read(tuple[CaseResult, ...], unpack(before)),
                tuple(
                    Verdict(normal, read(tuple[CaseResult, ...], unpack(results)), text(refusal))
                    for normal, results, refusal in rows
                ),
            )
        return None

    def _run(self, row: Row) -> RunRecord:
        """Read a run. One that is open while no process holds the store was killed."""
        record = _run(row)
        killed = record.status is RunStatus.RUNNING and not self._database.held()
        return replace(record, status=RunStatus.INTERRUPTED) if killed else record


def generation_of(settings: str) -> int:
    """Return which generation of answers a run or an evaluation with these settings drew; the first is 0."""
    return json.loads(settings).get("generation") or 0


def _marks(said: list[str] | dict[str, list[str]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the undefined names of a patch, and what is suspicious."""
    marks = said if isinstance(said, dict) else {"undefined": said}
    return tuple(marks["undefined"]), tuple(marks.get("suspicious", ()))


def _run(row: Row) -> RunRecord:
    number, started, finished, status, exit_code, failure, *of, issue, source, command, settings, versions = row
    start = [*of, [issue, source], json.loads(command), settings, versions]
    return read(RunRecord, [number, start, started, status, finished, exit_code, failure])


def _sample(row: Row, patches: dict[str, Patch]) -> SampleRecord:
    key, index, stage, prompt, finish, replayed, order, number, repeats, patch, test, reason, detail, *tokens, by = row
    outcome: Patch | Case | Rejected | None = Rejected(Reason(reason), text(detail)) if reason else None
    if patch or test:
        outcome = patches[patch] if patch else read(Case, unpack(test))
    found = Stage(stage), prompt, Finish(finish), usage_of(*tokens), bool(replayed)
    return SampleRecord(key, index, *found, order, outcome, number, bool(repeats), text(by))


def _box(row: Row) -> BoxRecord:
    key, job, seconds, replayed = row
    values = unpack(job)
    tree = PackedTree if "digest" in values["tree"] else ImageTree
    files, steps = read(tuple[str, ...], values["files"]), read(tuple[tuple[str, ...], ...], values["steps"])
    environment = read(Environment, values["environment"])
    return BoxRecord(key, environment, tree(**values["tree"]), files, steps, seconds, bool(replayed))


def _why(rejected: Rejected) -> dict[str, str]:
    return {"reason": rejected.reason.value, "detail": rejected.detail}


def _packed(results: Iterable[CaseResult]) -> Packed:
    """Return what is recorded of results: seconds that are no number as 0, messages cut."""

    def kept(one: CaseResult) -> CaseResult:
        fault = one.fault and replace(one.fault, message=one.fault.message[:MESSAGE_LETTERS])
        is_number = math.isfinite(one.seconds)
        return replace(one, seconds=one.seconds if is_number else 0.0, fault=fault) if fault or not is_number else one

    return pack([written(kept(one)) for one in results])
