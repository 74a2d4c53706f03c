"""The file survives its process, has one writer, and is never mistaken for another."""

import contextlib
import os
import re
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agentless_mini.domain import Completion, Finish
from agentless_mini.errors import StoreBusy, StoreError
from agentless_mini.record import RunStatus, Store
from agentless_mini.record.database import Database
from agentless_mini.record.effects import Kind
from tests.record.building import START, python, record, request

NUMBER = Kind[int]("number")
CHILD = """
    import os, sys
    from pathlib import Path
    from agentless_mini.domain import Completion, Finish
    from agentless_mini.record import Store
    from tests.record.building import request
    os.write(1, b"ready\\n")
    with Store.open(Path(sys.argv[1])) as store:
        asked = request("p" * 5000)
        key = store.put_request(asked)
        for index in range(len(store.recorded(key)), 1_000_000):
            store.put_sample(key, asked, Completion(index, f"answer {index}" * 200, Finish.STOP))
            os.write(1, b"%d\\n" % index)
"""


def test_a_process_killed_at_any_moment_loses_nothing_that_it_had_recorded(path: Path) -> None:
    asked = request("p" * 5000)
    reported: set[int] = set()
    for moment in range(20):
        child = python(CHILD, str(path))
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(moment * 0.0015)
        child.kill()
        lines = child.stdout.read()
        child.stdout.close()
        assert child.wait() == -9
        reported |= {int(line) for line in lines.split("\n")[:-1]}
        with Store.open(path) as store:
            recorded = store.recorded(asked.key())
            assert reported <= recorded
            assert len(recorded) <= len(reported) + moment + 1  # a kill can hide the report of one sample
        with contextlib.closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    assert len(reported) > 20
    with Store.open_readonly(path) as store:
        assert all(store.get_sample(asked.key(), index) for index in reported)


def test_a_second_run_is_told_which_process_has_the_store_and_a_reader_is_not_kept_out(path: Path) -> None:
    child = python(CHILD, str(path))
    assert child.stdout is not None
    try:
        assert [child.stdout.readline() for _ in range(2)] == ["ready\n", "0\n"]
        with pytest.raises(StoreBusy, match=rf"\(process {child.pid}\) uses .*--store"):
            Store.open(path)
        with Store.open_readonly(path) as store:
            assert 0 in store.recorded(request("p" * 5000).key())
    finally:
        child.kill()
        child.stdout.close()
        child.wait()


def test_one_process_cannot_open_a_store_twice_either(path: Path) -> None:
    with Store.open(path), pytest.raises(StoreBusy, match=rf"\(process {os.getpid()}\) uses {re.escape(str(path))}"):
        Store.open(path)
    Store.open(path).close()


def test_a_run_that_may_wait_says_so_and_has_the_store_when_it_is_free(path: Path) -> None:
    first, told = Store.open(path), []

    def waiting(sentence: str) -> None:
        told.append(sentence)
        first.close()

    with Store.open(path, waiting) as second:
        second.put_value(NUMBER, "key", 1)
    assert [f"(process {os.getpid()})" in sentence for sentence in told] == [True]
    assert "waiting for its end" in told[0]


def test_a_run_that_has_not_yet_said_its_number_is_busy_too(path: Path) -> None:
    with Store.open(path):
        os.truncate(f"{path}.lock", 0)
        with pytest.raises(StoreBusy, match="Another amini run uses"):
            Store.open(path)


def test_a_link_to_a_store_is_the_same_store(path: Path, tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(path)
    with Store.open(path), pytest.raises(StoreBusy):
        Store.open(tmp_path / "link.db")


def test_a_store_is_for_its_owner_alone(store: Store, path: Path) -> None:
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_reader_cannot_write(path: Path) -> None:
    Store.open(path).close()
    with Store.open_readonly(path) as store, pytest.raises(StoreError, match="cannot be opened or written"):
        store.put_value(NUMBER, "key", 1)


def test_a_reader_sees_what_a_killed_process_left_in_the_log(path: Path, tmp_path: Path) -> None:
    with Store.open(path) as store:
        key = record(store, request(), Completion(0, "answer", Finish.STOP))
        for left in path.parent.iterdir():
            (tmp_path / left.name).write_bytes(left.read_bytes())
    with Store.open_readonly(tmp_path / "store.db") as copy:
        assert copy.recorded(key) == {0}


def test_in_a_copy_of_a_store_without_its_lock_no_run_is_alive(path: Path, tmp_path: Path) -> None:
    with Store.open(path) as store:
        store.runs.begin(START)
    (tmp_path / "copy.db").write_bytes(path.read_bytes())
    with Store.open_readonly(tmp_path / "copy.db") as copy:
        assert copy.runs.summaries()[0].run.status is RunStatus.INTERRUPTED


def test_another_program_that_holds_the_file_is_named_as_the_cause(path: Path) -> None:
    Store.open(path).close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other, Store.open(path) as store:
        other.execute("BEGIN IMMEDIATE")
        store._database._connection.execute("PRAGMA busy_timeout = 10")  # the default would wait for 5 seconds
        with pytest.raises(StoreBusy, match="Another program"):
            store.put_value(NUMBER, "key", 1)


def foreign(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE photos (id)")


def newer(path: Path) -> None:
    Store.open(path).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


def older(path: Path) -> None:
    Store.open(path).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 7")


def torn(path: Path) -> None:
    with Store.open(path) as store:
        record(store, request("x" * 50_000))
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 4000)


BAD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no database": (lambda path: path.write_text("Dear diary, " * 500), "damaged or no store at all"),
    "damaged": (torn, "damaged or no store at all"),
    "another program's": (foreign, "database of another program"),
    "a newer amini's": (newer, "newer amini .*update amini"),
    "an older amini's": (older, r"older amini .*move it away, or name another place \(--store; of eval: --out\)"),
    "a folder": (lambda path: path.mkdir(), "cannot be opened or written"),
}


@pytest.mark.parametrize("bad", BAD_FILES)
@pytest.mark.parametrize("open_store", [Store.open, Store.open_readonly])
def test_a_file_that_is_no_store_is_named_in_one_sentence_and_left_alone(
    tmp_path: Path, bad: str, open_store: Callable[[Path], Store]
) -> None:
    make, sentence = BAD_FILES[bad]
    path = tmp_path / "bad.db"
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(StoreError, match=sentence) as caught:
        open_store(path)
    assert "--store" in str(caught.value)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
    assert (path.read_bytes() if path.is_file() else b"") == before
    assert type(caught.value) is StoreError


def test_reading_where_there_is_no_store_says_how_one_is_made(path: Path) -> None:
    with pytest.raises(StoreError, match=r"no store at .*amini repair makes one"):
        Store.open_readonly(path)
    assert not path.parent.exists()


def test_a_path_of_any_characters_works_and_is_named_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "odd \n?%23#'\x1b[31m\udcff" / "store.db"
    with Store.open(path) as store:
        store.put_value(NUMBER, "key", 3)
        with pytest.raises(StoreBusy) as caught:
            Store.open(path)
    assert str(caught.value).isprintable()
    with Store.open_readonly(path) as store:
        assert store.value(NUMBER, "key") == 3


def test_a_step_that_fails_makes_no_table(path: Path) -> None:
    with pytest.raises(StoreError, match="no such table: nowhere"):
        Database.create(path, 1, "CREATE TABLE two (b); INSERT INTO nowhere VALUES (1);")
    with pytest.raises(StoreError, match=r"no store at .*amini repair makes one"):
        Database.view(path, 1)
    database = Database.create(path, 1, "CREATE TABLE one (a);")
    assert database.read("SELECT name FROM sqlite_master") == [("one",)]
    database.close()
