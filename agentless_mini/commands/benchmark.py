"""`amini eval`: which instances are evaluated, in which folder, on which machines, and what is submitted of it."""

import asyncio
import hashlib
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from agentless_mini.commands.config import STORE, Machine
from agentless_mini.commands.evaluate import OFFICIAL, Evaluation, Opened, OpenTestbeds, evaluate, resolved
from agentless_mini.commands.terminal import noted, people, require_stdout
from agentless_mini.domain import Case, Note, Patch, Proposal, Rejected, Stage
from agentless_mini.environment.machine import CERTIFICATES
from agentless_mini.errors import UsageError, counted, printable
from agentless_mini.evaluation.cluster import ClusterTestbeds, ray_cluster
from agentless_mini.evaluation.dataset import SPLITS, Dataset, Solution, dataset_of, read_dataset, selected
from agentless_mini.evaluation.grading import Grader, dataset_rows
from agentless_mini.evaluation.ports import Testbeds
from agentless_mini.evaluation.submission import SubmissionFacts, Submitted, slug, write_submission
from agentless_mini.evaluation.testbeds import HostSettings, open_testbeds
from agentless_mini.ports import Watch
from agentless_mini.record import AttemptRecord, Store
from agentless_mini.repository.patches import read_predictions
from agentless_mini.settings import Config
from agentless_mini.settings.run import EvaluationSettings, Grading, SandboxKind, Until

if TYPE_CHECKING:
    from agentless_mini.cli import BenchmarkOptions, FleetOptions

_SHARD = re.compile(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})")


def run_eval(benchmark: "BenchmarkOptions", fleet: "FleetOptions", config: Config, machine: Machine) -> int:
    """Evaluate, print the folder on stdout, and return the exit code."""
    require_stdout()
    if benchmark.out is not None and benchmark.out.exists() and not benchmark.out.is_dir():
        raise UsageError(f"{printable(str(benchmark.out))} is a file: name a folder with --out.")
    ids = tuple(name.strip() for name in (benchmark.instances or "").split(",") if name.strip())
    shard, until = _shard(benchmark.shard), _until(benchmark.stages, config.sandbox.kind)
    if benchmark.predictions and (benchmark.oracle_files or until is Until.LOCALIZE):
        option = "--oracle-files" if benchmark.oracle_files else "--stages localize"
        raise UsageError(f"{option} does not go with --predictions, for no file is looked for: leave it out.")
    pool = read_predictions(benchmark.predictions) if benchmark.predictions else {}
    dataset = _dataset(benchmark, machine)
    if pool and not pool.keys() & dataset.solutions.keys():
        raise UsageError(f"No prediction is of an instance of {printable(dataset.name)}: check --predictions.")
    if pool and "grade" not in config.eval.model_fields_set:  # the mean of the systems and the oracle need all
        config = config.model_copy(update={"eval": config.eval.model_copy(update={"grade": Grading.ALL})})
    nothing = tuple(Proposal(one.source, b"") for one in next(iter(pool.values()), ()))
    evaluation = Evaluation(
        dataset=dataset,
        instances=selected(dataset, ids, shard, benchmark.limit),
        folder=(benchmark.out or _folder(dataset, config, machine, benchmark)).absolute(),
        config=config,
        until=until,
        oracle=benchmark.oracle_files,
        pool={name: pool.get(name, nothing) for name in dataset.solutions if pool},
    )
    open_testbeds = cluster_testbeds(fleet.cluster, machine) if fleet.cluster else docker_testbeds(machine)
    code = evaluate(evaluation, machine, open_testbeds, people(quiet=fleet.quiet))
    if benchmark.submission is not None:
        submit(evaluation, benchmark.split or Path(dataset.name).stem, benchmark.submission)
    sys.stdout.buffer.write(os.fsencode(evaluation.folder) + b"\n")
    return code


def _dataset(benchmark: "BenchmarkOptions", machine: Machine) -> Dataset:
    if (benchmark.split is None) == (benchmark.dataset is None):
        raise UsageError("Name either a split of the hub with --split, or a file with --dataset.")
    if benchmark.dataset is not None:
        return read_dataset(benchmark.dataset)
    name = str(benchmark.split)
    if name not in SPLITS:
        raise UsageError(f"There is no split {printable(name)}: name {', '.join(SPLITS)}, or a file with --dataset.")
    folder = machine.cache / OFFICIAL
    folder.mkdir(parents=True, exist_ok=True)
    rows = asyncio.run(dataset_rows(SPLITS[name], folder))
    return dataset_of(name, map(json.loads, rows))


def _shard(text: str | None) -> tuple[int, int]:
    found = _SHARD.fullmatch("1/1" if text is None else text)
    if found is None or int(found[1]) > int(found[2]):
        raise UsageError(f"{printable(str(text))} is not one of N parts: write --shard 2/8 for the second of 8.")
    return int(found[1]), int(found[2])


def _until(stage: str, kind: SandboxKind) -> Until:
    """Return the last stage; without a sandbox it comes before the tests."""
    if stage not in {until.value for until in Until}:
        raise UsageError(f"There is no stage {printable(stage)}: give one of {', '.join(Until)} to --stages.")
    if kind not in {SandboxKind.AUTO, SandboxKind.DOCKER, SandboxKind.NONE}:
        raise UsageError("Benchmark instances run in Docker: leave --sandbox out, or give docker or none.")
    return Until.REPAIR if kind is SandboxKind.NONE and Until(stage) is Until.TESTS else Until(stage)


def _folder(dataset: Dataset, config: Config, machine: Machine, benchmark: "BenchmarkOptions") -> Path:
    """Return the default folder: one for each dataset, model, and source of the files."""
    asked = config.endpoint.model or config.endpoint.base_url or config.engine.value
    systems = [*map(str, benchmark.predictions or ())]
    digest = hashlib.sha256(" ".join([dataset.fingerprint, str(asked), *systems]).encode()).hexdigest()[:8]
    parts = [slug(Path(dataset.name).stem), slug(str(asked))[-40:].strip("-."), digest]
    kind = ["oracle"] if benchmark.oracle_files else ["choice"] if benchmark.predictions else []
    return machine.evaluation("-".join([*parts, *kind]))


# --- where instances are attempted: this machine's Docker, or the nodes of a Ray cluster ------------------------------

_PLACES = {"HOME", "XDG_CONFIG_HOME", *CERTIFICATES}


def docker_testbeds(machine: Machine) -> OpenTestbeds:
    """Return how the testbeds of this machine are opened."""

    async def opened(evaluation: Evaluation, model: str, stack: AsyncExitStack, watch: Watch) -> Opened:
        grader = await _grader(evaluation.folder / OFFICIAL, evaluation.config.eval, model).prepared()
        testbeds = open_testbeds(host_of(evaluation.config, machine), evaluation.dataset.solutions, grader)
        return Opened(await stack.enter_async_context(testbeds), grader)

    return opened


def cluster_testbeds(address: str, machine: Machine) -> OpenTestbeds:
    """Return how the testbeds of a cluster's nodes are opened. Each node keeps the logs of what it graded."""

    async def opened(evaluation: Evaluation, model: str, stack: AsyncExitStack, watch: Watch) -> Opened:
        cluster = await stack.enter_async_context(ray_cluster(address))
        settings = evaluation.config.eval
        grader = await _grader(evaluation.folder / OFFICIAL, settings, model).prepared()
        folder = machine.state / OFFICIAL / evaluation.folder.name
        host, solutions = host_of(evaluation.config, machine), dict(evaluation.dataset.solutions)
        node = _NodeTestbeds(host, solutions, settings, model, folder)
        testbeds = ClusterTestbeds.over(cluster, node.open, settings.workers, lambda said: watch(Note(said)))
        return Opened(await stack.enter_async_context(testbeds), grader)

    return opened


def _grader(folder: Path, settings: EvaluationSettings, model: str) -> Grader:
    folder.mkdir(parents=True, exist_ok=True)
    return Grader(folder, model, settings.graders, settings.grade_seconds)


@dataclass(frozen=True, slots=True)
class _NodeTestbeds:
    """Makes the testbeds of the node that it was sent to."""

    host: HostSettings
    solutions: Mapping[str, Solution] = field(repr=False)
    settings: EvaluationSettings
    model: str
    folder: Path

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Testbeds]:
        grader = await _grader(self.folder, self.settings, self.model).prepared()
        async with open_testbeds(self.host, self.solutions, grader) as testbeds:
            yield testbeds


def host_of(config: Config, machine: Machine) -> HostSettings:
    """Return how the testbeds of a machine are kept. Of the variables it has those that lead to packages alone."""
    named = {name: value for name, value in machine.environment.items() if _is_of_packages(name)}
    return HostSettings(config.eval.images, config.sandbox, machine.state, named)


def _is_of_packages(name: str) -> bool:
    """Tell whether a variable says where packages are found. All others may be secret, and nodes are sent these."""
    return name.startswith("PIP_") or name in _PLACES or name.lower().endswith("_proxy")


# --- what a submission to SWE-bench needs, told from the record of an evaluation --------------------------------------


def submit(evaluation: Evaluation, split: str, folder: Path) -> None:
    """Write the submission to a split to `folder` and tell what it lacks.

    Raises `GradingFailed` where it cannot be written.
    """
    config, dataset = evaluation.config, evaluation.dataset
    with Store.open_readonly(evaluation.folder / STORE) as store:
        start, graded = store.evals.start(), store.evals.grade_versions()
        facts = SubmissionFacts(
            model=start.model,
            split={"full": "test"}.get(split, split),
            attempts=evaluation.systems or config.evolve.size(config.repair.samples) * config.evolve.rounds,
            repos={one.id: one.repo for one in dataset.instances},
            versions={**json.loads(start.versions), **({"swebench": ", ".join(graded)} if graded else {})},
            oracle_files=evaluation.oracle,
        )
        grader = Grader(evaluation.folder / OFFICIAL, start.model)  # asked where logs are alone
        parts = {
            name: Submitted(
                diff, resolved(evaluation, store, name, diff), grader.logs(dataset.solutions[name].row, diff)
            )
            for name, diff in store.evals.submitted().items()
        }
        told = ((one.instance, "".join(_trajectory(store, one))) for one in store.evals.attempts())
        lacking = write_submission(folder, facts, parts, told)
    note = noted(people())
    for what, names in lacking.items():
        if names:
            note(f"{counted(len(names), 'instance')} of the submission without {what}.")


def _trajectory(store: Store, attempt: AttemptRecord) -> Iterator[str]:
    """Tell how the patch of an instance came about: files, samples, why the winner won, and the answer it came from."""
    yield f"# {attempt.instance}\n"
    if attempt.run is None:
        yield f"\n{attempt.stage}: {attempt.failure}\n"
        return
    trace = store.runs.trace(attempt.run)
    if trace.prediction is not None:
        yield "\n## Files\n\n"
        located = trace.prediction.localization
        for paths, votes in zip(located.lists, located.votes, strict=True):
            yield f"* {', '.join(paths)} ({counted(votes, 'vote')})\n"
    yield "\n## Samples\n\n"
    drawn = (sample for sample in trace.samples if sample.stage is not Stage.LOCALIZE)
    yield from (f"* {sample.stage} {sample.index}: {_became(sample.outcome)}\n" for sample in drawn)
    choice = trace.choice
    if choice is None:
        yield "\nNo sample became a valid patch.\n"
        return
    yield f"\n## Choice\n\n{choice.reason}\n\n```diff\n{choice.patch.diff.decode('utf-8', 'replace')}```\n"
    winners = (store.get_sample(one.key, one.index) for one in trace.samples if one.outcome == choice.patch)
    if answer := next(filter(None, winners), None):
        yield f"\n## Its first answer\n\n{answer.reasoning}\n\n{answer.text}\n"


def _became(outcome: object) -> str:
    match outcome:
        case Patch(normal=normal):
            return f"patch {normal[:12]}"
        case Case(id=name):
            return f"test {name}"
        case Rejected(reason=reason, detail=detail):
            return f"{reason}: {detail}"
        case _:
            return "not read"
