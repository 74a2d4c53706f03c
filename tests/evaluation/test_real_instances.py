"""Gold and other patches of real instances, graded by the official harness in their real images.

`AMINI_SWEBENCH_ROWS=FILE pytest --thorough tests/evaluation/test_real_instances.py`: FILE is the dataset as .parquet,
.json or .jsonl; instances whose image the daemon does not have are left out.
"""

import asyncio
import json
import os
from pathlib import Path

import pytest

from agentless_mini.evaluation.grading import Grader, dataset_rows
from agentless_mini.sandbox.daemon import connect, find_image
from tests.evaluation.grading_image import NOWHERE, require_swebench

NEW_FILE = b"--- /dev/null\n+++ b/zzz_unrelated.txt\n@@ -0,0 +1 @@\n+x\n"


async def instances(folder: Path) -> dict[str, str]:
    """Return the rows whose image is there, by instance id."""
    client = connect(1)
    try:
        rows = await dataset_rows(os.environ["AMINI_SWEBENCH_ROWS"], folder)
        found = [row for row in rows if find_image(client, json.loads(row)["image"]) is not None]
    finally:
        client.close()
    return {json.loads(row)["instance_id"]: row for row in found}


@pytest.mark.thorough
@pytest.mark.skipif("AMINI_SWEBENCH_ROWS" not in os.environ, reason="AMINI_SWEBENCH_ROWS names no dataset")
def test_only_the_true_fix_resolves_an_instance(tmp_path: Path) -> None:
    require_swebench()

    async def scene() -> None:
        rows = await instances(tmp_path)
        assert rows
        grader = await Grader(tmp_path, "gold").prepared()
        for name, row in sorted(rows.items()):
            diffs = (json.loads(row)["patch"].encode(), b"", NEW_FILE, NOWHERE)
            grades = [await grader.grade(row, diff) for diff in diffs]
            seconds = " ".join(f"{grade.seconds:5.1f}" for grade in grades)
            print(f"{name:30} {seconds}")  # noqa: T201 - the table, with -s
            said = [(grade.resolved, grade.applied) for grade in grades]
            assert said == [(True, True), (False, False), (False, True), (False, False)], name

    asyncio.run(scene())
