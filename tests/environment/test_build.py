import asyncio
import io
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.domain import (
    MIB,
    BoxUser,
    Ending,
    Environment,
    JobResult,
    Output,
    PackedTree,
    Place,
    ResultFile,
    Runner,
    StepResult,
)
from agentless_mini.environment.build import (
    PLACE,
    Built,
    Way,
    build_job,
    identity_of,
    open_in,
    overlay_files,
    read_build,
    tried,
)
from agentless_mini.environment.machine import Index
from agentless_mini.environment.needs import Needs, needs_of
from agentless_mini.environment.opening import seal
from agentless_mini.environment.work import EnvironmentRequest, Manifest, Slot, Work
from agentless_mini.errors import EnvironmentFailed
from agentless_mini.sandbox.host import Scratch
from agentless_mini.sandbox.wire import Pack
from agentless_mini.settings.run import SandboxSettings
from tests.environment.trees import needs, nothing_held, tree
from tests.fakes.sandbox import ScriptedSandbox, exited

TREE = tree({"setup.py": "", "pkg/__init__.py": "", "link": ""})


def work_on(wanted: Needs, index: Index, setup: str = "") -> Work:
    asked = EnvironmentRequest(TREE, nothing_held, Path("/nowhere"), {}, Runner.PYTEST)
    return Work(asked, SandboxSettings(setup=setup), lambda event: None, wanted, index, Scratch())


WORK = work_on(needs_of(TREE, Runner.PYTEST), Index((("index-url", "https://host/simple"),), (), b"CERT"))
WELL = {"failed": [], "editable": True, "problem": "", "frozen": ["a==1"], "left_out": 0}


def archive(*members: tarfile.TarInfo | str, data: bytes = b"x") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for member in members:
            entry = tarfile.TarInfo(member) if isinstance(member, str) else member
            if entry.isfile():
                entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data) if entry.isfile() else None)
    return out.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


def result(report: object, overlay: bytes = b"", ending: Ending = Ending.EXITED, status: int | None = 0) -> JobResult:
    files = (
        ResultFile(f"{PLACE}/report.json", json.dumps(report).encode()),
        ResultFile(f"{PLACE}/overlay.tar", overlay),
    )
    return JobResult((StepResult(ending, status, Output(b"said"), files),))


def test_the_job_has_the_plan_the_certificates_and_roots_rights_in_an_image() -> None:
    job = build_job(WORK, Environment("image", "python3"), PackedTree("tree"), "python")
    files = {file.path: file.data for file in job.files}
    plan = json.loads(files[f"{PLACE}/plan.json"] or b"")
    assert (plan["ways"][0], plan["module"], plan["setup"]) == (["-e", "."], "pytest", "")
    assert len(files[f"{PLACE}/uv"] or b"") > MIB
    assert files[f"{PLACE}/certificates.pem"] == b"CERT"
    assert job.environment == Environment("image", "python3", BoxUser.ROOT)
    (step,) = job.steps
    variables = dict(step.variables)
    assert variables["PIP_INDEX_URL"] == "https://host/simple"
    assert variables["SETUPTOOLS_SCM_PRETEND_VERSION"] == "99.0.0"
    assert step.seconds < job.limits.seconds


def test_what_fails_is_told_in_sentences() -> None:
    built = read_build(
        result({**WELL, "failed": ["a", "b\n", *"cdefg"], "editable": False, "left_out": 30 * MIB}), WORK
    )
    assert (built.problem, built.lacking) == ("", 1)
    assert built.notes == (
        "The project itself could not be installed; it is imported from its folder.",
        "Could not be installed: a, b?, c, d, e and 2 more.",
        "What the build wrote into the tree is left out, for it is 30 MiB.",
    )


def test_an_optional_package_that_is_lacking_is_told_and_no_reason_for_another_build() -> None:
    built = read_build(result({**WELL, "failed": ["sphinx"]}), WORK)
    assert (built.lacking, built.notes) == (0, ("Could not be installed: sphinx.",))


@pytest.mark.parametrize(("missing", "lacking"), [([], 0), ([["gone", 3]], 0), ([["yaml", 1], ["gone", 2]], 1)])
def test_an_environment_is_lacking_where_a_module_is_not_there_that_the_project_names(
    missing: list[object], lacking: int
) -> None:
    wanting = replace(WORK, needs=needs(tox__ini="pyyaml", test_a__py="import yaml\nimport gone\n"))
    built = read_build(result({**WELL, "missing": missing}), wanting)
    assert built.lacking == lacking
    assert len(built.notes) == len(missing)
    assert not missing or built.notes[-1].endswith("cannot be imported: no gone.")


@pytest.mark.parametrize(
    ("came", "problem"),
    [
        (result({**WELL, "problem": "pytest cannot be installed"}), "pytest cannot be installed"),
        (result(WELL, ending=Ending.TIMED_OUT, status=None), "it took longer than 900 s"),
        (result(WELL, ending=Ending.OUT_OF_MEMORY, status=None), "it used more than 4096 MiB of memory"),
        (result(WELL, status=-9), "it ended with -9"),
        (result({"failed": 1}, status=3), "it ended with 3"),
        (result([]), "it ended with 0"),
        (result({**WELL, "frozen": ["x"] * 9999}), "it ended with 0"),
        (JobResult((), "a link"), "files cannot be placed: a link"),
    ],
)
def test_a_build_that_failed_has_a_problem(came: JobResult, problem: str) -> None:
    assert read_build(came, WORK).problem == problem


def test_new_files_are_kept_and_those_of_the_tree_win() -> None:
    program = tarfile.TarInfo("pkg/fast.so")
    program.mode = 0o755
    found = overlay_files(archive("pkg/_version.py", program, "setup.py", "thing.egg-info/PKG-INFO"), TREE)
    assert [(file.path, file.mode, file.data) for file in found] == [
        ("pkg/_version.py", "100644", b"x"),
        ("pkg/fast.so", "100755", b"x"),
        ("thing.egg-info/PKG-INFO", "100644", b"x"),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "../out", "/etc/x", "a/../../x", "a//b", "./a", ".git/hooks/x", "A/.GIT/x", "pkg", "link/through", "setup.py/x",
        f"{PLACE}/x", ""
    ]
)  # fmt: skip
def test_a_path_that_is_not_free_and_clean_is_left_out(name: str) -> None:
    assert [file.path for file in overlay_files(archive(name, "free"), TREE)] == ["free"]


def test_what_is_no_plain_file_is_left_out() -> None:
    kinds = [
        special("l", tarfile.SYMTYPE, "/etc/passwd"),
        special("h", tarfile.LNKTYPE, "free"),
        special("f", tarfile.FIFOTYPE),
        special("d", tarfile.DIRTYPE),
        special("c", tarfile.CHRTYPE),
    ]
    assert [file.path for file in overlay_files(archive(*kinds, "free"), TREE)] == ["free"]


def test_a_file_below_another_of_the_archive_is_left_out() -> None:
    assert [file.path for file in overlay_files(archive("a/b", "a", "c"), TREE)] == ["a", "c"]


def test_a_size_that_is_not_true_takes_no_memory() -> None:
    huge = tarfile.TarInfo("huge")
    huge.size = 1 << 40
    sparse = tarfile.TarInfo("sparse")
    sparse.type, sparse.size = tarfile.GNUTYPE_SPARSE, 1 << 40
    for entry in (huge, sparse):
        overlay_files(entry.tobuf() + b"\0" * 1024, TREE)


@given(st.binary(max_size=2000))
def test_any_bytes_are_taken_for_an_archive(data: bytes) -> None:
    assert isinstance(overlay_files(data, TREE), tuple)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_json_is_taken_for_a_report(report: object) -> None:
    assert isinstance(read_build(result(report), WORK), Built)


def test_the_identity_is_that_of_what_was_built() -> None:
    built = Built("", b"tar", ("a==1",))
    assert identity_of("k", built) == identity_of("k", Built("", b"tar", ("a==1",), ("note",), "log"))
    others = {identity_of("l", built), identity_of("k", Built("", b"", ("a==1",))), identity_of("k", Built("", b"tar"))}
    assert len({*others, identity_of("k", built)}) == 4


def test_a_setup_command_stands_for_the_installation() -> None:
    work = work_on(needs(), Index(), "make deps")
    plan = json.loads(build_job(work, Environment("e"), PackedTree("t"), "python").files[0].data or b"")
    assert plan["setup"] == "make deps"
    assert read_build(result({**WELL, "editable": False}), work).notes == ()


WHOLE = Manifest(identity="i", python="python", notes=("a note",))


@pytest.fixture
def slot(tmp_path: Path) -> Slot:
    return Slot(tmp_path / "environments" / "key", "key")


def keep(slot: Slot) -> None:
    async def run() -> None:
        async with slot.locked(lambda: None):
            slot.venv.mkdir()
            slot.write_log("said")
            slot.keep(WHOLE, b"tar")

    asyncio.run(run())


def test_what_is_kept_is_found(slot: Slot) -> None:
    assert slot.read() is None
    keep(slot)
    assert (slot.read(), slot.overlay(), slot.log.read_text()) == (WHOLE, b"tar", "said")


def test_what_is_cleared_is_gone_save_the_log(slot: Slot) -> None:
    keep(slot)
    slot.clear()
    assert slot.read() is None
    assert not slot.venv.exists()
    assert slot.log.read_text() == "said"


@pytest.mark.parametrize("text", ["", "{", "{}", '{"identity": 1, "python": "p"}'])
def test_a_manifest_that_is_not_whole_is_none(slot: Slot, text: str) -> None:
    keep(slot)
    (slot.log.parent / "environment.json").write_text(text)
    assert slot.read() is None


def test_one_builds_and_the_others_wait(slot: Slot) -> None:
    told: list[str] = []
    inside: list[int] = []

    async def build(number: int) -> None:
        async with slot.locked(lambda: told.append("waits")):
            inside.append(number)
            await asyncio.sleep(0.05)
            assert inside[-1] == number, "somebody else came in"

    async def run() -> None:
        await asyncio.gather(*map(build, range(3)))

    asyncio.run(run())
    assert (sorted(inside), told) == ([0, 1, 2], ["waits", "waits"])


def test_a_cancelled_wait_gives_the_lock_up(slot: Slot) -> None:
    async def wait() -> None:
        async with slot.locked(lambda: None):
            pytest.fail("it was taken")

    async def run() -> None:
        async with slot.locked(lambda: None):
            waiting = asyncio.create_task(wait())
            await asyncio.sleep(0.02)
            waiting.cancel()
            await asyncio.wait([waiting])
            assert waiting.cancelled()

    asyncio.run(run())
    keep(slot)


def test_a_folder_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFailed, match="make room"):
        keep(Slot(tmp_path / "file" / "key", "key"))


def test_nothing_sealed_runs_as_its_owner(tmp_path: Path) -> None:
    folder = tmp_path / "venv"
    (folder / "bin").mkdir(parents=True)
    outside = tmp_path / "outside"
    for path in (folder / "bin/program", outside):
        path.touch()
        path.chmod(0o6755)
    (folder / "link").symlink_to(outside)
    (folder / "gone").symlink_to(tmp_path / "nothing")
    seal(folder)
    assert os.stat(folder / "bin/program").st_mode & 0o7777 == 0o755  # noqa: PTH116 - as the code does
    assert outside.stat().st_mode & 0o7777 == 0o6755, "it is not below the folder"


class FirstRefused(Way):
    """An environment in which the tests start at the second try."""

    def __init__(self, slot: Slot) -> None:
        self._slot, said = slot, iter((1, 0))
        self.sandbox = ScriptedSandbox(lambda job: JobResult((exited(next(said)),) * len(job.steps)))

    def slot(self, work: Work) -> Slot:
        return self._slot

    async def is_whole(self, slot: Slot, manifest: Manifest) -> bool:
        return False

    async def make(self, work: Work, slot: Slot) -> Manifest:
        made, built = Manifest(identity="id", python="python"), read_build(result(WELL), work)
        with pytest.raises(EnvironmentFailed, match="cannot be started"):
            await tried(work, self, slot, made, built)
        assert "cannot be started" in slot.log_end()
        return await tried(work, self, slot, made, built)

    def place(self, slot: Slot, manifest: Manifest, tree: Pack) -> Place:
        return Place(Environment("id", "python"), PackedTree(tree.digest))


def test_the_log_of_what_works_tells_no_earlier_failure(slot: Slot) -> None:
    asyncio.run(open_in(WORK, FirstRefused(slot)))
    assert slot.log_end() == "said"
