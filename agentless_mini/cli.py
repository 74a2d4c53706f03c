"""The command line: options in, exit code out. What a command needs is imported when it runs, so `--help` is instant.

With `commands` this is the only composition root, and the only place that reads the environment.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from agentless_mini import __version__

app = typer.Typer(
    name="amini",
    help="Repairs real repositories from an issue text, with models that you host yourself.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigFile = Annotated[
    Path | None, typer.Option("--config", envvar="AMINI_CONFIG", help="Settings file (TOML).", show_default=False)
]
StoreFile = Annotated[
    Path | None,
    typer.Option("--store", envvar="AMINI_STORE", help="Record of all answers; by default one for each repository."),
]
Json = Annotated[bool, typer.Option("--json", help="Write one JSON document instead of the patch.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing on stderr but errors.")]
Unset = typer.Option(show_default=False)


def main() -> None:
    """Run the command line; the console script's entry."""
    app()


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"amini {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Repairs real repositories from an issue text, with models that you host yourself."""


@app.command()
def repair(
    repository: Annotated[str, typer.Argument(metavar="REPO", help="Path, git URL or owner/name on GitHub.")],
    issue: Annotated[
        str | None,
        typer.Argument(
            metavar="[ISSUE]", help="File, - for stdin, GitHub issue URL or owner/name#12.", show_default=False
        ),
    ] = None,
    text: Annotated[str | None, typer.Option(help="The issue itself, instead of ISSUE.")] = None,
    rev: Annotated[str | None, typer.Option(help="Repair this commit, not the working tree.")] = None,
    files: Annotated[
        list[str] | None, typer.Option("--files", help="File to edit (repeatable), instead of localization.")
    ] = None,
    samples: Annotated[int | None, typer.Option("--samples", "-n", help="Repairs sampled [10].")] = None,
    localize_samples: Annotated[int | None, typer.Option(help="Localizations sampled [4].")] = None,
    temperature: Annotated[float | None, typer.Option(help="Sampling temperature of repairs [1.0].")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Most tokens of one repair [8192].")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the samples [0].")] = None,
    match: Annotated[str | None, typer.Option(help="How SEARCH lines are found: strict or loose [strict].")] = None,
    base_url: Annotated[
        str | None,
        typer.Option(envvar="AMINI_BASE_URL", help="OpenAI-compatible endpoint, such as http://host:8000/v1."),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", envvar="AMINI_MODEL", help="Model to ask.")] = None,
    context: Annotated[int | None, typer.Option(help="Context window in tokens, if the server does not say.")] = None,
    decoding: Annotated[str | None, typer.Option(help="How answers are decoded: free or grammar.")] = None,
    engine: Annotated[
        str | None, typer.Option(help="Without an endpoint: auto, vllm or embedded [auto].", show_default=False)
    ] = None,
    in_flight: Annotated[int | None, typer.Option(help="Most requests in flight at once.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="Folder of prompt templates that replace packaged ones.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the result here, not to stdout.")] = None,
    as_json: Json = False,
    apply: Annotated[bool, typer.Option("--apply", help="Apply the patch to the working tree as well.")] = False,
    quiet: Quiet = False,
    store: StoreFile = None,
    config: ConfigFile = None,
) -> None:
    """Find the cause of an issue and print a patch for `git apply`.

    Exit codes: 0 patch found, 1 no valid patch, 2 usage, 3 model server, 4 this machine, 130 interrupted.
    """
    from agentless_mini.commands.terminal import reported

    flags = {
        "localize.samples": localize_samples,
        "localize.seed": seed,
        "repair.samples": samples,
        "repair.temperature": temperature,
        "repair.max_tokens": max_tokens,
        "repair.seed": seed,
        "repair.match": match,
        "endpoint.base_url": base_url,
        "endpoint.model": model,
        "endpoint.context_window": context,
        "endpoint.decoding": decoding,
        "endpoint.max_in_flight": in_flight,
        "engine": engine,
        "prompts": prompts,
    }
    with reported():
        from agentless_mini.commands.entry import RepairArguments, run_repair
        from agentless_mini.commands.repair import Output

        arguments = RepairArguments(repository, issue, text, rev, tuple(files or ()))
        result = Output(as_json, output, apply, quiet)
        code = run_repair(arguments, result, (config, _given(flags)), store)
        raise typer.Exit(code)


def _given(flags: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if value is not None}


@app.command()
def show(
    run: Annotated[
        int | None, typer.Argument(metavar="[RUN]", help="Number of a run; none lists them.", min=1, max=2**63 - 1)
    ] = None,
    repository: Annotated[
        str, typer.Option("--repository", "-r", metavar="REPO", help="The repository whose runs are meant.")
    ] = ".",
    prompts: Annotated[bool, typer.Option("--prompts", help="Show the prompts as well.")] = False,
    completions: Annotated[bool, typer.Option("--completions", help="Show the model's answers as well.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
    store: StoreFile = None,
) -> None:
    """List past runs, or open one: files, samples, rejections, votes and the chosen patch."""
    from agentless_mini.commands.terminal import reported

    with reported():
        from agentless_mini.commands.entry import store_of
        from agentless_mini.commands.show import Wanted, show_run, show_runs
        from agentless_mini.store import RunId

        wanted = Wanted(prompts, completions, as_json)
        path = store or store_of(repository)
        if run is None:
            show_runs(path, wanted)
        else:
            show_run(path, RunId(run), wanted)


@app.command()
def serve(
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="Name on the hub, or a local path.")] = None,
    extra: Annotated[
        list[str] | None, typer.Argument(metavar="[-- FLAGS]", help="More flags for vLLM, verbatim, after --.")
    ] = None,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the running server.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Print the running server's address.")] = False,
    engine: Annotated[str | None, typer.Option(help="vllm or embedded (llama.cpp); by default what fits.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; by default a free one.")] = None,
    context: Annotated[int | None, typer.Option(help="Context window in tokens; by default the model's own.")] = None,
    tensor_parallel: Annotated[int | None, typer.Option(help="GPUs that share the model; by default all.")] = None,
    adapter: Annotated[list[Path] | None, typer.Option("--adapter", help="LoRA adapter (repeatable).")] = None,
    python: Annotated[Path | None, typer.Option(help="Interpreter that has vLLM, if not this one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON instead of the address.")] = False,
    config: ConfigFile = None,
) -> None:
    """Start a model server and leave it running; print its address.

    `amini repair` without an endpoint uses it.
    """
    from agentless_mini.commands.terminal import reported

    flags = {
        "engine": engine,
        "vllm.port": port,
        "vllm.max_model_len": context,
        "vllm.tensor_parallel": tensor_parallel,
        "vllm.adapters": [str(path.resolve()) for path in adapter] if adapter else None,
        "vllm.python": python,
        "vllm.extra": extra or None,
        "llama_cpp.port": port,
        "llama_cpp.context": context,
    }
    with reported():
        from agentless_mini.commands.entry import read_config, this_machine
        from agentless_mini.commands.serve import ServeOutput, start_server, stop_server, tell_status

        settings, machine, output = read_config(config, _given(flags)), this_machine(), ServeOutput(as_json)
        if stop:
            stop_server(machine)
        elif status:
            tell_status(machine, output)
        else:
            start_server(model, settings, machine, output)


@app.command()
def demo(
    keep: Annotated[
        Path | None, typer.Option(help="Make the repository here and leave it.", show_default=False)
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Repair a packaged sample with the embedded model, and run the sample's own tests on the result."""
    from agentless_mini.commands.terminal import reported

    with reported():
        from agentless_mini.commands.demo import demo as run_demo
        from agentless_mini.commands.entry import read_config, this_machine

        raise typer.Exit(run_demo(read_config(config, {"engine": "embedded"}), keep, this_machine()))
