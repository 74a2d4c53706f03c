"""`amini report`: what evaluations came to, from their records, as tables, JSON or one page."""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from agentless_mini.commands.benchmark import folder_of
from agentless_mini.commands.evaluate import STORE
from agentless_mini.commands.evaluation_options import ReportOptions
from agentless_mini.commands.models import Machine
from agentless_mini.commands.terminal import require_stdout, results, write_page
from agentless_mini.errors import UsageError, boundary, printable
from agentless_mini.record import Store
from agentless_mini.report.evaluation_document import Prices, evaluation_documents, one_instance
from agentless_mini.report.evaluation_tables import evaluation_tables


def run_report(options: ReportOptions, machine: Machine) -> None:
    """Write the report: tables or JSON to stdout, the page to its file. Raises `AminiError`."""
    with ExitStack() as stack:
        stores = [stack.enter_context(_open(name, machine)) for name in options.runs]
        if options.instance is not None:
            _write([one_instance(store, options.instance) for store in stores])
            return
        documents = evaluation_documents(stores, _prices(options))
        if options.html is not None:
            _write_page(options.html, documents, stores)
        if options.as_json:
            _write(documents)
        else:
            require_stdout()
            results().print(evaluation_tables(documents), highlight=False)


def _open(name: str, machine: Machine) -> Store:
    run = f", or open a run by amini show {name}" if name.isascii() and name.isdigit() else ""
    absent = UsageError(f"There is no evaluation {printable(name)}: name the folder that amini eval printed{run}.")
    with boundary(dict.fromkeys((OSError, ValueError), lambda error: absent)):  # too long for a path, or not to be one
        file = folder_of(name, machine) / STORE
        is_there = file.is_file()
    if not is_there:
        raise absent
    return Store.open_readonly(file)


def _prices(options: ReportOptions) -> Prices:
    return Prices(options.price_prompt, options.price_cached, options.price_completion, options.price_box_hour)


def _write(documents: list[dict[str, Any]]) -> None:
    """Write one document as an object, several as a list."""
    require_stdout()
    shown = documents[0] if len(documents) == 1 else documents
    sys.stdout.write(json.dumps(shown, ensure_ascii=True, indent=2) + "\n")


def _write_page(file: Path, documents: list[dict[str, Any]], stores: list[Store]) -> None:
    from agentless_mini.report.page import render_page

    write_page(file, render_page(documents, [_in_depth(store) for store in stores]))


def _in_depth(store: Store) -> Iterator[dict[str, Any]]:
    for attempt in store.evals.attempts():
        yield one_instance(store, attempt.instance)
