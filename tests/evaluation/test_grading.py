"""Who may grade when, with a scripted harness; what the official one says of a tiny instance, in real containers."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentless_mini.errors import AminiError, EnvironmentFailed, GradingFailed
from agentless_mini.evaluation.dataset import Solution
from agentless_mini.evaluation.grading import HARNESS, Grader, HarnessProgram, dataset_rows, run_of
from agentless_mini.evaluation.ports import Grade
from agentless_mini.model.process_table import processes
from agentless_mini.sandbox.daemon import connect
from tests.evaluation.grading_image import GOLD, NOWHERE, SLOW, WRONG, require_swebench, row, tiny_image

MODEL = "org/model"
ROW = row("none")
Scene = Callable[[Grader], Coroutine[Any, Any, Any]]


def scripted(folder: Path, scene: Scene, workers: int = 1) -> Any:  # noqa: ANN401 - what the scene returns
    command = (sys.executable, "-m", "tests.evaluation.grading_program")
    rooted = ("env", f"PYTHONPATH={Path(__file__).parents[2]}", *command)
    program = HarnessProgram(rooted, lambda: "5", lambda: None)
    return run(Grader(folder, MODEL, workers, program=program), scene)


def run(grader: Grader, scene: Scene) -> Any:  # noqa: ANN401 - what the scene returns
    async def whole() -> Any:  # noqa: ANN401
        return await scene(await grader.prepared())

    return asyncio.run(whole())


def notes(folder: Path) -> list[list[str]]:
    return [line.split() for line in (folder / "notes").read_text().splitlines()]


async def until(found: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not found():  # noqa: ASYNC110 - what happens in other processes sets no event
            await asyncio.sleep(0.05)


def test_a_harness_whose_parent_is_gone_before_it_looked_ends_without_an_answer(tmp_path: Path) -> None:
    request = {"kind": "rows", "name": "nowhere.jsonl", "parent": 1}
    done = subprocess.run(HARNESS, input=json.dumps(request).encode(), cwd=tmp_path, capture_output=True, check=True)

    assert done.stdout == b""


# --- who may grade when ----------------------------------------------------------------------------------------------


def test_the_harness_is_told_the_row_the_patch_and_a_name_of_its_own_for_the_logs(tmp_path: Path) -> None:
    told = json.loads(scripted(tmp_path, lambda grader: grader.grade(ROW, "resolve é\r\n".encode())).report)
    assert told["row"] == ROW
    assert told["diff"] == "resolve é\r\n"
    assert told["model"] == "org__model"
    assert told["run"] == run_of(ROW, "resolve é\r\n".encode())


def test_no_more_processes_than_workers_grade_at_once(tmp_path: Path) -> None:
    async def scene(grader: Grader) -> None:
        await asyncio.gather(*(grader.grade(row(str(index)), b"wait 0.1") for index in range(5)))

    scripted(tmp_path, scene, workers=2)
    running = most = 0
    for _, _, said in notes(tmp_path):
        running += 1 if said == "begins" else -1
        most = max(most, running)
    assert most == 2


def test_equal_patches_at_once_take_turns(tmp_path: Path) -> None:
    async def scene(grader: Grader) -> None:
        await asyncio.gather(*(grader.grade(ROW, b"wait 0.2") for _ in range(2)))

    scripted(tmp_path, scene, workers=2)
    assert [said for _, _, said in notes(tmp_path)] == ["begins", "ends"] * 2


def test_a_process_that_died_is_replaced_and_its_patch_graded_once_more(tmp_path: Path) -> None:
    assert not scripted(tmp_path, lambda grader: grader.grade(ROW, b"die once")).resolved
    assert len({process for _, process, _ in notes(tmp_path)}) == 2


def test_a_patch_under_which_the_process_dies_again_is_a_failure_that_names_the_log(tmp_path: Path) -> None:
    async def scene(grader: Grader) -> Grade:
        with pytest.raises(GradingFailed, match=r"worker\.log"):
            await grader.grade(ROW, b"die")
        return await grader.grade(ROW, b"resolve")

    assert scripted(tmp_path, scene).resolved


def test_what_is_cancelled_ends_at_once(tmp_path: Path) -> None:
    async def scene(grader: Grader) -> float:
        grading = asyncio.create_task(grader.grade(ROW, b"wait 60"))
        await until((tmp_path / "notes").exists)
        started = time.monotonic()
        grading.cancel()
        await asyncio.wait([grading])
        assert grading.cancelled()
        assert (await grader.grade(ROW, b"resolve")).resolved
        return time.monotonic() - started

    assert scripted(tmp_path, scene) < 5
    assert len({process for _, process, _ in notes(tmp_path)}) == 2


@pytest.mark.parametrize("diff", [b"", b"\n"])
def test_an_empty_patch_is_not_resolved_and_never_run(tmp_path: Path, diff: bytes) -> None:
    grade = scripted(tmp_path, lambda grader: grader.grade(ROW, diff))
    assert grade == Grade(resolved=False, applied=False, report="{}", version="5", seconds=0.0)
    assert not (tmp_path / "notes").exists()


def test_a_patch_that_is_not_utf8_is_graded_as_it_is_submitted(tmp_path: Path) -> None:
    grade = scripted(tmp_path, lambda grader: grader.grade(ROW, b"+caf\xe9\n"))
    assert not grade.resolved
    assert json.loads(grade.report)["diff"] == "+caf\ufffd\n"


# --- the official harness --------------------------------------------------------------------------------------------


@pytest.fixture
def image(tmp_path: Path) -> Iterator[str]:
    """Have the image; no container of a grading may be left."""
    name = tiny_image(tmp_path)
    yield name
    assert containers() == []


def containers() -> list[str]:
    client = connect(1)
    try:
        listed = client.api.containers(all=True, filters={"name": "sweb.eval.amini__tiny"})
        return [found["Names"][0] for found in listed]
    finally:
        client.close()


def official(folder: Path, scene: Scene, timeout: int = 60) -> Any:  # noqa: ANN401 - what the scene returns
    return run(Grader(folder, MODEL, timeout=timeout), scene)


@pytest.mark.slow
def test_the_official_verdicts_and_the_official_summary_of_them(tmp_path: Path, image: str) -> None:
    async def scene(grader: Grader) -> tuple[list[Grade], Path | None]:
        rows = {name: row(image, instance_id=name) for name in ("amini__tiny-1", "amini__tiny-2", "amini__tiny-3")}
        grades = [await grader.grade(rows["amini__tiny-1"], diff) for diff in (GOLD, WRONG, NOWHERE)]
        grades.append(await grader.grade(rows["amini__tiny-2"], NOWHERE))
        answers = {name: Solution(text, ()) for name, text in rows.items()} | {"amini__tiny-4": Solution(ROW, ())}
        chosen = {"amini__tiny-1": GOLD, "amini__tiny-2": NOWHERE, "amini__tiny-3": b""}
        await grader.summarise(answers, {**chosen, "amini__tiny-1": WRONG})
        return grades, await grader.summarise(answers, chosen)

    grades, summary = official(tmp_path / "official", scene)
    assert [(grade.resolved, grade.applied) for grade in grades] == [
        (True, True), (False, True), (False, False), (False, False),
    ]  # fmt: skip
    assert json.loads(grades[0].report)["amini__tiny-1"]["tests_status"]["FAIL_TO_PASS"]["success"] == ["t::answer"]
    assert summary is not None
    told = json.loads(summary.read_text())
    assert told["resolved_ids"] == ["amini__tiny-1"]
    assert told["error_ids"] == ["amini__tiny-2"]
    assert told["empty_patch_ids"] == ["amini__tiny-3"]
    assert told["incomplete_ids"] == ["amini__tiny-4"]
    assert told["schema_version"] == 2


@pytest.mark.thorough
def test_what_is_graded_again_is_read_from_its_report_unless_that_is_torn_or_blames_the_environment(
    tmp_path: Path, image: str
) -> None:
    async def scene(grader: Grader) -> None:
        first = await grader.grade(row(image), GOLD)
        log = grader.logs(row(image), GOLD) / "run_instance.log"
        written = log.stat().st_mtime_ns
        again = await grader.grade(row(image), GOLD)
        assert replace(again, seconds=first.seconds) == first
        assert log.stat().st_mtime_ns == written  # no container was started
        report = log.with_name("report.json")
        for spoiled in ("", '{"amini', '{"amini__tiny-1": {"infra_failure": true}}'):
            report.write_text(spoiled)
            fresh = await grader.grade(row(image), GOLD)
            assert replace(fresh, seconds=first.seconds) == first

    official(tmp_path, scene)


@pytest.mark.slow
def test_tests_that_outlast_the_limit_are_a_result(tmp_path: Path, image: str) -> None:
    grade = official(tmp_path, lambda grader: grader.grade(row(image), SLOW), timeout=2)
    assert (grade.resolved, grade.applied) == (False, True)
    assert json.loads(grade.report) == {"error": "The tests did not end within the time limit.", "timeout": 2}


INFRASTRUCTURE = {
    "no such image": ({"image": "localhost:1/amini-nowhere:1"}, "amini-nowhere"),
    "a broken environment": ({"eval_script": "echo 'Cannot connect to the Docker daemon'"}, "container_unavailable"),
    "an unknown parser": ({"log_parser": "parse_nothing"}, "parse_nothing"),
    "a row without a script": ({"eval_script": None}, "swebench failed"),
    "a name that leads elsewhere": ({"instance_id": "../../elsewhere"}, "cannot name"),
}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.slow if place < 2 else pytest.mark.thorough)
        for place, kind in enumerate(INFRASTRUCTURE)
    ],
)
def test_what_is_not_the_patchs_fault_is_a_failure_with_its_reason(tmp_path: Path, image: str, kind: str) -> None:
    changed, reason = INFRASTRUCTURE[kind]
    described = json.dumps(json.loads(row(image)) | changed)
    with pytest.raises(GradingFailed, match=reason) as failed:
        official(tmp_path, lambda grader: grader.grade(described, GOLD))
    assert "\n" not in str(failed.value)


@pytest.mark.slow
def test_a_grading_that_is_cancelled_leaves_no_container_and_the_next_one_works(tmp_path: Path, image: str) -> None:
    async def scene(grader: Grader) -> Grade:
        grading = asyncio.create_task(grader.grade(row(image), SLOW))
        await until(lambda: bool(containers()))
        grading.cancel()
        await asyncio.wait([grading])
        assert containers() == []
        return await grader.grade(row(image), GOLD)

    assert official(tmp_path, scene).resolved


@pytest.mark.thorough
def test_a_harness_that_is_killed_is_cleared_up_after_and_its_patch_graded_once_more(
    tmp_path: Path, image: str
) -> None:
    async def scene(grader: Grader) -> Grade:
        slowly = SLOW.replace(b"60", b"4") + GOLD
        grading = asyncio.create_task(grader.grade(row(image), slowly))
        await until(lambda: bool(containers()))
        (worker,) = workers_of(os.getpid())
        os.kill(worker, signal.SIGKILL)
        return await grading

    assert official(tmp_path, scene).resolved


PARENT = """
import asyncio, pathlib, sys
from agentless_mini.evaluation.grading import Grader
async def main():
    grader = await Grader(pathlib.Path(sys.argv[1]), "m").prepared()
    await grader.grade(sys.argv[2], sys.argv[3].encode())
asyncio.run(main())
"""


@pytest.mark.thorough
def test_when_who_grades_is_killed_no_process_and_no_container_is_left(tmp_path: Path, image: str) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path), row(image), SLOW.decode()])
    try:
        asyncio.run(until(lambda: bool(containers())))
        workers = workers_of(parent.pid)
        assert len(workers) == 1
    finally:
        parent.kill()
        parent.wait()
    asyncio.run(until(lambda: containers() == [] and not processes().keys() & set(workers)))


def workers_of(parent: int) -> list[int]:
    """Return the grading processes that a process started; it starts nothing else."""
    return [process.pid for process in processes().values() if process.parent == parent]


# --- the rows of a dataset -------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_a_file_is_loaded_as_the_harness_loads_it(tmp_path: Path) -> None:
    require_swebench()
    written = [row("one", instance_id="a__b-1"), row("two", instance_id="a__b-2", patch="é\u2028")]
    (tmp_path / "rows.jsonl").write_text("".join(text + "\n" for text in written))
    loaded = asyncio.run(dataset_rows(str(tmp_path / "rows.jsonl"), tmp_path / "official"))
    assert [json.loads(text) for text in loaded] == [json.loads(text) for text in written]


@pytest.mark.thorough
def test_a_dataset_that_cannot_be_had_is_told_in_one_sentence(tmp_path: Path) -> None:
    require_swebench()
    with pytest.raises(EnvironmentFailed, match="--dataset") as failed:
        asyncio.run(dataset_rows(str(tmp_path / "nowhere.json"), tmp_path))
    assert isinstance(failed.value, AminiError)
    assert "\n" not in str(failed.value)
