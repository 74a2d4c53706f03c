"""[sandbox]: where tests run, and what they may use."""

import enum

from pydantic import BaseModel, ConfigDict, Field

from agentless_mini.domain import MIB, BoxLimits


class SandboxKind(enum.StrEnum):
    """What keeps the tests in."""

    AUTO = "auto"  # Docker where it can be used, else bubblewrap, else Landlock, else nothing is run
    DOCKER = "docker"
    LOCAL = "local"  # bubblewrap
    LANDLOCK = "landlock"  # Landlock and seccomp, without namespaces
    UNSAFE = "unsafe-local"  # nothing
    NONE = "none"  # nothing is run


class SandboxSettings(BaseModel):
    """How tests are run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: SandboxKind = SandboxKind.AUTO
    """What keeps the tests in."""
    image: str = ""
    """A Docker image that has all that the tests need, instead of one that is built."""
    setup: str = ""
    """A shell command that installs what the tests need, run in the tree, instead of what its files declare."""
    test_command: str = ""
    """The command that runs tests, where `{tests}` (or else its end) is the place for their paths."""
    base_image: str = "python:{version}-slim"
    """The image that Docker environments are built on; `{version}` becomes the Python version."""
    memory_mib: int = Field(2048, ge=64)
    """Memory of a box, with the files that it writes."""
    disk_mib: int = Field(1024, ge=16)
    """Room for files in each of the two places that a box can write."""
    pids: int = Field(256, ge=8)
    """Processes and threads of a box."""
    cpus: float = Field(1.0, gt=0)
    """Processors for a box."""
    box_seconds: float = Field(900.0, gt=0)
    """The longest that a box may run."""
    case_seconds: float = Field(60.0, gt=0)
    """The longest that one test may run."""
    boxes: int | None = Field(None, ge=1)
    """Boxes that run at once; as many as the machine carries where it is not set."""
    build_seconds: float = Field(900.0, gt=0)
    """The longest that the building of an environment may take."""
    build_memory_mib: int = Field(4096, ge=256)
    """Memory for the building of an environment."""
    bubblewrap: str = "bwrap"
    """The program of bubblewrap. By its usual name it is the system's, or that of the wheel where there is none."""

    def limits(self) -> BoxLimits:
        """Return what a box for tests may use."""
        return BoxLimits(
            memory=self.memory_mib * MIB,
            pids=self.pids,
            cpus=self.cpus,
            disk=self.disk_mib * MIB,
            seconds=self.box_seconds,
        )
