"""Options of `amini learn ...`, in the manner of `options`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from agentless_mini.commands.options import Setting


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
    relevant: Annotated[str | None, Setting("curate.relevant")] = None
    oracle: Annotated[str | None, Setting("curate.oracle")] = None
    seed: Annotated[int | None, Setting("curate.seed")] = None
    workers: Annotated[int | None, Setting("curate.workers")] = None
    cluster: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Work on this Ray cluster: HOST:PORT, or auto.")
    ] = None
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors on stderr.")] = False
