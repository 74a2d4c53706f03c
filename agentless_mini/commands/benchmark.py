"""From the options of `amini eval` to an evaluation: which instances, in which folder, on which machines."""

import asyncio
import hashlib
import json
import os
import re
import sys
from pathlib import Path

from rich.console import Console

from agentless_mini.commands.evaluate import OFFICIAL, Evaluation, evaluate
from agentless_mini.commands.evaluation_options import BenchmarkOptions, FleetOptions
from agentless_mini.commands.models import Machine
from agentless_mini.commands.submitting import submit
from agentless_mini.commands.terminal import people, require_stdout
from agentless_mini.commands.testbeds import cluster_testbeds, docker_testbeds
from agentless_mini.errors import UsageError, printable
from agentless_mini.evaluation.dataset import SPLITS, Dataset, dataset_of, read_dataset, selected
from agentless_mini.evaluation.grading import dataset_rows
from agentless_mini.evaluation.submission import slug
from agentless_mini.settings import Config
from agentless_mini.settings.run import SandboxKind, Until

EVALS = "evals"
_SHARD = re.compile(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})")


def run_eval(benchmark: BenchmarkOptions, fleet: FleetOptions, config: Config, machine: Machine) -> int:
    """Evaluate, print the folder on stdout, and return the exit code."""
    require_stdout()
    if benchmark.out is not None and benchmark.out.exists() and not benchmark.out.is_dir():
        raise UsageError(f"{printable(str(benchmark.out))} is a file: name a folder with --out.")
    ids = tuple(name.strip() for name in (benchmark.instances or "").split(",") if name.strip())
    shard, until = _shard(benchmark.shard), _until(benchmark.stages, config.sandbox.kind)
    dataset = _dataset(benchmark, machine)
    evaluation = Evaluation(
        dataset=dataset,
        instances=selected(dataset, ids, shard, benchmark.limit),
        folder=(benchmark.out or _folder(dataset, config, machine, benchmark)).absolute(),
        config=config,
        until=until,
        oracle=benchmark.oracle_files,
    )
    open_testbeds = cluster_testbeds(fleet.cluster, machine) if fleet.cluster else docker_testbeds(machine)
    code = evaluate(evaluation, machine, open_testbeds, Console(quiet=True) if fleet.quiet else people())
    if benchmark.submission is not None:
        submit(evaluation, benchmark.split or Path(dataset.name).stem, benchmark.submission)
    sys.stdout.buffer.write(os.fsencode(evaluation.folder) + b"\n")
    return code


def folder_of(name: str, machine: Machine) -> Path:
    """Return the folder of an evaluation by its path, or by its name among those in the user's state folder."""
    path = Path(name)
    return path if path.exists() or "/" in name else machine.state / EVALS / name


def _dataset(benchmark: BenchmarkOptions, machine: Machine) -> Dataset:
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


def _folder(dataset: Dataset, config: Config, machine: Machine, benchmark: BenchmarkOptions) -> Path:
    """Return the default folder: one for each dataset, model, and source of the files."""
    asked = config.endpoint.model or config.endpoint.base_url or config.engine.value
    digest = hashlib.sha256(f"{dataset.fingerprint} {asked}".encode()).hexdigest()[:8]
    parts = [slug(Path(dataset.name).stem), slug(str(asked))[-40:].strip("-."), digest]
    return machine.state / EVALS / "-".join([*parts, *(["oracle"] if benchmark.oracle_files else [])])
