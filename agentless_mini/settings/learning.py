"""The settings of learning, one section each: [curate], [synthesize], [sft], [rl], [reward_model].

Where a paper does not publish a value, the default is what public re-implementations use, or ours; the docstring says
which.
"""

import enum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, ConfigDict, Field, JsonValue, model_validator

from agentless_mini.domain import RewardKind, canonical_json
from agentless_mini.settings.run import Flag, Section

# What a setting may be: its docstring says what for, `amini help learn` what each means.
Tuning = enum.StrEnum("Tuning", "LORA FULL")
Device = enum.StrEnum("Device", "AUTO CPU")
Precision = enum.StrEnum("Precision", "AUTO FLOAT32 BFLOAT16")  # of forward and backward: weights are kept in float32
Tracker = enum.StrEnum("Tracker", "NONE TENSORBOARD TRACKIO WANDB")
SftKind = enum.StrEnum("SftKind", "CLASSICAL MUTATION")  # MUTATION shows earlier patches (Satori-SWE, arXiv 2505.23604)
Generation = enum.StrEnum("Generation", "AUTO TRANSFORMERS COLOCATE SERVER")
Preference = enum.StrEnum("Preference", "PAIRWISE BINARY")
Potential = enum.StrEnum("Potential", {"SIMILARITY": "similarity", "TESTS": "tests", "REWARD_MODEL": "reward-model"})
Comparison = enum.StrEnum("Comparison", "ROW ROLLOUT")  # with ROW the mean of a prompt's rollouts takes it away again
Preset = enum.StrEnum("Preset", {"SWE_RL": "swe-rl", "SATORI": "satori"})
GgufWeights = enum.StrEnum("GgufWeights", "F32 F16 Q8_0")  # of matrices: vectors stay in full precision
Oracle = enum.StrEnum("Oracle", "CODE ALL")  # code without tests, documents and lock files, or all text but these last
Relevant = enum.StrEnum("Relevant", "NONE LEXICAL MODEL")

Handed = Annotated[dict[str, JsonValue], AfterValidator(lambda given: canonical_json(given) and given)]  # no NaN
# `amini help learn` says which of these are published, and which are ours.
_LONG: dict[str, Any] = {"tuning": "full", "max_tokens": 16_384, "answer_tokens": 8192, "group": 16, "clip_high": 0.2}
_PRESETS: dict[str, dict[str, Any]] = {
    Preset.SWE_RL: {**_LONG, "reward": "similarity", "steps": 1600, "rollouts": 512, "beta": 0.001},
    Preset.SATORI: {**_LONG, "reward": "shaped", "shown_parents": 5, "compared": "rollout", "format_weight": 1.0},
}


class TrainingSettings(Section):
    """What all trainers have in common."""

    model_config = ConfigDict(allow_inf_nan=False)
    rates: ClassVar[dict[Tuning, float]] = {Tuning.LORA: 1e-4, Tuning.FULL: 1e-5}

    tuning: Tuning = Tuning.LORA
    """Which weights are trained: lora or full."""
    rank: int = Field(16, ge=1)
    """Rank of the LoRA adapters; their scale is twice that over the rank. An adapter to start from keeps its own."""
    upper_layers: int | None = Field(None, ge=1)
    """Train only so many of the last layers; none: all. Nothing is computed backward below them. An adapter to start
    from keeps its own."""
    precision: Precision = Precision.AUTO
    """Number format: auto, float32 or bfloat16."""
    adapter: Path | None = None
    """Folder of a LoRA adapter to start from: it is trained on, or merged where all weights are trained."""
    steps: int | None = Field(None, ge=1)
    """Steps of the optimizer; none: as many as the epochs have."""
    epochs: float = Field(1.0, gt=0)
    """Passes over the data, where no steps are given."""
    learning_rate: float | None = Field(None, gt=0)
    """Highest learning rate; by default 1e-4 for LoRA and 1e-5 for all weights (rl: 1e-5 and 1e-6)."""
    warmup: float = Field(0.05, ge=0, lt=1)
    """Share of the steps in which the learning rate rises to its highest; then it falls as a cosine."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's weight decay."""
    batch: int = Field(4, ge=1)
    """Sequences that one device computes at once."""
    accumulate: int = Field(4, ge=1)
    """Such batches that make a step."""
    max_tokens: int = Field(8192, ge=64)
    """Most tokens of prompt and answer together; longer examples are left out and counted."""
    save_every: int = Field(50, ge=1)
    """Steps between checkpoints."""
    keep: int = Field(2, ge=1)
    """Checkpoints kept."""
    log_every: int = Field(5, ge=1)
    """Steps between lines of metrics."""
    minutes: float | None = Field(None, gt=0)
    """Stop with a checkpoint after N minutes; the same command continues."""
    tracker: Tracker = Tracker.TENSORBOARD
    """Where metrics go beside standard error: tensorboard, trackio, wandb or none."""
    device: Device = Device.AUTO
    """auto or cpu."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Seed of everything that is drawn."""
    trl: Handed = Field(default_factory=dict)
    """Fields of TRL's own configuration, handed on as they are: a table, or --trl KEY=VALUE."""

    @property
    def rate(self) -> float:
        """Return the highest learning rate."""
        return self.learning_rate or self.rates[self.tuning]


class SftSettings(TrainingSettings):
    """Supervised fine-tuning."""

    kind: SftKind = SftKind.CLASSICAL
    """What an example shows: classical or mutation."""
    parents: int = Field(5, ge=1, le=100)
    """Most earlier patches that an example of the kind mutation shows (the paper: 5)."""
    parent_samples: int = Field(5, ge=1, le=1000)
    """Answers sampled for each row where its parents have to be made."""
    parent_tokens: int = Field(2048, ge=1)
    """Most tokens of such an answer."""


class RlSettings(TrainingSettings):
    """Reinforcement learning.

    What SWE-RL does not publish is as in public re-implementations.
    """

    rates: ClassVar[dict[Tuning, float]] = {Tuning.LORA: 1e-5, Tuning.FULL: 1e-6}

    preset: Preset | None = None
    """Whose settings to begin with: swe-rl or satori. Other settings and flags go before these."""
    reward: RewardKind = RewardKind.SIMILARITY
    """What a rollout is rewarded for: similarity, discrete, tests or shaped."""
    potential: Potential = Potential.SIMILARITY
    """Potential whose gain is the shaped reward: similarity, tests or reward-model."""
    scorer: Annotated[Path | None, Flag(metavar="DIR")] = None
    """Folder of the reward model for that potential."""
    shown_parents: int = Field(5, ge=1, le=100)
    """K, the most earlier patches that a prompt shows for the shaped reward (Satori-SWE: 5)."""
    compared: Comparison = Comparison.ROW
    """Which of them the shaped reward is the gain over: one for each row, or drawn anew for each rollout."""
    group: int = Field(8, ge=2)
    """Rollouts of one prompt (SWE-RL: 16)."""
    rollouts: int | None = Field(None, ge=2)
    """Rollouts of a step, on all devices together (SWE-RL: 512): sets accumulate."""
    accumulate: int = Field(8, ge=1)
    """Batches that make a step: batch times accumulate, on all devices, must be a multiple of the group."""
    answer_tokens: int = Field(2048, ge=1)
    """Most tokens of a rollout; what is cut off there is rewarded as malformed."""
    temperature: float = Field(1.0, gt=0, le=2)
    """Sampling temperature of rollouts."""
    beta: float = Field(0.0, ge=0)
    """Weight of the KL term (re-implementations: none)."""
    clip_low: float = Field(0.2, gt=0)
    """Lower clip of the probability ratio."""
    clip_high: float = Field(0.28, gt=0)
    """Upper clip of the probability ratio."""
    format_weight: float = Field(1.0, ge=0)
    """λ, the weight of the format penalty in the shaped reward (unpublished; ours)."""
    generation: Generation = Generation.AUTO
    """Who writes rollouts: auto, transformers, colocate or server. With a server auto takes that."""
    server: Annotated[str | None, Flag(metavar="URL")] = Field(None, pattern=r"^https?://")
    """Address of `trl vllm-serve` for the generation server."""
    gpu_share: float = Field(0.3, gt=0, lt=1)
    """Share of a GPU's memory for vLLM beside the trainer."""
    log_rollouts: int = Field(4, ge=0)
    """Rollouts of each batch that are logged, with prompt and reward."""

    @model_validator(mode="before")
    @classmethod
    def _begins_with_the_preset(cls, given: Any) -> Any:  # noqa: ANN401 - what people gave
        return {**_PRESETS.get(str(given.get("preset")), {}), **given} if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _is_of_one_mind(self) -> Self:
        if self.potential is not Potential.SIMILARITY and self.reward is not RewardKind.SHAPED:
            raise ValueError(f"the potential {self.potential} is for the reward shaped: set both, or neither")
        if self.server is not None and self.generation not in {Generation.AUTO, Generation.SERVER}:
            raise ValueError(f"the server would not be asked with the generation {self.generation}: leave out one")
        if (self.scorer is not None) != (self.potential is Potential.REWARD_MODEL):
            raise ValueError("the potential reward-model needs a scorer, and no other takes one: set both, or neither")
        return self

    @property
    def runs_checks(self) -> bool:
        """Whether the rows' checks are run: rows without one are then left out."""
        is_shaped = self.reward is RewardKind.SHAPED and self.potential is Potential.TESTS
        return self.reward is RewardKind.TESTS or is_shaped


class RewardModelSettings(TrainingSettings):
    """A model that scores patches."""

    kind: Preference = Preference.PAIRWISE
    """What it is trained on: pairwise or binary."""
    margin: float = Field(0.001, gt=0)
    """The least difference of two patches' values for a pair to count."""
    right: float = Field(1.0, ge=-1, le=1)
    """The least value of a patch that is right, for the kind binary."""
    pairs: int = Field(4, ge=1)
    """Most pairs of one row."""


class SynthesizeSettings(Section):
    """How a teacher writes the reasoning of rows."""

    samples: Annotated[int, Flag(("--samples", "-n"))] = Field(4, ge=1)
    """Most tries for a row; it stops at the first that reproduces the oracle."""
    temperature: float = Field(0.7, ge=0, le=2)
    """Sampling temperature of the teacher."""
    max_tokens: int = Field(4096, ge=1)
    """Most tokens of the teacher's answer."""
    rows_at_once: int = Field(16, ge=1)
    """Rows that are asked for at once."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Seed of the first sample of each row."""


class CurateSettings(Section):
    """How pull requests become rows to learn from."""

    oracle: Oracle = Oracle.CODE
    """Which changed files a row is about: code or all."""
    relevant: Relevant | None = None
    """How relevant but unmodified files are found: none, lexical or model; by default model where one is named."""
    most_relevant: int = Field(3, ge=1, le=20)
    """Most relevant but unmodified files in a row."""
    most_files: int = Field(10, ge=1, le=1000)
    """Most changed files; a pull request with more is huge."""
    most_lines: int = Field(1000, ge=1)
    """Most added and removed lines, lock files aside; a pull request with more is huge."""
    most_bytes: int = Field(400_000, ge=1, le=50_000_000)
    """Most bytes of the files of a row, before and after, and of one relevant file; more is huge."""
    similar: float = Field(0.8, gt=0, le=1)
    """Estimated Jaccard similarity from which on two rows are near-duplicates."""
    valid: float = Field(0.01, ge=0, lt=1)
    """Share of the families of repositories in the split "valid"."""
    test: float = Field(0.01, ge=0, lt=1)
    """Share of the families of repositories in the split "test"."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Seed of the splits."""
    partitions: int = Field(16, ge=1, le=65536)
    """Parts that the owners of repositories are dealt into: each is a task, and a resting place."""
    workers: int = Field(1, ge=1, le=1024)
    """Processes at work at once on this machine, or tasks on the cluster (there 1 is: as many as it has cores)."""
    rows_per_file: int = Field(10_000, ge=1)
    """Most rows of one parquet file."""
    clone_from: str = ""
    """Address before "/owner/name" from which a repository without a mirror is cloned; "" clones none."""
