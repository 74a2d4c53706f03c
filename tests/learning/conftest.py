"""A tiny model and rows for it, made once for all tests of the trainers."""

from dataclasses import replace
from pathlib import Path

import pytest

from agentless_mini.learning.rows import Row
from tests.learning import tiny


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the tiny model, or skip where nothing can be trained."""
    tiny.need_training()
    import torch

    torch.set_num_threads(1)  # such a model gains nothing by more, and loses much where the cores are busy
    return tiny.write_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def scorer(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny reward model with random weights."""
    return tiny.write_scorer(model, tmp_path_factory.mktemp("scorer"))


@pytest.fixture
def rows() -> list[Row]:
    return tiny.rows(8)


@pytest.fixture
def bred(rows: list[Row]) -> list[Row]:
    """Return rows with a wrong patch each, as an earlier attempt."""
    return [replace(row, parents=(tiny.wrong_patch(row),)) for row in rows]
