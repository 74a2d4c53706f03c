"""Options of commands as frozen dataclasses, so that commands share them and a signature stays short.

    @app.command()
    @expanded
    def repair(source: Source, model: ModelOptions) -> None: ...

gives `repair` all fields of both as options. A field that stands for a setting of the file names it with `Setting`.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer


@dataclass(frozen=True, slots=True)
class Setting:
    """The dotted name of a setting that an option goes before. A flag puts `value` there where it has one."""

    name: str
    value: str = ""


def expanded(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command whose parameters are dataclasses of options the signature of all their fields."""
    groups = get_type_hints(command)
    groups.pop("return", None)
    hints = {name: get_type_hints(group, include_extras=True) for name, group in groups.items()}

    @functools.wraps(command)
    def run(**given: Any) -> None:  # noqa: ANN401 - Typer calls it with what it parsed
        command(**{name: group(**{key: given[key] for key in hints[name]}) for name, group in groups.items()})

    parameters = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
            annotation=hints[name][field.name],
        )
        for name, group in groups.items()
        for field in dataclasses.fields(group)
    ]
    run.__dict__["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del run.__dict__["__wrapped__"]  # Typer would look there for the type hints
    return run


def settings_of(*groups: Any) -> dict[str, Any]:  # noqa: ANN401 - dataclasses of options
    """Return what was given of options that stand for settings, by the settings' dotted names."""
    given: dict[str, Any] = {}
    for group in groups:
        for name, hint in get_type_hints(type(group), include_extras=True).items():
            value = getattr(group, name)
            if value is not None and value is not False and value != []:
                given |= {extra.name: extra.value or value for extra in _settings(hint)}
    return given


def _settings(hint: Any) -> list[Setting]:  # noqa: ANN401 - a type with its extras
    return [extra for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Setting)]


ConfigFile = Annotated[
    Path | None, typer.Option("--config", envvar="AMINI_CONFIG", help="Settings file (TOML).", show_default=False)
]
StoreFile = Annotated[
    Path | None,
    typer.Option("--store", envvar="AMINI_STORE", help="Record of all answers; by default one for each repository."),
]


@dataclass(frozen=True)
class SourceOptions:
    """What is to be repaired."""

    repository: Annotated[str, typer.Argument(metavar="REPO", help="Path, git URL or owner/name on GitHub.")]
    issue: Annotated[
        str | None,
        typer.Argument(
            metavar="[ISSUE]", help="File, - for stdin, GitHub issue URL or owner/name#12.", show_default=False
        ),
    ] = None
    text: Annotated[str | None, typer.Option(help="The issue itself, instead of ISSUE.")] = None
    rev: Annotated[str | None, typer.Option(help="Repair this commit, not the working tree.")] = None
    files: Annotated[
        list[str] | None, typer.Option("--files", help="File to edit (repeatable), instead of localization.")
    ] = None


@dataclass(frozen=True)
class SamplingOptions:
    """How many answers are drawn, and how."""

    samples: Annotated[
        int | None, typer.Option("--samples", "-n", help="Repairs sampled [10]."), Setting("repair.samples")
    ] = None
    localize_samples: Annotated[
        int | None, typer.Option(help="Localizations sampled [4]."), Setting("localize.samples")
    ] = None
    tests: Annotated[
        int | None, typer.Option("--tests", help="Reproduction tests sampled [10]."), Setting("reproduce.samples")
    ] = None
    temperature: Annotated[
        float | None, typer.Option(help="Sampling temperature of repairs [1.0]."), Setting("repair.temperature")
    ] = None
    max_tokens: Annotated[
        int | None,
        typer.Option(help="Most tokens of one repair [8192, at most a quarter of the context]."),
        Setting("repair.max_tokens"),
    ] = None
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of the samples [0]."),
        Setting("repair.seed"),
        Setting("localize.seed"),
        Setting("reproduce.seed"),
    ] = None
    match: Annotated[
        str | None,
        typer.Option(help="How SEARCH lines are found: strict or loose [strict]."),
        Setting("repair.match"),
    ] = None


@dataclass(frozen=True)
class ModelOptions:
    """Who is asked."""

    base_url: Annotated[
        str | None,
        typer.Option(envvar="AMINI_BASE_URL", help="OpenAI-compatible endpoint, such as http://host:8000/v1."),
        Setting("endpoint.base_url"),
    ] = None
    model: Annotated[
        str | None, typer.Option("--model", "-m", envvar="AMINI_MODEL", help="Model to ask."), Setting("endpoint.model")
    ] = None
    context: Annotated[
        int | None,
        typer.Option(help="Context window in tokens, if the server does not say."),
        Setting("endpoint.context_window"),
    ] = None
    decoding: Annotated[
        str | None, typer.Option(help="How answers are decoded: free or grammar."), Setting("endpoint.decoding")
    ] = None
    engine: Annotated[
        str | None,
        typer.Option(help="Without an endpoint: auto, vllm or embedded [auto].", show_default=False),
        Setting("engine"),
    ] = None
    in_flight: Annotated[
        int | None, typer.Option(help="Most requests in flight at once."), Setting("endpoint.max_in_flight")
    ] = None
    prompts: Annotated[
        Path | None, typer.Option(help="Folder of prompt templates that replace packaged ones."), Setting("prompts")
    ] = None
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
    sandbox: Annotated[
        str | None, typer.Option(help="Where tests run: auto, docker, local or none [auto]."), Setting("sandbox.kind")
    ] = None
    unsafe_local: Annotated[
        bool,
        typer.Option("--unsafe-local", help="Run tests without any isolation."),
        Setting("sandbox.kind", "unsafe-local"),
    ] = False
    image: Annotated[
        str | None, typer.Option(help="Docker image that has all the tests need."), Setting("sandbox.image")
    ] = None
    setup: Annotated[
        str | None,
        typer.Option(metavar="CMD", help="Sets up the environment, instead of the project's files."),
        Setting("sandbox.setup"),
    ] = None
    test_cmd: Annotated[
        str | None,
        typer.Option(metavar="CMD", help="Runs tests; {tests} stands for their paths, else they come last."),
        Setting("sandbox.test_command"),
    ] = None
    regression_budget: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Most time of regression tests for one patch [60]."),
        Setting("regress.budget"),
    ] = None
    rank: Annotated[
        str | None,
        typer.Option(help="How the patch is chosen: agreement, scores or vote [agreement]."),
        Setting("rank"),
    ] = None


@dataclass(frozen=True)
class OutputOptions:
    """Where the result goes."""

    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the result here, not to stdout.")] = None
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON document instead of the patch.")] = False
    apply: Annotated[bool, typer.Option("--apply", help="Apply the patch to the working tree as well.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing on stderr but errors.")] = False
    store: StoreFile = None


@dataclass(frozen=True)
class BenchmarkOptions:
    """Which instances are evaluated, and how far."""

    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="SWE-bench of the hub: verified, lite, full or multilingual.")
    ] = None
    dataset: Annotated[Path | None, typer.Option(help="Instances in a file: parquet, json or jsonl.")] = None
    instances: Annotated[str | None, typer.Option(metavar="A,B", help="Only these instances, by id.")] = None
    limit: Annotated[int, typer.Option(help="Only the first so many; 0: all.", min=0, show_default=False)] = 0
    shard: Annotated[str | None, typer.Option(metavar="I/N", help="Only the I-th of N equal parts.")] = None
    oracle_files: Annotated[
        bool, typer.Option("--oracle-files", help="Show the model the files of the true fix, without localization.")
    ] = False
    stages: Annotated[
        str, typer.Option(metavar="STAGE", help="The last stage: localize, repair or tests.", show_default=False)
    ] = "tests"
    grade: Annotated[
        str | None,
        typer.Option(help="Patches graded: none, chosen, curve or all [curve]."),
        Setting("eval.grade"),
    ] = None
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder of the evaluation; by default a named one.")
    ] = None
    submission: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write what a SWE-bench submission asks for there.")
    ] = None


@dataclass(frozen=True)
class FleetOptions:
    """What an evaluation runs on."""

    workers: Annotated[int | None, typer.Option(help="Instances at once [8]."), Setting("eval.workers")] = None
    graders: Annotated[int | None, typer.Option(help="Patches graded at once [2]."), Setting("eval.graders")] = None
    keep_images: Annotated[
        int | None,
        typer.Option(help="Most pulled images to keep; the one not used for longest goes [all]."),
        Setting("eval.images.keep_images"),
    ] = None
    min_free: Annotated[
        float | None,
        typer.Option(metavar="GIB", help="Space that pulling leaves on Docker's disk [20]."),
        Setting("eval.images.min_free_gib"),
    ] = None
    endpoint: Annotated[
        list[str] | None, typer.Option("--endpoint", metavar="URL", help="Another server of the model (repeatable).")
    ] = None
    cluster: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Ray cluster whose nodes run tests and grade.")
    ] = None
    case_seconds: Annotated[
        float | None, typer.Option(help="The longest that one test may run [60]."), Setting("sandbox.case_seconds")
    ] = None
    sandbox: Annotated[
        str | None, typer.Option(help="docker, or none: no test is run [docker]."), Setting("sandbox.kind")
    ] = None
    regression_budget: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Most time of regression tests for one patch [60]."),
        Setting("regress.budget"),
    ] = None
    rank: Annotated[
        str | None,
        typer.Option(help="How the patch is chosen: agreement, scores or vote [agreement]."),
        Setting("rank"),
    ] = None
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing on stderr but errors.")] = False


@dataclass(frozen=True)
class ReportOptions:
    """Which evaluations are reported, and in which form."""

    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Folders of evaluations, or their names.")]
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")] = False
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write one page with plots that needs no net.")] = (
        None
    )
    instance: Annotated[str | None, typer.Option(metavar="ID", help="Write one instance in depth, as JSON.")] = None
    price_prompt: Annotated[float | None, typer.Option(help="Price of a million prompt tokens.")] = None
    price_cached: Annotated[float | None, typer.Option(help="Price of a million cached prompt tokens.")] = None
    price_completion: Annotated[float | None, typer.Option(help="Price of a million completion tokens.")] = None
    price_box_hour: Annotated[float | None, typer.Option(help="Price of an hour of a box.")] = None


@dataclass(frozen=True)
class ServeOptions:
    """Which model is served, and how."""

    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="Name on the hub, or a local path.")] = None
    extra: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- FLAGS]", help="More flags for vLLM, verbatim, after --."),
        Setting("vllm.extra"),
    ] = None
    stop: Annotated[bool, typer.Option("--stop", help="Stop the running server.")] = False
    status: Annotated[bool, typer.Option("--status", help="Print the running server's address.")] = False
    engine: Annotated[
        str | None, typer.Option(help="vllm or embedded (llama.cpp); by default what fits."), Setting("engine")
    ] = None
    port: Annotated[
        int | None,
        typer.Option(help="Port to listen on; by default a free one."),
        Setting("vllm.port"),
        Setting("llama_cpp.port"),
    ] = None
    context: Annotated[
        int | None,
        typer.Option(help="Context window in tokens; by default the model's own."),
        Setting("vllm.max_model_len"),
        Setting("llama_cpp.context"),
    ] = None
    tensor_parallel: Annotated[
        int | None,
        typer.Option(help="GPUs that share the model; by default all."),
        Setting("vllm.tensor_parallel"),
    ] = None
    adapter: Annotated[list[Path] | None, typer.Option("--adapter", help="LoRA adapter (repeatable).")] = None
    python: Annotated[
        Path | None, typer.Option(help="Interpreter that has vLLM, if not this one."), Setting("vllm.python")
    ] = None
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON instead of the address.")] = False
    config: ConfigFile = None
