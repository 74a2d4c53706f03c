"""What a reward model on this machine thinks of patches, between 0 and 1: a potential for shaped rewards.

It is shown what the selector of EvoScale shows it (`stages.score`): the issue, and the patch as a unified diff, the
middle of long ones left out. Its number, which has no bounds, is put between 0 and 1 by the logistic function, for what
is no patch is worth 0. Of a model that was trained on pairs that is the chance of being the better one beside a patch
whose number is 0; of one that was trained on right and wrong patches, the chance of being right.

Nothing is trained here, and no server asked.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import PartialState

from agentless_mini.context import without_middle
from agentless_mini.domain import Patch
from agentless_mini.errors import EnvironmentFailed, UsageError, boundary, printable
from agentless_mini.learning import policies
from agentless_mini.learning.reward_model import score_messages
from agentless_mini.learning.rows import Row
from agentless_mini.learning.texts import ChatTokens
from agentless_mini.prompts import Prompts
from agentless_mini.stages.score import LONGEST, answer_text


class PatchScores:
    """Scores patches for their rows, `at_once` sequences in a batch. It is a `rewarding.Measure`."""

    def __init__(self, folder: Path, prompts: Prompts, at_once: int) -> None:
        """Load the model to where this process trains.

        Raises `ModelUnknown` for a folder without a model, `UsageError` for a model that is no reward model.
        """
        tokenizer = policies.load_tokenizer(str(folder))
        self._tokens = ChatTokens(tokenizer)
        self._model = _load(folder).to(PartialState().device).eval()
        if self._model.config.pad_token_id is None:
            self._model.config.pad_token_id = int(tokenizer.pad_token_id)
        self._prompts, self._at_once = prompts, at_once

    def __call__(self, asked: Sequence[tuple[Row, Patch]], /) -> list[float | None]:
        """Return a number in [0, 1] for each patch, None where it is too long for the model.

        Raises `EnvironmentFailed` where memory does not suffice.
        """
        chats = [self._chat(row, patch) for row, patch in asked]
        window = getattr(self._model.config, "max_position_embeddings", math.inf)
        fitting = sorted((at for at, chat in enumerate(chats) if len(chat) <= window), key=lambda at: len(chats[at]))
        values: list[float | None] = [None] * len(chats)
        for first in range(0, len(fitting), self._at_once):
            places = fitting[first : first + self._at_once]
            for at, value in zip(places, self._scores([chats[at] for at in places]), strict=True):
                values[at] = value
        return values

    def _chat(self, row: Row, patch: Patch) -> tuple[int, ...]:
        issue = without_middle(row.issue.strip(), LONGEST)
        return self._tokens.chat(score_messages(self._prompts, issue, answer_text(patch)))

    def _scores(self, chats: Sequence[Sequence[int]]) -> Iterator[float | None]:
        """Yield the values of chats of about one length. The model reads its number at the last token of each."""
        longest, padding = max(map(len, chats)), self._model.config.pad_token_id
        ids = torch.tensor([[*chat, *[padding] * (longest - len(chat))] for chat in chats])
        mask = torch.arange(longest)[None] < torch.tensor([len(chat) for chat in chats])[:, None]
        device = self._model.device
        large = "The reward model's memory does not suffice: set a smaller rl.batch, or a smaller scorer."
        with boundary({torch.OutOfMemoryError: lambda error: EnvironmentFailed(large)}), torch.inference_mode():
            said = self._model(input_ids=ids.to(device), attention_mask=mask.long().to(device)).logits
            numbers = torch.sigmoid(said[:, 0].double()).tolist()
        for number in numbers:
            yield number if math.isfinite(number) else None


def _load(folder: Path) -> Any:  # noqa: ANN401 - transformers' models have no common type
    """Return the model. One without a head of its own would be given a random one, and score at random."""
    dtype = torch.bfloat16 if PartialState().device.type == "cuda" else torch.float32
    with policies.loading(str(folder)):
        model, about = transformers.AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=dtype, output_loading_info=True
        )
    if about["missing_keys"] or model.config.num_labels != 1:
        raise UsageError(
            f"{printable(str(folder))} holds no reward model with one number: name what amini learn reward-model made."
        )
    return model
