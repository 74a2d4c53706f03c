"""The models that are trained: which of their layers, in which precision."""

from pathlib import Path

import pytest

from agentless_mini.errors import UsageError
from agentless_mini.settings.learning import Device, Precision, SftSettings, Tuning
from tests.learning import tiny

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")]

UPPER = SftSettings(upper_layers=1, device=Device.CPU)


@pytest.fixture(autouse=True)
def _trained() -> None:
    tiny.need_training()


def test_adapters_are_on_the_last_layers_alone(model: Path) -> None:
    from peft import get_peft_model

    from agentless_mini.learning.policies import load_policy

    loaded, adapters = load_policy(str(model), UPPER)
    adapted = get_peft_model(loaded, adapters)
    trained = {name for name, weights in adapted.named_parameters() if weights.requires_grad}
    assert trained
    assert all(".layers.1." in name and ".lora_" in name for name in trained)
    parts = {name.split(".lora_")[0].rpartition(".")[2] for name in trained}
    assert parts == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_of_all_weights_those_of_the_last_layers_alone_are_trained(model: Path) -> None:
    from agentless_mini.learning.policies import load_policy

    loaded, adapters = load_policy(str(model), UPPER.model_copy(update={"tuning": Tuning.FULL}))
    assert adapters is None
    trained = {name for name, weights in loaded.named_parameters() if weights.requires_grad}
    assert trained
    assert all(name.startswith("model.layers.1.") for name in trained)


@pytest.mark.parametrize("tuning", list(Tuning))
def test_more_layers_than_there_are_cannot_be_trained(model: Path, tuning: Tuning) -> None:
    from agentless_mini.learning.policies import load_policy

    with pytest.raises(UsageError, match="has 2 layers"):
        load_policy(str(model), UPPER.model_copy(update={"upper_layers": 3, "tuning": tuning}))


@pytest.mark.parametrize(
    ("tuning", "precision", "kept"),
    [
        (Tuning.LORA, Precision.AUTO, "torch.float32"),
        (Tuning.LORA, Precision.BFLOAT16, "torch.bfloat16"),
        (Tuning.FULL, Precision.BFLOAT16, "torch.float32"),
    ],
)
def test_weights_that_are_trained_in_full_are_kept_in_full(
    model: Path, tuning: Tuning, precision: Precision, kept: str
) -> None:
    from agentless_mini.learning.policies import load_policy

    settings = SftSettings(tuning=tuning, precision=precision, device=Device.CPU)
    loaded, _ = load_policy(str(model), settings)
    assert str(loaded.dtype) == kept
