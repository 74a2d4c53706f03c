"""What the stages that run tests share: boxes, and how this repository's tests run in them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from agentless_mini.domain import BoxLimits, Harness, Place, Snapshot
from agentless_mini.ports import Derive, Sandbox, Watch, derive_anew


@dataclass(frozen=True, slots=True)
class Bench:
    """The effects and words that the test stages of one issue share.

    `snapshot` is the tree that every box starts from, `case_seconds` the most that one test may take.
    """

    sandbox: Sandbox
    place: Place
    harness: Harness
    snapshot: Snapshot
    watch: Watch
    limits: BoxLimits = field(default_factory=BoxLimits)
    case_seconds: float = 60.0
    derive: Derive = derive_anew


@dataclass(frozen=True, slots=True)
class NoBench:
    """Nothing can be run; `reason` is a sentence that says why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Opening:
    """A bench to be opened: how tests will run is known at once, the boxes may take minutes."""

    harness: Harness
    open: Callable[[Watch], Awaitable[Bench | NoBench]]
