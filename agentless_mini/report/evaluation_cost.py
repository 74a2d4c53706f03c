"""What an evaluation cost, as plain values: everything paid for, over all commands that worked on it."""

from dataclasses import dataclass
from typing import Any

from agentless_mini.record import Spending

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

    Tokens are sums of what servers told, and null where they told none; `untold` counts the samples without.
    `prefill_ratio` is what the server computed of prompts, over what it would compute if no two shared anything and
    none came twice; null where some of that is not told. `model_seconds` is wall-clock time in which samples were
    waited for (see `Spending`).
    """
    computed = spent.prompt_tokens - spent.cached_tokens
    all_told = spent.distinct_tokens and not spent.untold_prompts and not spent.untold_cached
    return {
        "prompt_tokens": _told(spent.prompt_tokens, spent.untold_prompts),
        "cached_tokens": _told(spent.cached_tokens, spent.untold_cached),
        "completion_tokens": _told(spent.completion_tokens, spent.untold_answers),
        "distinct_prompt_tokens": _told(spent.distinct_tokens, spent.untold_prompts),
        "untold": {
            "prompt_tokens": spent.untold_prompts,
            "cached_tokens": spent.untold_cached,
            "completion_tokens": spent.untold_answers,
        },
        "prefill_ratio": computed / spent.distinct_tokens if all_told else None,
        "model_seconds": spent.model_seconds,
        "sandbox_seconds": spent.box_seconds,
        "grading_seconds": spent.grading_seconds,
        "wall_seconds": spent.wall_seconds,
        "price": None if prices == Prices() else _priced(spent, prices),
    }


def _told(tokens: int, untold: int) -> int | None:
    return None if untold and not tokens else tokens


def _priced(spent: Spending, prices: Prices) -> dict[str, float | None]:
    """Return what each part costs, null where its price or some of its tokens are not known, and the sum of the others.

    What servers do not say to come from their cache counts as computed.
    """
    cached = prices.prompt if prices.cached is None else prices.cached
    asked = None if spent.untold_prompts else (spent.prompt_tokens - spent.cached_tokens) / MILLION
    parts = {
        "prompt": _times(prices.prompt, asked),
        "cached": _times(cached, None if spent.untold_prompts else spent.cached_tokens / MILLION),
        "completion": _times(prices.completion, None if spent.untold_answers else spent.completion_tokens / MILLION),
        "boxes": _times(prices.box_hour, spent.box_seconds / HOUR),
    }
    return {**parts, "total": sum(part for part in parts.values() if part is not None)}


def _times(price: float | None, amount: float | None) -> float | None:
    return None if price is None or amount is None else price * amount
