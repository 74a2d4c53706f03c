"""Many instances: which comes next, how many at once, and what is tried again.

The sampling of one overlaps the tests and gradings of others. This knows an instance only as something to be attempted.
"""

import re
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from statistics import fmean

from agentless_mini.chain.session import together
from agentless_mini.errors import EnvironmentFailed, NodeLost, printable
from agentless_mini.evaluation.attempt import Assignment
from agentless_mini.evaluation.dataset import Instance
from agentless_mini.record import AttemptRecord, AttemptState

NODE_TRIES = 3
"""How often an instance is tried whose node is lost: the instance itself may be what crashes nodes."""
SICK = 5
"""After this many failures of the infrastructure in a row, all for one reason, the evaluation ends."""

Attempting = Callable[[Assignment], Awaitable[AttemptRecord]]
Told = Callable[[AttemptRecord], None]


async def evaluate(tasks: Sequence[Assignment], workers: int, attempting: Attempting, told: Told) -> None:
    """Attempt all, `workers` at once, those that are expected to take longest first. `told` is given each record.

    Raises `EnvironmentFailed` after `SICK` equal failures in a row, and whatever `attempting` raises except `NodeLost`;
    all other attempts are cancelled first.
    """
    queue = _Queue(tasks)

    async def work() -> None:
        while (task := queue.next()) is not None:
            record = await _tried(task, attempting)
            told(record)
            queue.learn(task, record)

    await together([work() for _ in range(min(workers, len(tasks)))])


async def _tried(task: Assignment, attempting: Attempting) -> AttemptRecord:
    lost = ""
    for _ in range(NODE_TRIES):
        try:
            return await attempting(task)
        except NodeLost as error:
            lost = str(error)
    return AttemptRecord(task.instance.id, None, AttemptState.INFRASTRUCTURE, "node", lost)


class _Queue:
    """The instances that are left, those that are expected to take longest first.

    Expected is the mean of the repository so far. Repositories without one come first, each with its longest issue,
    because their costs differ tenfold.
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
        """Take note of how an instance ended. Raises `EnvironmentFailed` after `SICK` equal failures in a row."""
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
    """Return the failure without the instance's names and without numbers, so that like failures are equal."""
    image = printable(instance.image)
    text = record.failure
    for name in (image, image.rpartition(":")[0], image.rpartition(":")[0].partition("/")[2], instance.id):
        text = text.replace(name, "*") if name else text
    return f"{record.stage} {re.sub('[0-9]+', '*', text)}"
