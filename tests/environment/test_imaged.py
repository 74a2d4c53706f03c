import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from agentless_mini.chain.session import Boxes, Refused, run_cases
from agentless_mini.domain import CARRIED, BoxLimits, BoxUser, Event, Outcome, PackedTree, PhaseSaid, Runner, Step
from agentless_mini.environment.opening import open_environment
from agentless_mini.environment.work import Opened
from agentless_mini.errors import EnvironmentFailed
from agentless_mini.sandbox.carried import carry
from agentless_mini.sandbox.daemon import Image, connect
from agentless_mini.settings.run import SandboxSettings
from agentless_mini.testing import harness_of
from tests.environment.samples import BARE, sample
from tests.environment.trees import opened, request, run_there, sentences, tree
from tests.sandbox.conftest import containers
from tests.sandbox.image import build, libraries
from tests.testing.boxes import case, patch_of
from tests.testing.languages import NODE

pytestmark = pytest.mark.slow


def settings(**given: str | float) -> SandboxSettings:
    return SandboxSettings.model_validate({"kind": "docker", "boxes": 1, **given})


@pytest.mark.usefixtures("package_index")
def test_a_project_is_built_into_an_image_once(base: str, tmp_path: Path) -> None:
    asked = request(sample(), tmp_path)
    steps = (Step(("python", "-m", "pytest", "-q", "tests")), Step(("touch", "/opt/amini/x")))
    result, first = run_there(asked, settings(base_image=base), *steps)
    assert result.steps[0].succeeded, result.steps[0].output.text()
    assert not result.steps[1].succeeded
    assert first.identity.startswith("sha256:")
    assert first.notes == ("Could not be installed: iniconfig.",)
    events: list[Event] = []
    again = opened(asked, settings(base_image=base), events)
    assert isinstance(again, Opened)
    assert (again.place, sentences(events)) == (first.place, [])


@pytest.mark.thorough
def test_what_a_build_prints_is_heard_while_it_runs(base: str, tmp_path: Path) -> None:
    events: list[Event] = []
    code = "import time; [print('line', n, flush=True) or time.sleep(0.5) for n in range(10, 34)]"
    asked = settings(base_image=base, setup=f'python -c "{code}"')
    opened(request(BARE, tmp_path, Runner.UNITTEST), asked, events)
    lines = [event.text for event in events if isinstance(event, PhaseSaid) and event.text.startswith("line ")]
    assert len(set(lines)) > 1, "on a busy machine some lines come together, and the last of them is told"
    assert lines == sorted(lines)


@pytest.mark.thorough
def test_a_setup_command_and_what_the_image_keeps_of_it(base: str, tmp_path: Path) -> None:
    asked = request(BARE, tmp_path, Runner.UNITTEST)
    command = (
        "echo $PIP_INDEX_URL > /opt/kept; echo 41 > made_here.py; "
        "python -c 'import sys; print(sys.prefix)' >> /opt/kept"
    )
    asked = replace(asked, variables={"PIP_INDEX_URL": "https://me:p4ssphr4se@host/simple"})
    code = "print(open('/opt/kept').read(), open('made_here.py').read(), open('module.py').read())"
    result, place = run_there(asked, settings(base_image=base, setup=command), Step(("python", "-c", code)))
    assert result.steps[0].output.text().split() == ["http://host/simple", "/opt/amini/venv", "41", "VALUE", "=", "41"]
    client = connect(1)
    try:
        kept = client.images.get(place.identity)
        assert "p4ssphr4se" not in str(kept.attrs), "the image does not tell the settings of the build"
        assert kept.labels["amini"] == "1"
        assert kept.labels["amini.owner"] == ""
        assert kept.tags[0].startswith("amini-env:")
    finally:
        client.close()


@pytest.mark.thorough
def test_an_image_as_it_is(base: str, tmp_path: Path) -> None:
    result, place = run_there(
        request(BARE, tmp_path), settings(image=base), Step(("python", "-m", "pytest", "--version"))
    )
    assert result.steps[0].succeeded
    assert isinstance(place.place.tree, PackedTree)
    assert (place.place.tree.folder, place.place.environment.user) == ("/repo", BoxUser.NOBODY)
    client = connect(1)
    try:
        assert place.identity == client.images.get(base).id
    finally:
        client.close()


@pytest.mark.thorough
def test_an_image_with_a_setup_command_run_in_it(base: str, tmp_path: Path) -> None:
    asked = request(BARE, tmp_path, Runner.UNITTEST)
    command = "for folder in /usr/local/lib/python3.*; do echo 'LATE = 1' > $folder/late.py; done"
    result, _ = run_there(asked, settings(image=base, setup=command), Step(("python", "-c", "import late, module")))
    assert result.steps[0].succeeded, result.steps[0].output.text()


@pytest.mark.thorough
def test_an_image_that_cannot_be_had_or_has_no_runner_is_an_error(base: str, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match=r"nowhere\.invalid/none.*cannot be pulled"):
        opened(request(BARE, tmp_path), settings(image="nowhere.invalid/none:1"), [])
    with pytest.raises(EnvironmentFailed, match=r"exited with 3; see .*build\.log"):
        opened(request(BARE, tmp_path), settings(base_image=base, setup="exit 3"), [])


def test_a_cancelled_build_leaves_no_container(base: str, tmp_path: Path) -> None:
    asked = request(BARE, tmp_path, Runner.UNITTEST)
    sleeping = settings(base_image=base, setup="python -c 'import time; time.sleep(60)'")

    async def run() -> None:
        async with AsyncExitStack() as stack:
            building = asyncio.create_task(open_environment(asked, sleeping, lambda event: None, stack))
            while not await asyncio.to_thread(containers, os.getpid(), "running"):
                await asyncio.sleep(0.1)
                assert not building.done()
            building.cancel()
            await asyncio.wait([building])
            assert building.cancelled()

    asyncio.run(run())
    assert containers(os.getpid()) == []


@pytest.fixture
def bare() -> Iterator[str]:
    """Return the name of an image with a shell and its libraries, and nothing else."""
    client = connect(1)
    try:
        build(client, {"/bin/sh": Path("/bin/sh"), **libraries([Path("/bin/sh")])}, "amini-test-bare:1")
        yield "amini-test-bare:1"
        for image in client.api.images("amini-env"):
            if "amini-env:python" in str(image["RepoTags"]):
                client.api.remove_image(image["Id"], force=True)
        client.api.remove_image("amini-test-bare:1", force=True)
    finally:
        client.close()


def test_an_image_without_a_python_is_lent_that_of_amini(bare: str, tmp_path: Path) -> None:
    asked = request(tree({"notes.txt": "41\n"}), tmp_path, Runner.COMMAND)
    reading, looking = Step(("sh", "-c", "read line < notes.txt; echo $line")), Step(("sh", "-c", "command -v python3"))
    result, place = run_there(asked, settings(image=bare), reading, looking)
    assert [step.output.text() for step in result.steps] == ["41\n", ""]
    assert place.place.environment.python == CARRIED
    _, again = run_there(asked, settings(image=bare), reading)
    assert again.identity == place.identity, "it is made once"


def test_an_image_for_another_machine_has_to_have_a_python(bare: str) -> None:
    client = connect(1)
    try:
        with pytest.raises(EnvironmentFailed, match=r"another machine \(mips\).*add a Python to it"):
            carry(client, Image("sha256:0", machine="mips"))
    finally:
        client.close()


@pytest.fixture
def node_image(tmp_path: Path) -> Iterator[str]:
    """Return the name of an image with node, a shell, a package beside its working folder, and no Python."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not here")
    (tmp_path / "index.js").write_text("exports.one = 1;\n")
    program, name = Path(node).resolve(), f"amini-test-node:{os.getpid()}"
    files = {"/bin/sh": Path("/bin/sh"), "/bin/node": program, "/app/node_modules/dep/index.js": tmp_path / "index.js"}
    client = connect(1)
    try:
        build(client, files | libraries([Path("/bin/sh"), program]), f"{name}-made")
        made = client.api.create_container(f"{name}-made", ["none"])["Id"]
        changes = ["WORKDIR /app", "ENV PATH=/bin"]
        client.api.commit(made, repository="amini-test-node", tag=str(os.getpid()), changes=changes)
        client.api.remove_container(made)
        before = {image["Id"] for image in client.api.images("amini-env")}
        yield name
        after = [image["Id"] for image in client.api.images("amini-env") if image["Id"] not in before]
        for one in (*after, name, f"{name}-made"):
            client.api.remove_image(one, force=True)
    finally:
        client.close()


@pytest.mark.thorough
@pytest.mark.parametrize("setup", ["", "echo 1 > made.txt"])
def test_tests_run_in_an_image_of_node_with_its_own_packages(node_image: str, setup: str, tmp_path: Path) -> None:
    files = {**NODE.files, NODE.test: "require('dep');\n" + NODE.files[NODE.test]}
    snapshot = tree(files)
    wanted = [case(f"{NODE.test}::adds prices"), case(f"{NODE.test}::an empty cart")]

    async def run() -> None:
        async with AsyncExitStack() as stack:
            asked = request(snapshot, tmp_path / "cache", Runner.NODE)
            place = await open_environment(asked, settings(image=node_image, setup=setup), lambda event: None, stack)
            assert isinstance(place, Opened), place
            assert place.place.environment.python == CARRIED
            harness = replace(harness_of(snapshot), variables=place.variables)
            boxes = Boxes(place.sandbox, place.place, harness, snapshot, lambda event: None, BoxLimits(), 20.0)
            patches = (None, *(patch_of(snapshot, {"cart.js": code}) for code in (NODE.fixed, "process.exit(0)")))
            came = [await run_cases(boxes, patch, wanted, canaries=3) for patch in patches]
            told = [[result.outcome for result in one] for one in came if not isinstance(one, Refused)]
            assert told == [
                [Outcome.FAIL, Outcome.PASS],
                [Outcome.PASS, Outcome.PASS],
                [Outcome.ERROR, Outcome.ERROR],
            ], came

    asyncio.run(run())
