"""`amini show`: past runs, read from the store."""

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from agentless_mini.domain import Completion
from agentless_mini.report.document import run_document, runs_document
from agentless_mini.report.show import completion_view, prompt_view, run_view, runs_table
from agentless_mini.store import RunId, RunTrace, SampleRecord, Store

PIPED_WIDTH = 240


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a run to show beside its outcome."""

    prompts: bool = False
    completions: bool = False
    json: bool = False


def show_runs(path: Path, wanted: Wanted) -> None:
    """List the runs of a store on stdout."""
    with Store.open_readonly(path) as store:
        summaries = store.runs.summaries()
        if wanted.json:
            _write(runs_document(summaries))
        else:
            _console().print(runs_table(summaries))


def show_run(path: Path, run: RunId, wanted: Wanted) -> None:
    """Show one run of a store on stdout."""
    with Store.open_readonly(path) as store:
        trace = store.runs.trace(run)
        digests = dict.fromkeys(sample.prompt for sample in trace.samples)
        prompts = [store.prompt(digest) for digest in digests] if wanted.prompts else []
        answers = list(_answers(store, trace)) if wanted.completions else []
        if wanted.json:
            _write(run_document(trace, prompts, answers))
            return
        console = _console()
        views = [run_view(trace), *map(prompt_view, prompts), *(completion_view(*answer) for answer in answers)]
        for view in views:
            console.print(view)


def _console() -> Console:
    """Return a console that does not break lines; without a terminal it is wide enough not to cut tables."""
    return Console(soft_wrap=True, width=None if sys.stdout.isatty() else PIPED_WIDTH)


def _answers(store: Store, trace: RunTrace) -> Iterable[tuple[SampleRecord, Completion]]:
    for sample in trace.samples:
        completion = store.get_sample(sample.key, sample.index)
        if completion is not None:
            yield sample, completion


def _write(document: object) -> None:
    sys.stdout.write(json.dumps(document, ensure_ascii=True, indent=2) + "\n")
