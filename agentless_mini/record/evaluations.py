"""`EvalLog`: which instances an evaluation has, how far each came, what the official harness said, what it all cost.

A store holds one evaluation at most. It decides nothing: `evaluation` writes it, reports read it.
"""

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, astuple, replace

from agentless_mini.domain import canonical_json
from agentless_mini.errors import UsageError, printable
from agentless_mini.record.database import Database, named, read, text
from agentless_mini.record.records import (
    AttemptRecord,
    AttemptState,
    EvalStart,
    GradeRecord,
    InstanceRecord,
    RunId,
    Spending,
)

_GRADES = "SELECT key, instance, normal, diff, resolved, applied, report, version, seconds FROM grades"
_ATTEMPTS = "SELECT instance, run, state, stage, failure, seconds FROM attempts"
_TOKENS = """
    SELECT coalesce(sum(prompt_tokens), 0), coalesce(sum(cached_tokens), 0), coalesce(sum(completion_tokens), 0),
        coalesce(sum(untold & 1 > 0), 0), coalesce(sum(untold & 2 > 0), 0), coalesce(sum(untold & 4 > 0), 0)
    FROM samples
"""
# What samples of a prompt share is booked on one of them in each request, so the largest is the prompt's.
_DISTINCT = """
    SELECT coalesce(sum(tokens), 0)
    FROM (SELECT max(prompt_tokens) AS tokens FROM samples JOIN requests USING (key) GROUP BY prompt)
"""
# A run that was killed has no end: the last of what it paid for stands for that.
_RUNS = """
    SELECT started, coalesce(finished, max(
        started,
        coalesce((SELECT max(created) FROM run_samples JOIN samples USING (key, idx) WHERE run = runs.id), started),
        coalesce((SELECT max(created) FROM run_boxes JOIN boxes USING (key) WHERE run = runs.id), started)))
    FROM runs
"""
# A run asks the model from its start on, and runs tests on patches once it has them all.
_ASKING = """
    SELECT started, max(created) FROM runs JOIN run_samples ON run = runs.id JOIN samples USING (key, idx)
    WHERE created >= started GROUP BY runs.id
"""
_GRADED = "SELECT created - seconds, created FROM grades"


class EvalLog:
    """The evaluation of an open store, as `Store.evals`. All methods raise `StoreError` if the file cannot be used."""

    def __init__(self, database: Database) -> None:
        """Use an open database."""
        self._database = database

    def begin(self, start: EvalStart) -> None:
        """Record that the evaluation begins, or goes on: then `started` stays, and other settings forget the attempts.

        Raises `UsageError` where the store has another evaluation: of another dataset or model.
        """
        if found := self.find():
            other = "" if found.model == start.model else f"another model ({printable(found.model)})"
            if found.fingerprint != start.fingerprint:
                other = f"another dataset ({printable(found.dataset)})"
            if other:
                place = named(self._database.path)
                raise UsageError(f"{place} has an evaluation of {other}: name another folder with --out.")
        started = found.started if found else start.started or time.time()
        with self._database.transaction():
            if found is not None and found.settings != start.settings:
                self._database.write("DELETE FROM attempts")
            self._database.replace("evaluations", id=1, **asdict(replace(start, started=started)))

    def put_instance(self, instance: InstanceRecord) -> None:
        """Record an instance of the evaluation."""
        self._database.insert("instances", **{**asdict(instance), "files": canonical_json(instance.files)})

    def put_attempt(self, attempt: AttemptRecord) -> None:
        """Record how far an instance came, in place of an earlier attempt; where this one names no run and failed by
        the infrastructure, the run that decided the instance stays."""
        self._database.write(
            "INSERT OR REPLACE INTO attempts VALUES (?1,"
            " coalesce(?2, (SELECT run FROM attempts WHERE instance = ?1 AND ?3 = ?7)), ?3, ?4, ?5, ?6)",
            *astuple(attempt),
            AttemptState.INFRASTRUCTURE,
        )

    def put_grade(self, grade: GradeRecord) -> None:
        """Record what the official harness said of a patch. A grade that is there stays, unless its tests timed out."""
        self._database.write(
            "INSERT INTO grades VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET"
            " resolved = excluded.resolved, applied = excluded.applied, report = excluded.report,"
            " version = excluded.version, seconds = excluded.seconds"
            " WHERE json_extract(grades.report, '$.timeout') IS NOT NULL",
            *astuple(grade),
            time.time(),
        )

    def find(self) -> EvalStart | None:
        """Return the evaluation of the store, or None."""
        query = "SELECT name, dataset, fingerprint, model, settings, versions, started FROM evaluations"
        return next(self._database.values(EvalStart, query), None)

    def start(self) -> EvalStart:
        """Return the evaluation of the store. Raises `UsageError` where it has none."""
        if found := self.find():
            return found
        place = named(self._database.path)
        raise UsageError(f"{place} has no evaluation: name the folder of one, as amini eval told it.")

    def instances(self) -> tuple[InstanceRecord, ...]:
        """Return the instances in order of id."""
        rows = self._database.read("SELECT id, repo, difficulty, created, files, image FROM instances ORDER BY id")
        return tuple(read(InstanceRecord, [*texts, json.loads(files), image]) for *texts, files, image in rows)

    def attempts(self) -> tuple[AttemptRecord, ...]:
        """Return how far each instance came, in order of id; those that were never tried are left out."""
        return tuple(self._database.values(AttemptRecord, f"{_ATTEMPTS} ORDER BY instance"))

    def attempt(self, instance: str) -> AttemptRecord | None:
        """Return how far an instance came, None where it was never tried."""
        return next(self._database.values(AttemptRecord, f"{_ATTEMPTS} WHERE instance = ?", instance), None)

    def decided(self, instance: str) -> RunId | None:
        """Return the run that decided an instance, None where it is still to be decided."""
        rows = self._database.read("SELECT run FROM attempts WHERE instance = ? AND run IS NOT NULL", instance)
        return next((RunId(run) for (run,) in rows), None)

    def submitted(self, instance: str = "") -> dict[str, bytes]:
        """Return the chosen patch (or b"") of each instance that came to its end, or of the named one alone, by id."""
        rows = self._database.read(
            "SELECT instance, diff FROM attempts LEFT JOIN predictions USING (run) LEFT JOIN patches ON patch = digest"
            " WHERE (state <> ?1 OR predictions.run IS NOT NULL) AND (?2 = '' OR instance = ?2) ORDER BY instance",
            AttemptState.INFRASTRUCTURE.value,
            instance,
        )
        return {name: diff or b"" for name, diff in rows}

    def get_grade(self, key: str) -> GradeRecord | None:
        """Return what was said of the patch with this key, or None where it was not graded."""
        return next(self._database.values(GradeRecord, f"{_GRADES} WHERE key = ?", key), None)

    def grades(self, instance: str = "") -> tuple[GradeRecord, ...]:
        """Return the grades of an instance, or of all, in order of instance and diff."""
        query = f"{_GRADES} WHERE ?1 = '' OR instance = ?1 ORDER BY instance, diff"
        return tuple(self._database.values(GradeRecord, query, instance))

    def grade_versions(self) -> tuple[str, ...]:
        """Return the versions of the official harness that graded, in order."""
        rows = self._database.read("SELECT DISTINCT version FROM grades ORDER BY 1")
        return tuple(text(version) for (version,) in rows)

    def spending(self) -> Spending:
        """Sum up all that was paid for in the store, by this command and all before it, as it is at one moment."""
        with self._database.snapshot():
            ((prompt, cached, answered, *untold),) = self._database.read(_TOKENS)
            ((distinct,),) = self._database.read(_DISTINCT)
            ((boxes,),) = self._database.read("SELECT coalesce(sum(seconds), 0) FROM boxes")
            ((grading,),) = self._database.read("SELECT coalesce(sum(seconds), 0) FROM grades")
            working, asking = [*self._database.read(_RUNS), *self._database.read(_GRADED)], self._database.read(_ASKING)
        seconds = float(boxes), float(grading), covered(working), covered(asking)
        return Spending(prompt, cached, answered, distinct, *seconds, *untold)


def covered(spans: Iterable[tuple[float, ...]]) -> float:
    """Return how much time is in at least one of the spans, each a beginning and an end."""
    total, reached = 0.0, float("-inf")
    for beginning, end in sorted(spans):
        total += max(0.0, end - max(beginning, reached))
        reached = max(reached, end)
    return total
