"""The demo on the real embedded model: whatever it answers is shown as it is."""

import shutil
from pathlib import Path

import pytest

from agentless_mini.commands.demo import SAMPLE, make_repository, run_tests
from tests.commands.running import Home
from tests.embedded_model import needed_weights
from tests.gitrepo import git

needs_bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "sample")


def test_the_sample_is_a_repository_with_one_commit(sample: Path) -> None:
    assert git(sample, "status", "--porcelain") == b""
    assert git(sample, "ls-files").split() == [b"durations.py", b"test_durations.py"]
    assert git(sample, "rev-list", "--count", "HEAD").strip() == b"1"


@needs_bubblewrap
def test_the_samples_tests_fail_on_its_fault_alone(sample: Path) -> None:
    faulty = run_tests(sample)
    assert (faulty.ran, faulty.passed) == (True, False)
    assert "failures=1" in faulty.output
    code = (SAMPLE / "durations.py").read_text().replace("if count > 1:", "if count:")
    (sample / "durations.py").write_text(code)
    assert run_tests(sample).passed


@needs_bubblewrap
def test_what_the_model_wrote_can_neither_write_nor_read_the_environment(sample: Path) -> None:
    attack = "import os, pathlib\nassert not os.environ.get('HOME')\npathlib.Path('written').write_text('x')\n"
    (sample / "durations.py").write_text(attack)
    verdict = run_tests(sample)
    assert not verdict.passed
    assert "Read-only file system" in verdict.output
    assert not (sample / "written").exists()


@pytest.mark.slow
@pytest.mark.model
def test_the_demo_shows_a_patch_the_vote_and_the_verdict_of_the_tests(home: Home, tmp_path: Path) -> None:
    cache = needed_weights().path.parent.parent
    done = home.amini("demo", "--keep", str(tmp_path / "kept"), env={"XDG_CACHE_HOME": str(cache.parent)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("diff --git a/durations.py b/durations.py")
    git(tmp_path / "kept", "apply", "--reverse", "--check", stdin=done.stdout.encode())
    assert "confidence" in done.stderr
    if shutil.which("bwrap"):
        assert "tests before the repair: FAIL" in done.stderr
        verdict = run_tests(tmp_path / "kept")
        assert f"tests after the repair: {'pass' if verdict.passed else 'FAIL'}" in done.stderr
