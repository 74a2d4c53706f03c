"""Which sandbox is taken, and what is said where none is, before tests run and when they would."""

import asyncio
import re
from pathlib import Path

import pytest

from agentless_mini.domain import Event, Runner
from agentless_mini.environment.opening import check_environment, foresee
from agentless_mini.environment.work import Opened, Unavailable
from agentless_mini.errors import EnvironmentFailed, UsageError
from agentless_mini.repository.opening import open_repository
from agentless_mini.settings.run import SandboxKind, SandboxSettings
from tests.environment.samples import BARE
from tests.environment.trees import opened, request, sentences
from tests.fakes.daemon import scripted_daemon
from tests.gitrepo import commit_all, make_repository


@pytest.fixture
def no_docker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")


def test_none_is_an_answer_too(tmp_path: Path) -> None:
    events: list[Event] = []
    place = opened(request(BARE, tmp_path), SandboxSettings(kind=SandboxKind.NONE), events)
    assert place == Unavailable("No test is run because of --sandbox none.")
    assert (events, list(tmp_path.iterdir())) == ([], [])


@pytest.mark.slow
@pytest.mark.usefixtures("no_docker")
def test_where_the_choice_is_left_nothing_is_an_answer(open_cache: Path) -> None:
    settings = SandboxSettings(bubblewrap="/nowhere/bwrap", setup="false")
    events: list[Event] = []
    place = opened(request(BARE, open_cache), settings, events)
    assert isinstance(place, Unavailable)
    assert "No Docker daemon answers" in place.reason
    assert "install it (package bubblewrap)" in place.reason
    assert "the setup command exited with 1" in place.reason
    assert "Trying bubblewrap instead of Docker. No Docker daemon" in sentences(events)[0]
    assert "Trying Landlock instead of bubblewrap. Bubblewrap" in sentences(events)[1]


@pytest.mark.slow
@pytest.mark.usefixtures("no_docker")
def test_landlock_is_taken_where_neither_docker_nor_bubblewrap_is_there(open_cache: Path) -> None:
    settings = SandboxSettings(setup="true", bubblewrap="/nowhere/bwrap")
    assert isinstance(opened(request(BARE, open_cache, Runner.UNITTEST), settings, []), Opened)


@pytest.mark.slow
@pytest.mark.usefixtures("no_docker", "boxes")
def test_a_build_that_failed_in_bubblewrap_is_not_tried_again(tmp_path: Path) -> None:
    events: list[Event] = []
    place = opened(request(BARE, tmp_path, Runner.UNITTEST), SandboxSettings(setup="false"), events)
    assert isinstance(place, Unavailable)
    assert "Landlock" not in " ".join([place.reason, *sentences(events)])


@pytest.mark.usefixtures("no_docker")
@pytest.mark.parametrize(
    ("kind", "words"), [(SandboxKind.DOCKER, "No Docker daemon answers"), (SandboxKind.LOCAL, "package bubblewrap")]
)
def test_where_one_way_is_asked_for_its_failure_is_an_error(kind: SandboxKind, words: str, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match=words):
        opened(request(BARE, tmp_path), SandboxSettings(kind=kind, bubblewrap="/nowhere/bwrap"), [])


@pytest.mark.usefixtures("no_docker")
def test_an_image_needs_docker(tmp_path: Path) -> None:
    for kind in (SandboxKind.LOCAL, SandboxKind.UNSAFE):
        with pytest.raises(UsageError, match=f"leave out --image, or --sandbox {kind}"):
            opened(request(BARE, tmp_path), SandboxSettings(kind=kind, image="x"), [])
    with pytest.raises(EnvironmentFailed, match="No Docker daemon answers"):
        opened(request(BARE, tmp_path), SandboxSettings(image="x"), [])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "none"}, r"no test is run \(--sandbox none\)$"),
        ({"kind": "landlock"}, "tests run in Landlock$"),
        ({"kind": "unsafe-local"}, "tests run in no sandbox at all$"),
        ({"kind": "local", "bubblewrap": "/nowhere/bwrap"}, "tests run in bubblewrap$"),
        ({"image": "x"}, "tests run in Docker$"),
        (
            {"bubblewrap": "/nowhere/bwrap"},
            "tests run in Landlock$|no test is run, for there is no sandbox: No Docker ",
        ),
    ],
)
@pytest.mark.usefixtures("no_docker")
def test_where_tests_will_run_is_foreseen_without_starting_anything(settings: dict[str, object], said: str) -> None:
    assert re.match(said, foreseen(**settings))


def foreseen(**settings: object) -> str:
    return asyncio.run(foresee(SandboxSettings.model_validate(settings), BARE, Runner.PYTEST))


@pytest.mark.parametrize(
    ("images", "registry", "said"),
    [
        (["base:8"], [], "tests run in Docker"),
        ([], ["base:8"], "tests run in Docker"),
        (["base:9"], ["base:9"], "tests run in bubblewrap"),
        ([], None, "tests run in Docker, or in bubblewrap if the image base:8 cannot be pulled"),
    ],
)
def test_docker_is_foreseen_only_with_an_image_to_start_from(
    images: list[str], registry: list[str] | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bubblewrap = tmp_path / "bwrap"
    bubblewrap.write_text("#!/bin/sh\necho bubblewrap 0.11.0\n")
    bubblewrap.chmod(0o755)
    with scripted_daemon(tmp_path / "daemon", images, registry) as address:
        monkeypatch.setenv("DOCKER_HOST", address)
        assert foreseen(base_image="base:8", bubblewrap=str(bubblewrap)) == said
        if said == "tests run in bubblewrap":
            assert foreseen(base_image="base:8", kind="docker") == "tests run in Docker"


def test_without_another_sandbox_docker_is_foreseen_with_a_condition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.uname", lambda: type("Machine", (), {"machine": "abacus"}))
    with scripted_daemon(tmp_path / "daemon", registry=None) as address:
        monkeypatch.setenv("DOCKER_HOST", address)
        said = foreseen(base_image="base:8", bubblewrap="/nowhere/bwrap")
    assert said == "tests run in Docker if the image base:8 can be pulled"


@pytest.mark.slow
@pytest.mark.usefixtures("no_docker", "boxes")
def test_where_docker_is_not_there_bubblewrap_is_foreseen() -> None:
    assert foreseen() == "tests run in bubblewrap"


@pytest.mark.slow
@pytest.mark.usefixtures("no_docker", "boxes")
def test_bubblewrap_is_taken_where_docker_is_not_there(tmp_path: Path) -> None:
    place = opened(request(BARE, tmp_path, Runner.UNITTEST), SandboxSettings(setup="true"), [])
    assert isinstance(place, Opened)


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("kind", [SandboxKind.DOCKER, SandboxKind.LOCAL, SandboxKind.LANDLOCK])
@pytest.mark.usefixtures("no_docker")
def test_a_tree_that_does_not_fit_is_told_before_anything_is_opened(
    kind: SandboxKind, committed: bool, tmp_path: Path
) -> None:
    top = make_repository(tmp_path / "r", {"a": b"a", "b.bin": b"\0" * 1000})
    for name in ("one", "two", "three"):
        with (top / name).open("wb") as file:
            file.truncate(6 * 1024**2)
    snapshot = open_repository(str(top), commit_all(top) if committed else None, tmp_path).snapshot()
    settings = SandboxSettings(kind=kind, disk_mib=18, bubblewrap="/nowhere/bwrap")
    told = r"cannot be put into a box \(19 MiB of files, and room for 18 MiB\): allow boxes more disk space"
    with pytest.raises(EnvironmentFailed, match=told):
        asyncio.run(check_environment(snapshot, Runner.PYTEST, settings))
    for kind_that_takes_it in (SandboxKind.UNSAFE, SandboxKind.AUTO):
        asyncio.run(
            check_environment(snapshot, Runner.PYTEST, settings.model_copy(update={"kind": kind_that_takes_it}))
        )
    if kind is not SandboxKind.LANDLOCK:
        with pytest.raises(EnvironmentFailed, match=r"No Docker daemon answers|package bubblewrap"):
            asyncio.run(check_environment(snapshot, Runner.PYTEST, settings.model_copy(update={"disk_mib": 19})))
