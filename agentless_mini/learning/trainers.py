"""The reward and the rows as the field's trainers take them, without a trainer of ours.

    verl        reward.custom_reward_function.path=pkg://agentless_mini.learning.trainers; the name is verl's default
    TRL         GRPOTrainer(..., reward_funcs=trl_reward)
    verifiers   Rubric(funcs=[rubric_reward]), or in the reward of a task rubric_reward(trace.last_reply, answer)

The rows are what `amini learn export-rows` writes. What they carry as the truth is the whole row, for the reward reads
an answer as `amini repair` does, on the files that it edits. An answer is taken to be complete: what a token limit cut
off is read as it is, and nearly always malformed. `kind` is similarity or discrete.
"""

import json
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from agentless_mini.chain.prompts import Prompts
from agentless_mini.domain import RewardKind
from agentless_mini.errors import UsageError
from agentless_mini.learning.rewarding import Rewarding, chat_of, read_rollout, read_row, row_text
from agentless_mini.learning.rows import Row

SOURCE = "agentless-mini"
TRAINERS = ("verl", "trl", "verifiers")
_alone = threading.Lock()  # verl calls from several threads, and oracles are for one at a time


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any] | None = None,
    kind: str = RewardKind.SIMILARITY,
    **more: Any,  # noqa: ANN401 - verl's
) -> float:
    """Return the reward of an answer, in [-1, 1], as verl asks for it.

    Raises `ValueError` for a row that changes nothing: it has no reward, and 0 would be one.
    """
    row = read_row(ground_truth)
    with _alone:
        (value,) = Rewarding(RewardKind(kind)).values([read_rollout(row, solution_str, ended=True)])
    if value is None:
        raise ValueError(f"the row {row.id} has no reward")
    return value


def trl_reward(
    completions: Sequence[Any],
    ground_truth: Sequence[str],
    kind: str = RewardKind.SIMILARITY,
    **more: Any,  # noqa: ANN401 - TRL's
) -> list[float]:
    """Return the rewards of a batch, as TRL asks for them."""
    pairs = zip(completions, ground_truth, strict=True)
    return [compute_score(SOURCE, _said(completion), truth, kind=kind) for completion, truth in pairs]


def rubric_reward(completion: Any, answer: str) -> float:  # noqa: ANN401 - verifiers'
    """Return the reward of a rollout, as a rubric of verifiers asks for it. verifiers takes exceptions for 0."""
    return compute_score(SOURCE, _said(completion), answer)


def _said(completion: Any) -> str:  # noqa: ANN401 - a chat, or a text
    if isinstance(completion, str):
        return completion
    last = completion[-1] if completion else {}  # verifiers has objects of its own, too
    said = last.get("content") if isinstance(last, Mapping) else last.content
    if not isinstance(said, list | tuple):
        return str(said or "")
    return "".join(str(part.get("text") or "") if isinstance(part, Mapping) else str(part) for part in said)


def exported(rows: Iterable[Row], prompts: Prompts, trainer: str, counts: Counter[str]) -> Iterator[dict[str, Any]]:
    """Yield rows with the columns that a trainer reads; those without an answer have no reward, and are left out."""
    for index, row in enumerate(rows):
        row = replace(row, parents=())
        try:
            is_told = bool(row.oracle() and row.answer())
        except UsageError:
            is_told = False
        counts["exported" if is_told else "no answer"] += 1
        if is_told:
            chat, truth = chat_of(row.messages(prompts)), row_text(row)
            about = {"id": row.id, "split": row.split, "index": index}
            if trainer == "verl":
                kept = {"style": "rule", "ground_truth": truth}
                ability = {"data_source": SOURCE, "ability": "code"}
                yield {**ability, "prompt": chat, "reward_model": kept, "extra_info": about}
            elif trainer == "trl":
                yield {"prompt": chat, "ground_truth": truth}
            else:
                yield {"prompt": chat, "answer": truth, "info": json.dumps(about)}
