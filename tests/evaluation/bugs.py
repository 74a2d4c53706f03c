"""A small benchmark: instances of two shops with the same fault, rows with a marker in every column of the answer."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from agentless_mini.domain import Snapshot
from agentless_mini.evaluation.dataset import Instance
from tests.chain.workbench import shop

GOLD = """\
diff --git a/shop/cart.py b/shop/cart.py
--- a/shop/cart.py
+++ b/shop/cart.py
@@ -1,5 +1,5 @@
 def total(prices):
     result = 0
-    for price in prices[1:]:
+    for price in prices:  # MARKER-patch
         result += price
     return result
"""
HIDDEN = ("patch", "test_patch", "hints_text", "FAIL_TO_PASS", "PASS_TO_PASS", "eval_script", "log_parser")


def row(number: int = 1, repo: str = "acme/shop") -> dict[str, Any]:
    return {
        "instance_id": f"{repo.replace('/', '__')}-{number}",
        "repo": repo,
        "base_commit": "c" * 40,
        "problem_statement": f"The total of cart {number} of {repo} leaves out its first price.\n",
        "patch": GOLD,
        "test_patch": "diff --git a/tests/MARKER-test_patch.py b/tests/MARKER-test_patch.py\n",
        "hints_text": "MARKER-hints_text: it is the slice",
        "FAIL_TO_PASS": json.dumps(["tests/test_cart.py::MARKER-FAIL_TO_PASS"]),
        "PASS_TO_PASS": json.dumps(["tests/test_cart.py::MARKER-PASS_TO_PASS"]),
        "eval_script": "#!/bin/bash\necho MARKER-eval_script\n",
        "log_parser": "MARKER-log_parser",
        "created_at": "2023-01-02T03:04:05Z",
        "version": "1.0",
        "difficulty": "15 min - 1 hour",
        "image": f"acme/{number}:latest",
    }


def rows(count: int = 3, repo: str = "acme/shop") -> list[Mapping[str, Any]]:
    return [row(number, repo) for number in range(1, count + 1)]


def tree(instance: Instance) -> Snapshot:
    return replace(shop(), digest=hashlib.sha256(instance.id.encode()).hexdigest())


def resolves(instance: Instance, diff: bytes) -> bool:
    return b"+    for price in prices:\n" in diff


def read_predictions(path: Path) -> dict[str, bytes]:
    """Return the patches of a file of predictions by instance id: all of them text."""
    found = [json.loads(line) for line in path.read_text(encoding="ascii").split("\n") if line]
    return {line["instance_id"]: line["model_patch"].encode() for line in found}
