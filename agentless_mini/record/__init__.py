"""The effects already paid for and what became of them, in one SQLite file: resume is replay, `amini show` reads it.

`Store` holds samples, sandbox runs and other values by key; its `runs` says which run used which of them and with what
outcome, its `evals` how far the instances of an evaluation came. `schema` documents the tables. `RecordedSampler`,
`RecordedSandbox` and `RecordedScorer` put the record before the ports, as `memo` promises.
"""

from agentless_mini.record.effects import Kind, Store, stable_key
from agentless_mini.record.evaluations import EvalLog
from agentless_mini.record.memo import (
    Memo,
    Once,
    RecordedSampler,
    RecordedSandbox,
    RecordedScorer,
    recorded_derive,
    traced_scoring,
)
from agentless_mini.record.records import (
    AttemptRecord,
    AttemptState,
    BoxRecord,
    EvalStart,
    GradeRecord,
    InstanceRecord,
    PromptRecord,
    RunId,
    RunRecord,
    RunStart,
    RunStatus,
    RunSummary,
    RunTrace,
    SampleRecord,
    Spending,
)
from agentless_mini.record.runs import RunLog, generation_of

__all__ = [
    "AttemptRecord",
    "AttemptState",
    "BoxRecord",
    "EvalLog",
    "EvalStart",
    "GradeRecord",
    "InstanceRecord",
    "Kind",
    "Memo",
    "Once",
    "PromptRecord",
    "RecordedSampler",
    "RecordedSandbox",
    "RecordedScorer",
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
    "recorded_derive",
    "stable_key",
    "traced_scoring",
]
