"""`amini learn bugs` as users run it: a process of its own, on a checkout, in real boxes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentless_mini.environments import Opened
from agentless_mini.learning.rows import read_rows
from tests.learning.bugs.materials import RANGES

pytest.importorskip("pyarrow", reason="pyarrow is not installed (the extra 'train')")


def amini(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    places = {name: str(home / name) for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
    return subprocess.run(
        [sys.executable, "-m", "agentless_mini", "learn", "bugs", *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(home), **places},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.thorough
def test_tasks_of_a_checkout_are_written_and_made_again_from_the_record(boxes: Opened, tmp_path: Path) -> None:
    checkout, out = tmp_path / "demo", tmp_path / "out"
    checkout.mkdir()
    (checkout / "ranges.py").write_text(RANGES)
    arguments = (str(checkout), "--out", str(out), "--sandbox", "local", "--held-out", "demo,other")
    done = amini(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    rows = list(read_rows(out / "test.parquet"))
    assert told["tasks"] == {"train": 0, "valid": 0, "test": len(rows)}
    assert len(rows) >= 6
    assert "demo: " in done.stderr
    funnel = json.loads((out / "funnel.json").read_text())
    assert set(funnel["tasks"]) == {row.id for row in rows}
    assert funnel["steps"]["kept"] == len(rows)
    again = amini(tmp_path, *arguments, "--quiet")
    assert again.stderr == ""
    assert list(read_rows(out / "test.parquet")) == rows
    assert json.loads(again.stdout)["seconds"] < told["seconds"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("no-such-package", "--out", "out"), "is no package of"),
        (("textwrap", "--out", "out", "--sandbox", "none"), "leave out --sandbox none"),
        (("textwrap", "--out", "/dev/null/out"), "correct --out"),
        (("textwrap", "--out", "out", "--max-bytes", "1"), "at least 200"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(arguments: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    done = amini(tmp_path, *(str(tmp_path / "out") if one == "out" else one for one in arguments))
    assert sentence in done.stderr
    assert done.stdout == ""
    assert done.returncode in {2, 4}
