"""A model that scores patches: one number for an issue and a unified diff, as the selector of EvoScale asks it.

    pairwise    of two patches of a row the better one should score higher (Bradley and Terry)
    binary      a patch that is right should score above 0, another below

The patches are the oracle and the row's parents; how good a parent is, the reward of SWE-RL says. What is written is a
whole model for sequence classification with one number, which vLLM serves as it is: its prompts are those of
`chain.evolve`, in the model's own chat template. Adapters are merged, for vLLM serves none on such a head.

`PatchScores` asks such a model in this process, as a potential for shaped rewards: the logistic function of its number.
Of a model that was trained on pairs that is the chance of being the better one beside a patch whose number is 0; of one
that was trained on right and wrong patches, the chance of being right.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import torch
import transformers
from accelerate import PartialState
from datasets import Dataset
from peft import PeftModel, get_peft_model
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments
from trl import RewardConfig, RewardTrainer

from agentless_mini.chain.context import without_middle
from agentless_mini.chain.evolve import LONGEST, answer_text
from agentless_mini.chain.prompts import Prompts
from agentless_mini.domain import Issue, Message, Patch, Role
from agentless_mini.edits import make_patch
from agentless_mini.errors import EnvironmentFailed, UsageError, boundary, printable
from agentless_mini.learning import policies, training
from agentless_mini.learning.reward import Oracle, read_patch, reward
from agentless_mini.learning.rows import Row
from agentless_mini.learning.texts import KEPT, TOO_LONG, ChatTokens
from agentless_mini.learning.training import Outcome, Seen, Task
from agentless_mini.settings.learning import Preference, RewardModelSettings, Tuning

NO_PAIR = "without patches to compare"


@dataclass(frozen=True, slots=True)
class Judged:
    """A patch as a unified diff, and its value in [0, 1]."""

    diff: str
    value: float


def train_reward_model(task: Task, settings: RewardModelSettings) -> Outcome:
    """Train on the rows of the split `train`. The same call goes on from the last checkpoint.

    Raises as `sft.train_sft`.
    """
    if (before := training.prepare(task, settings)) is not None:
        return before
    common, is_pairwise = training.arguments(task, settings), settings.kind is Preference.PAIRWISE
    kind, own = (RewardConfig, {"max_length": None}) if is_pairwise else (TrainingArguments, {})
    config = training.configured(kind, task, {**common, **own}, settings)
    seen = Seen()
    tokenizer = policies.load_tokenizer(task.model)
    if tokenizer.pad_token == tokenizer.eos_token:  # the score is read at the last token that is no padding
        others = (tokenizer.unk_token, tokenizer.bos_token)
        tokenizer.pad_token = next((one for one in others if one and one != tokenizer.eos_token), tokenizer.pad_token)
    found = examples(training.training_rows(task, seen), task.prompts, ChatTokens(tokenizer), settings, seen)
    columns = ("chosen_ids", "rejected_ids") if is_pairwise else ("input_ids", "label")
    data = training.dataset(task, seen, found, columns)
    with training.handing_on(task, settings):
        trainer = _trainer(task, settings, config, data, tokenizer)
    return training.run(trainer, task, settings, seen, lambda model: _write_whole(model, task.out))


def judged(row: Row) -> tuple[Judged, ...]:
    """Return the oracle and the row's parents that are patches of its tree, of each normal form one, the best first."""
    tree, oracle = row.tree(), Oracle(row.oracle())
    truth = make_patch(row.oracle(), tree.forms)
    patches: dict[str, Judged] = {}
    for outcome in (truth, *(read_patch(parent, tree) for parent in row.parents)):
        value = reward(outcome, oracle, tree)
        if isinstance(outcome, Patch) and value is not None:
            patches.setdefault(outcome.normal, Judged(outcome.diff.decode("utf-8", "replace"), value))
    return tuple(sorted(patches.values(), key=lambda one: (-one.value, one.diff)))


def pairs(found: Sequence[Judged], settings: RewardModelSettings, seed: str) -> list[tuple[Judged, Judged]]:
    """Return pairs of a better and a worse patch, some at random where there are more than are wanted."""
    fitting = [pair for pair in combinations(found, 2) if pair[0].value - pair[1].value >= settings.margin]
    draw = Random(f"{settings.seed} {seed}")  # noqa: S311 - for a choice that can be repeated
    return draw.sample(fitting, min(settings.pairs, len(fitting)))


def score_messages(prompts: Prompts, issue: str, diff: str) -> tuple[Message, Message]:
    """Return what is scored as a chat: what the model is told of the issue, and the patch that answers it."""
    return (Message(Role.USER, prompts.score(Issue(issue))), Message(Role.ASSISTANT, diff))


def examples(
    rows: Iterable[Row], prompts: Prompts, tokens: ChatTokens, settings: RewardModelSettings, seen: Seen
) -> Iterator[dict[str, Sequence[float]]]:
    """Yield the columns of each example whose parts are all short enough."""

    def read(row: Row, one: Judged) -> tuple[int, ...]:
        return tokens.chat(score_messages(prompts, row.issue, one.diff))

    made: list[dict[str, Sequence[float]]]
    for row in rows:
        found = tuple(one for one in judged(row) if max(len(one.diff), len(row.issue)) <= LONGEST)
        if len(found) < 2:
            seen.rows[NO_PAIR] += 1
            continue
        if settings.kind is Preference.PAIRWISE:
            chosen = pairs(found, settings, row.id)
            made = [{"chosen_ids": read(row, better), "rejected_ids": read(row, worse)} for better, worse in chosen]
        else:
            made = [{"input_ids": read(row, one), "label": [float(one.value >= settings.right)]} for one in found]
        short = [one for one in made if max(map(len, one.values())) <= settings.max_tokens]
        seen.rows[KEPT if short else TOO_LONG if made else NO_PAIR] += 1
        yield from short


def _trainer(
    task: Task,
    settings: RewardModelSettings,
    config: TrainingArguments,
    data: Dataset,
    tokenizer: Any,  # noqa: ANN401 - as above
) -> Any:  # noqa: ANN401 - as above
    with policies.loading(task.model):
        model: Any = transformers.AutoModelForSequenceClassification.from_pretrained(
            task.model, num_labels=1, dtype=policies.weights_dtype(settings)
        )
    model.config.pad_token_id = tokenizer.pad_token_id
    adapters = policies.lora(model, settings, "SEQ_CLS") if settings.tuning is Tuning.LORA else None
    if adapters is not None:
        adapters.modules_to_save = ["score"]
    if settings.adapter is not None:  # all but the head is the policy: the base with the adapter to start from merged
        policy, _ = policies.load_policy(task.model, settings.model_copy(update={"tuning": Tuning.FULL}))
        model.base_model.load_state_dict(policy.base_model.state_dict())
    if settings.tuning is Tuning.FULL:
        policies.freeze_lower(model, settings)
        model.score.requires_grad_(True)
    if isinstance(config, RewardConfig):
        return RewardTrainer(model, args=config, train_dataset=data, processing_class=tokenizer, peft_config=adapters)
    model.config.problem_type = "multi_label_classification"  # the binary cross-entropy of one number
    if adapters is not None:
        model = get_peft_model(model, adapters)
        model.enable_input_require_grads()  # or nothing is learned where activations are computed anew
    collator = DataCollatorWithPadding(tokenizer)
    return Trainer(model, args=config, train_dataset=data, processing_class=tokenizer, data_collator=collator)


def _write_whole(model: Any, out: Path) -> None:  # noqa: ANN401 - as above
    """Put the whole model in the place of the adapters; one without adapters is there, perhaps of many processes."""
    if isinstance(model, PeftModel):
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (out / name).unlink(missing_ok=True)
        model = model.merge_and_unload()
        model.save_pretrained(out)
    model.config.problem_type = None
    model.config.save_pretrained(out)


class PatchScores:
    """Scores patches for their rows, `at_once` sequences in a batch, without a server. It is a `rewarding.Measure`."""

    def __init__(self, folder: Path, prompts: Prompts, at_once: int) -> None:
        """Load the model to where this process trains.

        Raises `ModelUnknown` for a folder without a model, `UsageError` for a model that is no reward model.
        """
        tokenizer = policies.load_tokenizer(str(folder))
        self._tokens = ChatTokens(tokenizer)
        device = PartialState().device
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        with policies.loading(str(folder)):
            model, about = transformers.AutoModelForSequenceClassification.from_pretrained(
                folder, dtype=dtype, output_loading_info=True
            )
        if about["missing_keys"] or model.config.num_labels != 1:  # a head that is missing would be drawn at random
            name = printable(str(folder))
            raise UsageError(f"{name} holds no reward model with one number: name what amini learn reward-model made.")
        self._model = model.to(device).eval()
        if self._model.config.pad_token_id is None:
            self._model.config.pad_token_id = int(tokenizer.pad_token_id)
        self._prompts, self._at_once = prompts, at_once

    def __call__(self, asked: Sequence[tuple[Row, Patch]], /) -> list[float | None]:
        """Return a number in [0, 1] for each patch, None where it is too long for the model.

        Raises `EnvironmentFailed` where memory does not suffice.
        """
        shown = ((without_middle(row.issue.strip(), LONGEST), answer_text(patch)) for row, patch in asked)
        chats = [self._tokens.chat(score_messages(self._prompts, *one)) for one in shown]
        window = getattr(self._model.config, "max_position_embeddings", math.inf)
        fitting = sorted((at for at, chat in enumerate(chats) if len(chat) <= window), key=lambda at: len(chats[at]))
        values: list[float | None] = [None] * len(chats)
        for first in range(0, len(fitting), self._at_once):
            places = fitting[first : first + self._at_once]
            for at, value in zip(places, self._scores([chats[at] for at in places]), strict=True):
                values[at] = value if math.isfinite(value) else None
        return values

    def _scores(self, chats: Sequence[Sequence[int]]) -> list[float]:
        """Return the values of chats of about one length. The model reads its number at the last token of each."""
        longest, padding = max(map(len, chats)), self._model.config.pad_token_id
        ids = torch.tensor([[*chat, *[padding] * (longest - len(chat))] for chat in chats])
        mask = torch.arange(longest)[None] < torch.tensor([len(chat) for chat in chats])[:, None]
        device = self._model.device
        large = "The reward model's memory does not suffice: set a smaller rl.batch, or a smaller scorer."
        with boundary({torch.OutOfMemoryError: lambda error: EnvironmentFailed(large)}), torch.inference_mode():
            said = self._model(input_ids=ids.to(device), attention_mask=mask.long().to(device)).logits
            numbers: list[float] = torch.sigmoid(said[:, 0].double()).tolist()
        return numbers
