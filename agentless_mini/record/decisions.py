"""What became of a run's samples and how it was decided: written as it goes on, read to be shown."""

import hashlib
import json
from dataclasses import asdict
from typing import Any

from agentless_mini.domain import Candidate, Choice, Localization, Patch, Prediction, canonical_json
from agentless_mini.record.database import Database, text
from agentless_mini.record.executions import put_execution, put_generated, read_execution
from agentless_mini.record.records import ChoiceRecord, PatchRecord, PredictionRecord, RunId

_PATCHES = """
    SELECT digest, diff, normal, paths, undefined FROM patches
    WHERE digest IN (SELECT patch FROM outcomes WHERE run = ?1 UNION SELECT patch FROM predictions WHERE run = ?1)
"""


def put_candidate(database: Database, run: RunId, candidate: Candidate) -> None:
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


def put_prediction(database: Database, run: RunId, prediction: Prediction) -> None:
    """Record how a run was decided, with its candidates, its tests and what they say. To be called in a transaction."""
    for candidate in prediction.candidates:
        put_candidate(database, run, candidate)
    for generated in prediction.generated:
        put_generated(database, run, generated)
    if prediction.execution is not None:
        put_execution(database, run, prediction.execution)
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


def read_patches(database: Database, run: RunId) -> dict[str, PatchRecord]:
    """Return the patches of a run by digest."""
    return {
        digest: PatchRecord(diff, normal, tuple(json.loads(paths)), tuple(json.loads(undefined)))
        for digest, diff, normal, paths, undefined in database.read(_PATCHES, (run,))
    }


def read_prediction(database: Database, run: RunId, patches: dict[str, PatchRecord]) -> PredictionRecord | None:
    """Return how a run was decided, or None where it was not."""
    rows = database.read(
        "SELECT localization, notes, patch, votes, valid, reason, passed, reproducing, broken, regressions"
        " FROM predictions WHERE run = ?",
        (run,),
    )
    for localization, notes, patch, votes, valid, reason, *tested in rows:
        choice = ChoiceRecord(patches[patch], votes, valid, text(reason), *tested) if patch else None
        located = _localization(json.loads(localization))
        return PredictionRecord(located, choice, tuple(json.loads(notes)), read_execution(database, run))
    return None


def _choice_values(database: Database, choice: Choice | None) -> tuple[str | int | None, ...]:
    if choice is None:
        return None, 0, 0, "", 0, 0, 0, 0
    tested = choice.passed, choice.reproducing, choice.broken, choice.regressions
    return _put_patch(database, choice.patch), choice.votes, choice.valid, choice.reason, *tested


def _put_patch(database: Database, patch: Patch) -> str:
    """Record a patch once and return its digest. The normal form is in it: how it is made may change."""
    paths, undefined = canonical_json([change.path for change in patch.changes]), canonical_json(patch.undefined)
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
