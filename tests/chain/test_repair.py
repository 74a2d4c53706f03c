"""Repair sampling: how samples are dealt over prompts, what a prompt shows, and what becomes of an answer."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from agentless_mini.chain.repair import repair
from agentless_mini.chain.stopping import decided
from agentless_mini.domain import Candidate, Decoding, Localization, ModelCard, Note, Patch, Reason, Rejected, Snapshot
from agentless_mini.errors import ContextTooSmall
from agentless_mini.record import RecordedSampler, Store
from agentless_mini.settings.run import RepairSettings
from tests.chain.workbench import CART, FIX, NONSENSE, SAME_FIX, WRONG, Bench, run, shop, subject, text_file
from tests.fakes.model import Script, ScriptedSampler, ready

CARD = ModelCard("scripted", 8192)
ONE = Localization((("shop/cart.py",),), (4,))
TWO = Localization((("shop/cart.py",), ("shop/tax.py", "shop/cart.py")), (3, 1))


def draw(
    *answers: str,
    localization: Localization = ONE,
    card: ModelCard = CARD,
    samples: int = 4,
    snapshot: Snapshot | None = None,
    refused: Rejected | None = None,
) -> tuple[tuple[Candidate, ...], ScriptedSampler, Bench]:
    sampler = ScriptedSampler(Script.of(*answers), card)
    bench = Bench(sampler, refused)
    settings = RepairSettings(samples=samples)
    candidates = run(repair(subject(snapshot or shop()), localization, bench.session, settings))
    return candidates, sampler, bench


def reasons(candidates: tuple[Candidate, ...]) -> list[str]:
    return [one.outcome.reason if isinstance(one.outcome, Rejected) else "valid" for one in candidates]


def test_each_answer_becomes_a_patch_or_a_reason() -> None:
    candidates, _, _ = draw(FIX, NONSENSE, SAME_FIX, WRONG)
    assert reasons(candidates) == ["valid", Reason.NO_EDIT, "valid", "valid"]
    first, _, third, _ = (one.outcome for one in candidates)
    assert isinstance(first, Patch)
    assert isinstance(third, Patch)
    assert b"-    for price in prices[1:]:\n+    for price in prices:\n" in first.diff
    assert first.normal == third.normal


def test_samples_are_dealt_over_the_distinct_lists_and_keep_their_order() -> None:
    candidates, sampler, _ = draw(FIX, localization=TWO, samples=5)
    assert [request.indices for request in sampler.requests] == [(0, 1, 2), (0, 1)]
    assert [candidate.order for candidate in candidates] == [0, 1, 2, 3, 4]
    keys = [request.key() for request in sampler.requests]
    assert [candidate.request for candidate in candidates] == [keys[n % 2] for n in range(5)]


def test_more_samples_later_contain_the_earlier_ones() -> None:
    def asked(samples: int) -> set[tuple[str, int]]:
        _, sampler, _ = draw(FIX, localization=TWO, samples=samples)
        return {(request.key(), index) for request in sampler.requests for index in request.indices}

    assert asked(5) < asked(12)


def test_prompts_show_their_files_in_one_common_order() -> None:
    _, sampler, _ = draw(FIX, localization=TWO, samples=2)
    one, two = (request.messages[1].content for request in sampler.requests)
    assert two.index("### shop/cart.py") < two.index("### shop/tax.py")
    shared = one.index("    return result\n") + 18
    assert one[:shared] == two[:shared]


def test_of_files_with_as_many_votes_the_one_that_a_list_has_earliest_comes_first() -> None:
    files = [text_file(f"{name}.py", f"{name} = 1\n") for name in "ab"]
    lists = Localization((("shop/cart.py", "a.py", "b.py"), ("b.py", "a.py")), (1, 1))
    _, sampler, _ = draw(FIX, localization=lists, samples=2, snapshot=shop(*files))
    first, second = (request.messages[1].content for request in sampler.requests)
    assert first.index("### b.py") < first.index("### a.py") < first.index("### shop/cart.py")
    assert second.index("### b.py") < second.index("### a.py")


def test_no_more_prompts_than_samples() -> None:
    _, sampler, _ = draw(FIX, localization=TWO, samples=1)
    assert len(sampler.requests) == 1


def test_what_does_not_fit_is_shown_in_part_and_the_prompt_keeps_to_the_window() -> None:
    big = [text_file(f"pkg/m{n}.py", f"value_{n} = {n}\n" * 900) for n in range(4)]
    wanted = Localization((("shop/cart.py", *(file.path for file in big)),), (1,))
    card = ModelCard("scripted", 6000)
    _, sampler, bench = draw(FIX, localization=wanted, card=card, snapshot=shop(*big))
    (request,) = sampler.requests
    assert run(sampler.count_tokens(request.messages)) + request.params.max_tokens <= card.context_window
    assert run(sampler.count_tokens(request.messages)) > 0.9 * (card.context_window - request.params.max_tokens)
    assert CART in request.messages[1].content
    assert all(f"### {file.path}" in request.messages[1].content for file in big)
    assert Note("Shown in part to fit the context: pkg/m3.py.") in bench.events


def test_files_that_do_not_fit_in_any_part_are_left_out_from_the_end() -> None:
    big = [text_file(f"pkg/m{n}.py", f"value_{n} = {n}\n" * 900) for n in range(9)]
    wanted = Localization((tuple(file.path for file in big),), (1,))
    _, sampler, bench = draw(FIX, localization=wanted, card=ModelCard("scripted", 3000), snapshot=shop(*big))
    assert "### pkg/m0.py" in sampler.requests[0].messages[1].content
    assert "### pkg/m8.py" not in sampler.requests[0].messages[1].content
    assert any(isinstance(event, Note) and event.text.endswith("pkg/m8.py.") for event in bench.events)


def test_lists_that_become_the_same_prompt_are_one_prompt() -> None:
    big = [text_file(f"pkg/m{n}.py", f"value_{n} = {n}\n" * 2000) for n in range(22)]
    common = tuple(file.path for file in big[:20])
    lists = Localization(((*common, "pkg/m20.py"), (*common, "pkg/m21.py")), (1, 1))
    candidates, sampler, _ = draw(FIX, localization=lists, card=ModelCard("scripted", 3000), snapshot=shop(*big))
    assert [request.indices for request in sampler.requests] == [(0, 1, 2, 3)]
    assert len(candidates) == 4


def test_a_file_that_is_shown_in_part_is_shown_so_in_the_prompts_of_other_lists() -> None:
    long = [text_file(f"pkg/m{n}.py", f"value_{n} = {n}\n" * 4000) for n in range(3)]
    lists = Localization(
        (("pkg/m0.py", "pkg/m1.py", "shop/cart.py"), ("pkg/m0.py", "shop/tax.py", "pkg/m2.py")), (2, 1)
    )
    _, sampler, _ = draw(FIX, localization=lists, samples=2, snapshot=shop(*long))
    one, two = (request.messages[1].content for request in sampler.requests)
    shared = one.index("### pkg/m1.py")
    assert shared > 4000
    assert one[:shared] == two[:shared]


def test_a_large_file_is_shown_in_part_and_edits_still_apply_to_all_of_it() -> None:
    filler = "".join(f"def other_{n}(value):\n    return value + {n}\n\n\n" for n in range(800))
    code = filler + "def total(prices):\n    return sum(prices[1:])\n"
    snapshot = shop(text_file("shop/big.py", code))
    answer = FIX.replace("shop/cart.py", "shop/big.py").replace(
        "    for price in prices[1:]:", "    return sum(prices[1:])"
    )
    answer = answer.replace("    for price in prices:", "    return sum(prices)")
    wanted = Localization((("shop/big.py",),), (1,))
    candidates, sampler, bench = draw(answer, localization=wanted, snapshot=snapshot)
    assert "lines are not shown" not in sampler.requests[0].messages[1].content
    content = sampler.requests[0].messages[1].content
    assert "are not shown; in outline:\ndef other_" in content
    assert reasons(candidates) == ["valid"] * 4
    assert any(isinstance(event, Note) and "in part" in event.text for event in bench.events)


def test_a_context_without_room_for_any_file_is_an_error() -> None:
    with pytest.raises(ContextTooSmall, match="larger context"):
        draw(FIX, card=ModelCard("scripted", 400))


def notes(bench: Bench) -> list[str]:
    return [event.text for event in bench.events if isinstance(event, Note)]


def test_answers_that_may_be_shorter_than_wanted_are_told_once() -> None:
    _, sampler, bench = draw(FIX, localization=TWO)
    assert {request.params.max_tokens for request in sampler.requests} == {2048}
    assert notes(bench) == ["An answer may have 2048 tokens, not 8192: a quarter of the model's context at most."]


@pytest.mark.parametrize("card", [ModelCard("scripted", 4 * 8192), replace(CARD, decoding=Decoding.LINES)])
def test_answers_that_are_as_long_as_wanted_or_single_lines_are_not_told_of(card: ModelCard) -> None:
    _, _, bench = draw(FIX, card=card)
    assert notes(bench) == []


def test_git_is_asked_once_for_each_distinct_patch_and_its_refusal_is_a_reason() -> None:
    candidates, _, bench = draw(FIX, FIX, WRONG, samples=6)
    assert len(bench.checked) == 2
    refused = Rejected(Reason.REFUSED_BY_GIT, "no")
    candidates, _, _ = draw(FIX, samples=2, refused=refused)
    assert [candidate.outcome for candidate in candidates] == [refused, refused]


def test_the_task_goes_along_only_where_decoding_is_constrained() -> None:
    _, free, _ = draw(FIX)
    assert free.requests[0].task is None
    _, lines, _ = draw(FIX, card=replace(CARD, decoding=Decoding.LINES))
    task = lines.requests[0].task
    assert task is not None
    assert task.files[0].path == "shop/cart.py"
    assert task.files[0].whole


# --- answers that repeat another -------------------------------------------------------------------------------------


def repeating(
    *answers: str, samples: int = 10, temperature: float = 1.0, card: ModelCard = CARD, localization: Localization = ONE
) -> tuple[int, list[str]]:
    """Return how many candidates repeat another, and the notes about it."""
    bench = Bench(ScriptedSampler(Script.of(*answers), card))
    settings = RepairSettings(samples=samples, temperature=temperature)
    drawn = run(repair(subject(shop()), localization, bench.session, settings))
    return sum(one.repeats for one in drawn), [note for note in notes(bench) if "vote" in note]


def test_a_server_that_gives_one_answer_has_one_vote_and_is_told() -> None:
    repeats, (note,) = repeating(FIX)
    assert repeats == 9
    assert note == (
        "All 10 answers are the same text, though the temperature is 1: the server ignores it and the seed, or "
        "answers from a cache. They count as one vote for each prompt; check how the server samples."
    )
    repeats, (note,) = repeating(FIX, localization=TWO)
    assert repeats == 8


def test_equal_answers_among_others_are_agreement() -> None:
    assert repeating(*[FIX] * 9, WRONG) == (0, [])
    assert repeating(*[FIX] * 9, f"Sure.\n{FIX}") == (0, [])
    assert repeating(FIX, samples=5) == (0, [])


def test_a_constrained_model_may_give_one_answer() -> None:
    assert repeating(FIX, card=replace(CARD, decoding=Decoding.GRAMMAR)) == (0, [])


def test_at_temperature_0_equal_answers_are_one_vote() -> None:
    assert repeating(FIX, FIX, WRONG, samples=3, temperature=0) == (
        1, ["At temperature 0 equal answers to one prompt are one vote."],
    )  # fmt: skip


# --- the adaptive budget ---------------------------------------------------------------------------------------------


def stopped(*answers: str, localization: Localization = ONE, samples: int = 40) -> tuple[int, ScriptedSampler, Bench]:
    sampler = ScriptedSampler(Script.of(*answers), CARD)
    bench = Bench(sampler)
    settings = RepairSettings(samples=samples, stop_when=0.95)
    drawn = run(repair(subject(shop()), localization, bench.session, settings))
    assert [candidate.order for candidate in drawn] == list(range(len(drawn)))  # a whole beginning of the run
    return len(drawn), sampler, bench


def test_sampling_ends_with_the_portion_that_settles_the_vote() -> None:
    drawn, sampler, bench = stopped(FIX, SAME_FIX, FIX, NONSENSE)
    assert drawn % 5 == 0
    assert 5 <= drawn < 40
    assert [request.indices for request in sampler.requests] == [tuple(range(n, n + 5)) for n in range(0, drawn, 5)]
    whole, _, _ = draw(FIX, SAME_FIX, FIX, NONSENSE, samples=drawn)
    assert decided(whole, 40 - drawn, 0.95)
    assert not decided(whole[: drawn - 5], 45 - drawn, 0.95)
    told = f"Sampling ended after {drawn} of 40 samples ({40 - drawn} saved): the winner of the vote stays with a"
    assert [note for note in notes(bench) if note.startswith("Sampling")] == [
        f"{told} probability of 0.95 at least (--stop-when)."
    ]


@pytest.mark.parametrize("answers", [[NONSENSE], [FIX, WRONG]])
def test_what_is_not_settled_is_sampled_to_the_end_and_nothing_is_told(answers: list[str]) -> None:
    drawn, _, bench = stopped(*answers)
    assert drawn == 40
    assert not any(note.startswith("Sampling") for note in notes(bench))


def test_what_is_drawn_with_a_bound_is_the_beginning_of_what_is_drawn_without() -> None:
    answers = [f"Answer {number}.\n{FIX}" for number in range(40)]
    drawn, _, _ = stopped(*answers, localization=TWO)
    bounded = run(
        repair(
            subject(shop()), TWO, Bench(ScriptedSampler(Script.of(*answers), CARD)).session,
            RepairSettings(samples=40, stop_when=0.95),
        )
    )  # fmt: skip
    whole, _, _ = draw(*answers, localization=TWO, samples=40)
    assert bounded == whole[:drawn]


def test_a_portion_has_a_sample_of_each_prompt() -> None:
    drawn, sampler, _ = stopped(FIX, localization=TWO, samples=3)
    assert [len(request.indices) for request in sampler.requests[:2]] == [1, 1]
    assert drawn in {2, 3}


def test_a_bounded_run_is_replayed_from_the_record(tmp_path: Path) -> None:
    settings = RepairSettings(samples=40, stop_when=0.95)
    with closing(Store.open(tmp_path / "s.sqlite")) as store:

        def brought() -> tuple[int, int]:
            sampler = ScriptedSampler(Script.of(FIX, WRONG, FIX), CARD)
            session = Bench(RecordedSampler(ready(sampler), store, "scripted")).session
            return len(run(repair(subject(shop()), TWO, session, settings))), len(sampler.requests)

        first, second = brought(), brought()
    assert second == (first[0], 0)
