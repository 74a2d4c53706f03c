import socket
from dataclasses import replace
from pathlib import Path

import pytest

from agentless_mini.domain import Ending
from agentless_mini.sandbox.landlock import Landlock
from tests.sandbox.adapter import LATE, LIMITS, OK, Adapter, printed, python
from tests.sandbox.attacks import AttackSuite, tried
from tests.sandbox.contract import SandboxContract
from tests.sandbox.isolation import IsolationSuite


class TestLandlock(SandboxContract, AttackSuite, IsolationSuite):
    """What differs from the other adapters stands in the module's docstring: no /proc of one's own, a watched disk."""

    @pytest.fixture
    def adapter(self, landlock_adapter: Adapter) -> Adapter:
        return landlock_adapter

    def test_a_fork_bomb_is_bounded_and_swept(self, adapter: Adapter) -> None:
        code = "import os\nwhile True:\n  try: os.fork()\n  except OSError: open('full', 'w').close()"
        count = (
            "import os, signal\nstarted = 0\n"
            "try:\n"
            "  while True:\n"
            "    if not os.fork(): signal.pause()\n"
            "    started += 1\n"
            "except OSError: print(os.path.exists('full'), started)"
        )
        bomb, after = adapter.run(python(code, seconds=2), python(count)).steps
        assert (bomb.ending in LATE, after.output.text()) == (True, f"True {LIMITS.pids - 1}\n")

    def test_a_disk_flood_fills_its_own_room_alone(self, adapter: Adapter) -> None:
        code = (
            "import os\n"
            "for place in ('/tmp', '/dev/shm', '/var/tmp', '/dev', '/', '/run', os.path.expanduser('~')):\n"
            "  for n in range(1000):\n"
            "    try:\n"
            "      with open(f'{place}/flood{n}', 'wb', 0) as file:\n"
            "        for _ in range(8): file.write(bytes(1_000_000))\n"
            "      print(os.path.relpath(place, os.environ['TMPDIR']), flush=True)\n"
            "    except OSError: break\n"
        )
        flood, after = adapter.run(python(code), OK).steps
        assert flood.ending is Ending.OUT_OF_MEMORY
        assert set(flood.output.text().split()) == {"home"}
        assert after.ending is Ending.OUT_OF_MEMORY, "what a step left is there for the next one"

    def test_the_runner_cannot_be_killed_stopped_traced_or_written_to(self, adapter: Adapter) -> None:
        attempts = [f"os.kill({pid}, {number})" for pid in (1, "os.getppid()") for number in (2, 9, 15, 17, 19)]
        attempts += ["os.kill(-os.getpgid(os.getppid()), 9)", "os.pidfd_open(os.getppid())"]
        attempts += [f"open(f'/proc/{{os.getppid()}}/{name}', 'rb')" for name in ("mem", "environ", "fd/1", "cmdline")]
        attempts += ["1 / (ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0)"]
        attempts += ["resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (0, 0))"]
        attempts += ["os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)", "os.setpriority(os.PRIO_USER, 0, 19)"]
        attempts += ["os.sched_setaffinity(os.getppid(), {0})"]
        attacked, after = adapter.run(tried(*attempts), OK).steps
        assert (attacked.succeeded, after.succeeded) == (True, True)
        assert attacked.output.text() in {"[]\n", "[3]\n"}, "to name it is no harm"

    def test_starving_the_runner_fails_no_box_but_ones_own(self, adapter: Adapter) -> None:
        attempts = [f"resource.prlimit(1, resource.RLIMIT_{name}, (0, 0))" for name in ("NOFILE", "NPROC", "FSIZE")]
        assert printed(adapter.run(tried(*attempts))) == "[]\n"

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
            "import os, time; a = os.path.getsize('late'); time.sleep(0.3); print(os.path.getsize('late') - a)"
        )
        first, second = adapter.run(python(survivor), look).steps
        assert (first.succeeded, second.output.text()) == (True, "0\n")
        assert first.seconds < 3

    def test_what_landlock_does_not_see_to_cannot_be_changed_either(self, adapter: Adapter, tmp_path: Path) -> None:
        own = tmp_path / "own"
        own.write_text("kept")
        own.chmod(0o640)
        before = own.stat()
        path = repr(str(own))
        attempts = [f"os.chmod({path}, 0o777)", f"os.utime({path}, (1, 1))", f"os.truncate({path}, 0)"]
        attempts += [f"os.chown({path}, -1, -1)", f"os.setxattr({path}, 'user.x', b'')", f"os.rename({path}, 'own')"]
        attempts += [f"os.link({path}, 'own')", f"os.unlink({path})", f"os.chmod('{tmp_path}', 0o777)"]
        attempts += [f"os.symlink({path}, 'way2') or os.chmod('way2', 0o777)", f"os.open({path}, os.O_TRUNC)"]
        attempts += ["os.fchmod(os.open(sys.executable, os.O_RDONLY), 0o777)", "os.utime(sys.executable)"]
        assert printed(adapter.run(tried(*attempts))) == "[]\n"
        after = own.stat()
        assert (after.st_mode, after.st_mtime_ns, after.st_nlink) == (before.st_mode, before.st_mtime_ns, 1)
        assert own.read_text() == "kept"

    def test_shared_memory_is_no_way_out(self, adapter: Adapter, tmp_path: Path) -> None:
        tmp_path.chmod(0o777)
        attempts = [
            f"os.rename(os.environ['TMPDIR'] + '/shm', 'aside') or os.symlink({str(tmp_path)!r}, '../shm') or 1"
        ]
        attempts += ["os.open('/dev/shm/out', os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW)"]
        attempts += ["os.open('/dev/shm/../planted', os.O_RDWR | os.O_CREAT | os.O_EXCL)"]
        first, second = adapter.run(tried(*attempts), tried(*attempts[1:])).steps
        assert first.output.text().startswith("[1, ")
        assert (second.ending, list(tmp_path.glob("[op]*"))) == (Ending.BOX_DIED, [])

    def test_calls_that_make_no_sense_are_answered(self, adapter: Adapter) -> None:
        libc = "ctypes.CDLL(None, use_errno=True)"
        wild = ("0", "8", "-1", "2 ** 63")
        attempts = [
            f"1 / (1 + {libc}.{name}(ctypes.c_long({at}), 0o600))" for name in ("unlink", "chmod") for at in wild
        ]
        attempts += ["s := socket.socket(socket.AF_UNIX)"]
        attempts += [
            f"1 / (1 + {libc}.{name}(s.fileno(), ctypes.c_long({at}), ctypes.c_int({size})))"
            for name in ("connect", "bind")
            for at in wild
            for size in (-5, 0, 1, 1 << 30)
        ]
        refused, after = adapter.run(tried(*attempts), OK).steps
        assert (refused.succeeded, after.succeeded) == (True, True)
        assert refused.output.text().count("<socket") == 1

    def test_modes_and_times_of_its_own_files_can_be_set(self, adapter: Adapter) -> None:
        code = (
            "import os, pathlib\n"
            "os.chmod('run.sh', 0o600); os.utime('run.sh', (5, 7)); s = os.stat('run.sh')\n"
            "with open('run.sh', 'a') as file: os.fchmod(file.fileno(), 0o640); os.utime(file.fileno(), ns=(1, 2))\n"
            "t = os.stat('run.sh'); os.utime('link', (3, 3), follow_symlinks=False)\n"
            "f = os.open('pkg', os.O_RDONLY); os.chmod('module.py', 0o611, dir_fd=f)\n"
            "print(oct(s.st_mode), s.st_mtime, oct(t.st_mode), t.st_mtime_ns, oct(os.stat('pkg/module.py').st_mode))"
        )
        assert printed(adapter.run(python(code))) == "0o100600 7.0 0o100640 2 0o100611\n"

    def test_sockets_by_path_reach_the_box_and_nothing_else(self, adapter: Adapter, tmp_path: Path) -> None:
        code = (
            "import socket\n"
            "server = socket.socket(socket.AF_UNIX); server.bind('here'); server.listen()\n"
            "client = socket.socket(socket.AF_UNIX); client.connect('here')\n"
            "client.send(b'in'); print(server.accept()[0].recv(9))\n"
            "client.close()"
        )
        away = str(tmp_path / "s")
        with socket.socket(socket.AF_UNIX) as outside:
            outside.bind(away)
            Path(away).chmod(0o777)
            outside.listen()
            attempts = [f"socket.socket(socket.AF_UNIX).connect({away!r})", "socket.socket(socket.AF_UNIX, 2)"]
            attempts += [f"os.symlink({away!r}, 'to') or socket.socket(socket.AF_UNIX).connect('to')"]
            attempts += ["socket.socket(socket.AF_INET, socket.SOCK_DGRAM)", "socket.socket(socket.AF_INET6)"]
            attempts += [f"socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b'x', {away!r})"]
            attempts += ["socket.socket().sendto(b'x', 0x20000000, ('127.0.0.1', 1))"]
            inside, out = adapter.run(python(code), tried(*attempts)).steps
        assert (inside.output.text(), out.output.text()) == ("b'in'\n", "[]\n")

    def test_a_server_is_reached_by_every_name_of_this_machine_and_ends_its_connections(self, adapter: Adapter) -> None:
        code = (
            "import http.server, threading, urllib.request\n"
            "class Hello(http.server.BaseHTTPRequestHandler):\n"
            "  def do_GET(self): self.send_response(200); self.end_headers(); self.wfile.write(b'hello')\n"
            "  def log_message(self, *_): pass\n"
            "server = http.server.ThreadingHTTPServer(('', 0), Hello)\n"
            "threading.Thread(target=server.serve_forever, daemon=True).start()\n"
            "for name in ('localhost', '127.0.0.1', '0.0.0.0'):\n"
            "  print(urllib.request.urlopen(f'http://{name}:{server.server_port}/', timeout=5).read())\n"
        )
        assert printed(adapter.run(python(code))) == "b'hello'\n" * 3

    def test_all_ways_to_start_processes_and_share_memory_work(self, adapter: Adapter) -> None:
        code = (
            "import multiprocessing, multiprocessing.shared_memory as sm, os\n"
            "def add(name):\n"
            "  block = sm.SharedMemory(name); block.buf[0] += 1; block.close()\n"
            "if __name__ == '__main__':\n"
            "  block = sm.SharedMemory(create=True, size=8)\n"
            "  for way in ('fork', 'spawn', 'forkserver'):\n"
            "    context = multiprocessing.get_context(way)\n"
            "    process = context.Process(target=add, args=(block.name,)); process.start(); process.join()\n"
            "    with context.Pool(2) as pool: print(way, pool.map(abs, [-1]), block.buf[0])\n"
            "  block.close(); block.unlink(); print('psm' in str(os.listdir(os.environ['TMPDIR'] + '/shm')))\n"
        )
        lay = python(f"open('m.py', 'w').write({code!r})")
        result = adapter.run(
            lay, python("import runpy, sys; sys.argv = ['m.py']; runpy.run_path('m.py', {}, '__main__')")
        )
        assert printed(result, 1).splitlines() == ["fork [1] 1", "spawn [1] 2", "forkserver [1] 3", "False"]


@pytest.mark.slow
class TestOldLandlock(TestLandlock):
    """The second version sees neither to signals nor to cutting nor to TCP: the rest of the fence does."""

    @pytest.fixture
    def landlock(self, landlock: Landlock) -> Landlock:
        return replace(landlock, version=2)
