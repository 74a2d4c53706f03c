"""A harness that does what the diff tells it, without Docker: `python -m tests.evaluation.grading_program`.

die           ends at once          die once      ends at the first try of all
fail TEXT     answers a failure     wait SECONDS  answers late
resolve       resolved              anything else not resolved
"""

import json
import os
import sys
import time
from pathlib import Path


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        word, _, rest = request["diff"].partition(" ")
        note(f"{word} {os.getpid()} begins")
        answer = {"resolved": word == "resolve", "applied": True, "report": json.dumps(request), "seconds": 0.0}
        if word == "die" and not (rest and Path("died").exists()):
            Path("died").touch()
            sys.exit(1)
        if word == "wait":
            time.sleep(float(rest))
        if word == "fail":
            answer = {"failure": rest}
        note(f"{word} {os.getpid()} ends")
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def note(text: str) -> None:
    with Path("notes").open("a") as notes:
        notes.write(text + "\n")


if __name__ == "__main__":
    main()
