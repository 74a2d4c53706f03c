"""The effects already paid for and what became of them, in one SQLite file: resume is replay, `amini show` reads it.

`Store` holds samples, sandbox runs and other values by key; its `runs` says which run used which of them and with what
outcome, its `evals` how far the instances of an evaluation came. `schema` documents the tables. `RecordedSampler`,
`RecordedSandbox` and `RecordedScorer` put the record before the ports, as `memo` promises.
"""

from agentless_mini.record.effects import Store
from agentless_mini.record.memo import (
    Once,
    RecordedSampler,
    RecordedSandbox,
    RecordedScorer,
    kept_texts,
    recorded_derive,
    traced_scoring,
)
from agentless_mini.record.records import (
    AttemptRecord,
    AttemptState,
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
from agentless_mini.record.runs import generation_of
