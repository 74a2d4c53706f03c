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
    """Return a prediction as swebench reads it. Bytes that are no UTF-8 become what cannot be written as text."""
    return {
        "instance_id": instance,
        "model_name_or_path": slug(model),
        "model_patch": diff.decode(errors="surrogateescape"),
    }


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
    """Return the patches by instance id, as `write_predictions` wrote them."""
    found = [json.loads(line) for line in path.read_text(encoding="ascii").split("\n") if line]
    return {line["instance_id"]: line["model_patch"].encode(errors="surrogateescape") for line in found}
