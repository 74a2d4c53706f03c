"""The reward as verl, TRL and verifiers call it, on rows written for them: 100 answers, each worth the same."""

import importlib
import inspect
import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agentless_mini.chain.templates import load_prompts
from agentless_mini.domain import Completion, Finish
from agentless_mini.edits import read_answer
from agentless_mini.learning.reward import Oracle, reward
from agentless_mini.learning.rewarding import row_text
from agentless_mini.learning.rows import Row, RowFile, write_rows, write_table
from agentless_mini.learning.trainers import compute_score, exported, rubric_reward, trl_reward
from tests.learning import tiny
from tests.learning.reward.answers import WAYS, Problem, problem, sources

ANSWERS = 100


def row_of(number: int, given: Problem) -> Row:
    (change,) = given.oracle
    assert change.after is not None
    files = tuple(
        RowFile(path, data.decode(), (change.after if path == change.path else data).decode())
        for path, data in given.files.items()
    )
    return Row(f"some/repo#{number}", "some/repo", "", f"issue {number}", "", files, "", "", "MIT", "train")


@pytest.fixture(name="answered", scope="module")
def make_answers() -> list[tuple[Row, str, float]]:
    """Return rows, each with an answer to it, and what that is worth as inference reads it."""
    dice, files = random.Random(19), sources()  # noqa: S311 - drawn again alike
    made = []
    for number in range(ANSWERS):
        given = problem(dice, files)
        text = WAYS[number % len(WAYS)](given, dice)
        value = reward(read_answer(Completion(0, text, Finish.STOP), given.tree), Oracle(given.oracle), given.tree)
        assert value is not None
        made.append((row_of(number, given), text, value))
    return made


def written(folder: Path, answered: list[tuple[Row, str, float]], to: str) -> list[dict[str, Any]]:
    from pyarrow import parquet

    counts = Counter[str]()
    found = exported([row for row, _, _ in answered], load_prompts(None), to, counts)
    assert write_table(folder / "train.parquet", found) == counts["exported"] == ANSWERS
    return list(parquet.read_table(folder / "train.parquet").to_pylist())


def test_verl_loads_the_reward_by_its_path_and_calls_it_by_name(
    tmp_path: Path, answered: list[tuple[Row, str, float]]
) -> None:
    # As verl 0.9's `load_module` and `NaiveRewardManager` do, which were also run on these rows themselves.
    assert importlib.import_module("agentless_mini.learning.trainers").compute_score is compute_score
    for example, (_, text, value) in zip(written(tmp_path, answered, "verl"), answered, strict=True):
        assert example["prompt"][-1]["role"] == "user"
        extra = {**example["extra_info"], "num_turns": None, "rollout_reward_scores": {}}
        given = {"data_source": example["data_source"], "ground_truth": example["reward_model"]["ground_truth"]}
        assert compute_score(solution_str=text, extra_info=extra, **given, reward_router_address="x") == value


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")
def test_trl_itself_calls_the_reward_on_the_rows(
    model: Path, tmp_path: Path, answered: list[tuple[Row, str, float]]
) -> None:
    from datasets import load_dataset
    from trl import GRPOConfig, GRPOTrainer

    written(tmp_path, answered, "trl")
    data = load_dataset("parquet", data_files=str(tmp_path / "train.parquet"), cache_dir=str(tmp_path))["train"]
    config = GRPOConfig(str(tmp_path / "out"), use_cpu=True, bf16=False, report_to=[])
    trainer = GRPOTrainer(str(model), reward_funcs=trl_reward, args=config, train_dataset=data)
    completions = [[{"role": "assistant", "content": text}] for _, text, _ in answered]
    said = trainer._calculate_rewards(list(data), list(data["prompt"]), completions, [[1]] * ANSWERS)
    assert said[:, 0].tolist() == pytest.approx([value for _, _, value in answered], abs=1e-6)


def test_a_rubric_calls_the_reward_by_the_names_of_its_parameters(
    tmp_path: Path, answered: list[tuple[Row, str, float]]
) -> None:
    names = inspect.signature(rubric_reward).parameters  # of one answer, by verifiers' own rule: no plural among them
    assert {*names} <= {"prompt", "completion", "answer", "state", "task", "info", "parser"}
    for example, (_, text, value) in zip(written(tmp_path, answered, "verifiers"), answered, strict=True):
        for said in ({"role": "assistant", "content": text}, _Message(text)):
            state = {"completion": [said], "answer": example["answer"], "info": example["info"]}
            assert rubric_reward(**{name: state[name] for name in names}) == value


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (None, -1.0),
        ("", -1.0),
        ([], -1.0),
        ([{"type": "image_url"}], -1.0),
        ([{"type": "text", "text": "{}"}], 1.0),
        (["{}"], 1.0),
    ],
)
def test_a_message_may_have_parts_or_nothing_to_say(content: object, value: float) -> None:
    (row,) = tiny.rows(1)
    said = json.loads(json.dumps(content).replace("{}", json.dumps(row.answer())[1:-1]))
    for completion in ([{"role": "assistant", "content": said}], [_Message(said)]):
        assert rubric_reward(completion, row_text(row)) == value
    for nothing in ([], None, [{"role": "assistant", "tool_calls": []}]):
        assert trl_reward([nothing], [row_text(row)]) == [-1.0]


class _Message:
    """A message as verifiers has it: an object."""

    def __init__(self, content: str) -> None:
        self.content = content


def test_a_row_that_changes_nothing_has_no_reward_and_is_not_written(tmp_path: Path) -> None:
    from agentless_mini.learning.trainers import compute_score, trl_reward

    (row,) = tiny.rows(1)
    still = Row(**{**{name: getattr(row, name) for name in row.__slots__}, "files": (RowFile("a.py", "x\n", "x\n"),)})
    with pytest.raises(ValueError, match="has no reward"):
        compute_score("", "I change nothing.", row_text(still))
    assert trl_reward(["no edit"], [row_text(row)], kind="discrete", trainer_state=None) == [-1.0]
    write_rows(tmp_path / "rows.parquet", [row, still])
    rows = str(tmp_path / "rows.parquet")
    command = [sys.executable, "-m", "agentless_mini", "learn", "export-rows", rows, "--out", str(tmp_path / "out")]
    done = subprocess.run([*command, "--to", "trl"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["rows"] == {"exported": 1, "no answer": 1}
    write_rows(tmp_path / "rows.parquet", tiny.rows(1, "test"))  # nothing of an earlier export stays
    subprocess.run([*command, "--to", "trl"], check=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["test.parquet"]
    done = subprocess.run([*command, "--to", "slime"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "There is no trainer 'slime'" in done.stderr
