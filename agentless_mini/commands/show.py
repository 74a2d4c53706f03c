"""What is read from records: `amini show` past runs, `amini report` evaluations; nothing is asked and nothing run."""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentless_mini.commands.config import STORE, Machine
from agentless_mini.commands.terminal import people, require_stdout, results, write_page
from agentless_mini.domain import Completion
from agentless_mini.errors import UsageError, boundary, printable
from agentless_mini.record import PromptRecord, RunId, RunSummary, RunTrace, SampleRecord, Store
from agentless_mini.record.database import translated
from agentless_mini.report.document import run_document, runs_document
from agentless_mini.report.show import completion_view, prompt_view, run_view, runs_table
from agentless_mini.report.summary import distinct, repairs

if TYPE_CHECKING:
    from agentless_mini.cli import ReportOptions, ShowOptions

Answers = list[tuple[SampleRecord, Completion]]


def run_show(options: "ShowOptions", path: Path) -> None:
    """List the runs of a store on stdout, or show one. Raises `AminiError`."""
    ways = [options.patch is not None, options.html is not None, options.as_json, options.every]
    if sum(ways) > 1:
        raise UsageError("--all, --patch, --html and --json exclude each other: give only one.")
    if options.run is None and (options.patch or options.html):
        raise UsageError("The number of a run is missing: `amini show` lists them.")
    if options.html is None:
        require_stdout()
    if options.run is None:
        _list(options, path)
        return
    with Store.open_readonly(path) as store:
        _show(options, store, store.runs.trace(RunId(options.run)))


def _list(options: "ShowOptions", path: Path) -> None:
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


def _show(options: "ShowOptions", store: Store, trace: RunTrace) -> None:
    if options.patch is not None:
        sys.stdout.buffer.write(_patch(trace, options.patch))
        return
    if options.html is not None:
        from agentless_mini.report.evaluation_document import run_instance
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
        told, has = (
            (f"has {len(found)} distinct patches", "lists them") if found else ("has no patch", "has the reasons")
        )
        raise UsageError(
            f"Run {trace.run.id} {told}, so there is no patch {number}: amini show {trace.run.id} --all {has}."
        )
    choice = trace.choice
    if choice is not None and choice.patch.normal == found[number - 1].normal:
        return choice.patch.diff
    return repairs(trace)[found[number - 1].first].diff


def _prompts(store: Store, trace: RunTrace) -> list[PromptRecord]:
    return [store.prompt(digest) for digest in dict.fromkeys(sample.prompt for sample in trace.samples)]


def _answers(store: Store, trace: RunTrace) -> Answers:
    found = ((sample, store.get_sample(sample.key, sample.index)) for sample in trace.samples)
    return [(sample, completion) for sample, completion in found if completion is not None]


# --- evaluations -----------------------------------------------------------------------------------------------------


def run_report(options: "ReportOptions", machine: Machine) -> None:
    """Write the report: tables or JSON to stdout, the page to its file. Raises `AminiError`."""
    from agentless_mini.report.evaluation_document import Prices, evaluation_documents, one_instance
    from agentless_mini.report.evaluation_tables import evaluation_tables

    with ExitStack() as stack:
        stores = [stack.enter_context(_evaluation(name, machine)) for name in options.runs]
        if options.instance is not None:
            documents = [one_instance(store, options.instance) for store in stores]
        else:
            prices = Prices(
                options.price_prompt, options.price_cached, options.price_completion, options.price_box_hour
            )
            documents = evaluation_documents(stores, prices)
        if options.instance is None and options.html is not None:
            from agentless_mini.report.page import render_page

            def in_depth(store: Store) -> Iterator[dict[str, Any]]:
                return (one_instance(store, attempt.instance) for attempt in store.evals.attempts())

            write_page(options.html, render_page(documents, [in_depth(store) for store in stores]))
        require_stdout()
        if options.as_json or options.instance is not None:  # one document as an object, several as a list
            _write(documents[0] if len(documents) == 1 else documents)
        else:
            results().print(evaluation_tables(documents), highlight=False)


def _evaluation(name: str, machine: Machine) -> Store:
    run = f", or open a run by amini show {name}" if name.isascii() and name.isdigit() else ""
    absent = UsageError(f"There is no evaluation {printable(name)}: name the folder that amini eval printed{run}.")
    with boundary(dict.fromkeys((OSError, ValueError), lambda error: absent)):  # too long for a path, or not to be one
        file = machine.evaluation(name) / STORE
        is_there = file.is_file()
    if not is_there:
        raise absent
    return Store.open_readonly(file)


def _write(document: object) -> None:
    sys.stdout.write(json.dumps(document, ensure_ascii=True, indent=2) + "\n")
