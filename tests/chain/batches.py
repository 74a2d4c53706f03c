"""Boxes that batches of tests run in: patches are told apart by a number, and a patch to 13 fails every test."""

import json
from dataclasses import replace

from agentless_mini.chain.execute import Batches, Spare
from agentless_mini.domain import (
    Candidate,
    Case,
    Execution,
    FileChange,
    Job,
    JobResult,
    Origin,
    Patch,
    Reason,
    Rejected,
)
from agentless_mini.edits import Forms, make_patch
from agentless_mini.errors import AminiError
from agentless_mini.settings.run import RegressSettings
from tests.chain import boxes
from tests.chain.workbench import run, shop, text_file

SHOWS_IT = Case("tests/test_new.py::test_it", Origin.GENERATED, "tests/test_new.py", b"def test_it(): ...\n")
GIVEN = Case("tests/test_new.py::test_own", Origin.GIVEN, "tests/test_new.py", SHOWS_IT.data)
CART_TEST, TAX_TEST = "tests/test_cart.py::test_cart", "tests/test_tax.py::test_tax"
TREE = shop(
    text_file("tests/test_cart.py", "from shop.cart import total\n\n\ndef test_cart():\n    assert total([]) == 0\n"),
    text_file("tests/test_tax.py", "from shop.tax import RATE\n\n\ndef test_tax():\n    assert RATE\n"),
)
NAMES = {"tests/test_cart.py": CART_TEST, "tests/test_tax.py": TAX_TEST}


def cart(value: int) -> Patch:
    return patch("shop/cart.py", f"# {value}\n", f"cart {value}")


def tax(value: int) -> Patch:
    return patch("shop/tax.py", f"RATE = {value}\n", f"tax {value}")


def patch(path: str, text: str, normal: str) -> Patch:
    before = {file.path: file.data for file in TREE.files}.get(path)
    return replace(make_patch([FileChange(path, before, text.encode(), "100644")], Forms()), normal=normal)


def candidates(*outcomes: Patch | None) -> list[Candidate]:
    nothing = Rejected(Reason.NO_EDIT, "nothing")
    return [Candidate("k", n, n, outcome or nothing) for n, outcome in enumerate(outcomes)]


class Bench:
    """Boxes in which the new test fails without a patch, and every test fails with a patch to 13."""

    def __init__(
        self,
        reproducing: tuple[Case, ...] = (SHOWS_IT,),
        refused: bytes = b"never",
        most: int = 1000,
        given_first: int | None = None,
        spare: Spare | None = None,
        budget: float = 60,
        flaky: str = "never",
        busy: str = "never",
    ) -> None:
        self.met: list[tuple[str, str]] = []
        self.jobs = 0
        self.fails: dict[str, str] = {}
        self._refused, self._flaky, self._busy = refused, flaky, busy
        bench, _, self.events = boxes.bench(self._answer, TREE)
        settings = RegressSettings(most=most, budget=budget)
        self.batches = Batches(bench, reproducing, settings, given_first=given_first, spare=spare)

    def over(self, *outcomes: Patch | None) -> Execution | None:
        return run(self.batches.over(candidates(*outcomes)))

    def _answer(self, job: Job) -> JobResult | AminiError:
        self.jobs += 1
        files = {file.path: file.data or b"" for file in job.files}
        patched = [path for path in ("shop/cart.py", "shop/tax.py") if path in files]
        changed = b"".join(files[path] for path in patched)
        if self._refused in changed:
            return JobResult((), "it does not fit")
        plan = json.loads(files[job.steps[0].argv[-1]])
        if changed:
            self.met += [(changed.decode().strip(), name) for name in plan["wanted"]]

        def decide(name: str, code: str) -> boxes.Said:
            if self._flaky in name and not plan["budget"]:  # the first time, as one of a file, it passes
                return boxes.fails()
            if self._busy in name and self.met.count((changed.decode().strip(), name)) == 1:
                return boxes.fails()
            broken = any(test in name and change in changed.decode() for test, change in self.fails.items())
            return boxes.fails() if broken or b"13" in changed or ("test_new" in name and not changed) else boxes.PASSES

        return boxes.recording(decide)(_with_names(job, plan))


def _with_names(job: Job, plan: dict[str, list[str]]) -> Job:
    """Let a box that was asked for a whole file find its test."""
    named = {**plan, "wanted": [NAMES.get(name, name) for name in plan["wanted"]]}
    path = job.steps[0].argv[-1]
    files = tuple(
        type(file)(file.path, json.dumps(named).encode(), file.mode) if file.path == path else file
        for file in job.files
    )
    return type(job)(job.environment, job.tree, files, job.steps, job.limits)


def ids(execution: Execution | None) -> list[str]:
    return [case.id for case in execution.cases] if execution else []
