"""The rows of a dataset as swebench's own loader gives them: of the hub, or of a file in its form.

The loader is part of swebench, so it runs in the harness's process. Nothing is kept here; the hub's client has a cache
of its own in the user's folder.
"""

from collections.abc import AsyncIterator
from pathlib import Path

from agentless_mini.errors import GradingFailed, printable
from agentless_mini.evaluation.worker import one_worker

SPLITS = {
    "verified": "SWE-bench/SWE-bench_Verified",
    "lite": "SWE-bench/SWE-bench_Lite",
    "full": "SWE-bench/SWE-bench",
    "multilingual": "SWE-bench/SWE-bench_Multilingual",
}
"""The names of `--split`, and those of the hub."""


async def dataset_rows(name: str, folder: Path) -> AsyncIterator[str]:
    """Yield the rows of a dataset's test split, each as JSON. `folder` is where the harness runs and keeps its log.

    `name` is one of the hub, or a file: .parquet, .json or .jsonl. Raises `GradingFailed` where it cannot be loaded.
    """
    async with one_worker(folder) as worker:
        reply = await worker.ask({"kind": "rows", "name": name})
        while "row" in reply:
            yield str(reply["row"])
            reply = await worker.next_answer()
        if "failure" in reply:
            raise GradingFailed(
                f"The dataset {printable(name)} cannot be loaded: {reply['failure']} "
                "Look at the network, or give the dataset's file with --dataset."
            )
