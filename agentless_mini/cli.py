"""The command line: options in, exit code out. What a command needs is imported when it runs, so `--help` is instant.

With `commands` this is the only composition root, and the only place that reads the environment.
"""

import gc
from pathlib import Path
from typing import Annotated

import typer

from agentless_mini import __version__
from agentless_mini.commands.evaluation_options import BenchmarkOptions, FleetOptions, ReportOptions
from agentless_mini.commands.learn import learn
from agentless_mini.commands.options import ConfigFile, DocumentedCommand, expanded, settings_of, variables_of
from agentless_mini.commands.repair_options import (
    EvolveOptions,
    ExecutionOptions,
    ModelOptions,
    OutputOptions,
    SamplingOptions,
    ServeOptions,
    ShowOptions,
    SourceOptions,
    TextOptions,
)
from agentless_mini.commands.usage import Commands

app = typer.Typer(
    name="amini",
    cls=Commands,
    help="Repairs real repositories from an issue text, with models that you host yourself.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(learn)


def main() -> None:
    """Run the command line; the console script's entry."""
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
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Repairs real repositories from an issue text, with models that you host yourself."""


@app.command(cls=DocumentedCommand)
@expanded
def repair(
    source: SourceOptions,
    sampling: SamplingOptions,
    evolution: EvolveOptions,
    model: ModelOptions,
    execution: ExecutionOptions,
    output: OutputOptions,
) -> None:
    """Find the cause of an issue and print a patch for `git apply`.

    Exit codes: 0 patch found, 1 no valid patch, 2 usage, 3 model server, 4 this machine, 5 the best patch does not meet
    --require, 130 interrupted.
    """
    from agentless_mini.commands.terminal import reported

    with reported():
        from agentless_mini.commands.entry import RepairArguments, run_repair
        from agentless_mini.commands.repair import Output

        files, tests, commands = (
            tuple(given or ()) for given in (source.files, execution.failing_test, execution.failing_cmd)
        )
        arguments = RepairArguments(source.repository, source.issue, source.text, source.rev, files, tests, commands)
        result = Output(output.as_json, output.output, output.apply, output.quiet, output.commit)
        settings = (model.config, settings_of(sampling, evolution, model, execution))
        raise typer.Exit(run_repair(arguments, result, settings, output.store))


@app.command(name="eval", short_help="Repair and grade the instances of SWE-bench.", cls=DocumentedCommand)
@expanded
def evaluate(
    benchmark: BenchmarkOptions,
    sampling: SamplingOptions,
    evolution: EvolveOptions,
    model: ModelOptions,
    fleet: FleetOptions,
) -> None:
    """Repair the instances of SWE-bench, have the official harness grade them, and print the evaluation's folder.

    The same command again continues where it stopped. Exit codes: 0 all instances ended, 4 some failed because of the
    infrastructure, otherwise as for repair.
    """
    from agentless_mini.commands.terminal import reported

    with reported():
        from agentless_mini.commands.benchmark import run_eval
        from agentless_mini.commands.entry import read_config, require_together, this_machine

        flags = settings_of(benchmark, sampling, evolution, model, fleet)
        config = read_config(model.config, flags)
        if benchmark.stages != "localize":
            require_together(config, flags)
        raise typer.Exit(run_eval(benchmark, fleet, config, this_machine()))


@app.command(short_help="Report evaluations: what is resolved, curves, failures, cost.", cls=DocumentedCommand)
@expanded
def report(options: ReportOptions) -> None:
    """Report evaluations: resolved with its interval, curves over samples and tests, failures, cost.

    No model is asked and no test is run: everything comes from the record.
    """
    from agentless_mini.commands.terminal import reported

    with reported():
        from agentless_mini.commands.entry import this_machine
        from agentless_mini.commands.report import run_report

        run_report(options, this_machine())


@app.command(short_help="List past runs, or open one.", cls=DocumentedCommand)
@expanded
def show(options: ShowOptions) -> None:
    """List past runs, or open one: files, samples, votes, tests and the chosen patch, on one screen."""
    from agentless_mini.commands.terminal import reported

    with reported():
        from agentless_mini.commands.entry import store_of
        from agentless_mini.commands.show import run_show

        run_show(options, options.store or store_of(options.repository))


@app.command(cls=DocumentedCommand)
@expanded
def serve(options: ServeOptions) -> None:
    """Start a model server and leave it running; print its address.

    `amini repair` without an endpoint uses it.
    """
    from agentless_mini.commands.terminal import reported

    flags = settings_of(options)
    if options.adapter:
        flags["vllm.adapters"] = [str(path.resolve()) for path in options.adapter]
    with reported():
        from agentless_mini.commands.entry import read_config, this_machine
        from agentless_mini.commands.serve import ServeOutput, require_usable, start_server, stop_server, tell_status

        require_usable(options)
        settings, machine, output = read_config(options.config, flags), this_machine(), ServeOutput(options.as_json)
        if options.stop:
            stop_server(machine)
        elif options.status:
            tell_status(machine, output)
        else:
            start_server(options.model, settings, machine, output)


@app.command(short_help="Check what a repair with tests needs.", cls=DocumentedCommand)
@expanded
def doctor(model: ModelOptions, output: TextOptions) -> None:
    """Check what a repair with tests needs, and say what to do about what is missing. Nothing is downloaded.

    Exit codes: 0 a repair with tests can run here, 4 it cannot.
    """
    from agentless_mini.commands.terminal import reported

    with reported():
        from agentless_mini.commands.doctor import run_doctor
        from agentless_mini.commands.entry import read_config, this_machine

        settings = read_config(model.config, settings_of(model))
        raise typer.Exit(run_doctor(settings, this_machine(), output.as_json))


@app.command(name="config", short_help="Show every setting and its source.", cls=DocumentedCommand)
@expanded
def effective(
    sampling: SamplingOptions,
    evolution: EvolveOptions,
    model: ModelOptions,
    execution: ExecutionOptions,
    output: TextOptions,
) -> None:
    """Show the effective value of every setting and its source: a default, the file, the environment or a flag."""
    from agentless_mini.commands.terminal import reported

    with reported():
        from agentless_mini.commands.effective import show_settings

        groups = (sampling, evolution, model, execution)
        show_settings(model.config, settings_of(*groups), variables_of(*groups), output.as_json)


@app.command(short_help="Repair a packaged sample with the embedded model.")
def demo(
    keep: Annotated[
        Path | None, typer.Option(help="Make the repository in this new folder, and keep it.", show_default=False)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="Another model than the default: a GGUF file, or OWNER/NAME on the hub.",
        ),
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Repair a packaged sample with the embedded model, and run the sample's own tests on the result.

    It takes about a minute, and downloads a model of 93 MB the first time. Exit codes as for repair.
    """
    from agentless_mini.commands.terminal import reported

    with reported():
        from agentless_mini.commands.demo import demo as run_demo
        from agentless_mini.commands.entry import read_config, this_machine

        raise typer.Exit(run_demo(read_config(config, {}), model, keep, this_machine()))


@app.command(name="help")
def manual(
    topic: Annotated[str | None, typer.Argument(metavar="TOPIC", help="Without one, the topics are listed.")] = None,
) -> None:
    """Print the manual, or one topic of it."""
    from agentless_mini.commands.terminal import reported

    with reported():
        from agentless_mini.commands.manual import tell

        tell(topic)
