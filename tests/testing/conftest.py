"""RealBoxes for tests, where this machine has bubblewrap."""

from pathlib import Path

import pytest

from agentless_mini.errors import EnvironmentFailed
from agentless_mini.sandbox.bubblewrap import find_bubblewrap
from tests.testing.boxes import RealBoxes


@pytest.fixture
def boxes(tmp_path: Path) -> RealBoxes:
    try:
        find_bubblewrap("bwrap")
    except EnvironmentFailed as error:
        pytest.skip(str(error))
    return RealBoxes(tmp_path)
