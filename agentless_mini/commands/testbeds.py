"""Where the instances of an evaluation are attempted: this machine's Docker, or the nodes of a Ray cluster."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agentless_mini.commands.evaluate import OFFICIAL, Evaluation, Opened, OpenTestbeds
from agentless_mini.commands.models import Machine
from agentless_mini.domain import Note
from agentless_mini.environment.index import CERTIFICATES
from agentless_mini.evaluation.cluster import ClusterTestbeds, ray_cluster
from agentless_mini.evaluation.dataset import Solution
from agentless_mini.evaluation.grading import Grader, GradingSettings
from agentless_mini.evaluation.ports import Testbeds
from agentless_mini.evaluation.testbeds import HostSettings, open_testbeds
from agentless_mini.ports import Watch
from agentless_mini.settings.run import EvaluationSettings

_PLACES = {"HOME", "XDG_CONFIG_HOME", *CERTIFICATES}


def docker_testbeds(machine: Machine) -> OpenTestbeds:
    """Return how the testbeds of this machine are opened."""

    async def opened(evaluation: Evaluation, model: str, stack: AsyncExitStack, watch: Watch) -> Opened:
        grader = await _grader(evaluation, model).prepared()
        testbeds = open_testbeds(host_of(evaluation, machine), evaluation.dataset.solutions, grader)
        return Opened(await stack.enter_async_context(testbeds), grader)

    return opened


def cluster_testbeds(address: str, machine: Machine) -> OpenTestbeds:
    """Return how the testbeds of a cluster's nodes are opened. Each node keeps the logs of what it graded."""

    async def opened(evaluation: Evaluation, model: str, stack: AsyncExitStack, watch: Watch) -> Opened:
        cluster = await stack.enter_async_context(ray_cluster(address))
        grader = await _grader(evaluation, model).prepared()
        node = _NodeTestbeds(
            host_of(evaluation, machine),
            dict(evaluation.dataset.solutions),
            _grading(evaluation.config.eval, model),
            machine.state / OFFICIAL / evaluation.folder.name,
        )
        workers = evaluation.config.eval.workers
        testbeds = ClusterTestbeds.over(cluster, node.open, workers, lambda said: watch(Note(said)))
        return Opened(await stack.enter_async_context(testbeds), grader)

    return opened


def _grader(evaluation: Evaluation, model: str) -> Grader:
    folder = evaluation.folder / OFFICIAL
    folder.mkdir(parents=True, exist_ok=True)
    return Grader(folder, _grading(evaluation.config.eval, model))


@dataclass(frozen=True, slots=True)
class _NodeTestbeds:
    """Makes the testbeds of the node that it was sent to."""

    host: HostSettings
    solutions: Mapping[str, Solution] = field(repr=False)
    grading: GradingSettings
    folder: Path

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Testbeds]:
        self.folder.mkdir(parents=True, exist_ok=True)
        grader = await Grader(self.folder, self.grading).prepared()
        async with open_testbeds(self.host, self.solutions, grader) as testbeds:
            yield testbeds


def _grading(settings: EvaluationSettings, model: str) -> GradingSettings:
    return GradingSettings(model, settings.graders, settings.grade_seconds)


def host_of(evaluation: Evaluation, machine: Machine) -> HostSettings:
    """Return how the testbeds of a machine are kept. Of the variables it has those that lead to packages alone."""
    config = evaluation.config
    named = {name: value for name, value in machine.environment.items() if _is_of_packages(name)}
    return HostSettings(config.eval.images, config.sandbox, machine.state, named)


def _is_of_packages(name: str) -> bool:
    """Tell whether a variable says where packages are found. All others may be secret, and nodes are sent these."""
    return name.startswith("PIP_") or name in _PLACES or name.lower().endswith("_proxy")
