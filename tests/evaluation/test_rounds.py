"""Rounds of evolution in an evaluation: each instance has its own, and what cannot be is refused before the first."""

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from agentless_mini.commands.config import Machine
from agentless_mini.commands.evaluate import evaluate
from agentless_mini.errors import UsageError
from agentless_mini.record import AttemptRecord, RunId, Store
from agentless_mini.settings import Config
from agentless_mini.settings.run import EvolveSettings, RepairSettings, SandboxKind, Selecting
from tests.chain.workbench import FIX, NONSENSE, WRONG
from tests.evaluation.attempts import FILES, TEST
from tests.evaluation.faked import evaluation, open_scripted
from tests.fakes.model import Answer, Rule, Script
from tests.fakes.protocol import ServedModel
from tests.fakes.server import ScriptedServer

COUNT = 3
SAID = (("reproduce", (TEST,)), ("repair", (WRONG, FIX, WRONG)), ("evolve", (FIX, NONSENSE)))
RULES = tuple(Rule(stage=stage, answers=tuple(Answer(text=text) for text in texts)) for stage, texts in SAID)
EXECUTION = EvolveSettings(rounds=2, parents=1, select=Selecting.EXECUTION)


def served() -> ScriptedServer:
    return ScriptedServer(ServedModel(script=Script(rules=(FILES, *RULES))))


def evaluated(folder: Path, url: str, **settings: object) -> int:
    return heard(folder, url, settings)[0]


def heard(folder: Path, url: str, settings: Mapping[str, object]) -> tuple[int, str]:
    """Evaluate, and return the exit code and what was told meanwhile."""
    plain = evaluation(folder, url, COUNT, 6)
    config = Config.model_validate({**dict(plain.config), **settings})
    machine = Machine(folder / "state", folder / "cache", {})
    told = io.StringIO()
    code = evaluate(replace(plain, config=config), machine, open_scripted, Console(file=told, width=500))
    return code, told.getvalue()


def settings_of(folder: Path) -> dict[str, dict[str, object]]:
    with Store.open_readonly(folder / "store.sqlite") as store:
        found: dict[str, dict[str, object]] = json.loads(store.runs.trace(RunId(1)).run.start.settings)
        return found


def test_each_instance_is_evolved_and_a_second_evaluation_pays_nothing(tmp_path: Path) -> None:
    with served() as server:
        assert evaluated(tmp_path / "e", server.url, evolve=EXECUTION) == 0
        later = [
            json.loads(chat.body)["messages"][1]["content"] for chat in server.log.chats() if chat.stage == "evolve"
        ]
        sent = len(server.log.chats())
        assert evaluated(tmp_path / "e", server.url, evolve=EXECUTION) == 0
        assert len(server.log.chats()) == sent
    assert len(set(later)) == COUNT
    for prompt in later:  # the best by the tests, of which there is one
        assert "+    for price in prices:\n" in prompt
        assert "+    result = 1\n" not in prompt
    with Store.open_readonly(tmp_path / "e" / "store.sqlite") as store:
        runs = [store.runs.trace(summary.run.id) for summary in store.runs.summaries()]
        assert {grade.resolved for grade in store.evals.grades()} == {True, False}
    rounds = [[one.round for one in trace.samples if one.stage.repairs] for trace in runs]
    assert rounds == [[0, 0, 0, 1, 1, 1]] * COUNT
    assert settings_of(tmp_path / "e")["evolve"]["rounds"] == 2


def test_without_rounds_and_bound_the_settings_are_those_of_older_evaluations(tmp_path: Path) -> None:
    with served() as server:
        evaluated(tmp_path / "e", server.url)
        evaluated(tmp_path / "bound", server.url, repair=RepairSettings(samples=6, stop_when=0.9))
    plain = settings_of(tmp_path / "e")
    assert "evolve" not in plain
    assert sorted(plain["repair"]) == ["match", "max_tokens", "samples", "seed", "temperature"]
    assert settings_of(tmp_path / "bound")["repair"]["stop_when"] == 0.9


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sandbox": {"kind": SandboxKind.NONE}, "evolve": EXECUTION}, "--select execution needs tests"),
        ({"repair": RepairSettings(stop_when=0.9), "evolve": EXECUTION}, "--stop-when cannot"),
        ({"evolve": EvolveSettings(rounds=2, select=Selecting.REWARD_MODEL)}, "set scorer.base_url"),
    ],
)
def test_what_no_instance_could_be_attempted_with_is_refused_at_once(
    tmp_path: Path, settings: dict[str, object], words: str
) -> None:
    with served() as server:
        with pytest.raises(UsageError, match=words):
            evaluated(tmp_path / "e", server.url, **settings)
        assert server.log.chats() == ()
    with Store.open_readonly(tmp_path / "e" / "store.sqlite") as store:
        assert store.evals.attempts() == ()


def test_a_refused_command_forgets_nothing_of_an_evaluation_that_came_to_its_end(tmp_path: Path) -> None:
    with served() as server:
        evaluated(tmp_path / "e", server.url)
        before = attempts(tmp_path / "e")
        with pytest.raises(UsageError, match="needs tests"):
            evaluated(tmp_path / "e", server.url, sandbox={"kind": SandboxKind.NONE}, evolve=EXECUTION)
    assert len(before) == COUNT
    assert attempts(tmp_path / "e") == before


def attempts(folder: Path) -> tuple[AttemptRecord, ...]:
    with Store.open_readonly(folder / "store.sqlite") as store:
        return store.evals.attempts()
