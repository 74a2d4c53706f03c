"""An evaluation that chooses among the predictions of systems: each one's number, mean, oracle, and the choice."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentless_mini.commands.config import Machine
from agentless_mini.commands.evaluate import Evaluation, evaluate
from agentless_mini.errors import UsageError
from agentless_mini.record import Store
from agentless_mini.report.evaluation_document import evaluation_document
from agentless_mini.report.evaluation_tables import evaluation_tables
from agentless_mini.repository.patches import read_predictions
from agentless_mini.settings.model import EndpointSettings
from agentless_mini.settings.run import Until
from tests.evaluation import faked
from tests.evaluation.bugs import GOLD
from tests.evaluation.bugs import read_predictions as submitted
from tests.fakes.protocol import ServedModel
from tests.fakes.server import ScriptedServer
from tests.report.building import shown

RIGHT = GOLD.replace("  # MARKER-patch", "")
WRONG = RIGHT.replace("+    for price in prices:", "+    for price in prices[2:]:")
BROKEN = RIGHT.replace(" def total(prices):", " def sum(prices):")
NAMES = [f"acme__shop-{number}" for number in (1, 2)] + ["acme__other-1"]


def system(folder: Path, name: str, *patches: str | None) -> Path:
    """Write the predictions of a system, without a row where there is no patch."""
    rows = [
        {"instance_id": id, "model_name_or_path": name, "model_patch": patch}
        for id, patch in zip(NAMES, patches, strict=True)
        if patch is not None
    ]
    folder.joinpath(name).mkdir(parents=True)
    path = folder / name / "all_preds.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def systems(tmp_path: Path) -> Path:
    folder = tmp_path / "systems"
    system(folder, "a", WRONG, WRONG, RIGHT)
    system(folder, "b", RIGHT, WRONG, BROKEN)
    system(folder, "c", WRONG, "", None)
    return folder


def of(folder: Path, systems: Path, url: str = "") -> Evaluation:
    """Return the choice among the systems, without a model where none has an address."""
    made = faked.evaluation(folder, url or "http://127.0.0.1:9/v1", 3, 5)
    config = made.config if url else made.config.model_copy(update={"endpoint": EndpointSettings()})
    return replace(made, config=config, pool=read_predictions([systems]))


def chosen(evaluation: Evaluation, tmp_path: Path) -> dict[str, Any]:
    assert evaluate(evaluation, Machine(tmp_path, tmp_path, {}), faked.open_scripted) == 0
    with Store.open_readonly(evaluation.folder / "store.sqlite") as store:
        return evaluation_document(store)


def test_the_tests_choose_among_systems_and_every_patch_is_graded(tmp_path: Path, systems: Path) -> None:
    with ScriptedServer(ServedModel(script=faked.SCRIPT)) as server:
        document = chosen(of(tmp_path / "e", systems, server.url), tmp_path)
        assert {chat.stage for chat in server.log.chats()} == {"reproduce"}
    found = document["results"]["systems"]
    assert [(one["name"], one["resolved"]) for one in found["each"]] == [("a", 1), ("b", 1), ("c", 0)]
    assert found["mean"] == pytest.approx(2 / 9)
    assert found["oracle"] == pytest.approx(2 / 3)
    assert found["chosen"] == pytest.approx(2 / 3)
    assert found["gap"]["share"] == pytest.approx(1)
    assert document["run"]["model"] == "choice among 3 systems"
    assert document["results"]["resolved"]["count"] == 2
    assert submitted(tmp_path / "e" / "all_preds.jsonl").keys() == set(NAMES)
    told = shown(evaluation_tables([document]))
    assert "systems of e" in told
    assert "of the gap won" in told


def test_what_was_chosen_and_graded_is_not_paid_for_again(tmp_path: Path, systems: Path) -> None:
    first = chosen(of(tmp_path / "e", systems), tmp_path)
    with Store.open_readonly(tmp_path / "e" / "store.sqlite") as store:
        runs = len(store.runs.summaries())
    again = chosen(of(tmp_path / "e", systems), tmp_path)
    assert again["results"] == first["results"]
    with Store.open_readonly(tmp_path / "e" / "store.sqlite") as store:
        assert len(store.runs.summaries()) == runs
    system(systems, "d", RIGHT, RIGHT, RIGHT)
    more = chosen_with_another_name(tmp_path, systems)
    assert more["results"]["systems"]["oracle"] == 1.0


def chosen_with_another_name(tmp_path: Path, systems: Path) -> dict[str, Any]:
    with pytest.raises(UsageError, match="another model"):
        chosen(of(tmp_path / "e", systems), tmp_path)
    return chosen(of(tmp_path / "f", systems), tmp_path)


def test_without_tests_the_vote_chooses(tmp_path: Path, systems: Path) -> None:
    found = chosen(replace(of(tmp_path / "e", systems), until=Until.REPAIR), tmp_path)["results"]["systems"]
    assert found["chosen"] == pytest.approx(1 / 3)  # of acme__shop-1 two systems are wrong alike
    assert found["gap"]["share"] == pytest.approx(1 / 4)
    assert found["gap"]["low"] < found["gap"]["share"] < found["gap"]["high"]
