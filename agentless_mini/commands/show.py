"""What is told without asking or running anything: past runs, evaluations, what a run would take, and the manual.

`amini show` and `report` read records, `--dry-run` goes through the chain with answers of the record alone, and the
topics of `amini help` are the files of `agentless_mini/docs`.
"""

import asyncio
import difflib
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentless_mini.chain.context import Gauge
from agentless_mini.chain.pipeline import NO_SANDBOX, resolve
from agentless_mini.chain.rank import valid_patches
from agentless_mini.chain.session import NoBoxes, Opening, Session
from agentless_mini.chain.templates import load_prompts
from agentless_mini.commands.config import STORE, Machine
from agentless_mini.commands.terminal import people, require_stdout, results, write_page, write_patch
from agentless_mini.domain import Completion, Message, ModelCard, SampleRequest, Snapshot, Stage
from agentless_mini.errors import UsageError, boundary, counted, printable
from agentless_mini.ports import Watch
from agentless_mini.record import PromptRecord, RunId, RunSummary, RunTrace, SampleRecord, Store, recorded_derive
from agentless_mini.record.database import translated
from agentless_mini.record.effects import chat_key, token_counts
from agentless_mini.report.console import row, table
from agentless_mini.report.document import run_document, runs_document
from agentless_mini.report.show import completion_view, prompt_view, run_view, runs_table
from agentless_mini.report.summary import distinct
from agentless_mini.repository.patches import read_pool, snapshot_check
from agentless_mini.run import NOBODY, foreseen, seeded, settled
from agentless_mini.settings.run import SandboxKind

if TYPE_CHECKING:
    from agentless_mini.cli import ReportOptions, ShowOptions
    from agentless_mini.commands.repair import Task

_DOCS = files("agentless_mini") / "docs"
ASSUMED = 32_768
"""The window, in tokens, of a model of which nothing is known."""


def run_show(options: "ShowOptions", path: Path) -> None:
    """List the runs of a store on stdout, or show one. Raises `AminiError`."""
    ways = [options.patch is not None, options.html is not None, options.as_json, options.every]
    if sum(ways) > 1:
        raise UsageError("--all, --patch, --html and --json exclude each other: give only one.")
    if options.run is None and (options.patch or options.html):
        raise UsageError("The number of a run is missing: `amini show` lists them.")
    if options.html is None:
        require_stdout()
    if options.run is not None:
        with Store.open_readonly(path) as store:
            _show(options, store, store.runs.trace(RunId(options.run)))
        return
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
        people().print(f"no runs yet in {printable(str(path))}: amini repair makes them")


def _show(options: "ShowOptions", store: Store, trace: RunTrace) -> None:
    if options.patch is not None:
        write_patch(_patch(trace, options.patch))
        return
    prompts, answers = list[PromptRecord](), list[tuple[SampleRecord, Completion]]()
    if options.prompts or options.html:
        prompts = [store.prompt(digest) for digest in dict.fromkeys(sample.prompt for sample in trace.samples)]
    if options.completions or options.html:
        found = ((sample, store.get_sample(sample.key, sample.index)) for sample in trace.samples)
        answers = [(sample, completion) for sample, completion in found if completion is not None]
    if options.html is not None:
        from agentless_mini.report.evaluation_document import run_instance
        from agentless_mini.report.page import render_run

        write_page(options.html, render_run(run_instance(trace, prompts, answers)))
        return
    if options.as_json:
        _write(run_document(trace, prompts, answers))
        return
    console = results()
    console.print(run_view(trace, options.every))
    for view in (*map(prompt_view, prompts), *(completion_view(*answer) for answer in answers)):
        console.print(view)


def _patch(trace: RunTrace, number: int) -> bytes:
    """Return a distinct patch by its number in what is shown: the chosen one as chosen, others as first drawn."""
    found = distinct(trace)
    if number > len(found):
        patches = counted(len(found), "distinct patch")
        told, has = (f"has {patches}", "lists them") if found else ("has no patch", "has the reasons")
        raise UsageError(
            f"Run {trace.run.id} {told}, so there is no patch {number}: amini show {trace.run.id} --all {has}."
        )
    choice = trace.choice
    if choice is not None and choice.patch.normal == found[number - 1].normal:
        return choice.patch.diff
    return valid_patches(trace.candidates())[found[number - 1].first].diff


# --- evaluations -----------------------------------------------------------------------------------------------------


def run_report(options: "ReportOptions", machine: Machine) -> None:
    """Write the report: tables or JSON to stdout, the page to its file. Raises `AminiError`."""
    from agentless_mini.report.evaluation_document import Prices, evaluation_documents, one_instance
    from agentless_mini.report.evaluation_tables import evaluation_tables

    with ExitStack() as stack:
        stores = [stack.enter_context(_evaluation(name, machine)) for name in options.runs]
        priced = Prices(options.price_prompt, options.price_cached, options.price_completion, options.price_box_hour)
        if options.instance is not None:
            documents = [one_instance(store, options.instance) for store in stores]
        else:
            documents = evaluation_documents(stores, priced)
        if options.instance is None and options.html is not None:
            from agentless_mini.report.page import render_page

            def in_depth(store: Store) -> Iterator[dict[str, Any]]:
                return (one_instance(store, attempt.instance) for attempt in store.evals.attempts())

            write_page(options.html, render_page(documents, [in_depth(store) for store in stores]))
        require_stdout()
        if options.as_json or options.instance is not None:  # one document as an object, several as a list
            _write(documents[0] if len(documents) == 1 else documents)
        else:
            results().print(evaluation_tables(documents))


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


# --- what a run would take -------------------------------------------------------------------------------------------


class Foreseeing:
    """A `Sampler` that answers from the record alone; `stages` has what each asks for, and the tokens that it owes."""

    def __init__(self, store: Store, card: ModelCard) -> None:
        """Stand for the model of this card."""
        self.stages: dict[Stage, Counter[str]] = {}
        self.prompts: list[str] = []
        self._store, self._card = store, card

    async def card(self) -> ModelCard:
        """Return the card."""
        return self._card

    async def count_tokens(self, messages: tuple[Message, ...]) -> int:
        """Return the recorded count, else an estimate."""
        counted = self._store.value(token_counts(self._card.name), chat_key(self._card.name, messages))
        return Gauge().of(messages) if counted is None else counted

    async def sample(self, request: SampleRequest) -> AsyncIterator[Completion]:
        """Yield what is recorded."""
        found = [one for index in request.indices if (one := self._store.get_sample(request.key(), index))]
        owed = len(request.indices) - len(found)
        tokens = await self.count_tokens(request.messages) if owed else 0
        asked = {"prompts": 1, "samples": len(request.indices), "recorded": len(found), "prompt_tokens": tokens}
        asked["answer_tokens"] = owed * request.params.max_tokens
        self.stages.setdefault(request.stage, Counter()).update(asked)
        self.prompts += [message.content for message in request.messages]
        for one in found:
            yield one


def show_plan(task: "Task", snapshot: Snapshot, store: Store, as_json: bool) -> None:
    """Write to stdout what a run of the task would ask and run, as far as settings and record tell.

    Raises as `resolve`.
    """
    endpoint, latest = task.config.endpoint, store.runs.latest()
    served = store.endpoint_model(endpoint.base_url) if endpoint.base_url else latest and latest.start.model
    unnamed = "not named yet" + ("; without one no test is written" if task.pool else "")
    name = printable(endpoint.model or (served if served != NOBODY else None) or unnamed)
    config = settled(task.config, store.runs.newest_generation(name, task.issue.text))
    size, later = config.evolve.size(config.repair.samples), config.evolve.rounds - 1
    repair = config.repair.model_copy(update={"samples": size, "stop_when": None})
    once = config.model_copy(update={"repair": repair, "evolve": config.evolve.model_copy(update={"rounds": 1})})
    known = store.card(name)
    window = endpoint.context_window or (known.context_window if known else ASSUMED)
    sampler = Foreseeing(store, replace(known or ModelCard(name, window), context_window=window))
    opening: Opening | NoBoxes = NO_SANDBOX
    if config.sandbox.kind is not SandboxKind.NONE:
        from agentless_mini.testing import harness_of

        async def closed(_watch: Watch) -> NoBoxes:
            return NO_SANDBOX

        opening = Opening(harness_of(snapshot, config.sandbox.test_command, config.sandbox.test_report), closed)
    check, prompts = snapshot_check(snapshot), load_prompts(config.prompts)
    pool, derive = asyncio.run(read_pool(task.pool, snapshot, check, lambda _: None)), recorded_derive(store)
    session = Session(sampler, prompts, check, lambda _: None, "", derive=derive, pool=pool)
    given = replace(task.given, required=False)

    async def foreseeing() -> str:
        await resolve(task.issue, snapshot, session, seeded(once), opening, given, task.files)
        return await foreseen(config.sandbox, snapshot)

    where = asyncio.run(foreseeing())
    tests, patches = sampler.stages.get(Stage.REPRODUCE, Counter())["samples"], len(pool) or size * (later + 1)
    is_known = bool(known or endpoint.context_window)
    if as_json:
        values = {"model": name, "window": window, "known": is_known, "later_rounds": later, "tests": where}
        stages = {stage.value: asked for stage, asked in sampler.stages.items()}
        _write({"schema": 1, **values, "stages": stages, "prompts": sampler.prompts})
        return
    told = "" if is_known else " is assumed: that of the model is not known (--context says it)"
    results().print(f"model      {name}; a window of {window} tokens{told}")
    shown = table("stage", "prompts", "samples", "recorded", "prompt tokens", "answer tokens, at most")
    for stage, asked in sampler.stages.items():
        row(shown, stage, *map(str, asked.values()))
    results().print(shown)
    more = f"rounds     {later} more of {counted(size, 'repair')}, whose prompts show earlier patches too"
    lines = [more] * bool(later)
    lines.append("tokens     of what is not recorded, each prompt once; estimated where the model has not counted them")
    boxes = f"; boxes: {tests} to prove new tests, {patches} or more to test patches, some to find regression tests"
    lines.append(f"tests      {where}{boxes if isinstance(opening, Opening) else ''}")
    results().print("\n".join(lines))


# --- the manual ------------------------------------------------------------------------------------------------------


def tell(topic: str | None) -> None:
    """Print a topic, or without one what there is: rendered on a terminal, else as it is written."""
    found = sorted((file for file in _DOCS.iterdir() if file.name.endswith(".md")), key=lambda file: file.name)
    known = {file.name.removesuffix(".md"): file.read_text("utf-8") for file in found}
    if topic is not None and topic not in known:
        titled = [name for name, text in known.items() if topic.lower() in text.splitlines()[0].lower()]
        near = titled or difflib.get_close_matches(topic, known, 1)
        meant = f"see `amini help {near[0]}`." if near else "`amini help` lists them."
        raise UsageError(f"The manual has no topic {topic!r}: {meant}")
    lines = (f"- `amini help {name}`: {text.splitlines()[0].removeprefix('# ')}" for name, text in known.items())
    text = known[topic] if topic else "\n".join(["# The manual of amini", "", *lines, ""])
    if not sys.stdout.isatty():
        sys.stdout.buffer.write(text.encode())
        return
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    console.print(Markdown(text), width=min(console.width, 120))
