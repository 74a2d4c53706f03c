import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from agentless_mini.domain import MIB, BoxLimits, BoxUser, ImageTree, PlacedFile
from agentless_mini.errors import EnvironmentFailed
from agentless_mini.sandbox import host
from agentless_mini.sandbox.daemon import capacity, connect, sweep
from agentless_mini.sandbox.host import boxes_for, sweep_scratch
from tests.sandbox.adapter import LIMITS, OK, Adapter, printed, python
from tests.sandbox.attacks import AttackSuite
from tests.sandbox.conftest import containers, copies
from tests.sandbox.contract import SandboxContract
from tests.sandbox.isolation import IsolationSuite


class TestDocker(SandboxContract, AttackSuite, IsolationSuite):
    @pytest.fixture
    def adapter(self, docker_adapter: Adapter) -> Adapter:
        return docker_adapter

    def test_a_tree_of_the_image_is_found_in_its_place_without_its_history(self, adapter: Adapter) -> None:
        code = "import os, inside; print(inside.VALUE, sorted(os.listdir('.')), os.getcwd())"
        tree, files = ImageTree("/testbed"), (PlacedFile("new", b""),)
        jobs = [replace(adapter.job(python(code)), tree=tree, files=files) for _ in range(2)]
        for result in adapter.run_jobs(*jobs):
            assert printed(result) == "41 ['inside.py', 'new'] /testbed\n"

    def test_a_folder_that_the_image_does_not_have_is_an_error(self, adapter: Adapter) -> None:
        with pytest.raises(EnvironmentFailed, match="/absent"):
            adapter.run_jobs(replace(adapter.job(OK), tree=ImageTree("/absent")))

    def test_an_image_without_a_python_is_an_error(self, adapter: Adapter) -> None:
        job = replace(adapter.job(OK), environment=replace(adapter.environment, python="python9"))
        with pytest.raises(EnvironmentFailed, match="python9"):
            adapter.run_jobs(job)
        job = replace(adapter.job(OK), environment=replace(adapter.environment, python="/bin/sh"))
        with pytest.raises(EnvironmentFailed, match="cannot be set up in the image"):
            adapter.run_jobs(job)

    def test_root_has_no_capability_and_the_same_limits(self, adapter: Adapter) -> None:
        code = (
            "import os\n"
            "print(os.getuid(), [l.split()[1] for l in open('/proc/self/status') if l.startswith('CapEff')])\n"
            "try: open('/etc/passwd', 'a')\n"
            "except OSError as error: print(error.strerror)"
        )
        job = replace(adapter.job(python(code)), environment=replace(adapter.environment, user=BoxUser.ROOT))
        (result,) = adapter.run_jobs(job)
        assert printed(result) == "0 ['0000000000000000']\nRead-only file system\n"

    @pytest.mark.slow
    def test_a_box_uses_no_more_processor_time_than_it_may(self, adapter: Adapter) -> None:
        code = (
            "import os, time\nos.fork()\nend = time.time() + 1.5\n"
            "while time.time() < end: pass\nos.write(1, b'%f\\n' % time.process_time())"
        )
        (step,) = adapter.run(python(code), limits=replace(LIMITS, cpus=0.5)).steps
        assert sum(map(float, step.output.text().split())) < 1.2

    def test_what_a_killed_run_leaves_ends_at_once_and_is_swept(self, adapter: Adapter, tmp_path: Path) -> None:
        adapter.tree()
        program = (
            "import sys\nfrom pathlib import Path\nfrom tests.sandbox.adapter import Adapter, python\n"
            "from dataclasses import replace\nfrom tests.sandbox.conftest import open_docker\n"
            "from agentless_mini.domain import Environment, ImageTree\n"
            "adapter = Adapter(open_docker, Environment(sys.argv[1]), Path(sys.argv[2]), list)\n"
            "step = python('import time; time.sleep(60)', seconds=60)\n"
            "adapter.run_jobs(replace(adapter.job(step), tree=ImageTree('/testbed')))\n"
        )
        command = [sys.executable, "-c", program, adapter.environment.identity, str(tmp_path)]
        with subprocess.Popen(command) as owner:
            end = time.monotonic() + 20
            while not (left := containers(owner.pid, "running")) and time.monotonic() < end:
                time.sleep(0.05)
            assert copies(owner.pid) != []
            client = connect(1)
            try:
                sweep(client)
                assert containers(owner.pid, "running") == left, "its run is alive"
                time.sleep(1)
                owner.send_signal(signal.SIGKILL)
                owner.wait()
                while containers(owner.pid, "running") and time.monotonic() < end:
                    time.sleep(0.05)
                assert containers(owner.pid, "running") == []
                sweep(client)
                sweep_scratch()
                assert (containers(owner.pid), copies(owner.pid)) == ([], [])
            finally:
                client.close()

    def test_runs_that_sweep_at_once_do_not_hinder_each_other(self, image: str) -> None:
        client = connect(8)
        with subprocess.Popen(["true"]) as owner:
            dead = f"{host.myself().split()[0]} {owner.pid} 1"
        labels = {host.LABEL: "1", host.OWNER: dead}
        try:
            client.containers.run(image, ["python", "-c", "import time; time.sleep(60)"], detach=True, labels=labels)
            with ThreadPoolExecutor(8) as runs:
                assert sum(runs.map(sweep, [client] * 8)) <= 1
            assert containers(owner.pid) == []
        finally:
            client.close()

    def test_the_daemons_machine_says_how_many_boxes_it_carries(self, image: str) -> None:
        client = connect(1)
        try:
            assert capacity(client, BoxLimits(memory=MIB)) >= 1
        finally:
            client.close()


def test_boxes_are_bounded_by_cores_and_by_memory() -> None:
    assert boxes_for(8, 1024 * MIB, BoxLimits(memory=100 * MIB, cpus=1.0)) == 8
    assert boxes_for(8, 500 * MIB, BoxLimits(memory=100 * MIB, cpus=1.0)) == 4
    assert boxes_for(8, 9999 * MIB, BoxLimits(memory=100 * MIB, cpus=2.5)) == 3
    assert boxes_for(1, MIB, BoxLimits()) == 1


def test_a_daemon_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    with pytest.raises(EnvironmentFailed, match="No Docker daemon answers"):
        connect(1)
    monkeypatch.setenv("DOCKER_HOST", "http://127.0.0.1:9")
    with pytest.raises(EnvironmentFailed, match="see that the daemon runs"):
        connect(1)
