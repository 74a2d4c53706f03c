"""A model that scores patches: one number for an issue and a unified diff, as the selector of EvoScale asks it.

    pairwise    of two patches of a row the better one should score higher (Bradley and Terry)
    binary      a patch that is right should score above 0, another below

The patches are the oracle and the row's parents; how good a parent is, the reward of SWE-RL says. What is written is a
whole model for sequence classification with one number, which vLLM serves as it is: its prompts are those of
`stages.score`, in the model's own chat template. Adapters are merged, for vLLM serves none on such a head.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import transformers
from datasets import Dataset
from peft import PeftModel, get_peft_model
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments
from trl import RewardConfig, RewardTrainer

from agentless_mini.domain import Issue, Message, Patch, Role
from agentless_mini.edits import make_patch
from agentless_mini.learning import policies, training
from agentless_mini.learning.rows import Row
from agentless_mini.learning.texts import KEPT, TOO_LONG, ChatTokens, write_pairs
from agentless_mini.learning.training import Outcome, Seen, Task
from agentless_mini.learning.training_settings import Preference, RewardModelSettings, Tuning
from agentless_mini.prompts import Prompts
from agentless_mini.reward import Oracle, apply_diff, reward

EXAMPLES_FILE = "patches.arrow"
NO_PAIR = "without patches to compare"
COLUMNS = {Preference.PAIRWISE: ("chosen_ids", "rejected_ids"), Preference.BINARY: ("input_ids", "label")}

_LONGEST = 16_000  # characters of an issue, and of a patch: of longer ones the selector leaves out the middle


@dataclass(frozen=True, slots=True)
class Judged:
    """A patch as a unified diff, and its value in [0, 1]."""

    diff: str
    value: float


def train_reward_model(task: Task, settings: RewardModelSettings) -> Outcome:
    """Train on the rows of the split `train`. The same call goes on from the last checkpoint.

    Raises as `sft.train_sft`.
    """
    training.prepare(task, settings)
    if (before := training.ended(task, settings)) is not None:
        return before
    seen = Seen()
    tokenizer = policies.load_tokenizer(task.model)
    _pad_with_another(tokenizer)
    found = examples(training.training_rows(task, seen), task.prompts, ChatTokens(tokenizer), settings, seen)
    path = task.out / EXAMPLES_FILE
    training.written_once(path, lambda place: write_pairs(place, found, COLUMNS[settings.kind]))
    data = Dataset.from_file(str(path))
    training.require_some(seen, len(data))
    task.say(f"{len(data)} examples; {dict(seen.rows)}")
    trainer = _trainer(task, settings, data, tokenizer)
    return training.run(trainer, task, settings, seen, lambda model: _write_whole(model, task.out))


def judged(row: Row) -> tuple[Judged, ...]:
    """Return the oracle and the row's parents that are patches of its tree, of each normal form one, the best first."""
    tree, oracle = row.tree(), Oracle(row.oracle())
    truth = make_patch(row.oracle(), tree.forms)
    patches: dict[str, Judged] = {}
    for outcome in (truth, *(apply_diff(parent, tree) for parent in row.parents)):
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
        found = tuple(one for one in judged(row) if max(len(one.diff), len(row.issue)) <= _LONGEST)
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


def _pad_with_another(tokenizer: Any) -> None:  # noqa: ANN401 - transformers' tokenizers have no common type
    """Pad with a token that ends no turn: the score is read at the last token that is no padding."""
    if tokenizer.pad_token == tokenizer.eos_token:
        others = (tokenizer.unk_token, tokenizer.bos_token)
        tokenizer.pad_token = next((one for one in others if one and one != tokenizer.eos_token), tokenizer.pad_token)


def _trainer(task: Task, settings: RewardModelSettings, data: Any, tokenizer: Any) -> Any:  # noqa: ANN401 - as above
    with policies.loading(task.model):
        model: Any = transformers.AutoModelForSequenceClassification.from_pretrained(
            task.model, num_labels=1, dtype=policies.weights_dtype(settings)
        )
    model.config.pad_token_id = tokenizer.pad_token_id
    adapters = policies.lora(model, settings, "SEQ_CLS") if settings.tuning is Tuning.LORA else None
    if adapters is not None:
        adapters.modules_to_save = ["score"]
    if settings.adapter is not None:
        _take_in(model, task.model, settings)
    if settings.tuning is Tuning.FULL:
        policies.freeze_lower(model, settings)
        model.score.requires_grad_(True)
    common = training.arguments(task, settings)
    if settings.kind is Preference.PAIRWISE:
        config = RewardConfig(**common, max_length=None)
        return RewardTrainer(model, args=config, train_dataset=data, processing_class=tokenizer, peft_config=adapters)
    model.config.problem_type = "multi_label_classification"  # the binary cross-entropy of one number
    if adapters is not None:
        model = get_peft_model(model, adapters)
        model.enable_input_require_grads()  # or nothing is learned where activations are computed anew
    return Trainer(
        model,
        args=TrainingArguments(**common),
        train_dataset=data,
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
    )


def _take_in(model: Any, base: str, settings: RewardModelSettings) -> None:  # noqa: ANN401 - as above
    """Give the model, but for its head, the weights of the policy: the base with the adapter to start from merged."""
    policy, _ = policies.load_policy(base, settings.model_copy(update={"tuning": Tuning.FULL}))
    model.base_model.load_state_dict(policy.base_model.state_dict())


def _write_whole(model: Any, out: Path) -> None:  # noqa: ANN401 - as above
    """Put the whole model in the place of the adapters; one without adapters is there, perhaps of many processes."""
    if isinstance(model, PeftModel):
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (out / name).unlink(missing_ok=True)
        model = model.merge_and_unload()
        model.save_pretrained(out)
    model.config.problem_type = None
    model.config.save_pretrained(out)
