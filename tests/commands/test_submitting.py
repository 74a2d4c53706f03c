"""What `--submission` makes of a record: the versions, the samples of all rounds, and what is not graded."""

from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from agentless_mini.commands.benchmark import submit
from agentless_mini.commands.config import Machine
from agentless_mini.commands.evaluate import Evaluation, Opened, evaluate
from agentless_mini.ports import Watch
from agentless_mini.settings import Config
from agentless_mini.settings.run import EvaluationSettings, EvolveSettings, Grading
from tests.evaluation.bugs import resolves, tree
from tests.evaluation.faked import SCRIPT, evaluation, open_scripted
from tests.fakes.protocol import ServedModel
from tests.fakes.server import ScriptedServer
from tests.fakes.testbeds import ScriptedTestbeds


def submitted(folder: Path, **settings: object) -> str:
    """Evaluate two instances, sampled once, and return the README of their submission."""
    with ScriptedServer(ServedModel(script=SCRIPT)) as server:
        plain = evaluation(folder / "e", server.url, 2, 1)
        of: Evaluation = replace(plain, config=Config.model_validate({**dict(plain.config), **settings}))
        evaluate(of, Machine(folder, folder, {}), open_scripted)
    submit(of, "verified", folder / "s")
    return (folder / "s" / "README.md").read_text(encoding="utf-8")


def test_what_is_not_graded_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told = submitted(tmp_path, eval=EvaluationSettings(grade=Grading.NONE))
    assert "2 predictions not graded" in told
    assert "swebench" not in told.split("Versions:")[1].splitlines()[0]
    assert "note: 2 instances of the submission without a grade." in capfd.readouterr().err


def test_the_version_of_the_harness_is_among_the_others(tmp_path: Path) -> None:
    told = submitted(tmp_path)
    assert "not graded" not in told
    assert "swebench scripted" in told.split("Versions:")[1].splitlines()[0]
    assert "sampled once for each instance" in told


def test_the_samples_of_all_rounds_are_attempts(tmp_path: Path) -> None:
    assert "Of 4 samples for each instance" in submitted(tmp_path, evolve=EvolveSettings(rounds=4))


def test_an_evaluation_without_a_prediction_has_a_submission_that_says_so(tmp_path: Path) -> None:
    async def nowhere(evaluation: Evaluation, model: str, stack: AsyncExitStack, watch: Watch) -> Opened:
        return Opened(ScriptedTestbeds(tree, resolves, missing=frozenset({"acme/1:latest", "acme/2:latest"})))

    with ScriptedServer(ServedModel(script=SCRIPT)) as server:
        of = evaluation(tmp_path / "e", server.url, 2, 1)
        assert evaluate(of, Machine(tmp_path, tmp_path, {}), nowhere) == 4
    submit(of, "verified", tmp_path / "s")
    assert "2 instances without a prediction" in (tmp_path / "s" / "README.md").read_text(encoding="utf-8")
