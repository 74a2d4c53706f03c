"""The settings of a run: the stages of the chain, where tests run, and how a benchmark is attempted and graded."""

import enum
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from agentless_mini.domain import MIB, BoxLimits, Matching


@dataclass(frozen=True, slots=True)
class Flag:
    """How an option of a setting is typed, where that is not `--` and the last word of its name.

    It may come from a `variable` of the environment. `single` says why it is refused where it is given twice.
    """

    names: tuple[str, ...] = ()
    metavar: str | None = None
    variable: str | None = None
    single: str = ""


class Section(BaseModel):
    """A part of the settings. Its validator is built when it is first used: `--help` needs none of them."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class LocalizeSettings(Section):
    """How the files to edit are found."""

    samples: Annotated[int, Flag(("--localize-samples",))] = Field(4, ge=0, le=1000)
    """Localizations sampled; 0 takes the lexical ranking alone."""
    temperature: float = Field(1.0, ge=0, le=2)
    """Sampling temperature."""
    max_tokens: int = Field(2048, ge=1)
    """Most tokens of one answer, reasoning included."""
    most_files: int = Field(5, ge=1, le=100)
    """Most files in one list."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Seed of the first sample."""


class RepairSettings(Section):
    """How repairs are sampled and read."""

    samples: Annotated[int, Flag(("--samples", "-n"))] = Field(10, ge=1, le=100_000)
    """Repairs sampled, over all file lists (the paper: 500); by default 50 with the embedded model."""
    temperature: float = Field(1.0, ge=0, le=2)
    """Sampling temperature."""
    greedy_first: bool = False
    """Draw the first repair at temperature 0."""
    max_tokens: int = Field(8192, ge=1)
    """Most tokens of one answer, reasoning included; never more than a quarter of the context."""
    match: Matching = Matching.STRICT
    """How SEARCH lines are found in a file: strict or loose."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Seed of the first sample of each prompt."""
    stop_when: Annotated[float | None, Flag(metavar="BOUND")] = Field(None, ge=0.5, lt=1)
    """Stop sampling when the vote is decided with this probability, such as 0.95; by default never."""


class Selecting(enum.StrEnum):
    """Which patches a round is shown."""

    RANDOM = "random"  # of the round before: for models that are trained to evolve their own samples
    EXECUTION = "execution"  # those that the tests say are the best, of all rounds
    REWARD_MODEL = "reward-model"  # those that a reward model scores highest, of all rounds


class EvolveSettings(Section):
    """How the repairs are spread over rounds that are shown those before."""

    rounds: int = Field(1, ge=1, le=1000)
    """Rounds of repairs, each shown earlier ones; 1: no rounds, and the other settings here have no effect."""
    parents: int = Field(5, ge=1, le=100)
    """Most patches that a round is shown (the paper: 5)."""
    per_round: int | None = Field(None, ge=1, le=100_000)
    """Repairs sampled in each round (the paper: 5); by default those in all divided by the rounds, rounded up."""
    select: Selecting = Selecting.RANDOM
    """Which patches a round is shown: random, execution or reward-model."""
    self_evolving: bool = False
    """The model is trained to evolve its own samples without a selector."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Seed of the choice and of the order of what is shown."""

    @property
    def scored(self) -> bool:
        """Return whether a reward model is asked."""
        return self.rounds > 1 and self.select is Selecting.REWARD_MODEL

    def size(self, samples: int) -> int:
        """Return the samples of each round, where `samples` are wanted in all."""
        return self.per_round or -(-samples // self.rounds)


class ReproduceSettings(Section):
    """How reproduction tests are sampled and kept."""

    samples: Annotated[int, Flag(("--tests",))] = Field(10, ge=0, le=10_000)
    """Reproduction tests sampled; 0 writes none."""
    temperature: float = Field(1.0, ge=0, le=2)
    """Sampling temperature."""
    max_tokens: int = Field(4096, ge=1)
    """Most tokens of one answer, reasoning included; never more than a quarter of the context."""
    most: int = Field(30, ge=1, le=10_000)
    """Most distinct tests kept (the paper: 30)."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Seed of the first sample."""


class SetupSettings(Section):
    """How a model sets up the test environment where what the tree declares makes none that serves."""

    samples: Annotated[int, Flag(("--setup-samples",))] = Field(4, ge=0, le=1000)
    """Setups of the test environment sampled where the one that the tree declares fails; 0 asks for none."""
    temperature: float = Field(1.0, ge=0, le=2)
    """Sampling temperature."""
    max_tokens: int = Field(4096, ge=1)
    """Most tokens of one answer, reasoning included; never more than a quarter of the context."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Seed of the first sample."""


class RegressSettings(Section):
    """Which of the repository's own tests are run."""

    budget: Annotated[float, Flag(("--regression-budget",), "SECONDS")] = Field(60.0, ge=0, le=86400)
    """Most seconds that the tests run or wait together, on one patch; 0: none is run."""
    most: int = Field(1000, ge=1, le=100_000)
    """Most tests."""
    expect_broken: bool = False
    """Ask the model which of them a right fix must break, and do not count these as broken."""


class MarkSettings(Section):
    """Marks that a model puts around a part of what it says, beside those that are known; none: only those."""

    start: str = ""
    """What stands before it."""
    end: str = ""
    """What stands after it."""


class Until(enum.StrEnum):
    """How far the chain goes."""

    LOCALIZE = "localize"  # the files are found, nothing else
    REPAIR = "repair"  # patches are sampled, and the vote chooses
    TESTS = "tests"  # tests choose: all of it


UNTESTED = "no test is run"
"""The beginning of what `foresee` returns where none is."""


class SandboxKind(enum.StrEnum):
    """What keeps the tests in."""

    AUTO = "auto"  # Docker where it can be used, else bubblewrap, else Landlock, else nothing is run
    DOCKER = "docker"
    LOCAL = "local"  # bubblewrap
    LANDLOCK = "landlock"  # Landlock and seccomp, without namespaces
    UNSAFE = "unsafe-local"  # nothing
    NONE = "none"  # nothing is run


class SandboxSettings(Section):
    """Where tests run, and what they may use."""

    kind: Annotated[SandboxKind, Flag(("--sandbox",))] = SandboxKind.AUTO
    """Where tests run: auto, docker, local (bubblewrap), landlock, unsafe-local or none."""
    image: str = ""
    """A Docker image that has all that the tests need, instead of one that is built."""
    setup: Annotated[str, Flag(metavar="CMD")] = ""
    """A shell command that installs what the tests need, run in the tree, instead of what its files declare."""
    members: tuple[str, ...] = ()
    """Folders or files in a monorepo whose projects are installed; by default those nearest to the issue."""
    test_command: Annotated[str, Flag(("--test-cmd",), "CMD")] = ""
    """The command that runs tests, where `{tests}` (or else its end) is the place for their paths."""
    test_report: Annotated[str, Flag(metavar="PATH")] = ""
    """Where that command leaves JUnit XML (a pattern of paths in the tree, such as 'out/*.xml'), or - if it prints TAP:
    each test counts."""
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
    build_hosts: tuple[str, ...] = ()
    """Hosts that it may reach beside the package indexes, such as github.com, or host:port."""
    git_mirrors: tuple[Annotated[str, Field(pattern=r"^[^=\s]+=https?://\S+$")], ...] = ()
    """Where it finds what a requirement names by git: https://github.com/=https://mirror/ (git's own insteadOf)."""
    system_packages: tuple[str, ...] | None = None
    """Debian packages for a Docker environment; by default those that CI installs, git and a compiler where needed."""
    bubblewrap: str = "bwrap"
    """The program of bubblewrap. By its usual name it is the system's, or that of the wheel where there is none."""

    def from_git(self) -> tuple[str, ...]:
        """Return where the addresses begin that git reaches in a build."""
        hosts = (f"https://{host}/" for host in self.build_hosts)
        return (*(text.partition("=")[0] for text in self.git_mirrors), *hosts)

    def limits(self) -> BoxLimits:
        """Return what a box for tests may use."""
        return BoxLimits(
            memory=self.memory_mib * MIB,
            pids=self.pids,
            cpus=self.cpus,
            disk=self.disk_mib * MIB,
            seconds=self.box_seconds,
        )


class ImageSettings(Section):
    """How images are pulled and kept."""

    keep_images: int | None = Field(None, ge=0)
    """Most pulled images to keep, the least recently used goes first; by default all."""
    min_free_gib: Annotated[float, Flag(("--min-free",), "GIB")] = Field(20.0, ge=0)
    """GiB that have to be free on Docker's disk before an image is pulled."""
    pulls: int = Field(2, ge=1)
    """Images that are pulled at once."""


class Grading(enum.StrEnum):
    """Which patches of an instance the official harness grades."""

    NONE = "none"
    CHOSEN = "chosen"  # the one that was chosen
    CURVE = "curve"  # whatever a smaller run, of fewer samples or tests, would have chosen as well
    ALL = "all"  # every distinct valid one: pass@k is exact then


class EvaluationSettings(Section):
    """How instances of a benchmark are attempted and graded.

    Nothing here changes an answer.
    """

    workers: int = Field(8, ge=1, le=1000)
    """Instances attempted at once: the sampling of some overlaps the tests of others. Each holds its tree in memory."""
    grade: Grading = Grading.CURVE
    """Which patches are graded: none, chosen, curve or all."""
    graders: int = Field(2, ge=1, le=100)
    """Patches graded at once."""
    grade_seconds: int = Field(1800, ge=1)
    """The longest that the tests of one grading may take; swebench's own limit is 1,800."""
    images: ImageSettings = Field(default_factory=ImageSettings)
