"""The options of `amini repair`, several of which other commands share, and of `amini serve`; see `options`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from agentless_mini.commands.options import ConfigFile, Quiet, Rank, RegressionBudget, Setting, StoreFile

ONE_SERVER = (
    "--base-url names one server: put several behind one address with vLLM's --data-parallel-size or its router, see "
    "`amini help models`."
)


@dataclass(frozen=True)
class SourceOptions:
    """What is to be repaired."""

    repository: Annotated[str, typer.Argument(metavar="REPO", help="Path, git URL or owner/name on GitHub.")]
    issue: Annotated[
        str | None,
        typer.Argument(
            metavar="ISSUE", help="File, - for stdin, GitHub issue URL or owner/name#12.", show_default=False
        ),
    ] = None
    text: Annotated[str | None, typer.Option(help="The issue itself, instead of ISSUE.")] = None
    rev: Annotated[str | None, typer.Option(help="Repair this commit, not the working tree.")] = None
    files: Annotated[
        list[str] | None,
        typer.Option("--files", metavar="PATH", help="File to edit (repeatable), instead of localization."),
    ] = None


@dataclass(frozen=True)
class SamplingOptions:
    """How many answers are drawn, and how."""

    samples: Annotated[int | None, typer.Option("--samples", "-n"), Setting("repair.samples")] = None
    localize_samples: Annotated[int | None, Setting("localize.samples")] = None
    tests: Annotated[int | None, typer.Option("--tests"), Setting("reproduce.samples")] = None
    temperature: Annotated[float | None, Setting("repair.temperature")] = None
    max_tokens: Annotated[
        int | None, Setting("repair.max_tokens"), Setting("localize.max_tokens"), Setting("reproduce.max_tokens")
    ] = None
    seed: Annotated[
        int | None, Setting("repair.seed"), Setting("evolve.seed"), Setting("localize.seed"), Setting("reproduce.seed")
    ] = None
    fresh: Annotated[bool, typer.Option("--fresh"), Setting("fresh")] = False
    stop_when: Annotated[float | None, typer.Option(metavar="BOUND"), Setting("repair.stop_when")] = None
    match: Annotated[str | None, Setting("repair.match")] = None


@dataclass(frozen=True)
class EvolveOptions:
    """Rounds of repairs, each shown earlier ones."""

    rounds: Annotated[int | None, Setting("evolve.rounds")] = None
    parents: Annotated[int | None, Setting("evolve.parents")] = None
    per_round: Annotated[int | None, Setting("evolve.per_round")] = None
    select: Annotated[str | None, Setting("evolve.select")] = None
    self_evolving: Annotated[bool, typer.Option("--self-evolving"), Setting("evolve.self_evolving")] = False


@dataclass(frozen=True)
class ModelOptions:
    """Who is asked."""

    base_url: Annotated[
        list[str] | None,
        typer.Option(envvar="AMINI_BASE_URL", metavar="TEXT"),
        Setting("endpoint.base_url", single=ONE_SERVER),
    ] = None
    model: Annotated[str | None, typer.Option("--model", "-m", envvar="AMINI_MODEL"), Setting("endpoint.model")] = None
    context: Annotated[int | None, Setting("endpoint.context_window")] = None
    decoding: Annotated[str | None, Setting("endpoint.decoding")] = None
    engine: Annotated[str | None, Setting("engine")] = None
    answer_start: Annotated[
        str | None,
        typer.Option(metavar="MARK", help="Mark before the model's answer; everything outside is ignored."),
        Setting("answer.start"),
    ] = None
    answer_end: Annotated[
        str | None, typer.Option(metavar="MARK", help="Mark after the model's answer."), Setting("answer.end")
    ] = None
    think_start: Annotated[
        str | None,
        typer.Option(metavar="MARK", help="Mark before the model's thinking, if not a known one."),
        Setting("think.start"),
    ] = None
    think_end: Annotated[
        str | None, typer.Option(metavar="MARK", help="Mark after the model's thinking."), Setting("think.end")
    ] = None
    in_flight: Annotated[int | None, Setting("endpoint.max_in_flight")] = None
    prompts: Annotated[Path | None, Setting("prompts")] = None
    config: ConfigFile = None


@dataclass(frozen=True)
class ExecutionOptions:
    """Which tests choose the patch, and where they run."""

    failing_test: Annotated[
        list[str] | None,
        typer.Option("--failing-test", metavar="PATH[::NAME]", help="A test that fails because of the issue."),
    ] = None
    failing_cmd: Annotated[
        list[str] | None,
        typer.Option("--failing-cmd", metavar="CMD", help="A command that fails because of the issue."),
    ] = None
    sandbox: Annotated[str | None, Setting("sandbox.kind")] = None
    unsafe_local: Annotated[
        bool,
        typer.Option("--unsafe-local", help="Run tests without any isolation."),
        Setting("sandbox.kind", "unsafe-local"),
    ] = False
    image: Annotated[str | None, Setting("sandbox.image")] = None
    setup: Annotated[str | None, typer.Option(metavar="CMD"), Setting("sandbox.setup")] = None
    test_cmd: Annotated[str | None, typer.Option(metavar="CMD"), Setting("sandbox.test_command")] = None
    regression_budget: RegressionBudget = None
    rank: Rank = None
    require: Annotated[str | None, typer.Option(metavar="LEVEL"), Setting("require")] = None


@dataclass(frozen=True)
class OutputOptions:
    """Where the result goes."""

    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the result here, not to stdout.")] = None
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON document instead of the patch.")] = False
    apply: Annotated[bool, typer.Option("--apply", help="Apply the patch to the working tree as well.")] = False
    commit: Annotated[
        str | None,
        typer.Option(metavar="BRANCH", help="Repair HEAD (or --rev), and commit the patch on this new branch as well."),
    ] = None
    quiet: Quiet = False
    store: StoreFile = None


@dataclass(frozen=True)
class TextOptions:
    """How a command that asks no model tells its result."""

    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False


@dataclass(frozen=True)
class ShowOptions:
    """Which run is shown, and how much of it."""

    run: Annotated[
        int | None,
        typer.Argument(metavar="RUN", help="Number of a run; without it, all are listed.", min=1, max=2**63 - 1),
    ] = None
    repository: Annotated[
        str, typer.Option("--repository", "-r", metavar="REPO", help="The repository whose runs are shown.")
    ] = "."
    every: Annotated[bool, typer.Option("--all", help="Show each sample, test and patch.")] = False
    prompts: Annotated[bool, typer.Option("--prompts", help="Show the prompts as well.")] = False
    completions: Annotated[bool, typer.Option("--completions", help="Show the model's answers as well.")] = False
    patch: Annotated[
        int | None, typer.Option(metavar="K", help="Write patch number K of the run, for git apply.", min=1)
    ] = None
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the run as one page that works offline.")] = (
        None
    )
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False
    store: StoreFile = None


@dataclass(frozen=True)
class ServeOptions:
    """Which model is served, and how."""

    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="Name on the hub, or a local path.")] = None
    extra: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- FLAGS", help="More flags for vLLM, verbatim, after --."),
        Setting("vllm.extra"),
    ] = None
    stop: Annotated[bool, typer.Option("--stop", help="Stop the running server.")] = False
    status: Annotated[bool, typer.Option("--status", help="Print the running server's address.")] = False
    engine: Annotated[
        str | None, typer.Option(help="vllm or embedded (llama.cpp); by default what fits."), Setting("engine")
    ] = None
    port: Annotated[int | None, Setting("vllm.port"), Setting("llama_cpp.port")] = None
    context: Annotated[int | None, Setting("vllm.max_model_len"), Setting("llama_cpp.context")] = None
    tensor_parallel: Annotated[int | None, Setting("vllm.tensor_parallel")] = None
    adapter: Annotated[
        list[Path] | None, typer.Option("--adapter", metavar="DIR", help="LoRA adapter (repeatable).")
    ] = None
    python: Annotated[Path | None, Setting("vllm.python")] = None
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON instead of the address.")] = False
    config: ConfigFile = None
