"""Options of `amini learn ...`, in the manner of `options`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from agentless_mini.commands.options import ConfigFile, Setting


@dataclass(frozen=True)
class CurateOptions:
    """What is curated, and how."""

    events: Annotated[
        list[Path], typer.Argument(metavar="EVENTS", help="Files of GH Archive (.json.gz), or folders of them.")
    ]
    mirrors: Annotated[Path, typer.Option(help="Folder of clones: owner+name, owner/name or owner__name.")]
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the rows.")]
    clone: Annotated[
        bool,
        typer.Option("--clone", help="Clone missing repositories from GitHub."),
        Setting("curate.clone_from", "https://github.com"),
    ] = False
    relevant: Annotated[
        str | None,
        typer.Option(help="How relevant but unmodified files are found: none, lexical or model [none]."),
        Setting("curate.relevant"),
    ] = None
    oracle: Annotated[
        str | None,
        typer.Option(help="Changed files to learn: code (no tests, no documents) or all [code]."),
        Setting("curate.oracle"),
    ] = None
    seed: Annotated[int | None, typer.Option(help="Seed of the splits [0]."), Setting("curate.seed")] = None
    workers: Annotated[
        int | None,
        typer.Option(help="Parallel processes, or tasks on the cluster [1]."),
        Setting("curate.workers"),
    ] = None
    cluster: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Work on this Ray cluster: HOST:PORT, or auto.")
    ] = None
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors on stderr.")] = False


@dataclass(frozen=True)
class BugsOptions:
    """What repair tasks are made of, and how many."""

    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE", help="Installed packages or modules by name, or folders.")
    ]
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the tasks.")]
    python: Annotated[
        str | None, typer.Option(metavar="EXE", help="The interpreter that has the packages, if not this one.")
    ] = None
    held_out: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Packages kept for tests; by default a share of them [0.1], by hash."),
    ] = None
    seed: Annotated[
        int | None, typer.Option(help="Seed of calls, faults, wording and splits [0]."), Setting("bugs.seed")
    ] = None
    max_bytes: Annotated[
        int | None, typer.Option(help="The largest file of a task, in bytes [3200]."), Setting("bugs.max_bytes")
    ] = None
    per_function: Annotated[
        int | None, typer.Option(help="Most tasks of one function [4]."), Setting("bugs.per_function")
    ] = None
    sandbox: Annotated[
        str | None, typer.Option(help="Where the code runs: auto, docker or local [auto]."), Setting("sandbox.kind")
    ] = None
    unsafe_local: Annotated[
        bool,
        typer.Option("--unsafe-local", help="Run it without any isolation."),
        Setting("sandbox.kind", "unsafe-local"),
    ] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors on stderr.")] = False
    config: ConfigFile = None
