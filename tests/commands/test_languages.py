"""`amini repair` on bugs in other languages: the tests of their own runners choose what the vote would not."""

import shutil
from pathlib import Path

import pytest

from agentless_mini.errors import EnvironmentFailed
from agentless_mini.sandbox.bubblewrap import find_bubblewrap
from tests.benchmarks.other_languages import Bug, load_bugs, try_bug

PROGRAMS = {"go": "go", "cargo": "cargo", "npm": "npm"}


@pytest.mark.thorough
@pytest.mark.parametrize("bug", load_bugs(), ids=lambda bug: bug.name)
def test_the_fix_is_chosen_among_wrong_patches(bug: Bug, tmp_path: Path) -> None:
    program = PROGRAMS[bug.name.partition("-")[0]]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not here")
    try:
        find_bubblewrap("bwrap")
    except EnvironmentFailed as error:
        pytest.skip(str(error))
    chosen, said = try_bug(bug, tmp_path)
    assert chosen == "right", said
