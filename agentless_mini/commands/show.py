"""`amini show`: past runs, read from the store: for people, for programs, or as one page."""

import json
import sys
from pathlib import Path

from agentless_mini.commands.repair_options import ShowOptions
from agentless_mini.commands.terminal import people, require_stdout, results, write_page
from agentless_mini.domain import Completion
from agentless_mini.errors import UsageError, printable
from agentless_mini.record import PromptRecord, RunId, RunSummary, RunTrace, SampleRecord, Store
from agentless_mini.record.database import translated
from agentless_mini.report.document import run_document, runs_document
from agentless_mini.report.show import completion_view, prompt_view, run_view, runs_table
from agentless_mini.report.verdicts import distinct, repairs

Answers = list[tuple[SampleRecord, Completion]]


def run_show(options: ShowOptions, path: Path) -> None:
    """List the runs of a store on stdout, or show one. Raises `AminiError`."""
    ways = [options.patch is not None, options.html is not None, options.as_json, options.every]
    if sum(ways) > 1 or (options.run is None and (options.patch or options.html)):
        raise UsageError("--all, --patch, --html and --json exclude each other: give one, and the number of a run.")
    if options.html is None:
        require_stdout()
    if options.run is None:
        _list(options, path)
        return
    with Store.open_readonly(path) as store:
        _show(options, store, store.runs.trace(RunId(options.run)))


def _list(options: ShowOptions, path: Path) -> None:
    summaries: tuple[RunSummary, ...] = ()
    with translated(path):
        is_there = path.exists()
    if is_there:
        with Store.open_readonly(path) as store:
            summaries = store.runs.summaries()
    if options.as_json:
        _write(runs_document(summaries))
    elif summaries:
        results().print(runs_table(summaries))
    else:
        people().print(f"no runs yet in {printable(str(path))}: amini repair makes them", markup=False, highlight=False)


def _show(options: ShowOptions, store: Store, trace: RunTrace) -> None:
    if options.patch is not None:
        sys.stdout.buffer.write(_patch(trace, options.patch))
        return
    if options.html is not None:
        from agentless_mini.report.evaluation_instance import run_instance
        from agentless_mini.report.page import render_run

        write_page(options.html, render_run(run_instance(trace, _prompts(store, trace), _answers(store, trace))))
        return
    prompts = _prompts(store, trace) if options.prompts else []
    answers = _answers(store, trace) if options.completions else []
    if options.as_json:
        _write(run_document(trace, prompts, answers))
        return
    console = results()
    console.print(run_view(trace, options.every), highlight=False)
    for view in (*map(prompt_view, prompts), *(completion_view(*answer) for answer in answers)):
        console.print(view, highlight=False)


def _patch(trace: RunTrace, number: int) -> bytes:
    """Return a distinct patch by its number in what is shown: the chosen one as chosen, others as first drawn."""
    found = distinct(trace)
    if number > len(found):
        told = f"has {len(found)} distinct patches" if found else "has no patch"
        raise UsageError(
            f"Run {trace.run.id} {told}, so there is no patch {number}: amini show {trace.run.id} --all lists them."
        )
    choice = trace.prediction.choice if trace.prediction else None
    if choice is not None and choice.patch.normal == found[number - 1].normal:
        return choice.patch.diff
    return repairs(trace)[found[number - 1].first].diff


def _prompts(store: Store, trace: RunTrace) -> list[PromptRecord]:
    return [store.prompt(digest) for digest in dict.fromkeys(sample.prompt for sample in trace.samples)]


def _answers(store: Store, trace: RunTrace) -> Answers:
    found = ((sample, store.get_sample(sample.key, sample.index)) for sample in trace.samples)
    return [(sample, completion) for sample, completion in found if completion is not None]


def _write(document: object) -> None:
    sys.stdout.write(json.dumps(document, ensure_ascii=True, indent=2) + "\n")
