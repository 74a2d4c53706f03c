"""What the machine refuses is said in a sentence, and what was recorded stays."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentless_mini.errors import AminiError, StoreError
from agentless_mini.record import Store
from tests.record.building import START, python


def without_privileges(action: Callable[[], object]) -> str:
    """Run an action as a user who may do nothing special (root may write anywhere) and return the error's text."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            action()
            os.write(writer, b"no error")
        except AminiError as error:
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as answer:
        return answer.read()


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user can enter and read, with a store in it."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with Store.open(place / "store.db") as store:
            store.runs.begin(START)
        (place / "store.db").chmod(0o444)
        place.chmod(0o555)
        yield place
        place.chmod(0o755)


def test_a_folder_without_permission_to_write_is_named(public: Path) -> None:
    answer = without_privileges(lambda: Store.open(public / "new.db"))
    assert answer.startswith(f"StoreError: The store {public}/new.db cannot be opened or written (Permission denied)")
    assert "check the permissions" in answer


def test_a_store_that_may_only_be_read_can_be_looked_at(public: Path) -> None:
    assert without_privileges(lambda: Store.open_readonly(public / "store.db").runs.summaries()) == "no error"


def test_a_store_without_permission_to_read_is_named(public: Path) -> None:
    (public / "store.db").chmod(0)
    assert "cannot be opened or written" in without_privileges(lambda: Store.open_readonly(public / "store.db"))


FILL = """
    import resource, subprocess, sys
    from pathlib import Path
    from agentless_mini.domain import Completion, Finish
    from agentless_mini.errors import StoreError
    from agentless_mini.record import Store
    from tests.record.building import request
    path, limit = Path(sys.argv[1]) / "store.db", sys.argv[2]
    if limit == "disk":
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", sys.argv[1]], check=True)
    with Store.open(path) as store:
        if limit == "file":
            resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, resource.RLIM_INFINITY))
        asked, done = request(), 0
        key = store.put_request(asked)
        try:
            for index in range(10_000):
                store.put_sample(key, asked, Completion(index, "x" * 20_000, Finish.STOP))
                done += 1
        except StoreError as error:
            print(error)
        assert store.recorded(key) == frozenset(range(done)), (done, store.recorded(key))
        if limit == "disk":
            try:
                Store.open(Path(sys.argv[1]) / "second.db")
            except StoreError as error:
                print(error)
            subprocess.run(["mount", "-o", "remount,size=4m", sys.argv[1]], check=True)
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        store.put_sample(key, asked, Completion(done, "there is room again", Finish.STOP))
    with Store.open_readonly(path) as store:
        assert store.recorded(key) == frozenset(range(done + 1))
    print("recorded some:", done > 3)
"""


def test_a_full_disk_is_named_and_what_was_recorded_stays(tmp_path: Path) -> None:
    trial = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run(trial, check=False).returncode:
        pytest.skip("this machine lets no test mount a small disk of its own")
    child = python(FILL, str(tmp_path), "disk", before=("unshare", "-rm"))
    answer, _ = child.communicate()
    assert child.returncode == 0
    first, second, _ = answer.split("\n", 2)
    assert first.startswith(f"The disk of the store {tmp_path}/store.db is full: make room and run the same command")
    assert second.startswith(f"The disk of the store {tmp_path}/second.db is full")
    assert answer.endswith("recorded some: True\n")


def test_a_write_that_the_system_refuses_is_named_and_what_was_recorded_stays(tmp_path: Path) -> None:
    child = python(FILL, str(tmp_path), "file")
    answer, _ = child.communicate()
    assert child.returncode == 0
    assert answer.startswith("The ")
    assert f"the store {tmp_path}/store.db".casefold() in answer.casefold()
    assert answer.endswith("recorded some: True\n")


def test_a_path_that_no_disk_can_hold_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="File name too long"):
        Store.open(tmp_path / ("x" * 300))


def test_a_store_without_permission_to_write_is_named(public: Path) -> None:
    assert "cannot be opened or written" in without_privileges(lambda: Store.open(public / "store.db"))


def test_a_folder_without_permission_to_enter_is_named(public: Path) -> None:
    public.chmod(0)
    assert "cannot be opened or written" in without_privileges(lambda: Store.open(public / "store.db"))
    assert "cannot be opened or written" in without_privileges(lambda: Store.open_readonly(public / "store.db"))
