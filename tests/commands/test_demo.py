"""The demo on the real embedded model: whatever it answers is shown as it is."""

import os
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from agentless_mini.commands.config import Machine
from agentless_mini.commands.demo import ANSWERS, FAILING, SAMPLE, make_repository, run_tests, settings_of
from agentless_mini.domain import Outcome
from agentless_mini.run import REWRITES
from agentless_mini.settings import Config, load_config
from agentless_mini.settings.model import Engine
from agentless_mini.settings.run import SandboxKind, SandboxSettings
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


def test_the_demo_is_the_same_whatever_the_settings_say_of_models_and_projects() -> None:
    mine = {
        "engine": "vllm",
        "endpoint.base_url": "http://host:8000/v1",
        "endpoint.model": "big",
        "embedded.model": "owner/name",
        "evolve.rounds": 4,
        "evolve.select": "reward-model",
        "repair.stop_when": 0.9,
        "sandbox.image": "mine",
        "sandbox.setup": "make",
    }
    chosen = settings_of(load_config(None, mine), None)
    assert (chosen.engine, chosen.endpoint, chosen.embedded) == (Engine.EMBEDDED, Config().endpoint, Config().embedded)
    assert (chosen.evolve, chosen.sandbox) == (Config().evolve, Config().sandbox)
    assert (chosen.repair.samples, chosen.repair.stop_when) == (REWRITES, None)
    named = settings_of(load_config(None, mine), "owner/other")
    assert (named.endpoint.base_url, named.endpoint.model, named.repair.samples) == (None, "owner/other", ANSWERS)


def test_without_a_sandbox_the_demo_says_so_before_anything_is_fetched(home: Home) -> None:
    done = home.amini("demo")
    assert (done.returncode, done.stdout) == (4, "")
    said = done.stderr.splitlines()
    assert said[-1].startswith("amini: The demo chooses by the sample's failing test, so it needs a sandbox. ")
    assert len(said) == 2
    assert not (home.root / "cache" / "amini" / "weights").exists()


def outcomes(sample: Path, cache: Path) -> dict[str, Outcome]:
    """Run the sample's tests as the demo does, and return what came of each by its name."""
    machine = Machine(cache / "state", cache, {"PATH": os.environ["PATH"]})
    results = run_tests(sample, SandboxSettings(kind=SandboxKind.LOCAL), machine, Console(quiet=True), set())
    return {result.id.rpartition("::")[2]: result.outcome for result in results}


@needs_bubblewrap
@pytest.mark.slow
def test_the_samples_tests_fail_on_its_fault_alone(sample: Path, tmp_path: Path) -> None:
    found = outcomes(sample, tmp_path)
    assert len(found) == 5
    assert [name for name, outcome in found.items() if outcome is not Outcome.PASS] == [FAILING.rpartition("::")[2]]
    code = (SAMPLE / "durations.py").read_text().replace("if count > 1:", "if count:")
    (sample / "durations.py").write_text(code)
    assert set(outcomes(sample, tmp_path).values()) == {Outcome.PASS}


@needs_bubblewrap
@pytest.mark.slow
@pytest.mark.model
def test_the_demo_repairs_its_sample_for_real(home: Home, tmp_path: Path) -> None:
    cache = needed_weights().path.parent.parent
    (home.root / "config" / "amini" / "config.toml").unlink()
    done = home.amini("demo", "--keep", str(tmp_path / "kept"), env={"XDG_CACHE_HOME": str(cache.parent)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("diff --git a/durations.py b/durations.py")
    git(tmp_path / "kept", "apply", "--reverse", "--check", stdin=done.stdout.encode())
    assert "tests before the repair: FAIL (1 fail, 4 pass)" in done.stderr
    assert "tests after the repair: pass (5 pass)" in done.stderr
    assert set(outcomes(tmp_path / "kept", tmp_path).values()) == {Outcome.PASS}
