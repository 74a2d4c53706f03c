"""A place in which any Python file can be run: an environment without packages, and a tree without files."""

from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from agentless_mini.domain import Runner, Snapshot, SourceFile
from agentless_mini.environments import Opened, PlaceRequest, SandboxKind, SandboxSettings, Unavailable, open_place
from agentless_mini.errors import EnvironmentFailed, UsageError
from agentless_mini.ports import Watch

_NOTHING = Snapshot("python", "", "", ())


@dataclass(frozen=True, slots=True)
class PlainRequest:
    """What the place is opened with. Environments are kept below `folder`; `variables` tell where Pythons are."""

    settings: SandboxSettings
    folder: Path
    variables: Mapping[str, str]


async def open_plain(request: PlainRequest, watch: Watch, stack: AsyncExitStack) -> Opened:
    """Return a place for checks, until `stack` is closed.

    Raises `EnvironmentFailed` where there is none, and `UsageError` for `--sandbox none`: checks are foreign code.
    """
    if request.settings.kind is SandboxKind.NONE:
        raise UsageError("Checks are foreign code, which needs a sandbox: leave out --sandbox none.")
    asked = PlaceRequest(_NOTHING, _contents, request.folder, request.variables, Runner.COMMAND)
    opened = await open_place(asked, request.settings, watch, stack)
    if isinstance(opened, Unavailable):
        raise EnvironmentFailed(opened.reason)
    return opened


def _contents(files: tuple[SourceFile, ...]) -> Iterator[bytes]:
    """Return nothing: there are no files."""
    return iter(())
