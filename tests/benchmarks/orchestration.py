"""Time and memory of an evaluation's orchestration alone: 500 instances, a scripted server, scripted boxes and grades.

    python -m tests.benchmarks.orchestration [--instances 500] [--samples 40]

Everything between the model and the boxes is the real thing: prompts, edits, the store, the schedule. The server is a
process of its own on the same machine, and its time is part of what is measured; like the vLLM that `amini serve`
starts it sends eight tokens at a time. The peer is the same evaluation once
more: it finds all in the record, so that the difference is what the first asking of answers takes.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from agentless_mini.record import Store
from tests.evaluation.faked import SCRIPT


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: wall-clock seconds, processor seconds and the largest resident memory in MiB of its process."""

    seconds: float
    processor: float
    memory: float


def measured(folder: Path, url: str, instances: int, samples: int) -> Measured:
    command = [sys.executable, "-m", "tests.evaluation.faked", str(folder), url, str(instances), str(samples)]
    began = time.monotonic()
    with (folder.parent / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit((folder.parent / "log").read_text()[-2000:])
    return Measured(time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def completions(folder: Path) -> int:
    with Store.open_readonly(folder / "store.sqlite") as store:
        return sum(summary.samples for summary in store.runs.summaries())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=500)
    parser.add_argument("--samples", type=int, default=40)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "evaluation")
        folder.mkdir()
        script = Path(name, "script.json")
        script.write_text(SCRIPT.model_dump_json())
        command = [sys.executable, "-m", "tests.fakes.server", "--script", str(script)]
        command += ["--stream-interval", "8"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
            try:
                assert server.stdout is not None
                address = re.search(r"http://\S+", server.stdout.readline())
                assert address is not None
                first = measured(folder, address[0], options.instances, options.samples)
                count = completions(folder)
                again = measured(folder, address[0], options.instances, options.samples)
            finally:
                server.terminate()
        size = (folder / "store.sqlite").stat().st_size
    found = {
        "instances": options.instances,
        "completions": count,
        "seconds": round(first.seconds, 1),
        "completions_per_second": round(count / first.seconds),
        "processor_seconds": round(first.processor, 1),
        "resident_mib": round(first.memory),
        "again_seconds": round(again.seconds, 1),
        "store_mib": round(size / 2**20, 1),
    }
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
