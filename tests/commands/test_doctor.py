"""`amini doctor`: what is here, what is missing, and whether a repair with tests can run."""

import json
import threading

import pytest

from agentless_mini.commands.doctor import Finding, conclusion, look_at_all
from agentless_mini.errors import EnvironmentFailed
from agentless_mini.settings import Config, load_config
from tests.commands.running import Home, server

HERE, MISSING = Finding(ok=True, said="It is here."), Finding(ok=False, said="It is not here: install it.")
NAMES = (
    "git docker bubblewrap namespaces landlock endpoint gpu vllm embedded hub cache records".split()  # noqa: SIM905
)
BARE = ("git", "cache", "records")


def found(*here: str) -> dict[str, Finding]:
    return {name: HERE if name in here else MISSING for name in NAMES}


@pytest.mark.parametrize(
    ("here", "settings"),
    [
        (("docker", "endpoint"), {}),
        (("bubblewrap", "embedded"), {}),
        (("bubblewrap", "gpu", "vllm"), {}),
        (("docker", "vllm"), {"engine": "vllm"}),
        (("docker", "embedded"), {"engine": "embedded", "sandbox.kind": "docker"}),
        (("bubblewrap", "embedded"), {"sandbox.kind": "local"}),
        (("landlock", "embedded"), {}),
        (("landlock", "embedded"), {"sandbox.kind": "landlock"}),
        (("embedded",), {"sandbox.kind": "unsafe-local"}),
        (("docker", "endpoint"), {"endpoint.base_url": "http://h/v1"}),
    ],
)
def test_a_repair_can_run_where_a_model_a_sandbox_git_and_room_are(
    here: tuple[str, ...], settings: dict[str, object]
) -> None:
    config = load_config(None, settings)
    assert conclusion(found(*BARE, *here), config).ok
    for lacking in (*BARE, *here):
        assert not conclusion(found(*{*BARE, *here} - {lacking}), config).ok


@pytest.mark.parametrize(
    ("here", "settings", "said"),
    [
        (("docker", "embedded"), {"endpoint.base_url": "http://h/v1"}, "a model that answers"),
        (("docker", "vllm"), {}, "a model that answers"),
        (("docker", "endpoint"), {"engine": "embedded"}, "a model that answers"),
        (("bubblewrap", "embedded"), {"sandbox.kind": "docker"}, "a sandbox for the tests"),
        (("bubblewrap", "embedded"), {"sandbox.kind": "none"}, "a sandbox for the tests"),
    ],
)
def test_what_the_settings_rule_out_does_not_count(
    here: tuple[str, ...], settings: dict[str, object], said: str
) -> None:
    finding = conclusion(found(*BARE, *here), load_config(None, settings))
    assert not finding.ok
    assert said in finding.said


def test_a_look_that_fails_or_does_not_end_is_a_finding() -> None:
    waiting = threading.Event()

    def fail() -> str:
        raise EnvironmentFailed("It is broken: mend it.")

    def break_down() -> str:
        raise ValueError("what")

    def wait() -> str:
        waiting.wait()
        return HERE.said

    looked = look_at_all({"a": lambda: HERE.said, "b": fail, "c": break_down, "d": wait}, 0.5)
    waiting.set()
    assert looked["a"] == HERE
    assert looked["b"] == Finding(ok=False, said="It is broken: mend it.")
    assert looked["c"] == Finding(ok=False, said="ValueError: what")
    assert "does not answer within 0.5 s" in looked["d"].said
    assert list(looked) == ["a", "b", "c", "d"]


def test_a_machine_with_a_server_can_repair(home: Home) -> None:
    (home.root / "config" / "amini" / "config.toml").write_text('[sandbox]\nkind = "unsafe-local"\n')
    with server() as endpoint:
        done = home.amini("doctor", "--base-url", endpoint.url, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    said = {finding["name"]: finding for finding in document["findings"]}
    assert [*said] == [*NAMES, "repair"]
    assert said["git"]["ok"]
    assert said["endpoint"]["ok"]
    assert f"{endpoint.url} serves scripted with a window of " in said["endpoint"]["said"]


def test_a_machine_without_is_told_what_is_missing_and_leaves_nothing_behind(home: Home) -> None:
    nobody = "http://127.0.0.1:9/v1"
    done = home.amini("doctor", "--base-url", nobody, env={"DOCKER_HOST": "unix:///nowhere"})
    assert (done.returncode, done.stderr) == (4, "")
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert [*lines] == [*NAMES, "repair"]
    assert "missing" in lines["docker"]
    assert "/nowhere" in lines["docker"]
    assert "127.0.0.1:9" in lines["endpoint"]
    assert lines["repair"].endswith("it lacks a sandbox for the tests and a model that answers.")
    assert not (home.root / "state").exists()
    assert not (home.root / "cache").exists()


def test_defaults_are_what_a_machine_is_judged_by() -> None:
    assert conclusion(found(*NAMES), Config()).ok
