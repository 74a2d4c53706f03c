"""A git repository for the tests in which git is the judge of a patch."""

from pathlib import Path

import pytest

from tests.gitrepo import git


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("git")
    git(folder, "init", "--quiet")
    return folder
