"""What is submitted: the predictions in the official form and, for `--submission DIR`, all that goes with them.

The folder has what github.com/SWE-bench/experiments asks for, ready to be put under `evaluation/<split>/`: README.md
and metadata.yaml (what only a person knows says TO FILL IN), all_preds.jsonl, logs/ID/ of the official harness, and
trajs/ID.md as the caller tells it. Written again, it keeps what a person wrote: metadata.yaml as it is, README.md
outside of the two comments that enclose its results. Nothing is sent anywhere.
"""

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from agentless_mini.errors import GradingFailed, boundary, counted, printable

FILE = "all_preds.jsonl"
LOGS = ("patch.diff", "report.json", "test_output.txt", "eval.sh", "run_instance.log")
BEGIN = "<!-- amini: results -->"
END = "<!-- amini: end of results -->"


def slug(model: str) -> str:
    """Return a model's name as a submission has it: one that can also name a folder and part of a container."""
    kept = re.sub(r"[^A-Za-z0-9_.+-]+", "-", model.replace("/", "__")).strip("-.")
    return kept[:100] or "model"


def official(instance: str, model: str, diff: bytes) -> dict[str, str]:
    """Return a prediction as swebench reads it."""
    return {"instance_id": instance, "model_name_or_path": slug(model), "model_patch": text_of(diff)}


def text_of(diff: bytes) -> str:
    """Return a patch as text, which is all that swebench takes: bytes that are no UTF-8 become U+FFFD."""
    return diff.decode(errors="replace")


def write_predictions(path: Path, model: str, diffs: Mapping[str, bytes]) -> None:
    """Write what is submitted by instance id ("" for no patch), whole or not at all. Raises `GradingFailed`."""
    lines = [json.dumps(official(name, model, diff)) + "\n" for name, diff in sorted(diffs.items())]

    def refused(error: BaseException) -> GradingFailed:
        return GradingFailed(f"The predictions cannot be written to {path}: {error}.")

    fresh = path.with_name(f".{path.name}.new")
    with boundary({OSError: refused}):
        fresh.write_text("".join(lines), encoding="ascii")
        fresh.replace(path)


# --- the submission --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SubmissionFacts:
    """What an evaluation knows of itself: `attempts` samples for each instance, `repos` of all instances by id."""

    model: str
    split: str
    attempts: int
    repos: Mapping[str, str]
    versions: Mapping[str, str]
    oracle_files: bool = False


@dataclass(frozen=True, slots=True)
class Submitted:
    """An instance's patch (or ""), whether it resolves it (None: not graded), and its logs' folder."""

    diff: bytes
    resolved: bool | None
    logs: Path


def write_submission(
    folder: Path, facts: SubmissionFacts, parts: Mapping[str, Submitted], trajectories: Iterable[tuple[str, str]]
) -> dict[str, list[str]]:
    """Write a submission of the instances in `parts`, by id, and return which lack what of it. Raises `GradingFailed`.

    `trajectories` gives (instance id, Markdown), one at a time. What an earlier submission of the split had of other
    instances is removed.
    """

    def refused(error: BaseException) -> GradingFailed:
        return GradingFailed(f"The submission cannot be written to {printable(str(folder))}: {error}.")

    with boundary({OSError: refused}):
        folder.mkdir(parents=True, exist_ok=True)
        write_predictions(folder / FILE, facts.model, {name: part.diff for name, part in parts.items()})
        for name in facts.repos.keys() | parts.keys():
            shutil.rmtree(folder / "logs" / name, ignore_errors=True)
            (folder / "trajs" / f"{name}.md").unlink(missing_ok=True)
        lacking = [name for name, part in sorted(parts.items()) if not _copy_logs(part, folder / "logs" / name)]
        for name, text in trajectories:
            _write(folder / "trajs" / f"{name}.md", text, "backslashreplace")
        if not (folder / "metadata.yaml").exists():
            _write(folder / "metadata.yaml", _filled(".yaml", facts))
        readme = folder / "README.md"
        before = readme.read_bytes().decode("utf-8", "surrogateescape") if readme.exists() else _filled(".md", facts)
        _write(readme, _renewed(before, _results(facts, parts)), "surrogateescape")
    missing = sorted(facts.repos.keys() - parts.keys())
    return {"a prediction": missing, "a grade": _ungraded(parts), "complete logs": lacking}


def _filled(suffix: str, facts: SubmissionFacts) -> str:
    """Return a file of a submission as it is first written. Values in YAML are JSON strings, which are YAML too."""
    text = Template(Path(__file__).with_suffix(suffix).read_text("utf-8"))
    if suffix == ".yaml":
        attempts = "1" if facts.attempts == 1 else "2+"
        values = {"name": f"agentless-mini + {facts.model}", "model": facts.model, "attempts": attempts}
        return text.substitute({name: json.dumps(value) for name, value in values.items()})
    chosen = (
        "The model is sampled once for each instance."
        if facts.attempts == 1
        else f"Of {facts.attempts} samples for each instance one is chosen by tests that the system wrote or found in "
        "the repository, and by vote (Best@k); only the chosen patch is submitted."
    )
    return text.substitute(model=slug(facts.model), chosen=chosen, split=facts.split)


def _results(facts: SubmissionFacts, parts: Mapping[str, Submitted]) -> str:
    """Return the part of the README that follows from the evaluation."""

    def share(count: int, of: int) -> str:
        return f"{100 * count / of:.2f}%" if of else "none"

    total, ungraded = len(facts.repos), len(_ungraded(parts))
    resolved = Counter(facts.repos[name] for name, part in parts.items() if part.resolved)
    sizes = sorted(Counter(facts.repos.values()).items())
    versions = ", ".join(f"{name} {version}" for name, version in sorted(facts.versions.items()))
    paragraphs = [
        f"Resolved {resolved.total()} of {counted(total, 'instance')} ({share(resolved.total(), total)}); "
        f"{counted(len(parts), 'prediction')}, {sum(not part.diff for part in parts.values())} of them an empty one.",
        "\n".join(
            f"* {printable(repo)}: {resolved[repo]}/{size} ({share(resolved[repo], size)})" for repo, size in sizes
        ),
    ]
    if facts.oracle_files:
        paragraphs.append("**Not eligible: the model was told which files the true fix changes (--oracle-files).**")
    if len(parts) < total:
        paragraphs.append(f"**Not complete: {counted(total - len(parts), 'instance')} without a prediction.**")
    if ungraded:
        paragraphs.append(
            f"**Not complete: {counted(ungraded, 'prediction')} not graded, and not counted as resolved.**"
        )
    return "\n\n".join([*paragraphs, f"Versions: {versions}."])


def _ungraded(parts: Mapping[str, Submitted]) -> list[str]:
    return sorted(name for name, part in parts.items() if part.resolved is None)


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
    found = [name for name in LOGS if part.diff and (part.logs / name).is_file()]
    for name in found:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(part.logs / name, target / name)
    return not part.diff or len(found) == len(LOGS)


def _write(path: Path, text: str, errors: str = "strict") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8", errors))
