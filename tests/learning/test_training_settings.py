"""Settings of reinforcement learning that make no sense together are refused."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from agentless_mini.domain import RewardKind
from agentless_mini.settings.learning import Generation, Potential, RlSettings


@pytest.mark.parametrize(
    ("reward", "potential", "scorer"),
    [
        (RewardKind.TESTS, Potential.TESTS, None),
        (RewardKind.SIMILARITY, Potential.REWARD_MODEL, Path("scorer")),
        (RewardKind.SHAPED, Potential.REWARD_MODEL, None),
        (RewardKind.SHAPED, Potential.TESTS, Path("scorer")),
        (RewardKind.SIMILARITY, Potential.SIMILARITY, Path("scorer")),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    reward: RewardKind, potential: Potential, scorer: Path | None
) -> None:
    with pytest.raises(ValidationError):
        RlSettings(reward=reward, potential=potential, scorer=scorer)


def test_a_server_that_would_not_be_asked_is_refused() -> None:
    with pytest.raises(ValidationError, match="would not be asked"):
        RlSettings(server="http://gpu2:8000", generation=Generation.COLOCATE)
