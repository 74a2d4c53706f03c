"""What the record writes of values, and back: JSON with bytes as base64, compressed where that pays, and columns.

A packed value is a text (plain JSON) or bytes (JSON compressed by zlib). It knows no table.
"""

import base64
import json
import math
import zlib
from typing import Any

from agentless_mini.domain import (
    BoxUser,
    Case,
    CaseResult,
    Ending,
    Environment,
    Fault,
    ImageTree,
    Job,
    JobResult,
    Origin,
    Outcome,
    Output,
    PackedTree,
    ResultFile,
    StepResult,
    Usage,
    canonical_json,
    plain,
)

COMPRESSED_FROM = 1024
ARGUMENT_LETTERS = 200
MESSAGE_LETTERS = 500
_UNTOLD_PROMPT, _UNTOLD_CACHED, _UNTOLD_ANSWER = 1, 2, 4

Packed = str | bytes


def pack(value: Any) -> Packed:  # noqa: ANN401 - any JSON value
    """Return the value as it is stored."""
    text = canonical_json(value)
    return text if len(text) < COMPRESSED_FROM else zlib.compress(text.encode())


def unpack(packed: Packed) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value that was packed."""
    return json.loads(packed if isinstance(packed, str) else zlib.decompress(packed))


# --- samples --------------------------------------------------------------------------------------------------------


def usage_values(usage: Usage) -> tuple[int, int, int, int]:
    """Return usage as the columns of `samples` have it: tokens of prompt, cache and answer, and which are not known."""
    prompt, cached, answer = usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens
    marks = ((prompt, _UNTOLD_PROMPT), (cached, _UNTOLD_CACHED), (answer, _UNTOLD_ANSWER))
    return prompt or 0, cached or 0, answer or 0, sum(mark for tokens, mark in marks if tokens is None)


def read_usage(prompt: int, cached: int, answer: int, untold: int) -> Usage:
    """Return the usage that `usage_values` made columns of."""
    return Usage(
        None if untold & _UNTOLD_PROMPT else prompt,
        None if untold & _UNTOLD_CACHED else cached,
        None if untold & _UNTOLD_ANSWER else answer,
    )


# --- sandbox runs ----------------------------------------------------------------------------------------------------


def job_values(job: Job) -> dict[str, Any]:
    """Return what people may want to know of a job; it cannot be run from this."""
    return {
        "environment": plain(job.environment),
        "tree": plain(job.tree),
        "files": [file.path for file in job.files],
        "steps": [[argument[:ARGUMENT_LETTERS] for argument in step.argv] for step in job.steps],
    }


def environment(values: dict[str, Any]) -> Environment:
    """Return the environment of `job_values`."""
    return Environment(**{**values, "user": BoxUser(values["user"])})


def tree(values: dict[str, Any]) -> PackedTree | ImageTree:
    """Return the tree of `job_values`."""
    return PackedTree(**values) if "digest" in values else ImageTree(**values)


def result_values(result: JobResult) -> dict[str, Any]:
    """Return all of what came of a job."""
    return {"refusal": result.refusal, "steps": [_step_values(step) for step in result.steps]}


def job_result(values: dict[str, Any]) -> JobResult:
    """Return what `result_values` was made of."""
    return JobResult(tuple(_step_result(step) for step in values["steps"]), values["refusal"])


def _step_values(step: StepResult) -> dict[str, Any]:
    return {
        "ending": step.ending.value,
        "status": step.status,
        "output": [_encoded(step.output.head), _encoded(step.output.tail), step.output.cut],
        "results": [[file.path, _encoded(file.data)] for file in step.results],
        "seconds": step.seconds,
    }


def _step_result(values: dict[str, Any]) -> StepResult:
    head, tail, cut = values["output"]
    return StepResult(
        Ending(values["ending"]),
        values["status"],
        Output(_decoded(head), _decoded(tail), cut),
        tuple(ResultFile(path, _decoded(data)) for path, data in values["results"]),
        values["seconds"],
    )


# --- tests and their results -----------------------------------------------------------------------------------------


def case_values(case: Case) -> dict[str, Any]:
    """Return all of a case."""
    data = None if case.data is None else _encoded(case.data)
    return {**plain(case), "origin": case.origin.value, "data": data}


def case_of(values: dict[str, Any]) -> Case:
    """Return what `case_values` was made of."""
    data = None if values["data"] is None else _decoded(values["data"])
    return Case(**{**values, "origin": Origin(values["origin"]), "data": data})


def outcome_values(result: CaseResult) -> dict[str, Any]:
    """Return what came of a case: seconds that are no number as 0, messages cut."""
    fault = result.fault
    return {
        "id": result.id,
        "outcome": result.outcome.value,
        "seconds": result.seconds if math.isfinite(result.seconds) else 0.0,
        "fault": None if fault is None else {**plain(fault), "message": fault.message[:MESSAGE_LETTERS]},
    }


def case_result(values: dict[str, Any]) -> CaseResult:
    """Return what `outcome_values` was made of."""
    fault = None if values["fault"] is None else Fault(**values["fault"])
    return CaseResult(values["id"], Outcome(values["outcome"]), values["seconds"], fault)


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decoded(text: str) -> bytes:
    return base64.b64decode(text)
