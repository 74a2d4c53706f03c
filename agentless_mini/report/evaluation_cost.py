"""What an evaluation cost, as plain values: everything paid for, over all commands that worked on it."""

from dataclasses import dataclass
from typing import Any

from agentless_mini.store import Spending

MILLION = 1_000_000
HOUR = 3600


@dataclass(frozen=True, slots=True)
class Prices:
    """What a million tokens and an hour of a box cost, in one currency; None where that is not known.

    `prompt` is for tokens that the server computes, `cached` for those that it had. Without `cached` they cost as much.
    """

    prompt: float | None = None
    cached: float | None = None
    completion: float | None = None
    box_hour: float | None = None


def cost(spent: Spending, prices: Prices) -> dict[str, Any]:
    """Return the object `cost` of the document. The price is null where none is given, and so is what has none.

    `prefill_ratio` is what the server computed of prompts, over what it would compute if no two shared anything and
    none came twice. `model_seconds` is wall-clock time in which samples were waited for (see `Spending`).
    """
    computed = spent.prompt_tokens - spent.cached_tokens
    return {
        "prompt_tokens": spent.prompt_tokens,
        "cached_tokens": spent.cached_tokens,
        "completion_tokens": spent.completion_tokens,
        "distinct_prompt_tokens": spent.distinct_tokens,
        "prefill_ratio": computed / spent.distinct_tokens if spent.distinct_tokens else None,
        "model_seconds": spent.model_seconds,
        "sandbox_seconds": spent.box_seconds,
        "grading_seconds": spent.grading_seconds,
        "wall_seconds": spent.wall_seconds,
        "price": None if prices == Prices() else _priced(spent, prices),
    }


def _priced(spent: Spending, prices: Prices) -> dict[str, float | None]:
    cached = prices.prompt if prices.cached is None else prices.cached
    parts = {
        "prompt": _times(prices.prompt, (spent.prompt_tokens - spent.cached_tokens) / MILLION),
        "cached": _times(cached, spent.cached_tokens / MILLION),
        "completion": _times(prices.completion, spent.completion_tokens / MILLION),
        "boxes": _times(prices.box_hour, spent.box_seconds / HOUR),
    }
    return {**parts, "total": sum(part for part in parts.values() if part is not None)}


def _times(price: float | None, amount: float) -> float | None:
    return None if price is None else price * amount
