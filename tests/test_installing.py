"""The command that installs an extra: from where amini itself came."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentless_mini.installing import install_command, requirement


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        ({}, "'agentless-mini[eval]'"),
        ({"url": "file:///a%20b/c", "dir_info": {"editable": True}}, "-e '/a b/c[eval]'"),
        ({"url": "file:///a", "dir_info": {}}, "'agentless-mini[eval] @ file:///a'"),
        (
            {"url": "https://host/amini.git", "vcs_info": {"vcs": "git", "commit_id": "1a2b"}},
            "'agentless-mini[eval] @ git+https://host/amini.git@1a2b'",
        ),
    ],
)
def test_an_extra_comes_from_where_amini_came(origin: dict[str, object], words: str) -> None:
    assert requirement(origin, "eval") == words


def test_the_command_names_this_environment() -> None:
    assert sys.executable in install_command("eval")
    assert "[eval]" in install_command("eval")


@pytest.mark.parametrize(
    ("library", "extra", "command"),
    [
        ("pyarrow", "eval", "eval --dataset rows.parquet --base-url http://localhost:9/v1 --model NAME"),
        ("duckdb", "curate", "learn curate events --mirrors events --out rows"),
        ("pyarrow", "curate", "learn synthesize rows.parquet --out told --base-url http://localhost:9/v1 --model NAME"),
        ("torch", "train", "learn sft . --model M --out sft"),
    ],
)
def test_a_command_without_its_extra_names_it_and_says_that_this_machine_lacks_it(
    tmp_path: Path, library: str, extra: str, command: str
) -> None:
    (tmp_path / "events").mkdir()
    (tmp_path / "rows.parquet").touch()
    program = f"import sys; sys.modules[{library!r}] = None; from agentless_mini.cli import main; main()"
    asked = [sys.executable, "-c", program, *command.split()]
    home = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run(asked, cwd=tmp_path, env=home, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (4, "")
    assert install_command(extra) in done.stderr
