"""What the answers of `learning` are worth: their checks, run in a sandbox, and the tables of all that."""

import json
import os
import sys
from contextlib import AsyncExitStack

import platformdirs

from agentless_mini.domain import Completion, Finish, Patch
from agentless_mini.edits import read_answer
from agentless_mini.environments import Opened, SandboxSettings
from agentless_mini.learning.bugs.place import PlainRequest, open_plain
from agentless_mini.learning.checks import Checks
from agentless_mini.learning.rows import Row
from agentless_mini.measures.estimates import bootstrap, mean, pass_at_k
from agentless_mini.reward import Oracle
from agentless_mini.reward import reward as reward_of
from tests.benchmarks.learning_experiment import Experiment, draws, lines, told


def score(it: Experiment) -> None:
    """Run the checks of all answers that have no score yet."""

    async def opening(stack: AsyncExitStack) -> Opened:
        cache = platformdirs.user_cache_path("amini")
        return await open_plain(PlainRequest(SandboxSettings(), cache, dict(os.environ)), lambda event: None, stack)

    rows = {row.id: row for row in it.rows("test")}
    (it.work / "scores").mkdir(parents=True, exist_ok=True)
    with Checks(opening) as checks:
        for path in sorted((it.work / "answers").glob("*.jsonl")):
            out = it.work / "scores" / path.name
            had = {line["row"] for line in lines(out)}
            for line in lines(path):
                if line["row"] not in had:
                    found = _scored(rows[line["row"]], line["rounds"], checks)
                    with out.open("a") as file:
                        file.write(json.dumps({"row": line["row"], "rounds": found}) + "\n")
            told(f"{path.stem} is scored")


def _scored(row: Row, rounds: list[list[dict[str, str]]], checks: Checks) -> list[list[list[float | None]]]:
    """Return for each answer of each round whether it is a patch, how like the oracle, and what its check says."""
    tree, oracle = row.tree(), Oracle(row.oracle())
    outcomes = [
        [read_answer(Completion(0, one["text"], Finish(one["finish"])), tree) for one in group] for group in rounds
    ]
    distinct = {one.normal: one for group in outcomes for one in group if isinstance(one, Patch)}
    verdicts = dict(zip(distinct, checks.values([(row, patch) for patch in distinct.values()]), strict=True))
    return [
        [
            [1.0, reward_of(one, oracle), verdicts[one.normal]] if isinstance(one, Patch) else [0.0, -1.0, 0.0]
            for one in group
        ]
        for group in outcomes
    ]


def report(it: Experiment) -> None:
    """Print what was measured, with 95 % bootstrap intervals over the rows."""
    write = sys.stdout.write
    write(f"{'answers':24} {'rows':>5} {'pass@1':>18} {'pass@10':>18} {'format':>18} {'reward':>18}\n")
    for path in sorted((it.work / "scores").glob("*.jsonl")):
        found = list(lines(path))
        groups = [[one for group in line["rounds"] for one in group if one[2] is not None] for line in found]
        _print(path.stem, [group for group in groups if group])
        for number in range(len(found[0]["rounds"]) if found and len(found[0]["rounds"]) > 1 else 0):
            of_round = [[one for one in line["rounds"][number] if one[2] is not None] for line in found]
            _print(f"  round {number}", [group for group in of_round if group])


def _print(name: str, groups: list[list[list[float]]]) -> None:
    right = [(len(group), sum(one[2] == 1 for one in group)) for group in groups]
    columns = (
        [pass_at_k(total, good, 1) for total, good in right],
        [pass_at_k(total, good, 10) for total, good in right],
        [sum(one[0] for one in group) / len(group) for group in groups],
        [sum(one[1] for one in group) / len(group) for group in groups],
    )
    sys.stdout.write(f"{name:24} {len(groups):5} {' '.join(_cell(values) for values in columns)}\n")


def _cell(values: list[float]) -> str:
    around = bootstrap(values, draws())
    middle = mean(values)
    if around is None or middle is None:
        return f"{'-':>18}"
    return f"{middle:5.3f} [{around.low:5.3f} {around.high:5.3f}]"
