"""What the tests of a run were and said: written with its prediction, read to be shown. See `schema` for the tables."""

from agentless_mini.domain import Case, Execution, GeneratedCase, Verdict
from agentless_mini.record.database import Database, text
from agentless_mini.record.packing import Packed, case_of, case_result, case_values, outcome_values, pack, unpack
from agentless_mini.record.records import RunId


def put_generated(database: Database, run: RunId, generated: GeneratedCase) -> None:
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


def put_execution(database: Database, run: RunId, execution: Execution) -> None:
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


def read_case(packed: Packed) -> Case:
    """Return a test that was kept."""
    return case_of(unpack(packed))


def read_execution(database: Database, run: RunId) -> Execution | None:
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
