"""Settings of reinforcement learning that make no sense together are refused."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from agentless_mini.learning.reward import Kind
from agentless_mini.learning.training_settings import Generation, Potential, RlSettings


@pytest.mark.parametrize(
    ("reward", "potential", "scorer"),
    [
        (Kind.TESTS, Potential.TESTS, None),
        (Kind.SIMILARITY, Potential.REWARD_MODEL, Path("scorer")),
        (Kind.SHAPED, Potential.REWARD_MODEL, None),
        (Kind.SHAPED, Potential.TESTS, Path("scorer")),
        (Kind.SIMILARITY, Potential.SIMILARITY, Path("scorer")),
        (Kind.DIFF, Potential.SIMILARITY, None),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    reward: Kind, potential: Potential, scorer: Path | None
) -> None:
    with pytest.raises(ValidationError):
        RlSettings(reward=reward, potential=potential, scorer=scorer)


def test_a_server_that_would_not_be_asked_is_refused() -> None:
    with pytest.raises(ValidationError, match="would not be asked"):
        RlSettings(server="http://gpu2:8000", generation=Generation.COLOCATE)


@pytest.mark.parametrize(
    ("reward", "potential", "expected"),
    [
        (Kind.TESTS, Potential.SIMILARITY, True),
        (Kind.SHAPED, Potential.TESTS, True),
        (Kind.SHAPED, Potential.SIMILARITY, False),
        (Kind.SIMILARITY, Potential.SIMILARITY, False),
    ],
)
def test_checks_are_run_where_tests_are_the_reward_or_its_potential(
    reward: Kind, potential: Potential, expected: bool
) -> None:
    assert RlSettings(reward=reward, potential=potential).runs_checks is expected
