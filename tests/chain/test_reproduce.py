"""Reproduction tests: one prompt, what is drafted, what counts once it was run, which are kept."""

from collections.abc import Sequence

import pytest

from agentless_mini.chain.reproduce import draft_cases, reproduce
from agentless_mini.chain.session import ATTEMPT
from agentless_mini.domain import (
    BoxDone,
    Case,
    Decoding,
    Event,
    Excerpt,
    Fault,
    GeneratedCase,
    Harness,
    Issue,
    Job,
    JobResult,
    ModelCard,
    Note,
    Origin,
    Outcome,
    Phase,
    PhaseStarted,
    Reason,
    Rejected,
    Runner,
    SampleDone,
    ShownFile,
    Snapshot,
    Stage,
    StageStarted,
)
from agentless_mini.errors import AminiError, ContextTooSmall, EnvironmentFailed, ServerFailed
from agentless_mini.settings.run import ReproduceSettings
from tests.chain.boxes import PASSES, PYTEST, Said, bench, fails, recording
from tests.chain.workbench import CART, ISSUE, Bench, run, shop, subject, text_file
from tests.fakes.model import Outage, Script, ScriptedSampler
from tests.fakes.sandbox import Answering, ScriptedSandbox, refusing

CARD = ModelCard("scripted", 8192)
EXAMPLE = text_file(
    "tests/unit/test_cart.py", "from shop.cart import total\n\n\ndef test_one():\n    assert total([]) == 0\n"
)
TREE = shop(EXAMPLE)


def written(line: str, comment: str = "") -> str:
    return f"So.\n\n```python\ndef test_it():\n    {line}{comment}\n```\n"


REAL = written("assert total([1, 2]) == 3")
SAME = written("assert total([1, 2]) == 3", "  # all of them")
OTHER = written("assert total([5]) == 5")
PASSING = written("assert True")
WRONG = written("assert totals([1]) == 1")


def drafted(
    *answers: str,
    samples: int = 4,
    card: ModelCard = CARD,
    harness: Harness = PYTEST,
    snapshot: Snapshot = TREE,
    issue: Issue = ISSUE,
    files: tuple[ShownFile, ...] = (),
    sampler: ScriptedSampler | None = None,
) -> tuple[tuple[GeneratedCase, ...], ScriptedSampler, Bench]:
    sampler = sampler or ScriptedSampler(Script.of(*answers), card)
    work = Bench(sampler)
    settings = ReproduceSettings(samples=samples)

    async def showing() -> tuple[ShownFile, ...]:
        return files

    drafting = draft_cases(subject(snapshot, issue), work.session, harness, settings, showing)
    return run(drafting), sampler, work


def cases(drafts: Sequence[GeneratedCase]) -> list[Case]:
    return [draft.outcome for draft in drafts if isinstance(draft.outcome, Case)]


def reasons(drafts: Sequence[GeneratedCase]) -> list[Reason | None]:
    return [draft.outcome.reason if isinstance(draft.outcome, Rejected) else None for draft in drafts]


def proven(
    drafts: Sequence[GeneratedCase], answer: Answering, most: int = 30
) -> tuple[tuple[GeneratedCase, ...], list[Event]]:
    made, _, events = bench(answer, TREE)
    return run(reproduce(drafts, ISSUE, made, ReproduceSettings(most=most))), events


# --- writing -------------------------------------------------------------------------------------------------------


def test_all_samples_share_one_prompt_and_one_request() -> None:
    drafts, sampler, work = drafted(REAL, "no")
    (request,) = sampler.requests
    assert (request.indices, request.stage, request.instance) == ((0, 1, 2, 3), Stage.REPRODUCE, "shop@c")
    assert [(draft.request, draft.index, draft.order) for draft in drafts] == [(request.key(), n, n) for n in range(4)]
    assert work.events[0] == StageStarted(Stage.REPRODUCE, 4)
    done = [event for event in work.events if isinstance(event, SampleDone)]
    assert [event.rejected is None for event in done] == [True, False, True, False]


def test_the_prompt_shows_the_issue_and_the_example_and_where_the_test_goes() -> None:
    _, sampler, work = drafted(REAL)
    content = sampler.requests[0].messages[1].content
    assert ISSUE.text.strip() in content
    assert "### tests/unit/test_cart.py\n```\nfrom shop.cart import total\n" in content
    assert "in the folder tests/unit" in content
    assert "run by pytest" in content
    assert not any(isinstance(event, Note) for event in work.events)


def test_equal_tests_are_one_case_with_all_votes_in_the_words_of_the_first() -> None:
    drafts, _, _ = drafted(SAME, "none", REAL, OTHER)
    first, second, third = cases(drafts)
    assert first == second
    assert (first.votes, third.votes) == (2, 1)
    assert b"# all of them" in (first.data or b"")
    assert first.path.startswith("tests/unit/test_amini_")
    assert first.origin is Origin.GENERATED
    assert reasons(drafts) == [None, Reason.NO_TEST, None, None]


def test_without_an_example_the_test_lies_at_the_top() -> None:
    drafts, sampler, _ = drafted(REAL, snapshot=shop())
    assert "/" not in cases(drafts)[0].path
    content = sampler.requests[0].messages[1].content
    assert "at the top of the repository" in content
    assert "existing test file" not in content


@pytest.mark.parametrize(("runner", "folder"), [(Runner.DJANGO, "tests"), (Runner.COMMAND, "tests/unit")])
def test_each_runner_has_its_folder(runner: Runner, folder: str) -> None:
    test = "```python\nimport shop\n\nclass T(Base):\n    def test_it(self): shop.check()\n```\n"
    drafts, _, _ = drafted(test, harness=Harness(runner, ("python",)))
    assert cases(drafts)[0].path.rpartition("/")[0] == folder


def test_a_long_example_is_shown_in_part_and_the_run_says_so() -> None:
    lines = "".join(f"    assert total([{n}]) == {n}\n" for n in range(6))
    many = "import pytest\n\n\n" + "".join(f"def test_cart_{n}():\n{lines}\n\n" for n in range(400))
    _, sampler, work = drafted(REAL, snapshot=shop(text_file("tests/test_cart.py", many)))
    (request,) = sampler.requests
    content = request.messages[1].content
    assert "parts of an existing test file" in content
    assert "### tests/test_cart.py\n```\nimport pytest\n" in content
    assert "def test_cart_9():\n    assert" in content
    assert "def test_cart_399():\n    assert" not in content
    assert run(sampler.count_tokens(request.messages)) < 8192 * 0.4
    assert Note("Shown in part, as an example of how tests are written: tests/test_cart.py.") in work.events


def test_an_example_that_fits_in_no_part_is_left_out_and_the_run_says_so() -> None:
    test = f"def test_cart():\n    assert total([{', '.join('0' * 9000)}]) == 1\n"
    _, sampler, work = drafted(REAL, snapshot=shop(text_file("tests/test_cart.py", test)))
    assert "existing test file" not in sampler.requests[0].messages[1].content
    assert any(isinstance(event, Note) and event.text.startswith("Left out") for event in work.events)


def test_the_prompt_begins_as_that_of_repair_does() -> None:
    files = (ShownFile("shop/cart.py", (Excerpt(1, CART),), whole=True),)
    _, sampler, work = drafted(REAL, files=files)
    shown = work.session.prompts.repair(ISSUE, "shop", files)[1].content
    code = shown[: shown.index("Find the cause")]
    content = sampler.requests[0].messages[1].content
    assert content.startswith(code)
    assert content.index("### shop/cart.py") < content.index("### tests/unit/test_cart.py") < content.index("Write a t")
    assert not any(isinstance(event, Note) for event in work.events)


def test_code_that_does_not_fit_beside_the_example_is_shown_in_part() -> None:
    long = "".join(f"def total_{n}(prices):\n    return sum(prices[{n}:])\n\n\n" for n in range(400))
    names = ("shop/a.py", "shop/b.py", "shop/c.py")
    files = tuple(ShownFile(name, (Excerpt(1, long[:8000]),), whole=True) for name in names)
    snapshot = shop(EXAMPLE, *(text_file(name, long) for name in names))
    _, sampler, work = drafted(REAL, files=files, snapshot=snapshot)
    (request,) = sampler.requests
    content = request.messages[1].content
    assert run(sampler.count_tokens(request.messages)) + request.params.max_tokens <= 8192
    assert content.startswith(work.session.prompts.repair(ISSUE, "shop", files)[1].content[:7000])
    assert "### shop/b.py" in content
    assert "are not shown" in content
    assert "### tests/unit/test_cart.py" in content
    (note,) = (event.text for event in work.events if isinstance(event, Note))
    assert note == "For tests less is shown than for repairs, to fit the context, of shop/b.py, shop/c.py."


def test_a_context_without_room_for_the_issue_is_an_error() -> None:
    with pytest.raises(ContextTooSmall, match="larger context"):
        drafted(REAL, card=ModelCard("scripted", 200))


@pytest.mark.parametrize(("card", "samples"), [(ModelCard("tiny", 8192, Decoding.LINES), 4), (CARD, 0)])
def test_a_model_that_rewrites_lines_is_not_asked(card: ModelCard, samples: int) -> None:
    drafts, sampler, work = drafted(REAL, card=card, samples=samples)
    assert (drafts, sampler.requests, work.events) == ((), [], [])


def test_a_failing_server_is_not_an_empty_answer() -> None:
    sampler = ScriptedSampler(Script.of(REAL), CARD, (Outage(0, ServerFailed("down"), after=2),))
    with pytest.raises(ServerFailed, match="down"):
        drafted(samples=10, sampler=sampler)


# --- proving -------------------------------------------------------------------------------------------------------


def by_code(name: str, code: str) -> Said:
    if "totals" in code:
        return fails("NameError", "name 'totals' is not defined", name)
    return PASSES if "True" in code else fails(path=name)


def test_what_fails_because_of_the_issue_is_kept_and_the_rest_says_why_not() -> None:
    drafts, _, _ = drafted(REAL, PASSING, WRONG, "none", SAME, samples=5)
    results, events = proven(drafts, recording(by_code))
    assert reasons(results) == [None, Reason.NOT_REPRODUCED, Reason.OTHER_FAULT, Reason.NO_TEST, None]
    assert cases(results) == [cases(drafts)[0]] * 2
    assert [(one.request, one.index) for one in results] == [(one.request, one.index) for one in drafts]
    outcome = results[2].outcome
    assert isinstance(outcome, Rejected)
    assert outcome.detail.startswith("NameError: name 'totals' is not defined (tests/unit/test_amini_")
    assert [event for event in events if isinstance(event, PhaseStarted)] == [
        PhaseStarted(Phase.REPRODUCTION, 3),
        PhaseStarted(Phase.REPRODUCTION, 2),
    ]
    done = [event.outcomes for event in events if isinstance(event, BoxDone)]
    assert sorted(done[:3]) == sorted([(Outcome.FAIL,), (Outcome.PASS,), (Outcome.FAIL,)])
    assert done[3:] == [(Outcome.FAIL,)] * 2


def placed(sandbox: ScriptedSandbox) -> list[list[str]]:
    return [[file.path for file in job.files if "test_amini" in file.path] for job in sandbox.jobs]


def test_each_distinct_test_runs_alone_and_all_side_by_side() -> None:
    drafts, _, _ = drafted(REAL, PASSING, WRONG, SAME)
    made, sandbox, _ = bench(recording(by_code), TREE)
    run(reproduce(drafts[1:3], ISSUE, made, ReproduceSettings()))
    assert sorted(placed(sandbox)) == sorted([case.path] for case in cases(drafts[1:3]))
    assert sandbox.most == 2


def test_what_shows_the_issue_is_run_twice_more_all_together_and_what_does_not_each_time_is_flaky() -> None:
    drafts, _, _ = drafted(REAL, OTHER, PASSING, SAME)

    def by_luck(job: Job) -> JobResult | AminiError:
        again = any((ATTEMPT, "2") in step.variables for step in job.steps)
        decide = (lambda name, code: PASSES if "5" in code else by_code(name, code)) if again else by_code
        return recording(decide)(job)

    made, sandbox, _ = bench(by_luck, TREE)
    results = run(reproduce(drafts, ISSUE, made, ReproduceSettings()))
    assert reasons(results) == [None, Reason.FLAKY, Reason.NOT_REPRODUCED, None]
    flaky = results[1].outcome
    assert isinstance(flaky, Rejected)
    assert flaky.detail == "run again: it passes while the issue exists"
    first, second, _, _ = cases(drafts)
    assert placed(sandbox)[3:] == [[first.path, second.path]] * 2
    tried = [
        sorted({value for step in job.steps for name, value in step.variables if name == ATTEMPT})
        for job in sandbox.jobs
    ]
    assert sorted(tried) == [[], [], [], ["1"], ["2"]]  # so that a rerun finds each of them in the record


def test_of_many_those_with_votes_are_kept_then_those_that_fail_alike_then_the_earliest() -> None:
    lonely, *crowd = (written(f"assert total([{n}]) == {n}") for n in range(4))
    voted = written("assert total([9]) == 9")
    drafts, _, _ = drafted(lonely, *crowd, voted, voted, samples=6)

    def decide(name: str, code: str) -> Said:
        return fails("KeyError", "0", name) if "[0]" in code else fails("AssertionError", code[-4:], name)

    results, _ = proven(drafts, recording(decide), most=3)
    assert reasons(results) == [Reason.SURPLUS, None, None, Reason.SURPLUS, None, None]


def test_a_test_that_cannot_be_placed_is_no_reproduction() -> None:
    drafts, _, _ = drafted(REAL, samples=1)
    results, events = proven(drafts, refusing("tests/unit is a symlink"))
    assert reasons(results) == [Reason.OTHER_FAULT]
    assert events == [PhaseStarted(Phase.REPRODUCTION, 1), BoxDone(Phase.REPRODUCTION)]


def test_without_a_draft_nothing_is_run() -> None:
    drafts, _, _ = drafted("none")
    results, events = proven(drafts, recording(by_code))
    assert (results, events) == (drafts, [])


def test_a_machine_that_fails_is_no_rejected_test() -> None:
    drafts, _, _ = drafted(REAL, OTHER)
    with pytest.raises(EnvironmentFailed, match="no daemon"):
        proven(drafts, lambda _: EnvironmentFailed("There is no daemon: start it."))


def test_a_fault_in_the_code_under_test_counts_in_a_setup_too() -> None:
    drafts, _, _ = drafted(REAL, samples=1)

    def broken(path: str) -> Answering:
        return recording(lambda _, __: (Outcome.ERROR, Fault("ValueError", "x", path, 3)))

    assert reasons(proven(drafts, broken("shop/cart.py"))[0]) == [None]
    assert reasons(proven(drafts, broken("tests/conftest.py"))[0]) == [Reason.OTHER_FAULT]
