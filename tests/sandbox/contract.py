"""What every sandbox keeps to. A test class of an adapter inherits it and gives the fixture `adapter`."""

import asyncio
import time
from dataclasses import replace
from itertools import pairwise

import pytest

from agentless_mini.domain import Ending, FileKind, PackedTree, PlacedFile, SourceFile, Step
from agentless_mini.errors import EnvironmentFailed
from tests.sandbox.adapter import LIMITS, OK, Adapter, printed, python


class SandboxContract:
    def test_a_step_reports_its_exit_status_and_what_it_printed(self, adapter: Adapter) -> None:
        code = "import sys; print('out', flush=True); print('err', file=sys.stderr); sys.exit(3)"
        (step,) = adapter.run(python(code)).steps
        assert (step.ending, step.status, step.output.head) == (Ending.EXITED, 3, b"out\nerr\n")
        assert not step.succeeded
        assert 0 < step.seconds < 10

    def test_steps_run_in_order_in_one_box(self, adapter: Adapter) -> None:
        result = adapter.run(python("open('made', 'w').write('x')"), python("print(open('made').read())"))
        assert [step.succeeded for step in result.steps] == [True, True]
        assert printed(result, 1) == "x\n"

    def test_a_signal_is_a_negative_status(self, adapter: Adapter) -> None:
        (step,) = adapter.run(python("import os; os.kill(os.getpid(), 11)")).steps
        assert (step.ending, step.status) == (Ending.EXITED, -11)

    def test_a_program_that_is_not_there_ends_with_127(self, adapter: Adapter) -> None:
        missing, nowhere = adapter.run(Step(("no-such-program",)), Step(("python", "-V"), folder="no/folder")).steps
        assert (missing.status, nowhere.status) == (127, 127)
        assert "no-such-program" in missing.output.text()

    def test_a_step_that_takes_too_long_is_killed_and_the_next_one_runs(self, adapter: Adapter) -> None:
        slow, after = adapter.run(
            python("print('begun', flush=True); import time; time.sleep(60)", seconds=0.5), OK
        ).steps
        assert (slow.ending, slow.status, slow.output.head) == (Ending.TIMED_OUT, None, b"begun\n")
        assert 0.5 <= slow.seconds < 3
        assert after.succeeded

    def test_what_the_box_has_no_time_for_is_not_run(self, adapter: Adapter) -> None:
        sleeping = python("import time; time.sleep(60)")
        result = adapter.run(OK, sleeping, OK, limits=replace(LIMITS, seconds=1.0))
        assert [step.ending for step in result.steps] == [Ending.EXITED, Ending.TIMED_OUT, Ending.NOT_RUN]

    def test_long_output_keeps_its_beginning_and_its_end(self, adapter: Adapter) -> None:
        (step,) = adapter.run(python("print('first'); print('x' * 100_000); print('last')")).steps
        assert step.output.head.startswith(b"first\nxx")
        assert step.output.tail.endswith(b"xx\nlast\n")
        assert len(step.output.head) + len(step.output.tail) == LIMITS.output
        assert step.output.cut == 100_012 - LIMITS.output
        assert f"{step.output.cut} bytes cut" in step.output.text()

    def test_result_files_come_back_as_bytes_and_absent_ones_are_absent(self, adapter: Adapter) -> None:
        code = "open('.out/a.xml', 'wb').write(b'<a>\\xff'); open('big', 'wb').write(bytes(9000)); open('b', 'w')"
        (step,) = adapter.run(python(code, ".out/a.xml", "big", "none/x", "b")).steps
        assert [(file.path, file.data) for file in step.results] == [(".out/a.xml", b"<a>\xff"), ("b", b"")]

    @pytest.mark.slow
    def test_a_step_that_is_killed_still_gives_its_result_files(self, adapter: Adapter) -> None:
        code = "open('r', 'w').write('early'); import time; time.sleep(60)"
        (step,) = adapter.run(python(code, "r", seconds=0.5)).steps
        assert (step.ending, step.results[0].data) == (Ending.TIMED_OUT, b"early")

    def test_variables_folder_and_python_path_are_as_asked(self, adapter: Adapter) -> None:
        code = "import os, sys; import module; print(module.VALUE, os.environ['A'], os.path.basename(os.getcwd()))"
        step = Step(("python", "-c", code), folder="pkg", python_path=("pkg",), variables=(("A", "b c"),))
        assert printed(adapter.run(step)) == "41 b c pkg\n"

    def test_the_tree_is_there_with_modes_links_binaries_and_submodules(self, adapter: Adapter) -> None:
        code = (
            "import os; print(os.readlink('link'), open('pkg/data.bin', 'rb').read(), os.listdir('sub'), "
            "sorted(os.listdir('.')), os.access('run.sh', os.X_OK), os.access('link', os.X_OK))"
        )
        result = adapter.run(python(code), Step(("./run.sh",)))
        expected = "pkg/module.py b'\\x00\\x01\\x02' [] ['link', 'pkg', 'run.sh', 'sub', 'way'] True False\n"
        assert (printed(result), printed(result, 1)) == (expected, "ran\n")

    def test_files_are_placed_over_the_tree_and_the_later_one_counts(self, adapter: Adapter) -> None:
        files = (
            PlacedFile("pkg/module.py", b"VALUE = 1\n"),
            PlacedFile("pkg/module.py", b"VALUE = 2\n"),
            PlacedFile("new/deep/tool", b"#!/bin/sh\necho tool\n", "100755"),
            PlacedFile("pkg/data.bin", None),
            PlacedFile("absent/file", None),
            PlacedFile("link", b"no link now"),
        )
        code = (
            "import os, pkg.module as m; "
            "print(m.VALUE, os.listdir('pkg'), os.path.islink('link'), os.path.exists('absent'))"
        )
        result = adapter.run(python(code), Step(("new/deep/tool",)), files=files)
        assert (printed(result), printed(result, 1)) == ("2 ['module.py'] False False\n", "tool\n")

    @pytest.mark.slow
    def test_a_folder_whose_last_file_is_taken_away_is_gone(self, adapter: Adapter) -> None:
        files = (PlacedFile("pkg/data.bin", None), PlacedFile("pkg/module.py", None))
        assert printed(adapter.run(python("import os; print(os.path.exists('pkg'))"), files=files)) == "False\n"

    @pytest.mark.slow
    def test_names_that_are_not_utf_8_keep_their_bytes(self, adapter: Adapter) -> None:
        name = b"caf\xe9 \n".decode("utf-8", "surrogateescape")
        tree = adapter.tree(SourceFile(name, "100644", FileKind.TEXT, b"1"))
        job = replace(adapter.job(python("import os; print(os.listdir(b'.'))")), tree=tree)
        (result,) = adapter.run_jobs(job)
        assert "b'caf\\xe9 \\n'" in printed(result)

    def test_a_box_has_a_private_home_and_no_more_variables_than_it_needs(self, adapter: Adapter) -> None:
        code = (
            "import os; home, place = os.path.expanduser('~'), os.environ['TMPDIR']; open(home + '/x', 'w').close();"
            "print(os.path.relpath(home, place), "
            "sorted(set(os.environ) - {'PATH', 'VIRTUAL_ENV', 'HOSTNAME'}), os.getuid() > 0)"
        )
        expected = "home ['HOME', 'LANG', 'PYTHONDONTWRITEBYTECODE', 'PYTHONUNBUFFERED', 'TMPDIR'] True\n"
        assert printed(adapter.run(python(code))) == expected

    def test_processes_threads_shared_memory_and_loopback_work(self, adapter: Adapter) -> None:
        code = (
            "import multiprocessing, socket, threading, tempfile\n"
            "if __name__ == '__main__':\n"
            "    with multiprocessing.get_context('fork').Pool(2) as pool: print(pool.map(abs, [-1, -2]))\n"
            "    server = socket.create_server(('localhost', 0))\n"
            "    socket.create_connection(server.getsockname()).close()\n"
            "    t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()\n"
            "    tempfile.mkdtemp()\n"
        )
        (step,) = adapter.run(python(code)).steps
        assert (step.succeeded, step.output.text()) == (True, "[1, 2]\nthread\n")

    def test_no_steps_are_a_result_too(self, adapter: Adapter) -> None:
        assert adapter.run().steps == ()

    @pytest.mark.slow
    def test_boxes_run_at_once_and_share_nothing(self, adapter: Adapter) -> None:
        # A checkout of amini below /tmp has its interpreter there in every box.
        code = (
            "import os, time; os.chdir(os.environ['TMPDIR']); before = set(os.listdir()); open('mine', 'x');"
            "begun = time.monotonic(); time.sleep(2); print(*set(os.listdir()) - before, begun, time.monotonic())"
        )
        results = adapter.run_jobs(*(adapter.job(python(code)) for _ in range(3)), boxes=3)
        lines = [printed(result).split() for result in results]
        assert [names for *names, _, _ in lines] == [["mine"]] * 3
        times = sorted((float(begun), float(ended)) for *_, begun, ended in lines)
        assert any(later[0] < earlier[1] for earlier, later in pairwise(times)), "one after the other"

    def test_a_cancelled_run_has_left_nothing_when_it_returns(self, adapter: Adapter) -> None:
        async def cancel(after: float) -> None:
            async with adapter.open() as sandbox:
                running = asyncio.create_task(sandbox.run(adapter.job(python("import time; time.sleep(60)"))))
                await asyncio.sleep(after)
                running.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await running
                assert adapter.left() == []

        for after in (0.0, 0.05, 1.0):
            begun = time.monotonic()
            asyncio.run(cancel(after))
            assert time.monotonic() - begun < 8

    def test_a_tree_or_environment_that_is_not_there_is_an_error(self, adapter: Adapter) -> None:
        with pytest.raises(EnvironmentFailed, match="pack it first"):
            adapter.run_jobs(replace(adapter.job(OK), tree=PackedTree("unknown")))
        with pytest.raises(EnvironmentFailed):
            adapter.run_jobs(replace(adapter.job(OK), environment=replace(adapter.environment, identity="unknown")))

    def test_a_tree_that_does_not_fit_is_an_error(self, adapter: Adapter) -> None:
        tree = adapter.tree(SourceFile("big", "100644", FileKind.TEXT, bytes(LIMITS.disk + 1)))
        with pytest.raises(EnvironmentFailed, match="more disk space"):
            adapter.run_jobs(replace(adapter.job(OK), tree=tree))
