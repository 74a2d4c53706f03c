"""The chain of one issue, end to end over the scripted sampler."""

import asyncio
from dataclasses import replace

import pytest

from agentless_mini.chain import session as benches
from agentless_mini.chain.pipeline import resolve
from agentless_mini.domain import (
    Candidate,
    Case,
    Ending,
    Excerpt,
    FileChange,
    GivenTests,
    Issue,
    Job,
    JobResult,
    Method,
    ModelCard,
    Note,
    PastCommit,
    Prediction,
    ShownFile,
    Snapshot,
    Stage,
    StepResult,
)
from agentless_mini.edits import Forms, make_patch
from agentless_mini.errors import AminiError, EnvironmentFailed, NothingToEdit, UsageError
from agentless_mini.ports import Find, Watch
from agentless_mini.settings import Config
from agentless_mini.settings.run import LocalizeSettings, RegressSettings, RepairSettings, ReproduceSettings, Until
from tests.chain import boxes
from tests.chain.workbench import CART, FIX, ISSUE, NONSENSE, SAME_FIX, WRONG, Bench, run, shop, text_file
from tests.fakes.model import Answer, Rule, Script, ScriptedSampler
from tests.fakes.sandbox import Answering

FILES = Rule(stage="localize", answers=(Answer(text="```\nshop/cart.py\n```"),))


def solve(*repairs: str, issue: Issue = ISSUE, files: tuple[str, ...] = ()) -> tuple[Prediction, Bench]:
    script = Script(rules=(FILES, Rule(answers=tuple(Answer(text=text) for text in repairs))))
    bench = Bench(ScriptedSampler(script, ModelCard("scripted", 8192)))
    settings = Config(repair=RepairSettings(samples=len(repairs)))
    return run(resolve(issue, shop(), bench.session, settings, files=files)), bench


def test_the_change_that_most_samples_agree_on_is_chosen() -> None:
    prediction, _ = solve(WRONG, FIX, NONSENSE, SAME_FIX)
    assert prediction.choice is not None
    assert (prediction.choice.votes, prediction.choice.valid) == (2, 3)
    assert b"+    for price in prices:\n" in prediction.choice.patch.diff
    assert len(prediction.candidates) == 4
    assert prediction.localization.lists == (("shop/cart.py",),)


def test_no_valid_sample_is_a_result_without_a_choice() -> None:
    prediction, _ = solve(NONSENSE, NONSENSE)
    assert prediction.choice is None
    assert len(prediction.candidates) == 2


def test_given_files_skip_localization() -> None:
    prediction, _ = solve(FIX, files=("shop/cart.py",))
    assert prediction.localization.votes == (0,)
    with pytest.raises(UsageError, match="nowhere"):
        solve(FIX, files=("nowhere.py",))


def test_an_issue_longer_than_its_share_loses_its_middle_and_says_so() -> None:
    prediction, bench = solve(FIX, issue=Issue(ISSUE.text + "log line\n" * 5000))
    assert "The middle of the issue was left out to fit the context." in prediction.notes
    told = [event.text for event in bench.events if isinstance(event, Note)]
    assert tuple(dict.fromkeys(told)) == prediction.notes


def test_a_tree_without_text_files_is_an_error() -> None:
    bench = Bench(ScriptedSampler(Script.of(FIX)))
    with pytest.raises(NothingToEdit, match="no text file"):
        run(resolve(ISSUE, Snapshot("empty", "c" * 40, "d" * 64, ()), bench.session, Config()))


def test_a_ranking_is_kept_for_one_history() -> None:
    kept: dict[tuple[str, ...], tuple[str, ...]] = {}

    async def derive(rule: str, given: tuple[str, ...], find: Find) -> tuple[str, ...]:
        return kept.setdefault((rule, *given), find())

    session = replace(Bench(ScriptedSampler(Script.of(FIX))).session, derive=derive)
    settings = Config(localize=LocalizeSettings(samples=0))

    def first(*history: PastCommit) -> str:
        snapshot = replace(shop(), history=history)
        found = run(resolve(Issue("Ribbons burn"), snapshot, session, settings, until=Until.LOCALIZE))
        return found.localization.lists[0][0]

    past = PastCommit("No ribbon burns", ("shop/tax.py",))
    assert [first(), first(past), first()] == ["shop/cart.py", "shop/tax.py", "shop/cart.py"]
    assert len(kept) == 2


def test_the_same_script_gives_the_same_prediction() -> None:
    assert solve(WRONG, FIX, SAME_FIX)[0] == solve(WRONG, FIX, SAME_FIX)[0]


# --- with tests ----------------------------------------------------------------------------------------------------

OWN = "tests/test_cart.py"
SHOWS_IT = "```python\nfrom shop.cart import total\n\n\ndef test_first():\n    assert total([2]) == 2\n```\n"
PASSES = "```python\nfrom shop.cart import total\n\n\ndef test_nothing():\n    assert total([]) == 0\n```\n"


def run_with_tests(*repairs: str, answer: Answering | None = None, pool: tuple[Candidate, ...] = ()) -> Prediction:
    """Run the chain in boxes in which the generated test `SHOWS_IT` passes with FIX alone."""
    rules = [Rule(stage=stage, answers=tuple(Answer(text=text) for text in texts)) for stage, texts in (
        ("repair", repairs), ("reproduce", (SHOWS_IT, PASSES)),
    )]  # fmt: skip
    sampler = ScriptedSampler(Script(rules=(FILES, *rules)), ModelCard("scripted", 8192))
    snapshot = shop(text_file(OWN, "from shop.cart import total\n\n\ndef test_own():\n    assert total([]) == 0\n"))
    session = Bench(sampler).session
    opened, _, _ = boxes.bench(answer or fixed_by_the_fix, snapshot)

    async def open_boxes(watch: Watch) -> benches.Boxes:
        return opened

    settings = Config(
        repair=RepairSettings(samples=max(len(repairs), 1)),
        reproduce=ReproduceSettings(samples=2),
        rank=Method.AGREEMENT,
    )
    opening = benches.Opening(boxes.PYTEST, open_boxes)
    prediction = run(resolve(ISSUE, snapshot, replace(session, pool=pool), settings, opening))
    (writing,) = (request for request in sampler.requests if request.stage is Stage.REPRODUCE)
    repaired = session.prompts.repair(ISSUE, "shop", (ShownFile("shop/cart.py", (Excerpt(1, CART),), whole=True),))
    beginning, _, _ = repaired[1].content.partition("Find the cause")
    assert writing.messages[1].content.startswith(beginning)  # so that a server computes it once for both stages
    return prediction


def test_why_a_choice_may_be_doubted_is_in_its_reason() -> None:
    snapshot = shop()
    changes = {"shop/cart.py": (CART.encode(), b"raise SystemExit\n"), "pytest.toml": (None, b"[pytest]\n")}
    made = make_patch([FileChange(path, before, after, "100644") for path, (before, after) in changes.items()], Forms())

    def answer(job: Job) -> JobResult:
        patched = any(file.path == "shop/cart.py" for file in job.files)
        step = StepResult(Ending.EXITED, 0, seconds=0.1) if patched else StepResult(Ending.EXITED, 1, seconds=9.0)
        return JobResult(tuple(step for _ in job.steps))

    async def open_boxes(watch: Watch) -> benches.Boxes:
        return replace(boxes.bench(answer, snapshot)[0], watch=watch)

    sampler = ScriptedSampler(Script(rules=()), ModelCard("scripted", 8192))
    session = replace(Bench(sampler).session, pool=(Candidate("k", 0, 0, made),))
    settings = Config(reproduce=ReproduceSettings(samples=0), regress=RegressSettings(budget=0))
    asked = list[tuple[str, ...]]()

    def near(paths: tuple[str, ...]) -> benches.Opening:
        asked.append(paths)
        return benches.Opening(boxes.PYTEST, open_boxes)

    opening = benches.Opening(boxes.PYTEST, open_boxes, near=near)
    given = GivenTests(commands=("make check",))
    prediction = run(resolve(ISSUE, snapshot, session, settings, opening, given))
    assert asked == [("make check", "shop/cart.py", "shop/tax.py")]
    assert prediction.choice is not None
    assert prediction.choice.reason.endswith(
        "; tests ran without its pytest.toml; suspicious: make check passes in a fraction of its time without the patch"
    )


def fixed_by_the_fix(job: Job) -> JobResult | AminiError:
    cart = next((file.data or b"" for file in job.files if file.path == "shop/cart.py"), b"")

    def decide(name: str, code: str) -> boxes.Said:
        if "test_first" in code and b"in prices:" not in cart:
            return boxes.fails()
        return boxes.PASSES

    return boxes.recording(decide)(job)


def test_the_test_that_shows_the_issue_outweighs_the_vote() -> None:
    prediction = run_with_tests(WRONG, WRONG, WRONG, FIX)
    assert prediction.choice is not None
    assert b"+    for price in prices:\n" in prediction.choice.patch.diff
    assert (prediction.choice.passed, prediction.choice.reproducing, prediction.choice.votes) == (1, 1, 1)
    assert prediction.execution is not None
    assert len(prediction.execution.verdicts) == 2
    assert [type(one.outcome) is Case for one in prediction.generated] == [True, False]


def test_for_candidates_made_elsewhere_the_test_writer_is_shown_the_files_that_they_change() -> None:
    pool = run_with_tests(WRONG, FIX).candidates
    prediction = run_with_tests(pool=pool)
    assert prediction.candidates == pool
    assert prediction.choice is not None
    assert b"+    for price in prices:\n" in prediction.choice.patch.diff


def test_a_sandbox_that_breaks_ends_the_run_with_its_own_error() -> None:
    def broken(job: Job) -> JobResult:
        raise EnvironmentFailed("The daemon is gone: start it.")

    with pytest.raises(EnvironmentFailed, match="The daemon is gone"):
        run_with_tests(FIX, answer=broken)


def test_without_a_bench_no_test_is_sampled_and_a_note_says_so() -> None:
    prediction, _ = solve(FIX)
    assert prediction.execution is None
    assert prediction.generated == ()
    assert "The vote alone chooses the patch. No sandbox was asked for." in prediction.notes


def test_repairs_are_sampled_while_the_bench_is_being_opened() -> None:
    asked: list[str] = []

    async def slow(watch: Watch) -> benches.NoBoxes:
        while "repair" not in asked:  # would wait for ever if the chain did
            asked.extend(request.stage.value for request in sampler.requests)
            await asyncio.sleep(0)
        return benches.NoBoxes("Nothing can be built.")

    sampler = ScriptedSampler(Script(rules=(FILES, Rule(answers=(Answer(text=FIX),)))))
    opening = benches.Opening(boxes.PYTEST, slow)
    prediction = run(resolve(ISSUE, shop(), Bench(sampler).session, Config(), opening))
    assert prediction.choice is not None
    assert "The vote alone chooses the patch. Nothing can be built." in prediction.notes
