"""The command line: options in, exit code out. What a command needs is imported when it runs, so `--help` is instant.

With `commands` this is the only composition root, and the only place that reads the environment.
"""

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import typer
from typer import Argument, Option

from agentless_mini import __version__
from agentless_mini.commands.learn import learn
from agentless_mini.commands.options import (
    ConfigFile,
    EvolveOptions,
    ExecutionOptions,
    Flags,
    ModelOptions,
    Offer,
    Panel,
    Quiet,
    SamplingOptions,
    StoreFile,
    TextOptions,
)
from agentless_mini.commands.usage import Commands

amini = Commands(
    "amini", "Repairs real repositories from an issue text, with models that you host yourself.", completion=True
)
app = amini.typer


def main() -> None:
    """Run the command line."""
    # A command makes many objects that live as long as it does: looking through them so often finds next to nothing.
    gc.set_threshold(50_000, 20, 50)
    app(prog_name="amini")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"amini {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Repairs real repositories from an issue text, with models that you host yourself."""


@dataclass(frozen=True)
class IssueOptions(Panel):
    """What is to be repaired."""

    repository: Annotated[str, Argument(metavar="REPO", help="Path, git URL or owner/name on GitHub.")]
    issue: Annotated[
        str | None,
        Argument(metavar="ISSUE", help="File, - for stdin, GitHub issue URL or owner/name#12."),
    ] = None
    text: Annotated[str | None, Option(help="The issue itself, instead of ISSUE.")] = None
    rev: Annotated[str | None, Option(help="Repair this commit, not the working tree.")] = None


@dataclass(frozen=True)
class SourceOptions(IssueOptions):
    """What is to be repaired."""

    files: Annotated[
        list[str] | None, Option("--files", metavar="PATH", help="File to edit (repeatable), instead of localization.")
    ] = None


@dataclass(frozen=True)
class OutputOptions(Panel):
    """Where the result goes."""

    file: Annotated[Path | None, Option("--output", "-o", help="Write the result here, not to stdout.")] = None
    as_json: Annotated[bool, Option("--json", help="Write one JSON document instead of the patch.")] = False
    apply: Annotated[bool, Option("--apply", help="Apply the patch to the working tree as well.")] = False
    commit: Annotated[
        str | None,
        Option(metavar="BRANCH", help="Repair HEAD (or --rev), and commit the patch on this new branch as well."),
    ] = None
    dry_run: Annotated[
        bool, Option("--dry-run", help="Ask and run nothing: write what prompts, tokens and boxes it takes.")
    ] = False
    quiet: Quiet = False
    store: StoreFile = None


@amini.add("Find the cause of an issue and print a patch for `git apply`.")
def repair(
    source: SourceOptions,
    sampling: SamplingOptions,
    evolution: EvolveOptions,
    model: ModelOptions,
    execution: ExecutionOptions,
    output: OutputOptions,
    flags: Flags,
) -> None:
    """Find the cause of an issue and print a patch for `git apply`.

    Exit codes: 0 patch found, 1 no valid patch, 2 usage, 3 model server, 4 this machine, 5 the best patch does not meet
    --require or your failing test does not fail, 130 interrupted.
    """
    from agentless_mini.commands.repair import run_repair

    raise typer.Exit(run_repair(source, execution, output, model.config, flags, source.files or ()))


@dataclass(frozen=True)
class ChoiceOptions(Panel):
    """What is chosen among."""

    patches: Annotated[
        list[str] | None,
        Argument(metavar="PATCH", help="Patches, folders of them, or predictions of SWE-bench (.json, .jsonl)."),
    ] = None
    runs: Annotated[
        str | None, Option(metavar="K,L", help="The patches of these runs too, as amini show lists them.")
    ] = None
    instance: Annotated[str | None, Option(metavar="ID", help="The instance of predictions that have several.")] = None
    offers = ("reproduce.samples", "reproduce.max_tokens", "reproduce.seed", "fresh")


@amini.add("Choose by tests among patches that other tools made, and print it.")
def choose(
    source: IssueOptions,
    among: ChoiceOptions,
    model: ModelOptions,
    execution: ExecutionOptions,
    output: OutputOptions,
    flags: Flags,
) -> None:
    """Choose by tests and votes among patches of agents, people or other runs, and print the best for `git apply`.

    No repair is sampled. A model that is named or served writes tests; without one your own tests and those of the
    repository choose. Exit codes: as for repair.
    """
    from agentless_mini.commands.repair import run_repair

    raise typer.Exit(run_repair(source, execution, output, model.config, flags, among=among))


@dataclass(frozen=True)
class BenchmarkOptions(Panel):
    """Which instances are evaluated, and how far."""

    split: Annotated[
        str | None, Option(metavar="NAME", help="SWE-bench of the hub: verified, lite, full or multilingual.")
    ] = None
    dataset: Annotated[Path | None, Option(help="Instances in a file: parquet, json or jsonl.")] = None
    instances: Annotated[str | None, Option(metavar="A,B", help="Only these instances, by id.")] = None
    limit: Annotated[int, Option(help="Only the first N instances; 0 means all.", min=0, show_default=False)] = 0
    shard: Annotated[str | None, Option(metavar="I/N", help="Only the I-th of N equal parts.")] = None
    oracle_files: Annotated[
        bool, Option("--oracle-files", help="Give the model the files of the true fix; do not localize.")
    ] = False
    stages: Annotated[
        str, Option(metavar="STAGE", help="The last stage: localize, repair or tests.", show_default=False)
    ] = "tests"
    out: Annotated[
        Path | None, Option("--out", metavar="DIR", help="Folder of the evaluation; by default a named one.")
    ] = None
    submission: Annotated[
        Path | None, Option(metavar="DIR", help="Write what a SWE-bench submission asks for there.")
    ] = None
    predictions: Annotated[
        list[Path] | None,
        Option(metavar="DIR|FILE", help="Choose among the predictions of systems (repeatable); no repair is sampled."),
    ] = None
    offers = ("eval.grade",)


@dataclass(frozen=True)
class FleetOptions(Panel):
    """What an evaluation runs on."""

    cluster: Annotated[str | None, Option(metavar="ADDRESS", help="Ray cluster whose nodes run tests and grade.")] = (
        None
    )
    quiet: Quiet = False
    offers = (
        "eval.workers",
        "eval.graders",
        "eval.images.keep_images",
        "eval.images.min_free_gib",
        "sandbox.case_seconds",
        Offer(("sandbox.kind",), help="docker, or none: no test is run [docker]."),
        "regress.budget",
        "regress.expect_broken",
        "rank",
    )


@amini.add("Repair and grade the instances of SWE-bench.", name="eval")
def evaluate(
    benchmark: BenchmarkOptions,
    sampling: SamplingOptions,
    evolution: EvolveOptions,
    model: ModelOptions,
    fleet: FleetOptions,
    flags: Flags,
) -> None:
    """Repair the instances of SWE-bench, have the official harness grade them, and print the evaluation's folder.

    The same command again continues where it stopped. Exit codes: 0 all instances ended, 4 some failed because of the
    infrastructure, otherwise as for repair.
    """
    from agentless_mini.commands.benchmark import run_eval
    from agentless_mini.commands.config import read_config, require_together, this_machine

    config = read_config(model.config, flags)
    if benchmark.stages != "localize":
        require_together(config, flags)
    raise typer.Exit(run_eval(benchmark, fleet, config, this_machine()))


@dataclass(frozen=True)
class ReportOptions(Panel):
    """Which evaluations are reported, and in which form."""

    runs: Annotated[list[str], Argument(metavar="RUN", help="Folders of evaluations, or their names.")]
    as_json: Annotated[bool, Option("--json", help="Write JSON to stdout.")] = False
    html: Annotated[Path | None, Option(metavar="FILE", help="Write one page with plots that works offline.")] = None
    instance: Annotated[str | None, Option(metavar="ID", help="Write one instance in depth, as JSON.")] = None
    price_prompt: Annotated[float | None, Option(help="Price of a million prompt tokens.")] = None
    price_cached: Annotated[float | None, Option(help="Price of a million cached prompt tokens.")] = None
    price_completion: Annotated[float | None, Option(help="Price of a million completion tokens.")] = None
    price_box_hour: Annotated[float | None, Option(help="Price of an hour of a box.")] = None


@amini.add("Report evaluations: what is resolved, curves, failures, cost.")
def report(options: ReportOptions) -> None:
    """Report evaluations: resolved with its interval, curves over samples and tests, failures, cost.

    No model is asked and no test is run: everything comes from the record.
    """
    from agentless_mini.commands.config import this_machine
    from agentless_mini.commands.show import run_report

    run_report(options, this_machine())


@dataclass(frozen=True)
class ShowOptions(Panel):
    """Which run is shown, and how much of it."""

    run: Annotated[
        int | None, Argument(metavar="RUN", help="Number of a run; without it, all are listed.", min=1, max=2**63 - 1)
    ] = None
    repository: Annotated[
        str, Option("--repository", "-r", metavar="REPO", help="The repository whose runs are shown.")
    ] = "."
    every: Annotated[bool, Option("--all", help="Show each sample, test and patch.")] = False
    prompts: Annotated[bool, Option("--prompts", help="Show the prompts as well.")] = False
    completions: Annotated[bool, Option("--completions", help="Show the model's answers as well.")] = False
    patch: Annotated[int | None, Option(metavar="K", help="Write patch number K of the run, for git apply.", min=1)] = (
        None
    )
    html: Annotated[Path | None, Option(metavar="FILE", help="Write the run as one page that works offline.")] = None
    as_json: Annotated[bool, Option("--json", help="Write JSON.")] = False
    store: StoreFile = None


@amini.add("List past runs, or open one.")
def show(options: ShowOptions) -> None:
    """List past runs, or open one: files, samples, votes, tests and the chosen patch, on one screen."""
    from agentless_mini.commands.config import store_of
    from agentless_mini.commands.show import run_show

    run_show(options, options.store or store_of(options.repository))


@dataclass(frozen=True)
class ServeOptions(Panel):
    """Which model is served, and how."""

    model: Annotated[str | None, Argument(metavar="MODEL", help="Name on the hub, or a local path.")] = None
    extra: Annotated[
        list[str] | None, Argument(metavar="-- FLAGS", help="More flags for vLLM, verbatim, after --.")
    ] = None
    stop: Annotated[bool, Option("--stop", help="Stop the running server.")] = False
    status: Annotated[bool, Option("--status", help="Print the running server's address.")] = False
    adapter: Annotated[list[Path] | None, Option("--adapter", metavar="DIR", help="LoRA adapter (repeatable).")] = None
    as_json: Annotated[bool, Option("--json", help="Write JSON instead of the address.")] = False
    config: ConfigFile = None
    offers = (
        Offer(("engine",), help="vllm or embedded (llama.cpp); by default what fits."),
        "vllm.port llama_cpp.port",
        Offer(("vllm.max_model_len", "llama_cpp.context"), ("--context",)),
        "vllm.tensor_parallel",
        "vllm.python",
    )
    words: ClassVar = {"vllm.extra": "-- FLAGS"}


@amini.add("Start a model server and leave it running; print its address.")
def serve(options: ServeOptions, flags: Flags) -> None:
    """Start a model server and leave it running; print its address.

    `amini repair` without an endpoint uses it.
    """
    from agentless_mini.commands.config import read_config, this_machine
    from agentless_mini.commands.serve import run_serve

    given = {"vllm.extra": options.extra, "vllm.adapters": [str(path.resolve()) for path in options.adapter or ()]}
    flags |= {name: value for name, value in given.items() if value}
    run_serve(options, flags.get("vllm.python"), read_config(options.config, flags), this_machine())


@amini.add("Check what a repair with tests needs.")
def doctor(model: ModelOptions, output: TextOptions, flags: Flags) -> None:
    """Check what a repair with tests needs, and say what to do about what is missing. Nothing is downloaded.

    Exit codes: 0 a repair with tests can run here, 4 it cannot.
    """
    from agentless_mini.commands.config import read_config, this_machine
    from agentless_mini.commands.doctor import run_doctor

    raise typer.Exit(run_doctor(read_config(model.config, flags), this_machine(), output.as_json))


@amini.add("Show every setting and its source.", name="config")
def effective(
    sampling: SamplingOptions,
    evolution: EvolveOptions,
    model: ModelOptions,
    execution: ExecutionOptions,
    output: TextOptions,
    flags: Flags,
) -> None:
    """Show the effective value of every setting and its source: a default, the file, the environment or a flag."""
    from agentless_mini.commands.config import show_settings

    show_settings(model.config, flags, output.as_json)


@dataclass(frozen=True)
class DemoOptions(Panel):
    """What is repaired by which model."""

    keep: Annotated[Path | None, Option(help="Make the repository in this new folder, and keep it.")] = None
    model: Annotated[
        str | None,
        Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="Another model than the default: a GGUF file, or OWNER/NAME on the hub.",
        ),
    ] = None
    config: ConfigFile = None


@amini.add("Repair a packaged sample with the embedded model.")
def demo(options: DemoOptions) -> None:
    """Repair a packaged sample with the embedded model, and run the sample's own tests on the result.

    It takes about a minute, and downloads a model of 93 MB the first time. Exit codes as for repair.
    """
    from agentless_mini.commands.config import read_config, this_machine
    from agentless_mini.commands.demo import demo as run_demo

    config = read_config(options.config, {})
    raise typer.Exit(run_demo(config, options.model, options.keep, this_machine()))


@dataclass(frozen=True)
class TopicOptions(Panel):
    """What is read."""

    topic: Annotated[str | None, Argument(metavar="TOPIC", help="Without one, the topics are listed.")] = None


@amini.add("Print the manual, or one topic of it.", name="help")
def manual(options: TopicOptions) -> None:
    """Print the manual, or one topic of it."""
    from agentless_mini.commands.show import tell

    tell(options.topic)


amini.add_group("Make training data and train models.", learn)
