"""The effects already paid for and what became of them, in one SQLite file: resume is replay, `amini show` reads it.

`Store` holds samples, sandbox runs, token counts and model cards; its `runs` says which run used which of them and
with what outcome, its `evals` how far the instances of an evaluation came. `schema` documents the tables. Nothing here
asks a model or runs a box: `agentless_mini.recording` and `agentless_mini.recorded_sandbox` put the store before them.
"""

from agentless_mini.store.effects import Store
from agentless_mini.store.evaluations import EvalLog
from agentless_mini.store.records import (
    AttemptRecord,
    AttemptState,
    BoxRecord,
    ChoiceRecord,
    EvalStart,
    GradeRecord,
    InstanceRecord,
    PatchRecord,
    PredictionRecord,
    PromptRecord,
    RunId,
    RunRecord,
    RunStart,
    RunStatus,
    RunSummary,
    RunTrace,
    SampleRecord,
)
from agentless_mini.store.replaying import recorded_candidates, recorded_prediction
from agentless_mini.store.runs import RunLog, generation_of
from agentless_mini.store.spending import Spending

__all__ = [
    "AttemptRecord",
    "AttemptState",
    "BoxRecord",
    "ChoiceRecord",
    "EvalLog",
    "EvalStart",
    "GradeRecord",
    "InstanceRecord",
    "PatchRecord",
    "PredictionRecord",
    "PromptRecord",
    "RunId",
    "RunLog",
    "RunRecord",
    "RunStart",
    "RunStatus",
    "RunSummary",
    "RunTrace",
    "SampleRecord",
    "Spending",
    "Store",
    "generation_of",
    "recorded_candidates",
    "recorded_prediction",
]
