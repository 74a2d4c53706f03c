"""From a package to tasks that are proven, in real boxes."""

import ast
import asyncio
import json
from pathlib import Path

import pytest

from agentless_mini.domain import BoxLimits, Ending, Environment, FileChange, JobResult, PackedTree, Patch, Place
from agentless_mini.edits import Forms, make_patch, write_answer
from agentless_mini.environments import Opened
from agentless_mini.errors import EnvironmentFailed
from agentless_mini.learning.bugs.checking import CheckVerdict, check_patch, check_program, evaluate_row
from agentless_mini.learning.bugs.funnel import Funnel
from agentless_mini.learning.bugs.making import Maker, Task
from agentless_mini.learning.bugs.observations import Observation
from agentless_mini.learning.bugs.packages import Package
from agentless_mini.learning.bugs.probing import Prober
from agentless_mini.learning.bugs.settings import BugsSettings
from agentless_mini.learning.rows import Row, RowFile
from tests.fakes.sandbox import ScriptedSandbox, ended, exited, refusing
from tests.learning.bugs.materials import RANGES, package

SETTINGS = BugsSettings(max_bytes=1200, held_out=("kept",))


def made(boxes: Opened, *packages: Package, settings: BugsSettings = SETTINGS) -> tuple[list[Task], Funnel]:
    async def run() -> list[Task]:
        return [task for one in packages for task in await maker.tasks(one)]

    funnel = Funnel()
    maker = Maker(settings, Prober(boxes, settings.batch), funnel)
    return asyncio.run(run()), funnel


def test_tasks_are_proven_and_always_the_same(boxes: Opened) -> None:
    tasks, funnel = made(boxes, package("demo"))
    again, _ = made(boxes, package("demo"))
    assert tasks == again
    assert len(tasks) >= 6
    assert funnel.steps["kept"] == len(tasks)
    assert funnel.steps["not proven"] == 0
    assert funnel.steps["equivalent"] > 0
    assert len({task.row.id for task in tasks}) == len(tasks)


def test_a_row_has_what_a_repair_needs(boxes: Opened) -> None:
    tasks, _ = made(boxes, package("demo"))
    for task in tasks:
        (file,) = task.row.files
        assert file.before is not None
        assert file.after is not None
        assert file.before != file.after
        ast.parse(file.before)
        assert task.row.split == "train"
        assert task.row.repo == "demo"
        assert task.row.id.startswith("demo@1.0:demo/ranges.py:")
        assert task.row.issue.startswith(task.row.title)
        assert not isinstance(write_answer(task.row.oracle()), str) or "<<<<<<< SEARCH" in task.row.answer()


def test_another_seed_makes_other_tasks(boxes: Opened) -> None:
    tasks, _ = made(boxes, package("demo"))
    others, _ = made(boxes, package("demo"), settings=SETTINGS.model_copy(update={"seed": 5}))
    assert [task.row.issue for task in tasks] != [task.row.issue for task in others]


def test_a_function_of_two_packages_makes_tasks_once_and_held_out_ones_are_for_tests(boxes: Opened) -> None:
    other = RANGES.replace("def clamp(size", "def clamped(size")
    tasks, funnel = made(boxes, package("kept", other), package("second"))
    assert funnel.steps["duplicate functions"] == 2
    assert {(task.row.repo, task.row.split) for task in tasks} == {("kept", "test"), ("second", "train")}
    assert {task.row.id.split(":")[2] for task in tasks if task.row.repo == "second"} == {"clamp"}


HARVESTED_NOWHERE = """
def shout(text, times=1):
    words = read(text) if times < 0 else text
    return words.upper() * times
"""
COPY = '''
from __future__ import annotations


def shout(text: str, times: int = 1) -> str:
    """Say it loudly."""
    words = read(text) if times < 0 else text
    return words.upper() * times


def read(text):
    said = text
    return said
'''


def test_a_copy_of_what_is_held_out_is_not_trained_on_even_if_the_original_makes_no_task() -> None:
    sandbox = ScriptedSandbox(lambda job: JobResult((exited(1),)))
    opened = Opened(sandbox, Place(Environment("here"), PackedTree("0")), BoxLimits())
    original = "from somewhere import read\n" + HARVESTED_NOWHERE
    _, funnel = made(opened, package("kept", original), package("second", COPY))
    assert funnel.steps["functions"] == 3
    assert funnel.steps["duplicate functions"] == 1  # shout; read stays
    assert funnel.steps["lost"] == 1


def test_no_kind_is_taken_twice_before_others_and_not_too_many_of_a_function(boxes: Opened) -> None:
    tasks, funnel = made(
        boxes, package("demo"), settings=SETTINGS.model_copy(update={"per_function": 2, "double": 0.0})
    )
    by_function: dict[str, list[tuple[str, ...]]] = {}
    for task in tasks:
        by_function.setdefault(task.row.id.split(":")[2], []).append(task.kinds)
    assert all(len(kinds) == len(set(kinds)) <= 2 for kinds in by_function.values())
    assert funnel.steps["surplus"] > 0


def test_two_faults_at_once_name_both_kinds(boxes: Opened) -> None:
    tasks, _ = made(boxes, package("demo"), settings=SETTINGS.model_copy(update={"double": 1.0}))
    assert {len(task.kinds) for task in tasks} >= {2}


@pytest.mark.thorough
def test_a_hostile_package_makes_no_tasks_and_hurts_no_other(boxes: Opened) -> None:
    hostile = """
import io


def loops(text):
    while text or not text:
        text = text
    return text


def grows(text):
    text = text * 10 ** 9
    return [text] * 10 ** 9


def finds(text):
    system = io.IOBase.__init__.__self__ if hasattr(io.IOBase.__init__, "__self__") else None
    found = [kind for kind in object.__subclasses__() if kind.__name__ == "_wrap_close"]
    found[0].__init__.__globals__["_exit"](0)
    return system
"""
    tasks, funnel = made(boxes, package("hostile", hostile, "bad"), package("demo"))
    assert {task.row.repo for task in tasks} == {"demo"}
    assert funnel.steps["harvested"] == 6


def row(check: str = "") -> Row:
    before, after = "def f(a):\n    return a\n", "def f(a):\n    return a + 1\n"
    seen = (Observation("f(1)", ("returns", "2")), Observation("f(0)", ("returns", "1")))
    return Row(
        id="demo@1.0:demo/a.py:f:0",
        repo="demo",
        title="f returns 1",
        issue="f returns 1",
        conversation="",
        files=(RowFile("demo/a.py", before, after),),
        base="1.0",
        merged_at="",
        licence="MIT",
        split="train",
        check=check or check_program("demo/a.py", seen),
    )


def answer(line: str) -> str:
    return f"```python\n### demo/a.py\n<<<<<<< SEARCH\n    return a\n=======\n    {line}\n>>>>>>> REPLACE\n```\n"


def test_answers_pass_or_fail_or_are_no_patch(boxes: Opened) -> None:
    lines = ["return a + 1", "return 1 + a", "return a + 2", "import os; os._exit(0)", "while True: pass", "return ("]
    texts = [row().answer(), *map(answer, lines), "no edit"]
    good, bad, none = CheckVerdict.PASSED, CheckVerdict.FAILED, CheckVerdict.REJECTED
    assert asyncio.run(evaluate_row(row(), texts, boxes)) == (good, good, good, bad, bad, bad, none, none)


def test_equal_patches_share_a_box_and_others_do_not() -> None:
    sandbox = ScriptedSandbox(lambda job: JobResult((exited(0),)))
    opened = Opened(sandbox, Place(Environment("here"), PackedTree("0")), BoxLimits())
    texts = [answer("return a + 1"), answer("return a + 1  # better"), answer("return 2"), "no edit"]
    asyncio.run(evaluate_row(row(), texts, opened))
    assert len(sandbox.jobs) == 2
    assert {file.path for file in sandbox.jobs[0].files} == {"demo/a.py", ".amini-check.py"}
    assert sandbox.jobs[0].files[-1].path == ".amini-check.py"


def patch() -> Patch:
    before = row().files[0].before or ""
    return make_patch([FileChange("demo/a.py", before.encode(), b"b", "100644")], Forms())


@pytest.mark.parametrize("ending", [Ending.BOX_DIED, Ending.NOT_RUN])
def test_a_lost_box_is_no_verdict(ending: Ending) -> None:
    sandbox = ScriptedSandbox(lambda job: JobResult((ended(ending),)))
    opened = Opened(sandbox, Place(Environment("here"), PackedTree("0")), BoxLimits())
    with pytest.raises(EnvironmentFailed, match="was lost"):
        asyncio.run(check_patch(row(), patch(), opened))


def test_a_patch_that_takes_too_long_or_cannot_be_placed_fails() -> None:
    for result in (lambda job: JobResult((ended(Ending.TIMED_OUT),)), refusing("a symlink is in the way")):
        opened = Opened(ScriptedSandbox(result), Place(Environment("here"), PackedTree("0")), BoxLimits())
        assert asyncio.run(check_patch(row(), patch(), opened)) is CheckVerdict.FAILED


def test_a_check_is_a_program_of_its_own(tmp_path: Path) -> None:
    import subprocess
    import sys

    (tmp_path / "demo").mkdir()
    (tmp_path / "check.py").write_text(row().check)
    for text, status in ((row().files[0].before, 1), (row().files[0].after, 0)):
        (tmp_path / "demo" / "a.py").write_text(text or "")
        done = subprocess.run([sys.executable, "-I", "check.py"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == status
        assert ("f(1): expected returns 2, got returns 1" in done.stdout) is bool(status)


def test_the_funnel_is_a_document(boxes: Opened) -> None:
    tasks, funnel = made(boxes, package("demo"))
    document = json.loads(json.dumps(funnel.document()))
    assert document["steps"]["kept"] == len(tasks)
    assert document["packages"]["demo"]["kept"] == len(tasks)
    assert set(document["kinds"]) >= {"operator", "guard"}
