"""The task sets of the field as rows: small ones, made after the columns that they are published with."""

import asyncio
import itertools
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentless_mini.chain.templates import load_prompts
from agentless_mini.commands.learn_training import NoGrader, check_in_image
from agentless_mini.domain import FileChange, Note, Patch, RewardKind
from agentless_mini.edits import Forms, make_patch
from agentless_mini.errors import EnvironmentFailed, GradingFailed, UsageError
from agentless_mini.evaluation.testbeds import HostSettings, open_testbeds
from agentless_mini.learning.curation.history import Mirrors
from agentless_mini.learning.rewarding import Answer, InImage, Rewarding, read_rollout, running_checks
from agentless_mini.learning.rows import Row, RowFile, check_kinds, read_rows, write_rows
from agentless_mini.learning.tasks import MOST_TESTS, hub_tasks, rows
from agentless_mini.sandbox.daemon import connect
from agentless_mini.settings.learning import Device, RlSettings, SftSettings
from agentless_mini.settings.run import ImageSettings, SandboxSettings
from tests.edits.edit_cases import edit, fenced
from tests.evaluation.testbed_image import SOURCES, Holds, instance_image
from tests.fakes.testbeds import ScriptedTestbeds
from tests.gitrepo import git, make_repository, write_files
from tests.learning import tiny

RIGHT, WRONG = "def double(x):\n    return 2 * x\n", "def double(x):\n    return 3 * x\n"
TEST = "from calc import double\n\n\ndef test_double():\n    assert double(2) == 4\n"


def made(folder: Path, files: Mapping[str, str], after: Mapping[str, str]) -> tuple[str, str]:
    """Make a clone of `me/calc` with a commit, and return that and the diff to what comes after."""
    clone = folder / "me__calc"
    if not clone.exists():
        make_repository(clone, {path: text.encode() for path, text in files.items()})
    write_files(clone, {path: text.encode() for path, text in after.items()})
    git(clone, "add", "--intent-to-add", ".")
    diff = git(clone, "diff").decode()
    git(clone, "reset", "--quiet", "--hard")
    git(clone, "clean", "--quiet", "--force")
    return git(clone, "rev-parse", "HEAD").decode().strip(), diff


def read(tasks: Sequence[Mapping[str, Any]], mirrors: Path, most: int = 10_000) -> tuple[list[Row], Counter[str]]:
    counts = Counter[str]()
    images = "swebench/sweb.eval.x86_64.{id}:latest"
    return list(rows(tasks, Mirrors(mirrors, mirrors / "none"), images, most, counts)), counts


@pytest.fixture(name="task")
def make_task(tmp_path: Path) -> dict[str, Any]:
    """Return a task with the columns of SWE-bench and SWE-Gym, beside the clone that it needs."""
    base, patch = made(tmp_path, {"calc.py": WRONG, "tests/conftest.py": "x = 1\n"}, {"calc.py": RIGHT})
    _, test_patch = made(tmp_path, {}, {"tests/test_calc.py": TEST, "tests/conftest.py": "x = 2\n"})
    about = {"hints_text": "", "created_at": "2024-01-01", "version": "1.0", "environment_setup_commit": base}
    tests = {"FAIL_TO_PASS": ["tests/test_calc.py::test_double"], "PASS_TO_PASS": ["tests/a.py::test_b", "doc test"]}
    issue = "double(2) is 6\n\nIt should be 4."
    told = {"instance_id": "me__calc-1", "repo": "me/calc", "base_commit": base, "problem_statement": issue}
    return {**told, **about, **tests, "patch": patch, "test_patch": test_patch}


def test_swe_bench_and_its_kin_have_contents_from_a_clone(task: dict[str, Any], tmp_path: Path) -> None:
    as_json = {name: json.dumps(task[name]) for name in ("FAIL_TO_PASS", "PASS_TO_PASS")}
    rebench = {"image_name": "swerebench/me", "license_name": "MIT", "install_config": {}, "meta": {}}
    found, counts = read([task, {**task, **as_json, **rebench}, {**task, "FAIL_TO_PASS": ""}], tmp_path)
    assert counts == {"with a check": 2, "without a check": 1}
    first, second, unchecked = found
    (file,) = first.files
    assert (file.path, file.before, file.after) == ("calc.py", WRONG, RIGHT)
    assert (first.id, first.title, first.split, first.merged_at) == (
        "me__calc-1",
        "double(2) is 6",
        "train",
        "2024-01-01",
    )
    assert json.loads(first.check) == {
        "image": "swebench/sweb.eval.x86_64.me_1776_calc-1:latest",
        "tests": ["tests/test_calc.py::test_double", "tests/a.py::test_b"],
        "files": {"tests/conftest.py": "x = 2\n", "tests/test_calc.py": TEST},
    }
    assert (json.loads(second.check)["image"], second.licence) == ("swerebench/me", "MIT")
    assert unchecked.check == ""
    (many,), _ = read([{**task, "PASS_TO_PASS": [f"tests/a.py::test_{n}" for n in range(999)]}], tmp_path)
    assert len(json.loads(many.check)["tests"]) == MOST_TESTS


def test_the_patch_of_swe_smith_is_the_bug(tmp_path: Path) -> None:
    base, bug = made(tmp_path, {"calc.py": RIGHT}, {"calc.py": WRONG})
    tests = {"FAIL_TO_PASS": ["tests/test_calc.py::test_double"], "PASS_TO_PASS": [], "image_name": "swesmith/me"}
    task = {
        "instance_id": "me__calc.x",
        "repo": f"swesmith/me__calc.{base[:8]}",
        "patch": bug,
        "problem_statement": "p",
    }
    (row,), _ = read([{**task, **tests}], tmp_path)
    assert [(file.before, file.after) for file in row.files] == [(WRONG, RIGHT)]
    assert json.loads(row.check)["files"] == {}
    assert row.repo == "me/calc"


def test_r2e_gym_has_its_contents_in_the_row(tmp_path: Path) -> None:
    def diff(path: str, old: str, new: str) -> dict[str, Any]:
        return {"header": {"file": {"path": path}}, "old_file_content": old, "new_file_content": new}

    diffs = [diff("calc.py", WRONG, RIGHT), diff("tests/test_calc.py", "", TEST), {"is_binary_file": True}]
    parsed = {"parsed_commit_content": json.dumps({"file_diffs": diffs}), "commit_hash": "c" * 40}
    task = {**parsed, "repo_name": "calc", "docker_image": "r2e/calc", "problem_statement": "p"}
    (row,), counts = read([task, {**task, "repo_name": "sympy"}, {**task, "parsed_commit_content": "[]"}], tmp_path)
    assert [(file.path, file.before, file.after) for file in row.files] == [("calc.py", WRONG, RIGHT)]
    assert (row.id, row.check) == (f"calc@{'c' * 40}", "")
    assert counts == {"without a check": 1, "benchmark": 1, "unreadable": 1}


@pytest.mark.parametrize(
    ("change", "became"),
    [
        ({"repo": "Django/django"}, "benchmark"),
        ({"repo": "nobody/calc"}, "no-mirror"),
        ({"repo": None}, "no-mirror"),
        ({"base_commit": "e" * 40}, "commit-missing"),
        ({"patch": "diff --git a/x.py b/x.py\n"}, "unreadable"),
        ({"patch": "diff --git a/x b/x\n"}, "no-code"),
        ({"patch": None}, "unreadable"),
        ({"problem_statement": " "}, "no-issue"),
        ({"problem_statement": float("nan")}, "no-issue"),
        ({"FAIL_TO_PASS": "[unclosed"}, "unreadable"),
        ({"FAIL_TO_PASS": "null"}, "without a check"),
        ({"FAIL_TO_PASS": ["test_x (module.Case)"]}, "without a check"),
        ({"test_patch": "no patch"}, "without a check"),
        ({"test_patch": ""}, "with a check"),
        ({"repo": "../calc"}, "no-mirror"),
        ({"base_commit": "--all"}, "commit-missing"),
        ({"problem_statement": "\ud800"}, "unreadable"),
        ({"patch": "\ud800"}, "unreadable"),
        ({"FAIL_TO_PASS": "[" * 9999}, "unreadable"),
    ],
)
def test_what_cannot_be_a_row_is_counted(
    task: dict[str, Any], tmp_path: Path, change: Mapping[str, Any], became: str
) -> None:
    found, counts = read([{**task, **change}], tmp_path)
    assert counts == {became: 1}
    assert len(found) == became.endswith("a check")


def test_large_files_documents_and_new_files_alone_are_no_rows(task: dict[str, Any], tmp_path: Path) -> None:
    assert read([task], tmp_path, most=10)[1] == {"huge": 1}
    for after in ({"README.md": "new\n"}, {"new.py": "x = 1\n"}):
        _, patch = made(tmp_path, {}, after)
        assert read([{**task, "patch": patch}], tmp_path)[1] == {"no-code": 1}
    _, unparsed = made(tmp_path, {}, {"calc.py": "def double(x):\n"})
    assert read([{**task, "patch": unparsed}], tmp_path)[1] == {"unreadable": 1}


@pytest.mark.parametrize(
    ("more", "also"),
    [
        ("diff --git a/x.png b/x.png\nindex e69de29..1 100644\nBinary files a/x.png and b/x.png differ\n", []),
        ("diff --git a/run.sh b/run.sh\nold mode 100644\nnew mode 100755\n", []),
        ("diff --git a/run.sh b/new.sh\nsimilarity index 100%\nrename from run.sh\nrename to new.sh\n",
         ["new.sh", "run.sh"]),
        ("diff --git a/NEWS b/NEWS\n--- a/NEWS\n+++ b/NEWS\n@@ -1 +1 @@\n-no\n+such line\n", []),
    ],
)  # fmt: skip
def test_the_code_of_a_patch_counts_whatever_else_it_changes(tmp_path: Path, more: str, also: list[str]) -> None:
    base, patch = made(tmp_path, {"calc.py": WRONG, "run.sh": "true\n", "NEWS": "none\n"}, {"calc.py": RIGHT})
    task = {"repo": "me/calc", "base_commit": base, "problem_statement": "p", "patch": patch + more}
    (row,), _ = read([task], tmp_path)
    assert [file.path for file in row.files] == ["calc.py", *also]


def test_a_set_has_a_name_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.need_training()
    monkeypatch.setattr("datasets.load_dataset", lambda name, split, streaming: iter([{name: (split, streaming)}]))
    assert list(hub_tasks("SWE-Gym/SWE-Gym", "train")) == [{"SWE-Gym/SWE-Gym": ("train", True)}]
    monkeypatch.setattr("datasets.load_dataset", lambda *some, **more: 1 / 0)
    with pytest.raises(UsageError, match=r"SWE-Gym/No cannot be read \(division by zero\)"):
        list(hub_tasks("SWE-Gym/No", "train"))


def test_the_command_writes_rows_and_tells_what_became_of_tasks(task: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "tasks.jsonl").write_text(f"{json.dumps({**task, 'FAIL_TO_PASS': []})}\n")
    command = ["learn", "rows", tmp_path / "tasks.jsonl", "--mirrors", tmp_path, "--out", tmp_path / "out"]
    done = learned([*map(str, command)])
    assert json.loads(done.stdout) == {"out": str(tmp_path / "out"), "rows": 1, "tasks": {"without a check": 1}}
    assert "no row has a check" in done.stderr
    (row,) = read_rows(tmp_path / "out")
    assert row.id == "me__calc-1"
    with pytest.raises(UsageError, match="with a check"):
        check_kinds(tmp_path / "out", "train")
    done = learned([*map(str, command), "--images", "x{y}"])
    assert (done.returncode, done.stdout) == (2, "")
    assert "more in braces" in done.stderr


def learned(words: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "agentless_mini", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")
def test_rows_of_three_sets_are_trained_on_for_two_steps(model: Path, task: dict[str, Any], tmp_path: Path) -> None:
    from agentless_mini.learning.sft import train_sft
    from agentless_mini.learning.training import Task

    bug = made(tmp_path, {}, {"calc.py": WRONG.replace("3", "4")})[1]
    smith = {**task, "instance_id": "s", "repo": f"me__calc.{task['base_commit'][:8]}", "patch": bug, "test_patch": ""}
    header = {"header": {"file": {"path": "calc.py"}}, "old_file_content": WRONG, "new_file_content": RIGHT}
    gym = {"repo_name": "calc", "parsed_commit_content": json.dumps({"file_diffs": [header]}), "problem_statement": "p"}
    found, counts = read([task, smith, gym], tmp_path)
    assert counts == {"with a check": 2, "without a check": 1}
    write_rows(tmp_path / "rows.parquet", found)
    settings = SftSettings(batch=1, accumulate=1, steps=2, max_tokens=tiny.CONTEXT, device=Device.CPU)
    learning = Task("sft", str(model), tmp_path / "rows.parquet", tmp_path / "out", load_prompts(None), print)
    done = train_sft(learning, settings)
    assert (done.steps, done.finished, done.rows) == (2, True, {"kept": 3})


# --- checks in images ------------------------------------------------------------------------------------------------


def patch_of(row: Row, after: str) -> Patch:
    (file,) = row.files
    assert file.before
    return make_patch([FileChange(file.path, file.before.encode(), after.encode(), "100644")], Forms())


def test_an_image_that_cannot_be_had_is_no_verdict(task: dict[str, Any], tmp_path: Path) -> None:
    (row,), _ = read([task], tmp_path)
    told: list[object] = []
    missing = frozenset({json.loads(row.check)["image"]})
    testbeds = ScriptedTestbeds(lambda instance: pytest.fail("no tree"), lambda instance, diff: False, missing=missing)
    assert asyncio.run(check_in_image(row, [patch_of(row, RIGHT)], testbeds, told.append)) == [None]
    (note,) = told
    for wrong in ("{", '{"image": "x"}'):
        with pytest.raises(UsageError, match="names no tests of an image"):
            asyncio.run(check_in_image(replace(row, check=wrong), [], testbeds, told.append))
    assert isinstance(note, Note)
    assert "could not be run: There is no image" in note.text
    with pytest.raises(GradingFailed):
        asyncio.run(NoGrader().grade("", b""))


def test_checks_of_images_and_programs_are_parted(task: dict[str, Any], tmp_path: Path) -> None:
    (row,), _ = read([task], tmp_path)
    other = replace(row, id="other", check="raise SystemExit(0)")
    write_rows(tmp_path / "rows.parquet", [row, other, replace(row, check="")])
    assert check_kinds(tmp_path / "rows.parquet", "train") == {True, False}
    asked: list[int] = []

    async def imaging(stack: object) -> Any:  # noqa: ANN401 - a function
        async def in_image(row: Row, patches: Sequence[Patch]) -> list[float | None]:
            asked.append(len(patches))
            return [float(b"2 * x" in patch.diff) for patch in patches]

        return in_image

    right, wrong = patch_of(row, RIGHT), patch_of(row, WRONG.replace("3", "4"))
    with running_checks(None, imaging) as measure:
        assert measure([(row, wrong), (other, right), (row, right)]) == [0.0, None, 1.0]
    assert asked == [2]


IMAGED = ("tests/test_calc.py::test_add", "tests/test_env.py::test_conda")


def answer_of(row: Row, line: str) -> Answer:
    said = fenced(edit("calc.py", "    return one - other\n", f"    return {line}\n"))
    return read_rollout(row, said, ended=True)


def in_images(state: Path) -> Callable[[AsyncExitStack], Coroutine[Any, Any, InImage]]:
    settings = HostSettings(ImageSettings(min_free_gib=0), SandboxSettings(boxes=2, memory_mib=512), state, {})

    async def imaging(stack: AsyncExitStack) -> InImage:
        testbeds = await stack.enter_async_context(open_testbeds(settings, {}, NoGrader()))
        return lambda row, patches: check_in_image(row, patches, testbeds, print)

    return imaging


@pytest.mark.thorough
def test_tests_in_boxes_of_the_image_are_the_reward(tmp_path: Path) -> None:
    try:
        connect(1).close()
    except EnvironmentFailed as error:
        pytest.skip(str(error))
    before = SOURCES["calc.py"].decode()
    check = {"image": instance_image(Holds.PYTEST), "tests": IMAGED, "files": {"tests/__init__.py": ""}}
    files = (RowFile("calc.py", before, before.replace("-", "+")),)
    row = Row("a__b-1", "a/b", "t", "it subtracts", "", files, "c" * 40, "", "", "train", check=json.dumps(check))
    # The tree of a made-up bug: in the image it is not there yet.
    bugged = before.replace("one - other", "one - one")
    other = json.dumps({**check, "tests": IMAGED[1:]})
    smith = replace(row, id="b", files=(RowFile("calc.py", bugged, before),), check=other)
    imaging = in_images(tmp_path)
    answers = [answer_of(row, line) for line in ("one + other", "one * 3", "one +")]
    said = fenced(edit("calc.py", "    return one - one\n", "    return one - other\n"))
    answers += [answer_of(row, "other + one"), read_rollout(smith, said, ended=True)]
    with running_checks(None, imaging) as measure:
        assert Rewarding(RewardKind.TESTS, measure).values(answers) == [1.0, 0.0, -1.0, 1.0, 1.0]


@pytest.mark.thorough
def test_a_step_of_training_is_rewarded_by_tests_in_boxes(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentless_mini.learning import rl
    from agentless_mini.learning.training import Task

    try:
        connect(1).close()
    except EnvironmentFailed as error:
        pytest.skip(str(error))
    before = SOURCES["calc.py"].decode()
    check = json.dumps({"image": instance_image(Holds.PYTEST), "tests": IMAGED, "files": {"tests/__init__.py": ""}})
    files = (RowFile("calc.py", before, before.replace("-", "+")),)
    row = Row("a__b-1", "a/b", "t", "it subtracts", "", files, "c" * 40, "", "", "train", check=check)
    data = tmp_path / "rows.parquet"
    write_rows(data, [row, replace(row, id="a__b-2")])
    # So small a model says nothing that could be read: of each pair of rollouts one is taken to be right.
    lines = itertools.cycle(["one + other", "one * 3"])
    monkeypatch.setattr(rl, "read_rollout", lambda row, said, ended: answer_of(row, next(lines)))
    sizes: dict[str, Any] = {"batch": 2, "accumulate": 1, "group": 2, "steps": 1, "log_every": 1, "answer_tokens": 8}
    settings = RlSettings(reward=RewardKind.TESTS, max_tokens=tiny.CONTEXT, device=Device.CPU, **sizes)
    with running_checks(None, in_images(tmp_path)) as measure:
        done = rl.train_rl(Task("rl", str(model), data, tmp_path / "out", load_prompts(None), print), settings, measure)
    assert (done.steps, done.finished) == (1, True)
    said = [json.loads(line) for line in (tmp_path / "out" / "rollouts.jsonl").read_text().splitlines()]
    assert [one["reward"] for one in said] == [1.0, 0.0]
