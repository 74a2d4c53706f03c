"""Runs one wanted file as Python runs a program, and records whether it came to its end. The driver starts the next."""

import runpy
import sys
from pathlib import Path

from amini_record import Recorder  # type: ignore[import-not-found]


def main() -> None:
    """Run the first file of the plan (its path is the first argument) that no process before has started."""
    recorder = Recorder(sys.argv[1])
    recorder.say("begun")
    waiting = recorder.files()
    if not waiting:
        recorder.say("done")
        return
    name = recorder.relative(waiting[0])
    sys.argv = [waiting[0]]
    recorder.enter_tree(str(Path(waiting[0]).parent))
    recorder.start(name)
    try:
        runpy.run_path(waiting[0], run_name="__main__")
        recorder.note("pass", None)
    except SystemExit as error:
        passed = error.code is None or error.code == 0
        recorder.note("pass" if passed else "fail", None if passed else error)
    except BaseException as error:  # noqa: BLE001 - whatever a script ends with is a result
        recorder.note("fail", error)
    recorder.end()
    recorder.say("over")


if __name__ == "__main__":
    main()
