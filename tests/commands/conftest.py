"""A home with a repository, for every test of the commands."""

from pathlib import Path

import pytest

from tests.commands.running import FILES, ISSUE, VOTE_ALONE, Home
from tests.gitrepo import make_repository


@pytest.fixture
def home(tmp_path: Path) -> Home:
    repository = make_repository(tmp_path / "shop", FILES)
    (tmp_path / "issue.md").write_text(ISSUE)
    settings = tmp_path / "config" / "amini" / "config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text(VOTE_ALONE)
    return Home(tmp_path, repository)
