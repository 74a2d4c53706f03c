"""The check of a task, and what it says of a model's answers. Checks run in boxes alone, one for each distinct patch.

A check is one Python program that needs the standard library and the file under repair; it exits with 0 if every call
comes to what is expected. A patch that exits, hangs or prints is wrong. One that reads the check to learn what is
expected is not found out.
"""

import asyncio
import enum
import json
from collections.abc import Sequence

from agentless_mini.domain import Completion, Ending, Finish, Job, Patch, PlacedFile, Rejected, Step, placed_files
from agentless_mini.edits import changed_files, read_answer
from agentless_mini.environments import Opened
from agentless_mini.errors import EnvironmentFailed, printable
from agentless_mini.learning.bugs.observations import Observation
from agentless_mini.learning.bugs.probing import observing
from agentless_mini.learning.rows import Row

CHECK = ".amini-check.py"
SECONDS = 10.0


class CheckVerdict(enum.StrEnum):
    """What became of an answer. The values are stable."""

    PASSED = "passed"
    FAILED = "failed"
    REJECTED = "rejected"  # no patch came of it


def check_program(path: str, expected: Sequence[Observation]) -> str:
    """Return the program that tells by its exit status whether the calls come to what is expected of them."""
    cases = [[seen.call, list(seen.outcome)] for seen in expected]
    return f"{observing()}\n\nsys.exit(check({path!r}, json.loads({json.dumps(cases)!r})))\n"


async def evaluate_row(row: Row, answers: Sequence[str], opened: Opened) -> tuple[CheckVerdict, ...]:
    """Return what each answer of a model comes to, in their order; equal patches share a box.

    `opened` is a place for any Python (see `commands.learn_bugs`): its tree is not looked at. Raises
    `EnvironmentFailed` where the machine does not do its part: that is no verdict.
    """
    tree = row.tree()
    outcomes = [read_answer(Completion(0, text, Finish.STOP), tree) for text in answers]
    distinct = {outcome.normal: outcome for outcome in outcomes if isinstance(outcome, Patch)}
    verdicts = await asyncio.gather(*(check_patch(row, patch, opened) for patch in distinct.values()))
    found = dict(zip(distinct, verdicts, strict=True))
    return tuple(
        CheckVerdict.REJECTED if isinstance(outcome, Rejected) else found[outcome.normal] for outcome in outcomes
    )


async def check_patch(row: Row, patch: Patch, opened: Opened) -> CheckVerdict:
    """Return what the row's check says of a patch, in a box of its own. Raises `EnvironmentFailed`."""
    patched = placed_files(changed_files(patch, row.tree().entries))
    result = await opened.sandbox.run(check_job(row, patched, opened))
    if result.refusal:
        return CheckVerdict.FAILED
    (step,) = result.steps
    if step.ending in {Ending.BOX_DIED, Ending.STARVED, Ending.NOT_RUN}:
        raise EnvironmentFailed(f"The box of {printable(row.id)} was lost: run again.")
    return CheckVerdict.PASSED if step.succeeded else CheckVerdict.FAILED


def check_job(row: Row, patched: Sequence[PlacedFile], opened: Opened) -> Job:
    """Return the job that runs a row's check on its files as they are before, with a patch over them."""
    before = (PlacedFile(file.path, file.before.encode()) for file in row.files if file.before is not None)
    files = (*before, *patched, PlacedFile(CHECK, row.check.encode()))
    step = Step(("python", "-I", "-B", CHECK), seconds=SECONDS)
    place = opened.place
    return Job(place.environment, place.tree, files, (step,), opened.limits)
