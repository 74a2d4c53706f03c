"""Measures how often the whole chain chooses the true fix of a real bug from among nine wrong patches.

Run with `python -m tests.benchmarks.real_bugs [--spoilt] [NAME ...]`. The scripted model offers the ten patches in a
shuffled order and tests of mixed quality (see `tests.real_bugs`), with `--spoilt` twelve more wrong patches, of six of
the bugs, that break no more of the project's tests than the fix does. Everything else is the product: reproduction,
regression, execution in bubblewrap boxes and ranking. It prints for each bug what each way to rank chose and how
probable the model takes its choice to be, and at the end how often each chose the fix, and the model's Brier score.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agentless_mini.chain.pipeline import resolve
from agentless_mini.chain.rank import confidence, rank
from agentless_mini.chain.session import Boxes, Opening, Session
from agentless_mini.chain.templates import load_prompts
from agentless_mini.domain import BoxLimits, Environment, Issue, Method, PackedTree, Place, Prediction, Stage
from agentless_mini.ports import Watch
from agentless_mini.repository.opening import open_repository
from agentless_mini.sandbox.bubblewrap import BubblewrapSandbox, find_bubblewrap
from agentless_mini.sandbox.host import VirtualEnvironment, boxes_here
from agentless_mini.sandbox.wire import pack_snapshot
from agentless_mini.settings import Config
from agentless_mini.settings.run import RegressSettings, RepairSettings, ReproduceSettings
from agentless_mini.testing import harness_of
from tests.fakes.model import SCRIPTED_CARD, Answer, Rule, Script, ScriptedSampler
from tests.real_bugs.checkout import GOLD, Checkout, fetch
from tests.real_bugs.checkout import Answer as Offered
from tests.real_bugs.recipe import Bug, load_bugs
from tests.real_bugs.surroundings import environment

WINDOW = 131_072
SEED = 0
REGRESSION_BUDGET_S = 20.0


@dataclass(frozen=True, slots=True)
class Trial:
    """What the chain came to for one bug: the kind of the patch that each way to rank chose, and why."""

    bug: str
    chosen: tuple[tuple[Method, str], ...]
    reason: str
    cases: int
    seconds: float
    sure: float

    def found(self, method: Method) -> bool:
        """Return whether a way to rank chose the true fix."""
        return dict(self.chosen)[method] == GOLD


def try_bug(bug: Bug, here: VirtualEnvironment, folder: Path, spoilt: bool = False) -> Trial:
    """Run the chain on one bug, in a new repository below `folder`."""
    began = time.monotonic()
    checkout = fetch(bug, folder / bug.name)
    prediction, kinds = asyncio.run(_resolve(checkout, here, folder, spoilt))
    chosen = []
    for method in Method:
        choice = rank(prediction.candidates, prediction.execution, method)
        chosen.append((method, kinds[choice.patch.normal] if choice else "nothing"))
    reason = prediction.choice.reason if prediction.choice else "; ".join(prediction.notes)
    cases = len(prediction.execution.cases) if prediction.execution else 0
    sure = confidence(prediction.candidates, prediction.execution, prediction.choice) or 0
    return Trial(bug.name, tuple(chosen), reason, cases, time.monotonic() - began, sure)


async def _resolve(
    checkout: Checkout, here: VirtualEnvironment, folder: Path, spoilt: bool
) -> tuple[Prediction, dict[str, str]]:
    repository = open_repository(str(checkout.folder), None, folder)
    snapshot = repository.snapshot()
    pack = pack_snapshot(snapshot, repository.contents(), folder / f"{checkout.bug.name}.pack")
    harness = harness_of(snapshot)

    async def bench(watch: Watch) -> Boxes:
        limits = BoxLimits()
        environments, packs = {here.identity: here}, {pack.digest: pack}
        sandbox = BubblewrapSandbox(find_bubblewrap("bwrap"), environments, packs, boxes_here(limits))
        place = Place(Environment(here.identity, here.python), PackedTree(pack.digest))
        return Boxes(sandbox, place, harness, snapshot, watch, limits)

    answers = checkout.answers(SEED, spoilt)
    session = Session(_model(checkout, answers), load_prompts(None), lambda patch: patch, lambda event: None, "bench")
    settings = Config(
        repair=RepairSettings(samples=len(answers)),
        reproduce=ReproduceSettings(samples=len(checkout.bug.generated_answers())),
        regress=RegressSettings(budget=REGRESSION_BUDGET_S),
    )
    files, opening = tuple(sorted(checkout.bug.fix)), Opening(harness, bench)
    prediction = await resolve(Issue(checkout.bug.issue), snapshot, session, settings, opening, files=files)
    return prediction, {answer.patch.normal: str(answer.kind) for answer in answers}


def _model(checkout: Checkout, answers: Sequence[Offered]) -> ScriptedSampler:
    rules = (
        Rule(stage=Stage.REPAIR, answers=tuple(Answer(text=answer.text) for answer in answers)),
        Rule(stage=Stage.REPRODUCE, answers=tuple(Answer(text=text) for text in checkout.bug.generated_answers())),
    )
    return ScriptedSampler(Script(rules=rules), replace(SCRIPTED_CARD, context_window=WINDOW))


def main() -> None:
    """Print what was chosen for each bug, and how often that was the true fix."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("names", nargs="*", help="of the bugs; by default all")
    parser.add_argument("--spoilt", action="store_true", help="offer twelve more wrong patches, of six of the bugs")
    asked = parser.parse_args()
    names, spoilt = asked.names, asked.spoilt
    bugs = [bug for bug in load_bugs() if not names or bug.name in names]
    here = VirtualEnvironment("real-bugs", environment(load_bugs()))
    trials = []
    for bug in bugs:
        with tempfile.TemporaryDirectory() as folder:
            trial = try_bug(bug, here, Path(folder), spoilt)
        trials.append(trial)
        told = ", ".join(f"{method}: {kind}" for method, kind in trial.chosen)
        print(f"{bug.name}: {told} ({trial.cases} tests, {trial.seconds:.0f} s)")  # noqa: T201 - its result
        print(f"    {trial.sure:.0%} sure: {trial.reason}", flush=True)  # noqa: T201 - its result
    for method in Method:
        print(f"{method}: {sum(trial.found(method) for trial in trials)} of {len(trials)}")  # noqa: T201 - its result
    brier = sum((trial.sure - trial.found(Method.PROBABILITY)) ** 2 for trial in trials) / len(trials)
    print(f"Brier score of the choice: {brier:.3f}")  # noqa: T201 - its result


if __name__ == "__main__":
    main()
