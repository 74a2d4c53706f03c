"""What the answers of `learning` are worth: their checks, run in a sandbox, and the tables of all that.

Each is read twice, as `repair` does with `match = "strict"` (as in training) and "loose".
"""

import json
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import platformdirs

from agentless_mini.chain.measures import pass_at_k
from agentless_mini.domain import Completion, Finish, Matching, Patch
from agentless_mini.edits import read_answer
from agentless_mini.environment.work import Opened
from agentless_mini.learning.reward import Oracle
from agentless_mini.learning.reward import reward as reward_of
from agentless_mini.learning.rewarding import Measure, open_plain, running_checks
from agentless_mini.learning.rows import Row
from agentless_mini.settings.run import SandboxSettings
from tests.benchmarks import bootstrapped
from tests.benchmarks.learning_experiment import LINES, SEED, Experiment, lines, told


def score(it: Experiment) -> None:
    """Run the checks of all answers that have no score yet."""

    async def opening(stack: AsyncExitStack) -> Opened:
        cache = platformdirs.user_cache_path("amini")
        return await open_plain(SandboxSettings(), cache, dict(os.environ), lambda event: None, stack)

    rows = {row.id: row for row in it.rows("test")}
    with running_checks(opening) as checks:
        for matching in Matching:
            folder = it.work / "scores" / matching
            folder.mkdir(parents=True, exist_ok=True)
            for path in sorted((it.work / "answers").glob("*.jsonl")):
                had = {line["row"] for line in lines(folder / path.name)}
                for line in lines(path):
                    if line["row"] not in had:
                        found = _scored(rows[line["row"]], line["rounds"], checks, matching)
                        with (folder / path.name).open("a") as file:
                            file.write(json.dumps({"row": line["row"], "rounds": found}) + "\n")
                told(f"{path.stem} is scored, {matching}")


def _scored(
    row: Row, rounds: list[list[dict[str, str]]], checks: Measure, matching: Matching
) -> list[list[list[float | None]]]:
    """Return for each answer of each round whether it is a patch, how like the oracle, and what its check says."""
    tree, oracle = row.tree(), Oracle(row.oracle())
    outcomes = [
        [read_answer(Completion(0, one["text"], Finish(one["finish"])), tree, matching) for one in group]
        for group in rounds
    ]
    distinct = {one.normal: one for group in outcomes for one in group if isinstance(one, Patch)}
    verdicts = dict(zip(distinct, checks([(row, patch) for patch in distinct.values()]), strict=True))
    return [
        [
            [1.0, reward_of(one, oracle, tree), verdicts[one.normal]] if isinstance(one, Patch) else [0.0, -1.0, 0.0]
            for one in group
        ]
        for group in outcomes
    ]


def report(it: Experiment) -> None:
    """Print what was measured, with 95 % bootstrap intervals over the rows."""
    for matching in Matching:
        names = ("pass@1", "pass@10", f"pass@{it.size.samples}", "format", "reward")
        sys.stdout.write(f"{f'match {matching}':22} {'rows':>5} {' '.join(f'{name:>19}' for name in names)}\n")
        for path in sorted((it.work / "scores" / matching).glob("*.jsonl")):
            found = list(lines(path))
            told_of = [[one for group in line["rounds"] for one in group if one[2] is not None] for line in found]
            _print(path.stem, [group for group in told_of if group], it.size.samples)
            for number in range(len(found[0]["rounds"]) if found and len(found[0]["rounds"]) > 1 else 0):
                of_round = [[one for one in line["rounds"][number] if one[2] is not None] for line in found]
                _print(f"  round {number}", [group for group in of_round if group], it.size.samples)
            for number in (0, 1):
                _print_gain(found, number)
            if matching is Matching.LOOSE:  # as the selector read them
                _print_chosen(found, it.work / "picks" / path.name, it.size.samples)
        for name in ("sample-classical", "at_random-mutation"):
            _print_against(it.work / "scores" / matching, name)


def _print_gain(found: list[dict[str, Any]], first: int) -> None:
    """Print what the last round has above a first one, row by row: pass@1, format and reward."""
    rounds = [(line["rounds"][first], line["rounds"][-1]) for line in found if len(line["rounds"]) > 2]
    scored = [[[one for one in group if one[2] is not None] for group in pair] for pair in rounds]
    pairs = [(_mean(early), _mean(last)) for early, last in scored if early and last]
    if pairs:
        cells = (_cell([last[place] - early[place] for early, last in pairs]) for place in (2, 0, 1))
        sys.stdout.write(f"{f'  last less round {first}':22} {len(pairs):5} {' '.join(cells)}\n")


def _mean(group: list[list[float]]) -> list[float]:
    """Return the share of patches, the mean reward, the share of right ones."""
    return [sum(one[place] for one in group) / len(group) for place in range(3)]


def _print_against(folder: Path, name: str) -> None:
    """Print the differences of all answers from some, row by row: what rows have in common falls out."""
    first = _means(folder / f"{name}.jsonl")
    if not first:
        return
    sys.stdout.write(f"less {name:17} {'rows':>5} {' '.join(f'{one:>19}' for one in ('pass@1', 'format', 'reward'))}\n")
    for path in sorted(folder.glob("*.jsonl")):
        pairs = [(first[row], means) for row, means in _means(path).items() if row in first]
        if path.stem != name and pairs:
            cells = (_cell([one[place] - other[place] for other, one in pairs]) for place in (2, 0, 1))
            sys.stdout.write(f"{path.stem:22} {len(pairs):5} {' '.join(cells)}\n")


def _means(path: Path) -> dict[str, list[float]]:
    """Return of each row the means over its answers."""
    found = {
        line["row"]: [one for group in line["rounds"] for one in group if one[2] is not None] for line in lines(path)
    }
    return {row: _mean(said) for row, said in found.items() if said}


def _print_chosen(found: list[dict[str, Any]], picks: Path, samples: int) -> None:
    places = {line["row"]: line["place"] for line in lines(picks)}
    chosen = [_chosen(line["rounds"], places[line["row"]]) for line in found if line["row"] in places]
    if chosen:
        _print("  chosen", [[one] for one in chosen if one[2] is not None], samples)


def _chosen(rounds: list[list[Any]], place: list[int] | None) -> Any:  # noqa: ANN401 - of JSON
    """Return what the selector's choice is worth; it has none where no answer is a patch."""
    return rounds[place[0]][place[1]] if place else [0.0, -1.0, 0.0]


def _print(name: str, groups: list[list[list[float]]], samples: int) -> None:
    within = _first_of_order if name == LINES else _among_any
    columns = (
        *([within(group, count) for group in groups] for count in (1, 10, samples)),
        [sum(one[0] for one in group) / len(group) for group in groups],
        [sum(one[1] for one in group) / len(group) for group in groups],
    )
    sys.stdout.write(f"{name:22} {len(groups):5} {' '.join(_cell(values) for values in columns)}\n")


def _among_any(group: list[list[float]], count: int) -> float:
    """Return the chance that one of `count` answers, drawn of all, is right."""
    return pass_at_k(len(group), sum(one[2] == 1 for one in group), min(count, len(group)))


def _first_of_order(group: list[list[float]], count: int) -> float:
    return float(any(one[2] == 1 for one in group[:count]))


def _cell(values: list[float]) -> str:
    if not values:
        return f"{'-':>19}"
    middle, low, high = bootstrapped(values, SEED)
    return f"{middle:6.3f} [{low:5.3f} {high:5.3f}]"
