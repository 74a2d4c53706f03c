"""A run that was recorded and read again, and what a terminal shows of it."""

import io
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console, RenderableType

from agentless_mini.domain import (
    Candidate,
    Case,
    Choice,
    Completion,
    Execution,
    Finish,
    GeneratedCase,
    Localization,
    Patch,
    Prediction,
    Regressions,
    Rejected,
    Stage,
    Usage,
)
from agentless_mini.record import RunTrace, Store
from tests.record.building import START, record, request


@dataclass(frozen=True)
class Outcome:
    """What became of a run. `repairs` that are None were sampled and never judged."""

    repairs: tuple[Patch | Rejected | None, ...]
    choice: Choice | None
    notes: tuple[str, ...] = ()
    tests: tuple[Case | Rejected, ...] = ()
    execution: Execution | None = None
    regressions: Regressions | None = None


def trace(folder: Path, outcome: Outcome) -> RunTrace:
    """Record a run with this outcome in a new store in the folder, and read it again."""
    count = len(outcome.repairs)
    answers = [Completion(n, "x", Finish.STOP, usage=Usage(100 if n == 0 else 0, 40, 7)) for n in range(count)]
    drafts = [Completion(n, "x", Finish.STOP) for n in range(len(outcome.tests))]
    localization = Localization((("a.py", "b\x1b[31m.py"), ("c.py",)), (3, 0))
    with Store.open(folder / "s.sqlite") as store:
        run = store.runs.begin(START)
        key = record(store, request("Fix it.", *range(count)), *answers)
        other = record(store, replace(request("Test it."), stage=Stage.REPRODUCE), *drafts)
        for number in range(count):
            store.runs.link(run, key, number)
        for number in range(len(outcome.tests)):
            store.runs.link(run, other, number)
        candidates = tuple(Candidate(key, n, n, one) for n, one in enumerate(outcome.repairs) if one is not None)
        generated = tuple(GeneratedCase(other, n, n, one) for n, one in enumerate(outcome.tests))
        tested = generated, outcome.execution, outcome.regressions
        store.runs.put_prediction(run, Prediction(localization, candidates, outcome.choice, outcome.notes, *tested))
        return store.runs.trace(run)


def shown(view: RenderableType, width: int = 200) -> str:
    """Return what a terminal of this width shows, without colours. The console breaks no lines, as that of stderr."""
    console = Console(
        file=io.StringIO(), width=width, color_system=None, force_terminal=True, legacy_windows=False, soft_wrap=True
    )
    console.print(view, highlight=False)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()
