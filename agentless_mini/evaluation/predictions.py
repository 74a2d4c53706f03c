"""What is submitted, in the official form: `all_preds.jsonl`, one line for each instance that has a prediction."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from agentless_mini.errors import GradingFailed, boundary

FILE = "all_preds.jsonl"
_LONGEST = 100


def slug(model: str) -> str:
    """Return a model's name as a submission has it: one that can also name a folder and part of a container."""
    kept = re.sub(r"[^A-Za-z0-9_.+-]+", "-", model.replace("/", "__")).strip("-.")
    return kept[:_LONGEST] or "model"


def official(instance: str, model: str, diff: bytes) -> dict[str, str]:
    """Return a prediction as swebench reads it."""
    return {"instance_id": instance, "model_name_or_path": slug(model), "model_patch": text_of(diff)}


def text_of(diff: bytes) -> str:
    """Return a patch as text, which is all that swebench takes.

    Bytes that are no UTF-8 become U+FFFD: where they are in a line that the patch needs to find, it does not apply.
    """
    return diff.decode(errors="replace")


def write_predictions(path: Path, model: str, diffs: Mapping[str, bytes]) -> None:
    """Write what is submitted by instance id, in their order, over what was there; whole or not at all.

    An empty patch stands for an instance without one. Raises `GradingFailed`.
    """
    lines = [json.dumps(official(name, model, diff)) + "\n" for name, diff in sorted(diffs.items())]

    def refused(error: BaseException) -> GradingFailed:
        return GradingFailed(f"The predictions cannot be written to {path}: {error}.")

    fresh = path.with_name(f".{path.name}.new")
    with boundary({OSError: refused}):
        fresh.write_text("".join(lines), encoding="ascii")
        fresh.replace(path)


def read_predictions(path: Path) -> dict[str, bytes]:
    """Return the patches by instance id, as `write_predictions` wrote them: all of them text."""
    found = [json.loads(line) for line in path.read_text(encoding="ascii").split("\n") if line]
    return {line["instance_id"]: line["model_patch"].encode() for line in found}
