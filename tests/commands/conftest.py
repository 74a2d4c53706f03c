"""A home with a repository, for every test of the commands."""

from pathlib import Path

import pytest

from tests.commands.running import Home, home_in


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return home_in(tmp_path)
