"""Reinforcement learning on rows: GRPO, rewarded by similarity, equality, tests, or shaping.

After "Reward modeling" of SWE-RL (arXiv 2502.18449) and "Large-scale RL for Self-Evolution" of Satori-SWE (arXiv
2505.23604).

    similarity, discrete, tests    SWE-RL: the prompt of a repair
    shaped                         Satori's third step: the prompt shows earlier patches, which the row must have;
                                   the gain in similarity, in tests, or in what a reward model says

Within a group of rollouts the value of the earlier patch is the same for all, so the group's mean takes it away again
wherever all of the group are in the format; what is left of the shaping is λ and what is logged. It counts where
rewards are not centred by group.
"""

import importlib.util
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from accelerate import PartialState
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from agentless_mini.errors import UsageError
from agentless_mini.learning import policies, training
from agentless_mini.learning.answer_head import score_answers_only
from agentless_mini.learning.checkpoints import ROLLOUTS_FILE
from agentless_mini.learning.decoding import ends_of
from agentless_mini.learning.group_rollouts import group_rollouts
from agentless_mini.learning.patch_scores import PatchScores
from agentless_mini.learning.rewarding import Answer, Measure, Rewarding, read_rollout, read_row, reasons, row_text
from agentless_mini.learning.rows import Row
from agentless_mini.learning.sft import NO_PARENTS, some_parents
from agentless_mini.learning.texts import KEPT, TOO_LONG, ChatTokens, write_prompts
from agentless_mini.learning.training import Outcome, Seen, Task
from agentless_mini.learning.training_settings import Generation, RlSettings
from agentless_mini.prompts import Prompts
from agentless_mini.reward import Kind

PROMPTS_FILE = "prompts.arrow"
NO_CHECK = "without a check"
SHOWN_PARENTS = 5


def train_rl(task: Task, settings: RlSettings, checking: Measure | None = None) -> Outcome:
    """Train on the rows of the split `train`. The same call goes on from the last checkpoint.

    `checking` runs the rows' checks, for the reward or the potential `tests`. Raises as `sft.train_sft`.
    """
    training.prepare(task, settings)
    _require_groups(settings, PartialState().num_processes)
    if (before := training.ended(task, settings)) is not None:
        return before
    seen = Seen()
    tokenizer = policies.load_tokenizer(task.model)
    found = _chats(training.training_rows(task, seen), task.prompts, ChatTokens(tokenizer), settings, seen)
    path = task.out / PROMPTS_FILE
    training.written_once(path, lambda place: write_prompts(place, found))
    data = Dataset.from_file(str(path))
    training.require_some(seen, len(data))
    task.say(f"{len(data)} prompts; {dict(seen.rows)}")
    model, peft = policies.load_policy(task.model, settings)
    measure = _measure(task, settings, checking)
    rewarding = Rewarding(settings.reward, measure, settings.format_weight, settings.seed)
    generation, cpu = _generation(settings), policies.on_cpu(settings)
    trainer = GRPOTrainer(
        model,
        reward_funcs=_reward_function(rewarding, task, settings, ends_of(model, tokenizer)),
        args=_configuration(task, settings, generation),
        train_dataset=data,
        processing_class=tokenizer,
        peft_config=peft,
        rollout_func=group_rollouts(tokenizer, settings) if cpu else None,
    )
    if cpu:
        score_answers_only(policies.bare(trainer.model), settings.temperature)
    return training.run(trainer, task, settings, seen)


def _measure(task: Task, settings: RlSettings, checking: Measure | None) -> Measure | None:
    """Return what measures patches, None where the reward's own way does."""
    if settings.scorer is None:
        return checking
    return PatchScores(settings.scorer, task.prompts, settings.batch)


def _require_groups(settings: RlSettings, devices: int) -> None:
    if devices * settings.batch * settings.accumulate % settings.group:
        raise UsageError(
            f"{devices} x {settings.batch} x {settings.accumulate} rollouts in a step (devices, batch, accumulate) "
            f"cannot be parted into groups of {settings.group}: set batch, accumulate or group."
        )


def _chats(
    rows: Iterator[Row], prompts: Prompts, tokens: ChatTokens, settings: RlSettings, seen: Seen
) -> Iterator[tuple[str, Any]]:
    """Yield each row, as it is carried to its reward, with its prompt."""
    for row in rows:
        if settings.reward is Kind.SHAPED and not row.parents:
            seen.rows[NO_PARENTS] += 1
            continue
        if settings.runs_checks and not row.check:
            seen.rows[NO_CHECK] += 1
            continue
        shown = some_parents(row, SHOWN_PARENTS, settings.seed) if settings.reward is Kind.SHAPED else ()
        row = replace(row, parents=shown)
        messages = row.messages(prompts)
        is_long = len(tokens.prompt(messages)) + settings.answer_tokens > settings.max_tokens
        seen.rows[TOO_LONG if is_long else KEPT] += 1
        if not is_long:
            yield row_text(row), messages


def _configuration(task: Task, settings: RlSettings, generation: dict[str, Any]) -> GRPOConfig:
    common = training.arguments(task, settings)
    return GRPOConfig(
        **common,
        num_generations=settings.group,
        max_completion_length=settings.answer_tokens,
        temperature=settings.temperature,
        beta=settings.beta,
        epsilon=settings.clip_low,
        epsilon_high=settings.clip_high,
        **generation,
    )


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
            read_rollout(read_row(carried), said[0]["content"], ended=bool(ids) and ids[-1] in ends)
            for carried, said, ids in zip(row, completions, completion_ids, strict=True)
        ]
        values = rewarding.values(answers)
        for reason, count in reasons(answers).items():
            more["log_metric"](f"answers/{reason}", count / len(answers))
        more["log_metric"]("answers/unscorable", values.count(None) / len(values))
        if training.is_first():
            _log(task, answers[: settings.log_rollouts], values, more["trainer_state"].global_step)
        return values

    return amini


def _log(task: Task, answers: list[Answer], values: list[float | None], step: int) -> None:
    with (task.out / ROLLOUTS_FILE).open("a", encoding="utf-8") as file:
        for answer, value in zip(answers, values, strict=False):
            file.write(json.dumps({"step": step, "row": answer.row.id, "reward": value, **_said(answer, task)}) + "\n")


def _said(answer: Answer, task: Task) -> dict[str, Any]:
    prompt = [{"role": one.role.value, "content": one.content} for one in answer.row.messages(task.prompts)]
    outcome = next(iter(reasons([answer])))
    return {"outcome": outcome, "answer": answer.text, "prompt": prompt}
