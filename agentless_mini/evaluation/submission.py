"""`--submission DIR`: what github.com/SWE-bench/experiments asks for, ready to be put under `evaluation/<split>/`.

    README.md        what was run and what came of it, and the checklist
    metadata.yaml    how the leaderboard shows it; what only a person knows says TO FILL IN
    all_preds.jsonl  the predictions
    logs/ID/         what the official harness wrote of each
    trajs/ID.md      how each came about, as the caller tells it

Written again after more instances, it keeps what a person wrote: metadata.yaml as it is, README.md outside of the two
comments that enclose its results. Nothing is sent anywhere.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agentless_mini.errors import GradingFailed, boundary, printable
from agentless_mini.evaluation.predictions import FILE, slug, write_predictions

LOGS = ("patch.diff", "report.json", "test_output.txt", "eval.sh", "run_instance.log")
BEGIN = "<!-- amini: results -->"
END = "<!-- amini: end of results -->"
TO_FILL_IN = "TO FILL IN"


@dataclass(frozen=True, slots=True)
class SubmissionFacts:
    """What an evaluation knows of itself. `attempts` are the samples among which one is chosen, for each instance.

    `repos` has the repository of every instance of the benchmark's split by id, also of those that were not run.
    """

    model: str
    split: str
    attempts: int
    repos: Mapping[str, str]
    versions: Mapping[str, str]
    oracle_files: bool = False


@dataclass(frozen=True, slots=True)
class Submitted:
    """An instance's part: its patch, empty where there is none, whether that resolves it, and its logs' folder.

    `resolved` is None where the patch was not graded.
    """

    diff: bytes
    resolved: bool | None
    logs: Path


@dataclass(frozen=True, slots=True)
class Written:
    """What a submission lacks: predictions, their grades, and of the logs of these some file."""

    missing: tuple[str, ...]
    ungraded: tuple[str, ...]
    without_logs: tuple[str, ...]


def write_submission(
    folder: Path, facts: SubmissionFacts, parts: Mapping[str, Submitted], trajectories: Iterable[tuple[str, str]]
) -> Written:
    """Write a submission of the instances in `parts`, by id. Raises `GradingFailed` where it cannot be written.

    `trajectories` gives (instance id, Markdown), one at a time.
    """

    def refused(error: BaseException) -> GradingFailed:
        return GradingFailed(f"The submission cannot be written to {printable(str(folder))}: {error}.")

    with boundary({OSError: refused}):
        folder.mkdir(parents=True, exist_ok=True)
        write_predictions(folder / FILE, facts.model, {name: part.diff for name, part in parts.items()})
        lacking = [name for name, part in sorted(parts.items()) if not _copy_logs(part, folder / "logs" / name)]
        told = set()
        for name, text in trajectories:
            _write(folder / "trajs" / f"{name}.md", text, "backslashreplace")
            told.add(name)
        for name in facts.repos.keys() - parts.keys():  # of an earlier submission
            shutil.rmtree(folder / "logs" / name, ignore_errors=True)
        for name in facts.repos.keys() - told:
            (folder / "trajs" / f"{name}.md").unlink(missing_ok=True)
        if not (folder / "metadata.yaml").exists():
            _write(folder / "metadata.yaml", metadata(facts))
        readme = folder / "README.md"
        before = readme.read_bytes().decode("utf-8", "surrogateescape") if readme.exists() else _readme(facts)
        _write(readme, _renewed(before, results(facts, parts)), "surrogateescape")
    return Written(tuple(sorted(facts.repos.keys() - parts.keys())), _ungraded(parts), tuple(lacking))


def metadata(facts: SubmissionFacts) -> str:
    """Return metadata.yaml. Its values are JSON strings, which are YAML too."""
    blank = json.dumps(TO_FILL_IN)
    attempts = "1" if facts.attempts == 1 else "2+"
    return f"""\
info:
  name: {json.dumps(f"agentless-mini + {facts.model}")}
  logo: {blank}
  report: {blank}
  site: {blank}
  authors: {blank}
tags:
  checked: false
  model:
    - {json.dumps(facts.model)}
  org:
    - {blank}
  os_model: {blank}
  os_system: true
  system:
    attempts: {json.dumps(attempts)}
"""


def results(facts: SubmissionFacts, parts: Mapping[str, Submitted]) -> str:
    """Return the part of the README that follows from the evaluation."""
    total = len(facts.repos)
    resolved = Counter(facts.repos[name] for name, part in parts.items() if part.resolved)
    lines = [
        f"Resolved {resolved.total()} of {total} instances ({_share(resolved.total(), total)}); "
        f"{len(parts)} have a prediction, {sum(not part.diff for part in parts.values())} of them an empty one.",
        "",
        *(
            f"* {printable(repo)}: {resolved[repo]}/{size} ({_share(resolved[repo], size)})"
            for repo, size in _sizes(facts)
        ),
        "",
        *_warnings(facts, parts),
        "Versions: " + ", ".join(f"{name} {version}" for name, version in sorted(facts.versions.items())) + ".",
    ]
    return "\n".join(lines)


def _sizes(facts: SubmissionFacts) -> list[tuple[str, int]]:
    return sorted(Counter(facts.repos.values()).items())


def _share(count: int, total: int) -> str:
    return f"{100 * count / total:.2f}%" if total else "none"


def _ungraded(parts: Mapping[str, Submitted]) -> tuple[str, ...]:
    return tuple(sorted(name for name, part in parts.items() if part.resolved is None))


def _warnings(facts: SubmissionFacts, parts: Mapping[str, Submitted]) -> list[str]:
    told, total = [], len(facts.repos)
    if facts.oracle_files:
        told.append("**Not eligible: the model was told which files the true fix changes (--oracle-files).**")
    if len(parts) < total:
        told.append(f"**Not complete: {total - len(parts)} instances have no prediction.**")
    if ungraded := _ungraded(parts):
        told.append(f"**Not complete: {len(ungraded)} predictions are not graded, and not counted as resolved.**")
    return [line for warning in told for line in (warning, "")]


def _readme(facts: SubmissionFacts) -> str:
    chosen = (
        "The model is sampled once for each instance."
        if facts.attempts == 1
        else f"Of {facts.attempts} samples for each instance one is chosen by tests that the system wrote or found in "
        "the repository, and by vote (Best@k); only the chosen patch is submitted."
    )
    return f"""\
# agentless-mini + {slug(facts.model)}

{TO_FILL_IN}: who submits this (names; website of the first author), and a technical report or a link to one.

A fixed chain without an agent: find the files, sample repairs, write and find tests, run them, choose. {chosen}

## Results

{BEGIN}
{END}

Paste here what `python -m analysis.get_results evaluation/{facts.split}/<date>_<name>` says.

## Checklist

- [x] Is a pass@1 submission (does not attempt the same task instance more than once)
- [x] Does not use SWE-bench test knowledge (`PASS_TO_PASS`, `FAIL_TO_PASS`)
- [x] Does not use the `hints` field in SWE-bench
- [x] Does not have web-browsing OR has taken steps to prevent lookup of SWE-bench solutions via web-browsing: tests run
      in boxes without network, on a tree without any history
"""


def _renewed(readme: str, told: str) -> str:
    """Put the results between the two comments; at the end where a person removed these."""
    before, begin, rest = readme.partition(BEGIN)
    if not begin:
        before, rest = readme.rstrip("\n") + "\n\n", ""
    _, end, after = rest.partition(END)
    after = after if end else rest  # a person removed the second: whatever comes next may be theirs
    return f"{before}{BEGIN}\n{told}\n{END}{after or chr(10)}"


def _copy_logs(part: Submitted, target: Path) -> bool:
    """Copy what the harness wrote of a prediction, and tell whether all of it was there. An empty one has no logs."""
    shutil.rmtree(target, ignore_errors=True)
    if not part.diff:
        return True
    found = [name for name in LOGS if (part.logs / name).is_file()]
    for name in found:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(part.logs / name, target / name)
    return len(found) == len(LOGS)


def _write(path: Path, text: str, errors: str = "strict") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8", errors))
