"""Measures the choice by vote alone on public pools of patches with official outcomes, and how well it is calibrated.

    python -m tests.benchmarks.pools POOL_REPO... [--issues django|others] [--fit] [--least 2]

POOL_REPO is a git clone, bare or not, of a public repository that holds predictions for SWE-bench and what the official
harness said of them; several are merged into one pool. Read are, from HEAD, without a checkout:

* .../evaluations/NAME.eval.json beside .../predictions/NAME_eval.jsonl or NAME.jsonl (github.com/pepealonso95/TDAD),
* scored/per_run_results.json beside data/runs/full_RUN/preds.json (github.com/kkkkkk0725/swebench-reliability-study),
* .../patch.diff beside .../report.json, of the harness (github.com/Vexp-ai/vexp-swe-bench),
* .../logs/ISSUE/report.json beside .../trajs/ISSUE/ISSUE.traj.json (github.com/gruckion/mini-swe-agent),
* hybrid_all_preds.jsonl beside FINAL_RESULTS.json (github.com/backspacevenkat/polydev-swe-bench).

No tree is needed: the normal form is of the lines that a patch adds and removes, without blanks and comment lines, in
files that are no tests. Equal forms have one outcome, the mean. Every number over issues has the 95 % interval of a
bootstrap by issue. Runs are in a random order (`--seed`), since a vote that ties takes the earliest. `--fit` fits the
four numbers of `chain/trust.py` on the issues that are *not* measured, and measures them, too. `--tests` prints instead
what the harness's reports say of wrong patches.
"""

import argparse
import json
import math
import random
import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentless_mini.chain import trust
from agentless_mini.chain.measures import mean
from agentless_mini.chain.rank import Standing, Totals, ordered, poll
from agentless_mini.domain import Candidate, Method, Patch
from tests.benchmarks import bootstrapped, say

NOT_CODE = re.compile(r"(^|/)tests?/|(^|/)(test_|conftest|repro)[^/]*$|_test\.py$")
BINS = (0.2, 0.4, 0.6, 0.8, 1.0)
PUBLISHED, SPREAD = (0.0, 0.55, 0.0, 0.0), (math.inf, 0.2, 1.0, 0.2)
"""What is expected of the four numbers before a fit, and how far off it may be: the slope over votes was published."""


@dataclass(frozen=True, slots=True)
class Issue:
    """An issue with its distinct patches, and how often each was right, in [0, 1], by normal form."""

    id: str
    polled: tuple[Standing, ...]
    right: dict[str, float]

    @property
    def is_django(self) -> bool:
        """Return whether it is of the repository that is kept apart."""
        return self.id.startswith("django__")


class Clone:
    """The files of a clone's HEAD."""

    def __init__(self, folder: Path) -> None:
        """Read the list of the files."""
        self._git = ("git", "-C", str(folder))
        self.paths = frozenset(self._run("ls-tree", "-r", "-z", "--name-only", "HEAD").decode().split("\0"))

    def text(self, path: str) -> str:
        """Return a file's text."""
        return self._run("show", f"HEAD:{path}").decode("utf-8", "replace")

    def predictions(self, path: str) -> dict[str, str]:
        """Return the patches of a file of predictions by issue."""
        text = self.text(path)
        rows = [json.loads(line) for line in text.splitlines() if line.strip()] if path.endswith("l") else _rows(text)
        return {row["instance_id"]: row.get("model_patch") or row.get("prediction") or "" for row in rows}

    def _run(self, *words: str) -> bytes:
        return subprocess.run((*self._git, *words), check=True, capture_output=True).stdout


def _rows(text: str) -> list[dict[str, Any]]:
    told = json.loads(text)
    return list(told.values()) if isinstance(told, dict) else told


# --- what the repositories hold --------------------------------------------------------------------------------------

Outcome = tuple[str, str, bool]
"""An issue, a patch and whether the harness said that it resolves the issue."""


def outcomes(clone: Clone) -> Iterator[Outcome]:
    """Yield what the clone tells, in the order of its paths. Merged runs are copies of others, and left out."""
    for path in sorted(clone.paths):
        if found := re.fullmatch(r"(.*)/evaluations/([^/]+)\.eval\.json", path):
            if "merged" not in path:
                yield from _evaluated(clone, path, f"{found[1]}/predictions/{found[2]}")
        elif path == "scored/per_run_results.json":
            for run, right in json.loads(clone.text(path)).items():
                for issue, patch in clone.predictions(f"data/runs/full_{run}/preds.json").items():
                    yield issue, patch, bool(right.get(issue))
        elif path == "FINAL_RESULTS.json" and "hybrid_all_preds.jsonl" in clone.paths:
            told = json.loads(clone.text(path))
            resolved = {*told["baseline"]["resolved_ids"], *told["polydev"]["resolved_ids"]}
            for issue, patch in clone.predictions("hybrid_all_preds.jsonl").items():
                yield issue, patch, issue in resolved
        elif path.endswith("/report.json"):
            yield from _reported(clone, path)


def _evaluated(clone: Clone, path: str, predictions: str) -> Iterator[Outcome]:
    told = json.loads(clone.text(path))
    file = next((f for f in (f"{predictions}_eval.jsonl", f"{predictions}.jsonl") if f in clone.paths), None)
    patches = clone.predictions(file) if file else {}
    for issue in sorted({*told["resolved_ids"], *told["unresolved_ids"]} & patches.keys()):
        yield issue, patches[issue], issue in told["resolved_ids"]


def _reported(clone: Clone, path: str) -> Iterator[Outcome]:
    folder = path.rpartition("/")[0]
    issue = folder.rpartition("/")[2]
    trajectory = f"{folder.rpartition('/logs/')[0]}/trajs/{issue}/{issue}.traj.json"
    report = json.loads(clone.text(path))
    report = report.get(issue, report)
    if "resolved" not in report:
        return
    if f"{folder}/patch.diff" in clone.paths:
        if report.get("patch_successfully_applied"):
            yield issue, clone.text(f"{folder}/patch.diff"), report["resolved"]
    elif trajectory in clone.paths:
        yield issue, json.loads(clone.text(trajectory)).get("info", {}).get("submission") or "", report["resolved"]


def patch_of(text: str) -> Patch | None:
    """Return a patch of the code's lines alone, None where it changes no code."""
    path, lines = "", []
    for line in text.splitlines():
        if line.startswith("diff --git"):
            path = line.rpartition(" b/")[2]
        elif line[:1] in ("+", "-") and not line.startswith(("+++ ", "--- ")):
            said = " ".join(line[1:].split())
            if said and said[0] != "#" and path.endswith(".py") and not NOT_CODE.search(path):
                lines.append((path, line[0] + said))
    normal = "\n".join(f"{path} {said}" for path, said in lines)
    return Patch("\n".join(said for _, said in lines).encode(), normal, ()) if lines else None


def issues(clones: Sequence[Clone], least: int, seed: int) -> list[Issue]:
    """Return the issues that have `least` patches or more, with the runs in a random order."""
    pools: dict[str, list[tuple[Patch, bool]]] = defaultdict(list)
    for clone in clones:
        for issue, text, right in outcomes(clone):
            if (patch := patch_of(text)) is not None:
                pools[issue].append((patch, right))
    found = []
    for issue, pool in sorted(pools.items()):
        if len(pool) >= least:
            random.Random(f"{seed} {issue}").shuffle(pool)  # noqa: S311 - an order, no secret
            grades = defaultdict(list)
            for patch, right in pool:
                grades[patch.normal].append(float(right))
            drawn = [Candidate("pool", n, n, patch) for n, (patch, _) in enumerate(pool)]
            rates = {normal: sum(told) / len(told) for normal, told in grades.items()}
            found.append(Issue(issue, poll(drawn), rates))
    return found


# --- the choice ------------------------------------------------------------------------------------------------------

Numbers = tuple[float, float, float, float]


def shipped() -> Numbers:
    """Return the four numbers of the model."""
    return trust.BASE, trust.VOTES, trust.LIKENESS, trust.SIZE


def terms(one: Standing) -> Numbers:
    """Return what the four numbers are multiplied with."""
    return 1.0, math.log((one.votes - 0.5) / (one.of + 1.5 - one.votes)), one.likeness, math.log(max(1, one.lines))


def by_model(issue: Issue, numbers: Numbers) -> tuple[str, float]:
    """Return what the model chooses with these numbers, and its probability."""
    odds = {one.normal: math.fsum(map(math.prod, zip(numbers, terms(one), strict=True))) for one in issue.polled}
    best = min(issue.polled, key=lambda one: (-round(odds[one.normal], 9), one.first))
    return best.normal, trust.probability(odds[best.normal])


def fitted(known: Sequence[Issue]) -> Numbers:
    """Return the most probable numbers, each issue's patches weighted by their votes (Newton's method)."""
    import numpy as np

    rows = [(terms(one), issue.right[one.normal], one.votes / one.of) for issue in known for one in issue.polled]
    x, y, weight = (np.array(column) for column in zip(*rows, strict=True))
    expected, precision = np.array(PUBLISHED), np.array([spread**-2 for spread in SPREAD])
    numbers = np.zeros(4)
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ numbers))
        slope = x.T @ (weight * (y - p)) - precision * (numbers - expected)
        numbers = numbers + np.linalg.solve((x.T * (weight * p * (1 - p))) @ x + np.diag(precision), slope)
    return tuple(float(number) for number in numbers)  # type: ignore[return-value]


def told(name: str, values: Sequence[float]) -> str:
    """Return a mean in percent, with the 95 % percentile interval of a bootstrap over issues (Efron 1979)."""
    middle, low, high = bootstrapped(values)
    return f"{name:<28} {100 * middle:5.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def measured(found: Sequence[Issue], numbers: Numbers) -> None:
    """Print how often each way chooses a right patch, and the calibration of the model."""
    chosen = [by_model(one, numbers) for one in found]
    model = [one.right[normal] for one, (normal, _) in zip(found, chosen, strict=True)]
    votes = [one.right[ordered(one.polled, Totals(), Method.VOTE)[0].normal] for one in found]
    sizes = Counter(one.polled[0].of for one in found)
    say(f"{len(found)} issues, {sum(n * c for n, c in sizes.items()) / len(found):.1f} patches each")
    say(told("mean of the runs", [sum(s.votes * one.right[s.normal] for s in one.polled) / s_of(one) for one in found]))
    say(told("oracle", [max(one.right.values()) for one in found]))
    say(told("vote", votes))
    say(told("model", model))
    say(told("model less vote", [a - b for a, b in zip(model, votes, strict=True)]))
    sure = [p for _, p in chosen]
    brier = [(p - right) ** 2 for p, right in zip(sure, model, strict=True)]
    share = [max(s.votes for s in one.polled) / s_of(one) for one in found]
    old = [(p - right) ** 2 for p, right in zip(share, votes, strict=True)]
    base = sum(model) / len(model)
    say(f"Brier score: model {mean(brier):.3f}, vote share {mean(old):.3f}, base rate {base * (1 - base):.3f}")
    for low, high in zip((0.0, *BINS), BINS, strict=False):
        part = [(p, right) for p, right in zip(sure, model, strict=True) if low <= p < high or p == high == 1]
        if part:
            rate, expected = sum(r for _, r in part) / len(part), sum(p for p, _ in part) / len(part)
            say(f"    {low:.0%} to {high:.0%}: {len(part)} issues, said {expected:.0%}, right {rate:.0%}")


def official(clones: Sequence[Clone]) -> None:
    """Print what official tests say of wrong patches, each distinct one once, every issue with the same weight."""
    told: dict[str, dict[str, tuple[int, int, int]]] = defaultdict(dict)
    for clone in clones:
        for path in (path for path in clone.paths if path.endswith("/report.json")):
            issue = path.split("/")[-2]
            text = clone.text(path)
            report = json.loads(text) if text.strip() else {}
            report = report.get(issue, report)
            nothing: dict[str, list[str]] = {"success": [], "failure": []}
            status = report.get("tests_status", {})
            fixed, kept = status.get("FAIL_TO_PASS", nothing), status.get("PASS_TO_PASS", nothing)
            of = len(fixed["success"]) + len(fixed["failure"])
            if of and not report["resolved"]:
                diff = path.replace("report.json", "patch.diff")
                known = clone.text(diff) if diff in clone.paths else path
                told[issue][known] = len(fixed["success"]), of, len(kept["failure"])
    rows = [(one, 1 / len(all_)) for all_ in told.values() for one in all_.values()]
    weight = sum(part for _, part in rows)

    say(f"{len(rows)} wrong patches of {len(told)} issues")
    passing = sum(part * passed / of for (passed, of, _), part in rows) / weight
    say(f"share of the tests to be fixed that pass: {passing:.3f}")
    for low, high in ((0, 0), (1, 1), (2, 3), (4, 10**6)):
        part = sum(weighed for one, weighed in rows if low <= one[2] <= high) / weight
        say(f"break {low} to {high} of the others: {part:.3f}")
    several = [(passed / of, 1 / of, part) for (passed, of, _), part in rows if of > 1]
    total = sum(part for *_, part in several)
    center = sum(rate * part for rate, _, part in several) / total
    spread = sum((rate - center) ** 2 * part for rate, _, part in several) / total
    single = sum(one * part for _, one, part in several) / total
    correlation = (spread / (center * (1 - center)) - single) / (1 - single)
    say(f"correlation of two such tests on one patch, of {len(several)} patches: {correlation:.2f}")


def s_of(issue: Issue) -> int:
    """Return how many patches an issue has."""
    return issue.polled[0].of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clones", nargs="+", type=Path, metavar="POOL_REPO")
    parser.add_argument("--issues", choices=("all", "django", "others"), default="all")
    parser.add_argument("--least", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--tests", action="store_true")
    given = parser.parse_args()
    if given.tests:
        official([Clone(folder) for folder in given.clones])
        return
    every = issues([Clone(folder) for folder in given.clones], given.least, given.seed)
    found = [one for one in every if given.issues == "all" or one.is_django is (given.issues == "django")]
    say(f"shipped: {', '.join(f'{number:.2f}' for number in shipped())}")
    measured(found, shipped())
    if given.fit:
        numbers = fitted([one for one in every if one not in found] or every)
        say(
            f"\nfitted on the {'other issues' if given.issues != 'all' else 'same issues'}: "
            f"{', '.join(f'{number:.2f}' for number in numbers)}"
        )
        measured(found, numbers)


if __name__ == "__main__":
    main()
