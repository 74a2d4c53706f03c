"""What is believed of a box, what a job's key depends on, and that the program in a box keeps to old Pythons."""

import ast
import json
import os
import resource
import socket
import struct
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.domain import (
    BoxLimits,
    BoxUser,
    Ending,
    Environment,
    FileChange,
    ImageTree,
    Job,
    PackedTree,
    PlacedFile,
    Step,
    placed_files,
)
from agentless_mini.repository.gitcommand import GitCommand
from agentless_mini.repository.opening import open_repository
from agentless_mini.sandbox import host, inside
from agentless_mini.sandbox.inside.runner import over
from agentless_mini.sandbox.wire import (
    Garbled,
    Pack,
    Transcript,
    compose,
    converse,
    of_commit,
    of_folder,
    pack_snapshot,
)

JOB = Job(
    Environment("sha256:1"),
    PackedTree("t"),
    (PlacedFile("a", b"1"), PlacedFile("b", None)),
    (Step(("true",), results=("r",)), Step(("false",))),
)
READY = {"kind": "ready"}
DONE = {"kind": "step", "ending": "exited", "status": 0, "seconds": 0.5, "output": [1, 0, 0], "results": [["r", 2]]}


def message(body: object, blob: bytes = b"") -> bytes:
    text = json.dumps(body).encode()
    return struct.pack(">II", len(text), len(blob)) + text + blob


def test_a_transcript_reads_what_comes_in_any_pieces() -> None:
    said = message(READY) + message(DONE, b"oxy") + message({"kind": "step", "ending": "timed-out", "status": None,
        "seconds": 1, "output": [0, 0, 0], "results": []})  # fmt: skip
    for size in (1, 7, 1000):
        transcript = Transcript(JOB)
        for at in range(0, len(said), size):
            transcript.feed(said[at : at + size])
        assert transcript.complete
        first, second = transcript.result(Ending.BOX_DIED).steps
        assert (first.status, first.output.head, first.results[0].data) == (0, b"o", b"xy")
        assert (second.ending, second.status) == (Ending.TIMED_OUT, None)


def test_what_a_step_prints_is_heard_where_it_was_asked_for() -> None:
    heard: list[str] = []
    transcript = Transcript(JOB, heard.append)
    transcript.feed(message(READY) + message({"kind": "said", "words": "Collecting numpy"}))
    assert heard == ["Collecting numpy"]
    with pytest.raises(Garbled):
        transcript.feed(message({"kind": "said"}))
    unasked = Transcript(JOB)
    unasked.feed(message(READY))
    with pytest.raises(Garbled):
        unasked.feed(message({"kind": "said", "words": "x"}))


def test_a_box_that_dies_takes_down_the_step_that_ran_and_those_after() -> None:
    transcript = Transcript(JOB)
    transcript.feed(message(READY))
    assert [step.ending for step in transcript.result(Ending.BOX_DIED).steps] == [Ending.BOX_DIED, Ending.NOT_RUN]


@pytest.mark.parametrize(
    "body",
    [
        {**DONE, "results": [["other", 2]]},
        {**DONE, "output": [2, 0, 0]},
        {**DONE, "output": [-1, 2, 0]},
        {**DONE, "output": [0, 0]},
        {**DONE, "ending": "passed"},
        {**DONE, "status": None},
        {**DONE, "seconds": float("inf")},
        {**DONE, "seconds": 10**400},
        {**DONE, "status": float("inf")},
        {"kind": "ready"},
        {"kind": "refused", "words": "late"},
        {"kind": "other"},
        {},
        [],
        "step",
    ],
)
def test_a_box_that_says_what_no_box_says_is_not_believed(body: object) -> None:
    transcript = Transcript(JOB)
    transcript.feed(message(READY))
    with pytest.raises(Garbled):
        transcript.feed(message(body, b"oxy"))


def test_a_box_that_nests_without_end_is_not_believed() -> None:
    transcript = Transcript(JOB)
    text = b"[" * 500_000
    with pytest.raises(Garbled):
        transcript.feed(struct.pack(">II", len(text), 0) + text)


def test_a_box_that_says_a_byte_now_and_then_has_no_more_time() -> None:
    line, theirs = socket.socketpair()

    def drip() -> None:
        with theirs, suppress(OSError):
            theirs.sendall(struct.pack(">II", 1000, 0))
            for _ in range(500):
                theirs.sendall(b" ")
                time.sleep(0.02)

    dripping = threading.Thread(target=drip)
    dripping.start()
    with line:
        assert converse(line, (), Transcript(JOB), 0.01, setting_up=0.2) is Ending.TIMED_OUT
    dripping.join()


def test_a_message_longer_than_any_is_not_waited_for() -> None:
    for sizes in ((1 << 31, 0), (2, 1 << 31)):
        with pytest.raises(Garbled):
            Transcript(JOB).feed(struct.pack(">II", *sizes))


@given(st.binary(max_size=200))
def test_no_bytes_are_more_than_garbled(data: bytes) -> None:
    transcript = Transcript(JOB)
    transcript.feed(message(READY))
    try:
        transcript.feed(data)
    except Garbled:
        return
    assert not transcript.complete


CHANGES = (
    replace(JOB, environment=Environment("sha256:2")),
    replace(JOB, environment=Environment("sha256:1", user=BoxUser.ROOT)),
    replace(JOB, tree=PackedTree("u")),
    replace(JOB, tree=ImageTree("t")),
    replace(JOB, files=(PlacedFile("a", b"2"), PlacedFile("b", None))),
    replace(JOB, files=(PlacedFile("a", b"1"), PlacedFile("b", b""))),
    replace(JOB, files=(PlacedFile("a", b"1", "100755"), PlacedFile("b", None))),
    replace(JOB, steps=JOB.steps[::-1]),
    replace(JOB, steps=(replace(JOB.steps[0], argv=("tr", "ue")), JOB.steps[1])),
    replace(JOB, limits=BoxLimits(seconds=1)),
)


def test_a_key_changes_with_all_that_a_job_depends_on_and_nothing_else() -> None:
    keys = {job.key() for job in (JOB, *CHANGES)}
    assert len(keys) == len(CHANGES) + 1
    assert replace(JOB, limits=BoxLimits(seconds=900)).key() == JOB.key()
    # Changing this without changing JOB_VERSION disowns every recorded run.
    assert JOB.key() == "de1bbc0f9779118f63b826dc12aeafe242350e942c05d803716a116bf4376747"


def test_a_patch_is_placed_file_by_file() -> None:
    changes = (FileChange("a", b"1", b"2", "100755"), FileChange("b", b"1", None, "100644"))
    assert placed_files(changes) == (PlacedFile("a", b"2", "100755"), PlacedFile("b", None, "100644"))


def test_the_program_of_a_box_is_python_3_7() -> None:
    for path in Path(inside.__file__).parent.glob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 7))
    assert len(host.program()) < 100_000  # one argument may have 128 KiB


@pytest.mark.slow
@pytest.mark.parametrize("python", sorted(str(path) for path in Path.home().glob(".pyenv/versions/3.*/bin/python3")))
def test_the_program_of_a_box_runs_on_every_python_here(python: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [python, "-c", "import sys; print(sys.version_info >= (3, 7))"], capture_output=True, text=True
    )
    if done.stdout != "True\n":
        pytest.skip("older than 3.7")
    from agentless_mini.sandbox.wire import Room

    body = tmp_path / "body"
    body.write_bytes(b"")
    job = Job(
        Environment(""), PackedTree(""), (PlacedFile("x", b"y"),), (Step((python, "-c", "print(open('x').read())")),)
    )
    sent = b"".join(compose(job, Pack("", (), body), Room(str(tmp_path / "box" / "tree"), str(tmp_path / "box"))))
    command = [python, "-I", "-S", "-W", "error", "-c", host.program()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(sent)
        process.stdin.flush()
        transcript = Transcript(job)
        while not transcript.complete and (data := os.read(process.stdout.fileno(), 65536)):
            transcript.feed(data)
    assert transcript.result(Ending.BOX_DIED).steps[0].output.head == b"y\n"
    assert not (tmp_path / "box").exists()


def test_a_folder_and_its_commit_make_one_pack(tmp_path: Path) -> None:
    top = tmp_path / "repo"
    (top / "deep").mkdir(parents=True)
    (top / "deep" / "large.bin").write_bytes(b"x" * (1024 * 1024 + 5))
    (top / "binary").write_bytes(b"\0\1")
    (top / "other.bin").write_bytes(b"\0\2")
    (top / "text").write_text("a\n")
    (top / "link").symlink_to("/nowhere")
    (top / ".gitattributes").write_text("text export-ignore\n")
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"]):
        subprocess.run(["git", *command], cwd=top, check=True)
    cache = tmp_path / "cache"
    folder = open_repository(str(top), None, cache).snapshot()
    commit = open_repository(str(top), "HEAD", cache).snapshot()
    one = pack_snapshot(folder, of_folder(top), tmp_path / "one")
    two = pack_snapshot(commit, of_commit(GitCommand(str(top)), commit.commit), tmp_path / "two")
    assert (one.digest, one.entries) == (two.digest, two.entries)
    assert one.body.read_bytes() == two.body.read_bytes()
    (top / "binary").write_bytes(b"\0\3")
    changed = open_repository(str(top), None, cache).snapshot()
    assert pack_snapshot(changed, of_folder(top), tmp_path / "three").digest != one.digest


def test_a_file_below_more_folders_than_a_process_may_open_is_packed(tmp_path: Path) -> None:
    most, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    deep = tmp_path / "repo" / "/".join(["d"] * 150)
    deep.mkdir(parents=True)
    (deep / "binary").write_bytes(b"\0\1")
    for command in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x", "--allow-empty"],
    ):
        subprocess.run(["git", *command], cwd=tmp_path / "repo", check=True)
    tree = open_repository(str(tmp_path / "repo"), None, tmp_path / "cache").snapshot()
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 100, hard))
    try:
        pack = pack_snapshot(tree, of_folder(tmp_path / "repo"), tmp_path / "pack")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    assert pack.body.read_bytes() == b"\0\1"


@pytest.mark.parametrize(
    ("taken", "waited", "had", "ending"),
    [
        (10.0, 0.0, 0.1, "timed-out"),  # it slept
        (10.0, 0.0, 10.0, "timed-out"),  # it looped
        (10.0, 9.0, 20.0, "timed-out"),  # many of it were in each other's way
        (10.0, 7.0, 3.0, ""),  # others had the processors
        (17.0, 7.0, 9.0, "timed-out"),  # it had its time by now
        (40.0, 35.0, 4.0, "starved"),
    ],
)
def test_a_step_is_owed_the_time_that_others_had(taken: float, waited: float, had: float, ending: str) -> None:
    assert over(taken, 10.0, 4.0, waited, had) == ending
