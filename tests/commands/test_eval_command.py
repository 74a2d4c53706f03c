"""`amini eval` and `amini report` as users run them: bad options are one sentence, and the record is reported."""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from agentless_mini.commands.config import Machine
from agentless_mini.commands.evaluate import evaluate
from agentless_mini.settings.run import Until
from tests.commands.running import Home, one_sentence
from tests.evaluation.bugs import rows
from tests.evaluation.faked import SCRIPT, evaluation, open_scripted
from tests.fakes.protocol import ServedModel
from tests.fakes.server import ScriptedServer


def dataset(home: Home) -> str:
    path = home.root / "bugs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an evaluation of three instances that has come to its end."""
    top = tmp_path_factory.mktemp("evaluation")
    with ScriptedServer(ServedModel(script=SCRIPT)) as server:
        assert evaluate(evaluation(top / "run", server.url, 3, 5), Machine(top, top, {}), open_scripted) == 0
    return top / "run"


def test_what_is_too_long_for_a_path_is_no_evaluation(home: Home) -> None:
    done = home.amini("report", "nowhere" * 50)
    assert (done.returncode, done.stdout) == (2, "")
    assert one_sentence(done.stderr).startswith("There is no evaluation nowherenowhere")


def test_a_report_is_tables_for_people_and_json_for_programs(home: Home, folder: Path) -> None:
    done = home.amini("report", str(folder))
    assert (done.returncode, done.stderr) == (0, "")
    assert "resolved" in done.stdout
    assert "\x1b" not in done.stdout
    done = home.amini("report", str(folder), "--json", "--price-prompt", "1", "--price-completion", "2")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert document["results"]["resolved"]["count"] == 3
    assert document["cost"]["price"]["completion"] > 0
    both = home.amini("report", str(folder), str(folder), "--json")
    assert json.loads(both.stdout)[1]["results"] == document["results"]


def test_where_files_alone_are_found_nothing_is_said_of_what_was_resolved(home: Home, tmp_path: Path) -> None:
    out = StringIO()
    with ScriptedServer(ServedModel(script=SCRIPT)) as server:
        asked = replace(evaluation(tmp_path / "run", server.url, 3, 5), until=Until.LOCALIZE)
        assert evaluate(asked, Machine(tmp_path, tmp_path, {}), open_scripted, Console(file=out)) == 0
    assert "resolved" not in out.getvalue()
    done = home.amini("report", str(tmp_path / "run"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "all found" in done.stdout
    assert "resolved" not in done.stdout


def test_one_instance_is_shown_in_depth(home: Home, folder: Path) -> None:
    done = home.amini("report", str(folder), "--instance", "acme__shop-1")
    found = json.loads(done.stdout)
    assert found["id"] == "acme__shop-1"
    assert sorted(patch["resolved"] for patch in found["patches"]) == [False, True]
    done = home.amini("report", str(folder), "--instance", "acme__shop-9")
    assert done.returncode == 2
    assert "acme__shop-9" in one_sentence(done.stderr)


def test_the_page_is_one_file(home: Home, folder: Path) -> None:
    done = home.amini("report", str(folder), "--html", "page.html")
    assert done.returncode == 0
    page = (home.repository / "page.html").read_text("ascii")
    assert page.startswith("<!DOCTYPE html>")
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "").replace("http://127.0.0.1", "")
    done = home.amini("report", str(folder), "--html", "nowhere/page.html")
    assert done.returncode == 4
    assert "cannot be written" in one_sentence(done.stderr)


def test_another_dataset_or_model_does_not_go_into_the_same_folder(home: Home, folder: Path) -> None:
    with ScriptedServer(ServedModel(script=SCRIPT)) as server:
        done = home.amini(
            "eval", "--dataset", dataset(home), "--base-url", server.url, "--out", str(folder), "--sandbox", "none"
        )
    assert done.returncode == 2
    assert "has an evaluation of another dataset" in one_sentence(done.stderr)
