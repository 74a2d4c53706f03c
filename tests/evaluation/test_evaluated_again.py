"""An evaluation in this process: what the harness sums up, and which settings mean that instances are tried again."""

import io
import json
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from agentless_mini.commands.config import Machine
from agentless_mini.commands.evaluate import OFFICIAL, Evaluation, Opened, OpenTestbeds, evaluate
from agentless_mini.errors import UsageError
from agentless_mini.evaluation.attempt import grade_key, row_digest
from agentless_mini.evaluation.grading import Grader, HarnessProgram
from agentless_mini.ports import Watch
from agentless_mini.record import GradeRecord, Store, generation_of
from agentless_mini.settings import Config
from agentless_mini.settings.model import EndpointSettings
from agentless_mini.settings.run import EvaluationSettings, Grading
from tests.evaluation.bugs import read_predictions, resolves, tree
from tests.evaluation.faked import SCRIPT, evaluation, open_scripted
from tests.fakes.protocol import ServedModel
from tests.fakes.server import ScriptedServer
from tests.fakes.testbeds import ScriptedTestbeds

ROOT = Path(__file__).parents[2]
COMMAND = ("env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "tests.evaluation.summary_program")
ALL_GONE = frozenset({"acme/1:latest", "acme/2:latest"})


def grading(missing: frozenset[str] = frozenset()) -> OpenTestbeds:
    async def opened(evaluation: Evaluation, model: str, stack: AsyncExitStack, watch: Watch) -> Opened:
        (evaluation.folder / OFFICIAL).mkdir(exist_ok=True)
        program = HarnessProgram(COMMAND, lambda: "5", lambda: None)
        grader = Grader(evaluation.folder / OFFICIAL, model, program=program)
        return Opened(ScriptedTestbeds(tree, resolves, missing=missing), await grader.prepared())

    return opened


def run(of: Evaluation, testbeds: OpenTestbeds = open_scripted) -> int:
    machine = Machine(of.folder / "state", of.folder / "cache", {})
    return evaluate(of, machine, testbeds, Console(file=io.StringIO()))


def graded(of: Evaluation, grade: Grading) -> Evaluation:
    return replace(of, config=of.config.model_copy(update={"eval": EvaluationSettings(grade=grade)}))


def test_only_what_the_harness_reported_of_an_instance_is_put_among_its_reports(tmp_path: Path) -> None:
    with ScriptedServer(ServedModel(script=SCRIPT)) as server:
        of = evaluation(tmp_path / "e", server.url, 2, 5)
        run(graded(of, Grading.NONE))
        reported, timed_out = sorted(of.dataset.solutions)
        diffs = read_predictions(of.folder / "all_preds.jsonl")
        reports = {
            reported: json.dumps({reported: {"resolved": True}}),
            timed_out: json.dumps({"error": "The tests did not end within the time limit."}),
        }
        with Store.open(of.folder / "store.sqlite") as store:
            for name, report in reports.items():
                key = grade_key(row_digest(of.dataset.solutions[name].row), diffs[name])
                store.evals.put_grade(GradeRecord(key, name, name, "d", name == reported, True, report, "5", 1.0))
        assert run(graded(of, Grading.CHOSEN), grading()) == 0
    assert json.loads((of.folder / OFFICIAL / "summary.json").read_text()) == {reported: {reported: {"resolved": True}}}


def test_the_exit_code_counts_the_instances_that_were_asked_for(tmp_path: Path) -> None:
    with ScriptedServer(ServedModel(script=SCRIPT)) as server:
        of = evaluation(tmp_path / "e", server.url, 2, 5)
        assert run(of, grading(frozenset({of.instances[0].image}))) == 4
        assert run(replace(of, instances=of.instances[1:])) == 0
        assert run(of) == 0


def test_a_grading_that_timed_out_is_tried_again_with_more_time_alone(tmp_path: Path) -> None:
    def with_limit(of: Evaluation, seconds: int) -> Evaluation:
        settings = EvaluationSettings(grade=Grading.CHOSEN, grade_seconds=seconds)
        return replace(of, config=of.config.model_copy(update={"eval": settings}))

    with ScriptedServer(ServedModel(script=SCRIPT)) as server:
        of = evaluation(tmp_path / "e", server.url, 1, 5)
        run(graded(of, Grading.NONE))
        (name,) = of.dataset.solutions
        (diff,) = read_predictions(of.folder / "all_preds.jsonl").values()
        key = grade_key(row_digest(of.dataset.solutions[name].row), diff)
        report = json.dumps({"error": "The tests did not end within the time limit.", "timeout": 5})
        with Store.open(of.folder / "store.sqlite") as store:
            store.evals.put_grade(GradeRecord(key, name, "n", "d", False, True, report, "5", 1.0))
        found = []
        for seconds in (5, 4, 6):
            assert run(with_limit(of, seconds)) == 0
            with Store.open_readonly(of.folder / "store.sqlite") as store:
                found.append([grade.resolved for grade in store.evals.grades()])
    assert found == [[False], [False], [True]]


# --- the settings ----------------------------------------------------------------------------------------------------


def settings_of(folder: Path, url: str, **settings: object) -> str:
    of = evaluation(folder, url, 1, 1)
    run(replace(of, config=Config.model_validate({**dict(of.config), **settings})))
    with Store.open_readonly(folder / "store.sqlite") as store:
        return store.evals.start().settings


def test_what_changes_an_answer_is_another_setting(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    (prompts / "repair.j2").write_text("Mend it.\n")
    with ScriptedServer(ServedModel(script=SCRIPT)) as server:
        sandbox = {"test_command": "pytest -x", "box_seconds": 600.0, "pids": 64, "disk_mib": 512, "cpus": 2.0}
        others: list[dict[str, object]] = [{"sandbox": {name: value}} for name, value in sandbox.items()]
        endpoint = EndpointSettings(base_url=server.url, context_window=4096)
        others += [{}, {"endpoint": endpoint}, {"prompts": prompts}]
        told = [settings_of(tmp_path / str(at), server.url, **other) for at, other in enumerate(others)]
        (prompts / "repair.j2").write_text("Mend it well.\n")
        told.append(settings_of(tmp_path / "later", server.url, prompts=prompts))
        assert len(set(told)) == len(told)
        assert settings_of(tmp_path / "again", server.url, prompts=prompts) == told[-1]


def test_a_test_command_that_cannot_be_read_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    with ScriptedServer(ServedModel(script=SCRIPT)) as server:
        with pytest.raises(UsageError, match="check the quotes"):
            settings_of(tmp_path / "e", server.url, sandbox={"test_command": "pytest 'x"})
        assert server.log.chats() == ()


def test_fresh_answers_are_drawn_for_every_instance_and_kept_for_the_runs_after(tmp_path: Path) -> None:
    with ScriptedServer(ServedModel(script=SCRIPT)) as server:
        of = evaluation(tmp_path / "e", server.url, 2, 5)
        fresh = replace(of, config=of.config.model_copy(update={"fresh": True}))
        counts = []
        for one in (of, of, fresh, of):
            before = len(server.log.chats())
            assert run(one) == 0
            counts.append(len(server.log.chats()) - before)
    assert counts == [counts[0], 0, counts[0], 0]
    with Store.open_readonly(of.folder / "store.sqlite") as store:
        assert generation_of(store.evals.start().settings) == 1
        assert sorted(generation_of(one.run.start.settings) for one in store.runs.summaries()) == [0, 0, 1, 1]
