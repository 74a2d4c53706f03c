"""`amini learn curate` as people run it: its document, its errors, a kill at any moment, a model, a cluster."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentless_mini.learning.rows import RowFile
from tests.commands.running import Home, one_sentence
from tests.evaluation.cluster_nodes import ray_nodes
from tests.fakes.model import Answer, Rule, Script
from tests.fakes.protocol import ServedModel
from tests.fakes.server import ScriptedServer
from tests.learning.curation.test_curation import many
from tests.learning.curation.world import FIXED, World, issue_event, pull_event, rows_of, small_world

for library in ("pyarrow", "duckdb", "datasketch"):
    pytest.importorskip(library, reason="a library is not installed (the extra 'train')")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    root = tmp_path / "home"
    root.mkdir()
    return Home(root, tmp_path)


def arguments(out: str, *more: str) -> tuple[str, ...]:
    return ("learn", "curate", "events", "--mirrors", "mirrors", "--out", out, *more)


def test_a_document_says_what_came_of_it(home: Home, tmp_path: Path) -> None:
    small_world(tmp_path)
    ended = home.process(*arguments("out"))
    assert ended.returncode == 0, ended.stderr
    document = json.loads(ended.stdout)
    assert document["rows"]["train"] == len(rows_of(tmp_path / "out")) == 1
    assert document["out"] == "out"
    assert "Collecting rows" in ended.stderr
    said = " ".join(ended.stderr.split())
    assert "note: no model is named, so that rows show no file but those that change" in said
    assert "note: no row is in valid and test." in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("learn", "curate", "absent", "--mirrors", "mirrors", "--out", "out"), "There are no events at absent"),
        (("learn", "curate", "events", "--mirrors", "absent", "--out", "out"), "no folder of mirrors"),
        (arguments("out", "--relevant", "magic"), "--relevant must be"),
        (arguments("out", "--cluster", "127.0.0.1:1"), "No Ray cluster can be used at 127.0.0.1:1"),
    ],
)
def test_what_cannot_be_used_is_a_sentence(home: Home, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    small_world(tmp_path)
    ended = home.process(*words)
    assert ended.returncode in {2, 4}
    assert said in one_sentence(ended.stderr)
    assert ended.stdout == ""


@pytest.mark.thorough
def test_a_model_names_the_relevant_files_and_is_asked_once(home: Home, tmp_path: Path) -> None:
    world = World(tmp_path)
    world.repository(files={"other.py": b"x = 1\n", "third.py": b"y = 1\n"})
    merge = world.change({"half.py": FIXED})
    world.events += [issue_event(1, "half(3) is 1.5"), pull_event(12, merge)]
    world.write()
    script = Script(rules=(Rule(stage="localize", answers=(Answer(text="```\nhalf.py\nother.py\n```"),)),))
    with ScriptedServer(ServedModel(script=script)) as server:
        more = ("--base-url", server.url)  # which is asked because it is named
        assert home.process(*arguments("out", *more)).returncode == 0
        asked = len(server.log.chats())
        world.write("more.json.gz", [issue_event(2, "another")])
        ended = home.process(*arguments("out", *more))
        assert ended.returncode == 0, ended.stderr
        assert len(server.log.chats()) == asked
    (row,) = rows_of(tmp_path / "out")
    assert row.files[1:] == (RowFile("other.py", "x = 1\n", "x = 1\n"),)


def shards(folder: Path) -> int:
    """Count the files of shards, while files and folders come and go."""
    return sum(".parquet" in name for _, _, names in os.walk(folder) for name in names)


@pytest.mark.thorough
def test_killed_at_random_moments_it_ends_with_the_same_rows(home: Home, tmp_path: Path) -> None:
    many(tmp_path, 8)
    whole = home.process(*arguments("whole"))
    moments = random.Random(7)  # noqa: S311 - moments of a test
    for _ in range(6):
        running = subprocess.Popen(
            home.command(*arguments("out")),
            cwd=tmp_path,
            env=home.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        before = shards(tmp_path / "out")
        until = time.monotonic() + 60
        while running.poll() is None and time.monotonic() < until:
            if shards(tmp_path / "out") > before:
                time.sleep(moments.random() * 0.4)
                break
        running.send_signal(signal.SIGKILL)
        running.wait()
    ended = home.process(*arguments("out"))
    assert {**json.loads(ended.stdout), "out": "", "seconds": 0} == {
        **json.loads(whole.stdout),
        "out": "",
        "seconds": 0,
    }
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "whole")
    assert not list((tmp_path / "out").glob(".*"))


def children(process: int) -> set[Path]:
    """Return what a process has started that is still there, in /proc."""
    stats = (stat for stat in Path("/proc").glob("[0-9]*/stat") if stat.exists())
    return {stat.parent for stat in stats if stat.read_text().rpartition(")")[2].split()[1] == str(process)}


@pytest.mark.thorough
def test_the_processes_of_a_killed_run_end(home: Home, tmp_path: Path) -> None:
    many(tmp_path, 8)
    words = home.command(*arguments("out", "--workers", "2", "--quiet"))
    running = subprocess.Popen(words, cwd=tmp_path, env=home.environment(), stdout=subprocess.DEVNULL)
    until = time.monotonic() + 300
    while not shards(tmp_path / "out") and time.monotonic() < until:
        time.sleep(0.1)
    started = children(running.pid)
    running.kill()
    running.wait()
    until = time.monotonic() + 60
    while any(one.exists() for one in started) and time.monotonic() < until:
        time.sleep(0.1)
    assert len(started) >= 2
    assert not any(one.exists() for one in started)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    pytest.importorskip("ray", reason="Ray is not installed (the extra 'cluster')")
    with ray_nodes(1) as (address, _):
        yield address


@pytest.mark.thorough
def test_a_cluster_comes_to_the_same_rows(home: Home, tmp_path: Path, cluster: str) -> None:
    many(tmp_path, 5)
    ended = home.process(*arguments("far", "--cluster", cluster))
    assert ended.returncode == 0, ended.stderr
    near = home.process(*arguments("near"))
    assert {**json.loads(ended.stdout), "out": "", "seconds": 0} == {**json.loads(near.stdout), "out": "", "seconds": 0}
    assert rows_of(tmp_path / "far") == rows_of(tmp_path / "near")
    assert len(rows_of(tmp_path / "far")) == 5


@pytest.mark.thorough
def test_a_failure_on_a_cluster_is_a_sentence(home: Home, tmp_path: Path, cluster: str) -> None:
    world = small_world(tmp_path)
    (world.folder / "events" / "closed.json").write_text("{}")
    work = tmp_path / "out" / "work"
    work.mkdir(parents=True)
    (work / "events").write_text("in the way")
    ended = home.process(*arguments("out", "--cluster", cluster))
    assert ended.returncode == 4
    one_sentence(ended.stderr.strip().rpartition("\n")[2])
