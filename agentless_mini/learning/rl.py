"""Reinforcement learning on rows: GRPO, rewarded by similarity, equality, tests, or shaping.

After "Reward modeling" of SWE-RL (arXiv 2502.18449) and "Large-scale RL for Self-Evolution" of Satori-SWE (arXiv
2505.23604).

    similarity, discrete, tests    SWE-RL: the prompt of a repair
    shaped                         Satori-SWE, third step: the prompt shows earlier patches, which the row must have;
                                   the gain in similarity, in tests, or in what a reward model says

Where all rollouts of a prompt are compared with one earlier patch, their group's mean takes its value away again
wherever all of the group are in the format; what is left of the shaping is λ and what is logged. Drawn anew for each
rollout, as the paper has it, the earlier patch counts: its value is then noise that does not depend on the answer.
"""

import importlib.util
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from accelerate import PartialState
from trl import GRPOConfig, GRPOTrainer

from agentless_mini.chain.prompts import Prompts
from agentless_mini.domain import RewardKind
from agentless_mini.errors import UsageError
from agentless_mini.learning import policies, training
from agentless_mini.learning.checkpoints import ROLLOUTS_FILE
from agentless_mini.learning.planning import whole_groups
from agentless_mini.learning.reward_model import PatchScores
from agentless_mini.learning.rewarding import Measure, Rewarding, chat_of, read_rollout, read_row, reasons, row_text
from agentless_mini.learning.rows import Row
from agentless_mini.learning.sft import NO_PARENTS, some_parents
from agentless_mini.learning.texts import KEPT, TOO_LONG, ChatTokens
from agentless_mini.learning.training import Outcome, Seen, Task
from agentless_mini.settings.learning import Generation, RlSettings

# What TRL would do otherwise: `dapo`, and `sequence_mask`, by which many long rollouts would not be learned from.
_DEFAULTS = {"loss_type": "grpo", "vllm_importance_sampling_mode": "token_truncate"}


def train_rl(task: Task, settings: RlSettings, checking: Measure | None = None) -> Outcome:
    """Train on the rows of the split `train`. The same call goes on from the last checkpoint.

    `checking` runs the rows' checks, for the reward or the potential `tests`. Raises as `sft.train_sft`.
    """
    before = training.prepare(task, settings)
    settings = whole_groups(settings, PartialState().num_processes)
    if before is not None:
        return before
    config = training.configured(GRPOConfig, task, _house(task, settings), settings)
    seen = Seen()
    tokenizer = policies.load_tokenizer(task.model)
    found = _chats(training.training_rows(task, seen), task.prompts, ChatTokens(tokenizer), settings, seen)
    data = training.dataset(task, seen, found, ("prompt", "row"))
    model, peft = policies.load_policy(task.model, settings)
    measure = checking if settings.scorer is None else PatchScores(settings.scorer, task.prompts, settings.batch)
    rewarding = Rewarding(settings.reward, measure, settings.format_weight, settings.seed, settings.compared)
    with training.handing_on(task, settings):
        trainer = GRPOTrainer(
            model,
            reward_funcs=_reward_function(rewarding, task, settings, policies.ends_of(model, tokenizer)),
            args=config,
            train_dataset=data,
            processing_class=tokenizer,
            peft_config=peft,
        )
    return training.run(trainer, task, settings, seen)


def _house(task: Task, settings: RlSettings) -> dict[str, Any]:
    """Return what the house sets of GRPO's configuration."""
    return {
        **training.arguments(task, settings),
        **_DEFAULTS,
        **_generation(settings),
        "num_generations": settings.group,
        "max_completion_length": settings.answer_tokens,
        "temperature": settings.temperature,
        "beta": settings.beta,
        "epsilon": settings.clip_low,
        "epsilon_high": settings.clip_high,
    }


def _chats(
    rows: Iterator[Row], prompts: Prompts, tokens: ChatTokens, settings: RlSettings, seen: Seen
) -> Iterator[dict[str, Any]]:
    """Yield the prompt of each row with the row itself, as it is carried to its reward."""
    for row in rows:
        if settings.reward is RewardKind.SHAPED and not row.parents:
            seen.rows[NO_PARENTS] += 1
            continue
        if settings.runs_checks and not row.check:
            seen.rows["without a check"] += 1
            continue
        shown = some_parents(row, settings.shown_parents, settings.seed) if settings.reward is RewardKind.SHAPED else ()
        row = replace(row, parents=shown)
        messages = row.messages(prompts)
        is_long = len(tokens.prompt(messages)) + settings.answer_tokens > settings.max_tokens
        seen.rows[TOO_LONG if is_long else KEPT] += 1
        if not is_long:
            yield {"prompt": chat_of(messages), "row": row_text(row)}


def _generation(settings: RlSettings) -> dict[str, Any]:
    """Return how rollouts are written. Raises `UsageError` for vLLM where there is none."""
    wanted, gpu = settings.generation, not policies.on_cpu(settings)
    if wanted is Generation.AUTO and settings.server is not None:
        wanted = Generation.SERVER
    has_vllm = importlib.util.find_spec("vllm") is not None
    if wanted is Generation.TRANSFORMERS or (wanted is Generation.AUTO and not (has_vllm and gpu)):
        return {"use_vllm": False}
    if not (has_vllm and gpu):
        raise UsageError("vLLM writes rollouts on a GPU, installed beside trl: use --generation transformers.")
    if wanted is Generation.SERVER:
        if settings.server is None:
            raise UsageError("No server is named: set rl.server to the address of `trl vllm-serve`.")
        return {"use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": settings.server}
    return {
        "use_vllm": True,
        "vllm_mode": "colocate",
        "vllm_gpu_memory_utilization": settings.gpu_share,
        "vllm_max_model_length": settings.max_tokens,
    }


def _reward_function(
    rewarding: Rewarding, task: Task, settings: RlSettings, ends: frozenset[int]
) -> Callable[..., list[float | None]]:
    """Return what TRL calls with each batch of rollouts."""

    def amini(
        prompts: list[Any],
        completions: list[Any],
        completion_ids: list[list[int]],
        row: list[str],
        **more: Any,  # noqa: ANN401 - TRL's
    ) -> list[float | None]:
        answers = [
            read_rollout(read_row(carried), said[0].get("content") or "", ended=bool(ids) and ids[-1] in ends)
            for carried, said, ids in zip(row, completions, completion_ids, strict=True)
        ]
        values = rewarding.values(answers)
        for reason, count in reasons(answers).items():
            more["log_metric"](f"answers/{reason}", count / len(answers))
        more["log_metric"]("answers/unscorable", values.count(None) / len(values))
        if training.is_first():
            step = more["trainer_state"].global_step
            with (task.out / ROLLOUTS_FILE).open("a", encoding="utf-8") as file:
                for one, value in list(zip(answers, values, strict=True))[: settings.log_rollouts]:
                    about = {"step": step, "row": one.row.id, "reward": value, "outcome": next(iter(reasons([one])))}
                    shown = {"answer": one.text, "prompt": chat_of(one.row.messages(task.prompts))}
                    file.write(json.dumps({**about, **shown}) + "\n")
        return values

    return amini
