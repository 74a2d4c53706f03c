"""Many instances: which comes next, how many at once, and what is tried again.

The sampling of one overlaps the boxes and grades of others. It knows an instance only as something to be attempted.
"""

import re
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from statistics import fmean

from agentless_mini.chain.session import together
from agentless_mini.errors import EnvironmentFailed, NodeLost, printable
from agentless_mini.evaluation.attempt import Assignment
from agentless_mini.evaluation.instances import Instance
from agentless_mini.record import AttemptRecord, AttemptState

NODE_TRIES = 3
"""An instance whose node was lost so often is left: it may be what ends the nodes."""
SICK = 5
"""After so many failures of the infrastructure on end, each of another instance, nothing more is begun."""

Attempting = Callable[[Assignment], Awaitable[AttemptRecord]]
Told = Callable[[AttemptRecord], None]


async def evaluate(tasks: Sequence[Assignment], workers: int, attempting: Attempting, told: Told) -> None:
    """Attempt all, `workers` at once, those that are expected to take longest first. `told` learns of each end.

    Raises `EnvironmentFailed` where nothing but failures of the infrastructure came for a while, and what
    `attempting` raises, but for lost nodes. Whatever is raised, all others are cancelled first.
    """
    line = _Line(tasks)
    await together([_work(line, attempting, told) for _ in range(min(workers, len(tasks)))])


async def _work(line: "_Line", attempting: Attempting, told: Told) -> None:
    while (task := line.next()) is not None:
        record = await _tried(task, attempting)
        told(record)
        line.learn(task, record)


async def _tried(task: Assignment, attempting: Attempting) -> AttemptRecord:
    for _ in range(NODE_TRIES - 1):
        try:
            return await attempting(task)
        except NodeLost:
            continue
    try:
        return await attempting(task)
    except NodeLost as error:
        return AttemptRecord(task.instance.id, None, AttemptState.INFRASTRUCTURE, "node", str(error))


class _Line:
    """What is left, by the time it is expected to take.

    That is the mean of its repository so far. A repository of which nothing is known comes first, the longest issue of
    it, so that soon something is known of all: their costs differ tenfold.
    """

    def __init__(self, tasks: Sequence[Assignment]) -> None:
        self._left: dict[str, deque[Assignment]] = {}
        for task in sorted(tasks, key=lambda task: (-len(task.instance.issue.text), task.instance.id)):
            self._left.setdefault(task.instance.repo, deque()).append(task)
        self._taken: dict[str, list[float]] = {}
        self._begun: set[str] = set()
        self._reasons: deque[str] = deque(maxlen=SICK)

    def next(self) -> Assignment | None:
        """Take out what comes next, None at the end."""
        if not self._left:
            return None
        repo = max(self._left, key=lambda repo: (repo not in self._begun, self._expected(repo), len(self._left[repo])))
        self._begun.add(repo)
        task = self._left[repo].popleft()
        if not self._left[repo]:
            del self._left[repo]
        return task

    def learn(self, task: Assignment, record: AttemptRecord) -> None:
        """Take in how long an instance took. Raises `EnvironmentFailed` where nothing works any more."""
        if record.state is not AttemptState.INFRASTRUCTURE:
            self._reasons.clear()
            self._taken.setdefault(task.instance.repo, []).append(record.seconds)
            return
        self._reasons.append(_reason(task.instance, record))
        if self._reasons.count(self._reasons[-1]) == SICK:
            raise EnvironmentFailed(f"{SICK} instances in a row failed for one reason: {record.failure}")

    def _expected(self, repo: str) -> float:
        return fmean(self._taken[repo]) if repo in self._taken else 0.0


def _reason(instance: Instance, record: AttemptRecord) -> str:
    """Return what failed and why, alike for two instances that failed alike: without their own names, and numbers."""
    image = printable(instance.image)
    text = record.failure
    for name in (image, image.rpartition(":")[0], image.rpartition(":")[0].partition("/")[2], instance.id):
        text = text.replace(name, "*") if name else text
    return f"{record.stage} {re.sub('[0-9]+', '*', text)}"
