"""The reward model's port: which texts are scored by which model in which way."""

import enum
import hashlib
from dataclasses import dataclass

from agentless_mini.domain.canonical import canonical_json

SCORE_VERSION = "1"


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
