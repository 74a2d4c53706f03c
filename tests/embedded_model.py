"""The carried model for tests and benchmarks that need one: fetched once, into the user's cache folder."""

import functools
import importlib.util
from pathlib import Path

import platformdirs
import pytest

from agentless_mini.domain import Decoding
from agentless_mini.errors import AminiError
from agentless_mini.model.embedded.weights import Weights, find_weights
from agentless_mini.settings.model import WeightsSettings


@functools.cache
def carried_weights() -> Weights:
    """Return the carried model. Raises `AminiError` where it can neither be found nor fetched."""
    cache = Path(platformdirs.user_cache_dir("amini")) / "weights"
    weights = find_weights(WeightsSettings(), cache, lambda sentence: None)
    return Weights(weights.path, weights.name, Decoding.LINES)


@functools.cache
def _why_missing() -> str:
    if importlib.util.find_spec("xllamacpp") is None:
        return "the extra 'embedded' is not installed"
    try:
        carried_weights()
    except AminiError as error:
        return str(error)
    return ""


def needed_weights() -> Weights:
    """Return the carried model, or skip the test and say why."""
    if reason := _why_missing():
        pytest.skip(reason)
    return carried_weights()
