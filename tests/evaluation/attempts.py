"""What attempts need, over the scripted model and scripted testbeds."""

import asyncio
from pathlib import Path

from agentless_mini.chain.templates import load_prompts
from agentless_mini.domain import Event, ModelCard
from agentless_mini.evaluation.attempt import Assignment, EvalContext, attempt, row_digest
from agentless_mini.evaluation.dataset import Dataset, dataset_of
from agentless_mini.evaluation.ports import Testbeds
from agentless_mini.ports import Sampler
from agentless_mini.record import AttemptRecord, InstanceRecord, RecordedSampler, Store
from agentless_mini.settings import Config
from agentless_mini.settings.run import Grading, RepairSettings, ReproduceSettings
from tests.evaluation.bugs import rows
from tests.fakes.model import Answer, Rule, Script, ScriptedSampler, ready

FILES = Rule(stage="localize", answers=(Answer(text="```\nshop/cart.py\n```"),))
TEST = "```python\nfrom shop.cart import total\n\n\ndef test_total():\n    assert total([1, 2]) == 3\n```"


def sampler(*repairs: str) -> ScriptedSampler:
    tests = Rule(stage="reproduce", answers=(Answer(text=TEST),))
    script = Script(rules=(FILES, tests, Rule(answers=tuple(Answer(text=text) for text in repairs))))
    return ScriptedSampler(script, ModelCard("scripted", 8192))


def dataset(count: int = 3) -> Dataset:
    return dataset_of("shops", rows(count))


def assignments(of: Dataset) -> list[Assignment]:
    return [Assignment(one, row_digest(of.solutions[one.id].row)) for one in of.instances]


def context(
    store: Store, asked: Sampler, grading: Grading = Grading.CHOSEN, chain: Config | None = None
) -> EvalContext:
    settings = chain or Config(repair=RepairSettings(samples=4), reproduce=ReproduceSettings(samples=2))
    recorded = RecordedSampler(ready(asked), store, "scripted")
    return EvalContext(store, recorded, load_prompts(None), settings, grading, "scripted")


def open_store(path: Path, of: Dataset) -> Store:
    store = Store.open(path)
    for one in of.instances:
        store.evals.put_instance(
            InstanceRecord(one.id, one.repo, "", one.created, of.solutions[one.id].files, one.image)
        )
    return store


def brought(task: Assignment, at: EvalContext, testbeds: Testbeds) -> tuple[AttemptRecord, list[Event]]:
    """Attempt one and record it, as the command does."""
    events: list[Event] = []
    record = asyncio.run(attempt(task, at, testbeds, events.append))
    at.store.evals.put_attempt(record)
    return record, events
