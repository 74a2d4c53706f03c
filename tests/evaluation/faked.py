"""`python -m tests.evaluation.faked FOLDER URL COUNT SAMPLES`: an evaluation of made-up instances, without Docker.

The model is a scripted server, the testbeds are scripted; all between them is the real thing: chain, store, schedule.
"""

import sys
from contextlib import AsyncExitStack
from pathlib import Path

from agentless_mini.commands.config import Machine
from agentless_mini.commands.evaluate import Evaluation, Opened, evaluate
from agentless_mini.domain import Job, JobResult
from agentless_mini.errors import AminiError
from agentless_mini.evaluation.dataset import dataset_of
from agentless_mini.ports import Watch
from agentless_mini.settings import Config
from agentless_mini.settings.model import EndpointSettings
from agentless_mini.settings.run import EvaluationSettings, Grading, LocalizeSettings, RepairSettings, ReproduceSettings
from tests.chain import boxes
from tests.chain.workbench import FIX, NONSENSE, SAME_FIX, WRONG
from tests.evaluation.attempts import FILES, TEST
from tests.evaluation.bugs import resolves, rows, tree
from tests.fakes.model import Answer, Rule, Script
from tests.fakes.sandbox import ScriptedSandbox
from tests.fakes.testbeds import ScriptedTestbeds

REPAIRS = (WRONG, WRONG, FIX, NONSENSE, SAME_FIX)
SCRIPT = Script(
    rules=(
        FILES,
        Rule(stage="reproduce", answers=(Answer(text=TEST),)),
        Rule(answers=tuple(Answer(text=text) for text in REPAIRS)),
    )
)


def answer(job: Job) -> JobResult | AminiError:
    """Say that tests pass where the patch mends the cart, and fail on the tree as it is."""
    mended = any(b"for price in prices:" in (file.data or b"") for file in job.files if file.path == "shop/cart.py")
    said = boxes.PASSES if mended else boxes.fails(path="shop/cart.py")
    return boxes.recording(lambda name, code: said)(job)


async def open_scripted(evaluation: Evaluation, model: str, stack: AsyncExitStack, watch: Watch) -> Opened:
    return Opened(ScriptedTestbeds(tree, resolves, ScriptedSandbox(answer)))


def evaluation(folder: Path, url: str, count: int, samples: int) -> Evaluation:
    dataset = dataset_of("shops", [*rows(count - count // 3), *rows(count // 3, "acme/other")])
    config = Config(
        endpoint=EndpointSettings(base_url=url),
        localize=LocalizeSettings(samples=2),
        repair=RepairSettings(samples=samples),
        reproduce=ReproduceSettings(samples=2),
        eval=EvaluationSettings(workers=16, grade=Grading.ALL),
    )
    return Evaluation(dataset, dataset.instances, folder, config)


def main() -> int:
    folder, url, count, samples = sys.argv[1:]
    machine = Machine(Path(folder) / "state", Path(folder) / "cache", {})
    return evaluate(evaluation(Path(folder), url, int(count), int(samples)), machine, open_scripted)


if __name__ == "__main__":
    raise SystemExit(main())
