"""Hostile tests and patches. Each is contained, and reported as what it is, on every sandbox that isolates."""

import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agentless_mini.domain import MIB, Ending, PackedTree, PlacedFile, Step
from agentless_mini.repository.opening import open_repository
from agentless_mini.sandbox.wire import of_folder, pack_snapshot
from tests.sandbox.adapter import LATE, LIMITS, OK, Adapter, printed, python

HIGHEST = 2 * LIMITS.disk + 64 * MIB
"""Bytes that can be written in a box at all: the tree, /tmp, /dev/shm."""


def tried(*attempts: str) -> Step:
    """A program that tries each of these, and prints how many went through and what they gave."""
    lines = ["import os, sys, socket, ctypes, resource, signal", "done = []"]
    for attempt in attempts:
        lines += ["try:", f"    done.append({attempt})", "except BaseException as error:", "    pass"]
    return python("\n".join([*lines, "print(done)"]))


class AttackSuite:
    def test_a_loop_that_ignores_every_signal_is_ended_in_time(self, adapter: Adapter) -> None:
        code = (
            "import signal\n"
            "for n in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(n, signal.SIG_IGN)\n"
            "while True: pass"
        )
        loop, after = adapter.run(python(code, seconds=0.5), OK).steps
        assert (loop.ending in LATE, after.succeeded) == (True, True)
        assert loop.seconds < 4

    def test_a_fork_bomb_is_bounded_and_swept(self, adapter: Adapter) -> None:
        code = "import os\nwhile True:\n  try: os.fork()\n  except OSError: open('full', 'w').close()"
        look = python("import os; print(os.path.exists('full'), len([p for p in os.listdir('/proc') if p.isdigit()]))")
        bomb, after = adapter.run(python(code, seconds=2), look).steps
        assert (bomb.ending in LATE, after.output.text()) == (True, "True 2\n")

    def test_a_memory_flood_ends_the_step_and_not_the_box(self, adapter: Adapter) -> None:
        flood, after = adapter.run(python("held = []\nwhile True: held.append(bytearray(4_000_000))"), OK).steps
        assert (flood.ending, flood.status, after.succeeded) == (Ending.OUT_OF_MEMORY, None, True)

    @pytest.mark.slow
    def test_a_memory_flood_by_many_processes_counts_together(self, adapter: Adapter) -> None:
        code = (
            "import os, time\nfor _ in range(7):\n  if not os.fork(): break\nheld = b'x' * 40_000_000\ntime.sleep(60)"
        )
        flood, after = adapter.run(python(code), OK).steps
        assert (flood.ending, after.succeeded) == (Ending.OUT_OF_MEMORY, True)

    def test_a_disk_flood_fills_its_own_room_alone(self, adapter: Adapter) -> None:
        code = (
            "import os\ntotal = 0\n"
            "places = ('.', '/tmp', '/dev/shm', '/var/tmp', '/dev', '/', '/run', '/data', os.path.expanduser('~'))\n"
            "for place in places:\n"
            "  for n in range(1000):\n"
            "    try:\n"
            "      with open(f'{place}/flood{n}', 'wb', 0) as file:\n"
            "        for _ in range(8): total += file.write(bytes(1_000_000))\n"
            "    except OSError: break\n"
            "print(total)"
        )
        limits = replace(LIMITS, memory=2 * HIGHEST)
        (flood,) = adapter.run(python(code), limits=limits).steps
        assert flood.succeeded
        # The test image declares a volume, which is one more place.
        assert LIMITS.disk < int(flood.output.text()) <= HIGHEST + LIMITS.disk

    @pytest.mark.slow
    def test_a_flood_of_empty_files_is_bounded(self, adapter: Adapter) -> None:
        code = "import os\nfor n in range(10_000_000): open(f'/tmp/{n}', 'w').close()"
        (flood,) = adapter.run(python(code, seconds=20)).steps
        assert flood.ending in {Ending.EXITED, Ending.OUT_OF_MEMORY}
        assert not flood.succeeded
        assert adapter.run(OK).steps[0].succeeded

    def test_an_output_flood_is_bounded(self, adapter: Adapter) -> None:
        code = "import os\nwhile True: os.write(1, b'\\xff\\x1b[2J' * 20000); os.write(2, bytes(60000))"
        flood, after = adapter.run(python(code, seconds=1), OK).steps
        assert (flood.ending in LATE, after.succeeded) == (True, True)
        assert len(flood.output.head) + len(flood.output.tail) == LIMITS.output
        assert flood.output.cut > 1_000_000

    def test_nothing_outside_can_be_reached_by_network(self, adapter: Adapter) -> None:
        with socket.create_server(("", 0)) as server:
            port = server.getsockname()[1]
            addresses = ["127.0.0.1", "172.17.0.1", "1.1.1.1", socket.gethostbyname(socket.gethostname())]
            attempts = [f"socket.create_connection(({address!r}, {port}), 1)" for address in addresses]
            attempts.append("socket.getaddrinfo('pypi.org', 443)")
            attempts.append("[name for _, name in socket.if_nameindex() if name != 'lo' and not name.endswith('0')][0]")
            result = adapter.run(tried(*attempts))
            server.settimeout(0.1)
            with pytest.raises(TimeoutError):
                server.accept()
        assert printed(result) == "[]\n"

    @pytest.mark.slow
    def test_nothing_outside_reaches_a_server_in_the_box(self, adapter: Adapter) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        code = (
            f"import socket; s = socket.create_server(('', {port})); s.settimeout(1.5); print('up', flush=True)\n"
            "s.accept()"
        )
        reached: list[str] = []

        def knock() -> None:
            end = time.monotonic() + 2
            while time.monotonic() < end:
                try:
                    socket.create_connection(("127.0.0.1", port), 0.2).close()
                    reached.append("in")
                except OSError:
                    time.sleep(0.05)

        knocking = threading.Thread(target=knock)
        knocking.start()
        (server,) = adapter.run(python(code)).steps
        knocking.join()
        assert (reached, server.status, server.output.head[:3]) == ([], 1, b"up\n")

    def test_the_hosts_home_files_and_environment_cannot_be_read(
        self, adapter: Adapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AMINI_TEST_SECRET", "secret-value")
        (tmp_path / "secret").write_text("secret-value")
        paths = [str(tmp_path / "secret"), "/etc/shadow", "/proc/1/environ", "/var/run/docker.sock"]
        attempts = [f"open({path!r}).read()" for path in paths]
        attempts += [f"os.listdir({str(Path.home() / name)!r})" for name in ("", ".ssh", ".cache")]
        attempts += ["[v for v in os.environ.values() if 'secret' in v][0]", "os.environ['AMINI_TEST_SECRET']"]
        attempts += ["[p for p in os.listdir('/proc') if p.isdigit()][2]"]
        said = printed(adapter.run(tried(*attempts)))
        assert "secret-value" not in said
        # Of the home's folder at most the way to the interpreter is there.
        prefix = Path(sys.base_prefix).resolve()
        way = prefix.relative_to(Path.home()).parts[:1] if prefix.is_relative_to(Path.home()) else ()
        assert said in {"[]\n", "[[]]\n", f"[{list(way)}]\n"}

    def test_nothing_can_be_written_outside_the_tree_and_tmp(self, adapter: Adapter) -> None:
        code = (
            "import os, sys, sysconfig\ndone = []\n"
            "places = ['/', '/etc', '/usr', '/usr/bin', '/root', '/home', '/proc/sys/kernel', '/sys', '/dev', '/var',\n"
            "          sys.prefix, sys.base_prefix, sysconfig.get_path('purelib'), os.path.dirname(os.__file__)]\n"
            "for place in places:\n"
            "  for name in ('planted', '../planted'):\n"
            "    try: open(os.path.join(place, name), 'w').close(); done.append(place)\n"
            "    except OSError: pass\n"
            "kernel = ('/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger')\n"
            "for path in (*kernel, '/etc/passwd', '/etc/hosts', sys.executable, os.__file__):\n"
            "  try: open(path, 'r+b').close(); done.append(path)\n"
            "  except OSError: pass\n"
            "print(done)"
        )
        assert printed(adapter.run(python(code))) == "[]\n"

    def test_privileges_cannot_be_gained(self, adapter: Adapter) -> None:
        libc = "ctypes.CDLL(None, use_errno=True)"
        result = adapter.run(
            tried(
                "os.setuid(0)",
                "os.setgroups([0])",
                "os.mknod('/tmp/disk', 0o60600, os.makedev(254, 0))",
                "os.chroot('/tmp')",
                "os.chown('/tmp/home', 0, 0)",
                f"{libc}.mount(b'none', b'/tmp/home', b'tmpfs', 0, None) == 0 and 'mounted'",
                f"1 / ({libc}.mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0)",
                f"1 / ({libc}.sethostname(b'x', 1) == 0)",
                "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
                "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
                "resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))",
                "1 / (int(open('/proc/self/status').read().split('CapEff:')[1].split()[0], 16) != 0)",
                "1 / ('NoNewPrivs:\\t1' not in open('/proc/self/status').read())",
            )
        )
        assert printed(result) == "[False]\n"

    def test_the_runner_cannot_be_killed_stopped_traced_or_written_to(self, adapter: Adapter) -> None:
        attempts = [f"os.kill({pid}, {number})" for pid in (1, "os.getppid()") for number in (2, 9, 15, 17, 19)]
        attempts += [
            f"open('/proc/1/{name}', {mode!r})" for name, mode in (("mem", "r+b"), ("fd/1", "wb"), ("environ", "rb"))
        ]
        attempts += ["os.listdir('/proc/1/fd')", "1 / (ctypes.CDLL(None).ptrace(16, 1, 0, 0) == 0)"]
        attacked, after = adapter.run(tried(*attempts), OK).steps
        assert (attacked.succeeded, after.succeeded) == (True, True)
        # The kernel takes the signals and drops them: each kill() "succeeds" with None.
        assert attacked.output.text() == f"{[None] * 10}\n"

    def test_killing_all_that_can_be_killed_ends_no_more_than_the_step(self, adapter: Adapter) -> None:
        suicide, after = adapter.run(python("import os; os.fork(); os.kill(-1, 9); os.kill(os.getpid(), 9)"), OK).steps
        assert (suicide.ending, suicide.status, after.succeeded) == (Ending.EXITED, -9, True)

    def test_starving_the_runner_fails_no_box_but_ones_own(self, adapter: Adapter) -> None:
        code = (
            "import resource as r; [r.prlimit(1, k, (0, 0)) for k in (r.RLIMIT_NOFILE, r.RLIMIT_NPROC, r.RLIMIT_FSIZE)]"
        )
        hostile, honest = adapter.job(python(code), OK), adapter.job(OK)
        first, second = adapter.run_jobs(hostile, honest)
        assert not first.steps[1].succeeded or first.steps[0].succeeded
        assert second.steps[0].succeeded

    def test_a_survivor_that_left_its_session_is_swept_with_its_step(self, adapter: Adapter) -> None:
        survivor = (
            "import os, time\n"
            "if os.fork() == 0:\n"
            "  os.setsid()\n"
            "  if os.fork() == 0:\n"
            "    while True: open('late', 'a').write('x'); time.sleep(0.01)\n"
            "time.sleep(0.2)"
        )
        look = python(
            "import os, time; a = os.path.getsize('late'); time.sleep(0.3); "
            "print(os.path.getsize('late') - a, len([p for p in os.listdir('/proc') if p.isdigit()]))"
        )
        first, second = adapter.run(python(survivor), look).steps
        assert (first.succeeded, second.output.text()) == (True, "0 2\n")
        assert first.seconds < 3

    def test_printing_results_gives_none(self, adapter: Adapter) -> None:
        code = (
            "import struct, json, sys, os\n"
            "text = json.dumps({'kind': 'step', 'ending': 'exited', 'status': 0}).encode()\n"
            "os.write(1, struct.pack('>II', len(text), 0) + text)\n"
            'os.write(1, b\'<testsuite tests="1" failures="0"/> 1 passed\')\n'
            "sys.exit(1)"
        )
        faked, after = adapter.run(python(code, "junit.xml"), OK).steps
        assert (faked.status, faked.results, after.output.head) == (1, (), b"ok\n")

    def test_a_result_laid_out_for_a_later_step_is_removed_before_it(self, adapter: Adapter) -> None:
        lay = python(
            "import os; open('junit.xml', 'w').write('forged'); os.makedirs('dir'); open('dir/r', 'w').write('forged')"
        )
        patch = (PlacedFile("early.xml", b"forged"), PlacedFile("way2/x", b""))
        later = replace(OK, results=("junit.xml", "early.xml", "dir/r"))
        result = adapter.run(lay, later, files=patch)
        assert result.steps[1].results == ()

    def test_a_result_that_is_no_plain_file_is_absent(self, adapter: Adapter) -> None:
        code = (
            "import os; os.symlink('/etc/passwd', 'a'); os.mkfifo('b'); os.mkdir('c')\n"
            "os.rmdir('d'); os.symlink('/etc', 'd')\n"
            "open('e', 'wb').truncate(10**7); os.symlink('/proc/1/environ', 'f'); os.link('pkg/module.py', 'g')"
        )
        (step,) = adapter.run(python(code, "a", "b", "c", "d/passwd", "e", "f", "g", "../etc/passwd")).steps
        assert [(file.path, file.data) for file in step.results] == [("g", b"VALUE = 41\n")]

    def test_a_file_that_leaves_the_tree_is_refused(self, adapter: Adapter) -> None:
        paths = ("way/passwd", "../up", ".git/hooks/post-checkout")
        for result in adapter.run_jobs(*(adapter.job(OK, files=(PlacedFile(path, b"planted"),)) for path in paths)):
            assert result.refusal != ""
            assert [step.ending for step in result.steps] == [Ending.NOT_RUN]

    def test_a_patch_that_edits_the_tests_is_overruled(self, adapter: Adapter) -> None:
        test = b"from pkg.module import VALUE\n\ndef test_value():\n    assert VALUE == 42\n"
        patch = (
            PlacedFile("test_it.py", b"def test_value():\n    pass\n"),
            PlacedFile("conftest.py", b"import os\nos._exit(0)\n"),
        )
        tests = (PlacedFile("test_it.py", test), PlacedFile("conftest.py", None))
        step = Step(
            ("python", "-m", "pytest", "-q", "--junitxml=.out.xml", "-p", "no:cacheprovider", "test_it.py"),
            results=(".out.xml",),
        )
        (result,) = adapter.run(step, files=(*patch, *tests)).steps
        assert result.status == 1
        assert b'failures="1"' in result.results[0].data

    def test_modules_of_the_tree_do_not_run_in_the_runner(self, adapter: Adapter) -> None:
        evil = b"import os; os.write(1, b'evil'); os._exit(0)\n"
        names = ("sitecustomize", "usercustomize", "json", "os", "ctypes", "signal", "agentless_mini")
        files = tuple(PlacedFile(f"{name}.py", evil) for name in names)
        honest, fooled = adapter.run(
            Step(("python", "-I", "-c", "import sys; sys.exit(5)")),
            Step(("python", "-c", "import sys; sys.exit(5)"), python_path=(".",)),
            files=files,
        ).steps
        assert honest.status == 5
        assert fooled.status == 0  # a test can lie about itself: see the adapters' docstrings

    def test_the_next_box_finds_nothing_of_the_one_before(self, adapter: Adapter) -> None:
        soil = python(
            "import os\n"
            "for place in ('.', '/tmp', '/dev/shm', '/data', os.path.expanduser('~')):\n"
            "  try: open(place + '/planted', 'w').close()\n"
            "  except OSError: pass\n"
            "open('pkg/module.py', 'w').write('VALUE = 0')"
        )
        look = python(
            "import os, pkg.module; print(pkg.module.VALUE, [p for p in ('.', '/tmp', '/dev/shm', '/data', "
            "os.path.expanduser('~')) if os.path.exists(p + '/planted')])"
        )
        for step, expected in ((soil, ""), (look, "41 []\n")):
            assert printed(adapter.run(step)) == expected

    def test_git_hooks_and_configuration_run_nowhere(self, adapter: Adapter, tmp_path: Path) -> None:
        top, marker = tmp_path / "repo", tmp_path / "ran"
        subprocess.run(["git", "init", "-q", str(top)], check=True)
        (top / "a.py").write_text("A = 1\n")
        (top / "picture").write_bytes(b"\0png")
        (top / ".gitattributes").write_text("* filter=evil\n")
        with (top / ".git" / "config").open("a") as config:
            config.write(
                f"[core]\n fsmonitor = touch {marker}\n"
                f'[filter "evil"]\n clean = touch {marker}\n smudge = touch {marker}\n'
            )
        hook = top / ".git" / "hooks" / "post-index-change"
        hook.write_text(f"#!/bin/sh\ntouch {marker}\n")
        hook.chmod(0o755)
        environment = {**os.environ, "GIT_CONFIG_NOSYSTEM": "1"}
        identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "filter.evil.clean=cat", "-c", "core.fsmonitor=")
        for command in (["add", "-A"], ["commit", "-qm", "x", "--no-verify"]):
            subprocess.run(
                ["git", *identity, "-c", "core.hooksPath=/dev/null", *command], cwd=top, check=True, env=environment
            )
        marker.unlink(missing_ok=True)
        snapshot = open_repository(str(top), None, tmp_path / "cache").snapshot()
        pack = pack_snapshot(snapshot, of_folder(top), tmp_path / "body")
        adapter.packs[pack.digest] = pack
        job = replace(adapter.job(python("import os; print(sorted(os.listdir('.')), open('picture', 'rb').read())")))
        (result,) = adapter.run_jobs(replace(job, tree=PackedTree(pack.digest)))
        assert printed(result) == "['.gitattributes', 'a.py', 'picture'] b'\\x00png'\n"
        assert not marker.exists()
