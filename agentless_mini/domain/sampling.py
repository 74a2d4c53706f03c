"""The model ports: what is asked of a model and of a reward model, and what a model answers."""

import enum
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

KEY_VERSION = "1"
SCORE_VERSION = "1"


def canonical_json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return the one JSON text of a value: sorted keys, no blanks, ASCII only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def plain(value: Any) -> Any:  # noqa: ANN401 - any tree of domain values
    """Return frozen values as JSON's own types: dicts of their fields, lists for tuples."""
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value


class Stage(enum.StrEnum):
    """The stage that asks a model, as the header `X-Amini-Stage` names it."""

    LOCALIZE = "localize"
    REPAIR = "repair"
    EVOLVE = "evolve"
    CHOOSE = "choose"  # asks nobody: the patches were made elsewhere
    REPRODUCE = "reproduce"
    REGRESS = "regress"
    SETUP = "setup"

    @property
    def repairs(self) -> bool:
        """Return whether its samples are candidates: answers that may become patches."""
        return self in {Stage.REPAIR, Stage.EVOLVE, Stage.CHOOSE}


class Role(enum.StrEnum):
    """Who says a message of a chat."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A run of whole lines of one file. `first` is the 1-based number of its first line in the file."""

    first: int
    text: str


@dataclass(frozen=True, slots=True)
class ShownFile:
    """What a prompt shows of a file: one excerpt that is all of it, or windows in order of line number.

    `outline` stands for lines that are left out: one line for each definition in them, at the number where it begins.
    `lines` are those of the file, 0 where that is not known.
    """

    path: str
    excerpts: tuple[Excerpt, ...]
    whole: bool
    outline: tuple[Excerpt, ...] = ()
    lines: int = 0


@dataclass(frozen=True, slots=True)
class EditTask:
    """What a repair prompt asks for, as data: for samplers that decode under a constraint instead of freely."""

    issue: str
    files: tuple[ShownFile, ...]


class Decoding(enum.StrEnum):
    """How a model is made to answer a repair request."""

    FREE = "free"  # the edit format is asked for and hoped for
    GRAMMAR = "grammar"  # the edit format is enforced: SEARCH can only be lines that are shown
    LINES = "lines"  # each line is rewritten in place and the rewrites are ranked (line rewriting)


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the samples of one request are drawn. `seed` is the seed of sample 0; sample i is drawn with seed + i."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """A complete description of a model call: equal requests may be answered from a record.

    `indices` are the samples wanted of this prompt, ascending, each drawn once: a request for (0, 1, 2, 3) may later
    be repeated for what is owed of it. `stage` and `instance` only account for the call (headers); they are no part
    of its identity, and neither is the endpoint. `task` is set where the decoding is not FREE.
    """

    model: str
    messages: tuple[Message, ...]
    params: SamplingParams
    indices: tuple[int, ...]
    stage: Stage
    instance: str
    decoding: Decoding = Decoding.FREE
    task: EditTask | None = None

    def prompt_body(self) -> str:
        """Return the canonical JSON of what is asked: messages and task."""
        return canonical_json({"messages": plain(self.messages), "task": plain(self.task)})

    def prompt_digest(self) -> str:
        """Return the SHA-256 of `prompt_body`, in hex."""
        return hashlib.sha256(self.prompt_body().encode()).hexdigest()

    def key(self) -> str:
        """Return the identity of the call without its indices: one sample is (key, index)."""
        identity = {
            "version": KEY_VERSION,
            "model": self.model,
            "prompt": self.prompt_digest(),
            "params": plain(self.params),
            "decoding": self.decoding.value,
        }
        return hashlib.sha256(canonical_json(identity).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Proposal:
    """A patch that was made elsewhere: `source` names who made it, `diff` is what they wrote."""

    source: str
    diff: bytes

    def request(self) -> SampleRequest:
        """Return what stands for it in the record, as if its source had been asked for it."""
        asked = Message(Role.USER, f"The patch {hashlib.sha256(self.diff).hexdigest()}")
        return SampleRequest(self.source, (asked,), SamplingParams(1), (), Stage.CHOOSE, "")


class Finish(enum.StrEnum):
    """Why a completion ended."""

    STOP = "stop"
    LENGTH = "length"  # cut off by the token limit: no answer
    FILTER = "filter"  # withheld by the server


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one completion, each None where the server did not tell. Of these `cached_tokens` are in the prompt's.

    Samples that share a prompt share its cost: it is booked on one of them, and is 0 on the others.
    """

    prompt_tokens: int | None = 0
    cached_tokens: int | None = 0
    completion_tokens: int | None = 0


UNTOLD = Usage(None, None, None)
"""The usage of a completion whose server told none."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One sample: the answer's text, and apart from it the reasoning where the server separates the two."""

    index: int
    text: str
    finish: Finish
    reasoning: str = ""
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a run needs to know of a served model.

    `context_window` is in tokens, prompt and answer together. `engine` and `revision` are for the record ("vllm",
    "0.20.1"), empty where the server does not say. `exact_counts` tells whether tokens are counted by the model's own
    tokenizer, or estimated upwards.
    """

    name: str
    context_window: int
    decoding: Decoding = Decoding.FREE
    engine: str = ""
    revision: str = ""
    exact_counts: bool = True


class ScoreRoute(enum.StrEnum):
    """The page of a server that scores."""

    SCORE = "score"  # pairs of texts, as cross-encoders take them
    CLASSIFY = "classify"  # chats, as a model with a classification head takes them
    POOLING = "pooling"  # chats, scored by what the model's head gives at the last token


@dataclass(frozen=True, slots=True)
class RewardModel:
    """A model and the way in which it is asked: all that a score depends on beside the texts.

    `label` is the place, from 0, of the number that counts where a model gives several; None: it gives one.
    """

    name: str
    route: ScoreRoute = ScoreRoute.SCORE
    label: int | None = None


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """A complete description of what is scored: equal requests may be answered from a record.

    Each answer is scored by itself, as an answer to the prompt. The endpoint is no part of it.
    """

    model: RewardModel
    prompt: str
    answers: tuple[str, ...]

    def keys(self) -> tuple[str, ...]:
        """Return the identity of each answer's score, in order: a hash of model, prompt and that answer."""
        asked = [SCORE_VERSION, self.model.name, self.model.route.value, self.model.label, self.prompt]
        return tuple(hashlib.sha256(canonical_json([*asked, answer]).encode()).hexdigest() for answer in self.answers)


class RewardKind(enum.StrEnum):
    """What a trained answer is rewarded for."""

    SIMILARITY = "similarity"  # the continuous reward of SWE-RL
    DISCRETE = "discrete"  # its ablation: 1 for the oracle itself, 0 for another patch
    TESTS = "tests"  # by execution: a potential that is passed in
    SHAPED = "shaped"  # what any potential gained over the attempts that the prompt shows
