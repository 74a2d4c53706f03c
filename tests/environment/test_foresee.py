"""Where tests will run is said before they do, in the order in which the ways are tried."""

import pytest

from agentless_mini.environment import foresee
from agentless_mini.errors import EnvironmentFailed
from agentless_mini.sandbox.landlock import find_landlock
from agentless_mini.settings.run import UNTESTED, SandboxKind, SandboxSettings


def landlock() -> str:
    try:
        find_landlock()
    except EnvironmentFailed as error:
        return str(error)
    return "tests run in Landlock"


def test_without_docker_and_bubblewrap_landlock_is_foreseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    assert landlock() in foresee(SandboxSettings(bubblewrap="/bin/false"))


def test_what_is_asked_for_is_what_is_foreseen() -> None:
    assert foresee(SandboxSettings(kind=SandboxKind.LANDLOCK)) == "tests run in Landlock"
    assert foresee(SandboxSettings(kind=SandboxKind.LOCAL)) == "tests run in bubblewrap"
    assert foresee(SandboxSettings(kind=SandboxKind.NONE)).startswith(UNTESTED)
