"""Supervised fine-tuning (Satori, arXiv 2505.23604): classical, and by mutation, on prompts that show earlier patches.

The loss is on the answer alone: the labels of the prompt are `IGNORED`. Both kinds start from the same base, as
Satori's do: the mutation model is not trained from the classical one, it is shown that one's patches.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from random import Random
from typing import Any

from trl import SFTConfig, SFTTrainer

from agentless_mini.chain.prompts import Prompts
from agentless_mini.errors import UsageError
from agentless_mini.learning import policies, training
from agentless_mini.learning.rows import Row
from agentless_mini.learning.texts import IGNORED, KEPT, TOO_LONG, ChatTokens
from agentless_mini.learning.training import Outcome, Seen, Task
from agentless_mini.settings.learning import SftKind, SftSettings

NO_PARENTS = "without parents"


def train_sft(task: Task, settings: SftSettings) -> Outcome:
    """Train on the rows of the split `train`. The same call goes on from the last checkpoint.

    Raises `UsageError` for data or a folder that cannot be used, `ModelUnknown` for the model.
    """
    if (before := training.prepare(task, settings)) is not None:
        return before
    longest = settings.max_tokens if settings.trl.get("packing") else None  # no example is longer
    house = {**training.arguments(task, settings), "max_length": longest}
    config = training.configured(SFTConfig, task, house, settings)
    seen = Seen()
    tokenizer = policies.load_tokenizer(task.model)
    rows = shown_rows(training.training_rows(task, seen), settings, seen)
    found = examples(rows, task.prompts, ChatTokens(tokenizer), settings.max_tokens, seen.rows)
    data = training.dataset(task, seen, found, ("input_ids", "labels"))
    model, peft = policies.load_policy(task.model, settings)
    with training.handing_on(task, settings):
        trainer = SFTTrainer(model, args=config, train_dataset=data, processing_class=tokenizer, peft_config=peft)
    return training.run(trainer, task, settings, seen)


def shown_rows(rows: Iterator[Row], settings: SftSettings, seen: Seen) -> Iterator[Row]:
    """Yield the rows as the kind shows them: without parents, or with some of them in a random order.

    Raises `UsageError` at the end where there is no row with parents to be shown.
    """
    shown = 0
    for row in rows:
        if settings.kind is SftKind.CLASSICAL:
            yield replace(row, parents=())
        elif row.parents:
            shown += 1
            yield replace(row, parents=some_parents(row, settings.parents, settings.seed))
        else:
            seen.rows[NO_PARENTS] += 1
    if settings.kind is SftKind.MUTATION and not shown:
        raise UsageError("No row has parents: sample some with --parents-from, from the classical model.")


def some_parents(row: Row, most: int, seed: int) -> tuple[str, ...]:
    """Return at most `most` of a row's parents in an order that the seed and the row's id decide."""
    draw = Random(f"{seed} {row.id}")  # noqa: S311 - for a choice that can be repeated, not for a secret
    return tuple(draw.sample(row.parents, min(most, len(row.parents))))


def examples(
    rows: Iterable[Row], prompts: Prompts, tokens: ChatTokens, most: int, counts: Counter[str]
) -> Iterator[dict[str, Any]]:
    """Yield the examples of at most `most` tokens; `counts` says what became of each row."""
    for row in rows:
        try:
            answer = row.answer()
        except UsageError:
            counts["no answer"] += 1
            continue
        one = tokens.example(row.messages(prompts), answer)
        is_long = len(one.prompt) + len(one.answer) > most
        counts[TOO_LONG if is_long else KEPT] += 1
        if not is_long:
            yield {"input_ids": one.prompt + one.answer, "labels": (IGNORED,) * len(one.prompt) + one.answer}
