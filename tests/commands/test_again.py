"""A command once more: with new answers, with the newest ones, and while another run has the record."""

import json
import subprocess
from typing import Any

import pytest

from agentless_mini.learning.rows import Row, write_rows
from agentless_mini.record import Store
from tests.commands.running import Home, server
from tests.fakes.server import ScriptedServer


def repaired(home: Home, endpoint: ScriptedServer, *more: str) -> tuple[int, dict[str, Any]]:
    """Return how many requests for samples a repair sent, and its document."""
    before = len(endpoint.log.chats())
    done = home.amini("repair", ".", "../issue.md", "--base-url", endpoint.url, "-n", "3", "--json", *more)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return len(endpoint.log.chats()) - before, document


def keys(document: dict[str, Any]) -> set[str]:
    return {sample["key"] for sample in document["samples"]}


def test_fresh_answers_are_paid_for_again_and_a_rerun_goes_on_with_them(home: Home) -> None:
    with server() as endpoint:
        asked, first = repaired(home, endpoint)
        assert asked > 0
        again, fresh = repaired(home, endpoint, "--fresh")
        assert again == asked
        assert not keys(first) & keys(fresh)
        assert repaired(home, endpoint)[0] == 0
        replayed = repaired(home, endpoint)[1]
        assert keys(replayed) == keys(fresh)
        assert all(sample["replayed"] for sample in replayed["samples"])
        third = repaired(home, endpoint, "--fresh")[1]
        assert not keys(third) & (keys(first) | keys(fresh))
        config = home.root / "first.toml"
        config.write_text('generation = 0\nsandbox.kind = "none"\n')
        assert repaired(home, endpoint, "--config", str(config))[0] == 0
    told = json.loads(home.amini("show", "1", "--json", "--completions").stdout)
    assert keys(told) == keys(first)
    assert all(sample["text"] for sample in told["samples"])
    assert "answers    those of --fresh number 2" in home.amini("show", "5").stdout
    assert "--fresh" not in home.amini("show", "1").stdout


def test_fresh_answers_to_one_issue_are_not_asked_for_of_another(home: Home) -> None:
    (home.root / "other.md").write_text("The tax is wrong.\n")
    other = ("repair", ".", "../other.md", "-n", "3")
    with server() as endpoint:
        home.amini(*other, "--base-url", endpoint.url)
        repaired(home, endpoint, "--fresh")
        before = len(endpoint.log.chats())
        assert home.amini(*other, "--base-url", endpoint.url).returncode == 0
        assert len(endpoint.log.chats()) == before


def waited(home: Home, held: str, *words: str) -> tuple[int, str, str]:
    """Run a command while another has the record, make sure that it says so, and return how it ended after that."""
    store = Store.open(home.root / held)
    with subprocess.Popen(
        home.command(*words),
        cwd=home.repository,
        env=home.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as second:
        assert second.stderr is not None
        said = second.stderr.readline()
        store.close()
        out, err = second.communicate(timeout=300)
    assert said.startswith("note: Another amini run (process ")
    assert "waiting for its end" in said
    return second.returncode, out, err


def test_a_run_waits_for_another_that_has_the_record_and_says_so(home: Home) -> None:
    with server() as endpoint:
        words = ("repair", ".", "../issue.md", "--base-url", endpoint.url, "--store", "../s.sqlite")
        code, patch, _ = waited(home, "s.sqlite", *words)
    assert code == 0
    assert "for price in prices:" in patch


@pytest.mark.thorough
def test_learning_waits_for_the_record_as_well(home: Home) -> None:
    write_rows(home.root / "rows.parquet", [Row("a", "r", "", "i", "", (), "", "", "", "train")])
    words = ("learn", "synthesize", "../rows.parquet", "--out", "../out", "--base-url", "http://127.0.0.1:9/v1")
    code, _, told = waited(home, "out/record.sqlite", *words)
    assert (code, "Nothing answers at" in told) == (3, True)
