"""The effects already paid for and what became of them, in one SQLite file: resume is replay, `amini show` reads it.

`Store` holds samples, token counts and model cards; its `runs` says which run used which of them and with what outcome.
`schema` documents the tables. Nothing here asks a model: `agentless_mini.recording` puts the store before one.
"""

from agentless_mini.store.effects import Store
from agentless_mini.store.records import (
    ChoiceRecord,
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
from agentless_mini.store.runs import RunLog

__all__ = [
    "ChoiceRecord",
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
    "Store",
]
