"""What an evaluation needs of a machine that has the images of a benchmark, as Protocols."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from agentless_mini.chain.session import NoBoxes, Opening
from agentless_mini.domain import Snapshot
from agentless_mini.evaluation.dataset import Instance
from agentless_mini.ports import Watch


@dataclass(frozen=True, slots=True)
class Grade:
    """What the official harness says of one patch, in `seconds` of wall-clock time; `report` is its own, as JSON.

    `applied` is False too where it says that the tests gave no result; `version` is that of swebench.
    """

    resolved: bool
    applied: bool
    report: str
    version: str
    seconds: float


class Testbed(Protocol):
    """The image of one instance, held while it is open. All methods may be called concurrently."""

    async def tree(self) -> Snapshot:
        """Return the files of /testbed, with the history of the base commit. Raises `EnvironmentFailed`."""
        ...

    def opening(self, snapshot: Snapshot) -> Opening | NoBoxes:
        """Return how the tests of the tree are run in boxes of the image. Nothing is recorded."""
        ...

    async def grade(self, diff: bytes) -> Grade:
        """Let the official harness grade a patch. Raises `GradingFailed` for what is not its fault."""
        ...


class Testbeds(Protocol):
    """Where the images of instances are."""

    def open(self, instance: Instance, watch: Watch) -> AbstractAsyncContextManager[Testbed]:
        """Hold the image of an instance, pulling it if it is missing. May wait for capacity.

        Raises kinds of `EnvironmentFailed`, as `ImageUnavailable`: never wrong answers. After `NodeLost`, here or from
        any call while it is open, a retry goes to another machine.
        """
        ...
