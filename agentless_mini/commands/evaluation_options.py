"""The options of `amini eval` and `amini report`; see `options`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from agentless_mini.commands.options import Quiet, Rank, RegressionBudget, Setting


@dataclass(frozen=True)
class BenchmarkOptions:
    """Which instances are evaluated, and how far."""

    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="SWE-bench of the hub: verified, lite, full or multilingual.")
    ] = None
    dataset: Annotated[Path | None, typer.Option(help="Instances in a file: parquet, json or jsonl.")] = None
    instances: Annotated[str | None, typer.Option(metavar="A,B", help="Only these instances, by id.")] = None
    limit: Annotated[int, typer.Option(help="Only the first N instances; 0 means all.", min=0, show_default=False)] = 0
    shard: Annotated[str | None, typer.Option(metavar="I/N", help="Only the I-th of N equal parts.")] = None
    oracle_files: Annotated[
        bool, typer.Option("--oracle-files", help="Give the model the files of the true fix; do not localize.")
    ] = False
    stages: Annotated[
        str, typer.Option(metavar="STAGE", help="The last stage: localize, repair or tests.", show_default=False)
    ] = "tests"
    grade: Annotated[str | None, Setting("eval.grade")] = None
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder of the evaluation; by default a named one.")
    ] = None
    submission: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write what a SWE-bench submission asks for there.")
    ] = None


@dataclass(frozen=True)
class FleetOptions:
    """What an evaluation runs on."""

    workers: Annotated[int | None, Setting("eval.workers")] = None
    graders: Annotated[int | None, Setting("eval.graders")] = None
    keep_images: Annotated[int | None, Setting("eval.images.keep_images")] = None
    min_free: Annotated[float | None, typer.Option(metavar="GIB"), Setting("eval.images.min_free_gib")] = None
    cluster: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Ray cluster whose nodes run tests and grade.")
    ] = None
    case_seconds: Annotated[float | None, Setting("sandbox.case_seconds")] = None
    sandbox: Annotated[
        str | None, typer.Option(help="docker, or none: no test is run [docker]."), Setting("sandbox.kind")
    ] = None
    regression_budget: RegressionBudget = None
    rank: Rank = None
    quiet: Quiet = False


@dataclass(frozen=True)
class ReportOptions:
    """Which evaluations are reported, and in which form."""

    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="Folders of evaluations, or their names.")]
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")] = False
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write one page with plots that works offline.")] = (
        None
    )
    instance: Annotated[str | None, typer.Option(metavar="ID", help="Write one instance in depth, as JSON.")] = None
    price_prompt: Annotated[float | None, typer.Option(help="Price of a million prompt tokens.")] = None
    price_cached: Annotated[float | None, typer.Option(help="Price of a million cached prompt tokens.")] = None
    price_completion: Annotated[float | None, typer.Option(help="Price of a million completion tokens.")] = None
    price_box_hour: Annotated[float | None, typer.Option(help="Price of an hour of a box.")] = None
