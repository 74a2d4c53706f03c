"""Rounds of evolution: which patches a later prompt shows after the whole repair prompt, and who is told what."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from agentless_mini.chain.evolve import BestFirst, evolve
from agentless_mini.chain.repair import repair
from agentless_mini.domain import Candidate, ModelCard, Stage, StageStarted
from agentless_mini.errors import ServerFailed
from agentless_mini.record import RecordedSampler, Store
from agentless_mini.settings.run import EvolveSettings, RepairSettings, Selecting
from tests.chain.evolving import CARD, ONE, TWO, Evolving, best, evolved, script, start, starts
from tests.chain.workbench import FIX, NONSENSE, SAME_FIX, WRONG, Bench, run, shop, subject
from tests.fakes.model import Outage, ScriptedSampler, ready

# --- rounds ----------------------------------------------------------------------------------------------------------


def test_the_samples_are_spread_over_rounds_and_keep_one_order() -> None:
    made = Evolving(
        ScriptedSampler(script([start(1), start(2)], [start(3), start(4)]), CARD), EvolveSettings(rounds=3), 7
    )
    assert [(one.order, one.round) for one in made.candidates] == [(n, n // 3) for n in range(9)]
    started = [(event.stage, event.samples) for event in made.bench.events if isinstance(event, StageStarted)]
    assert started == [(Stage.REPAIR, 3), (Stage.EVOLVE, 3), (Stage.EVOLVE, 3)]
    assert [request.indices for request in made.first + made.later] == [(0, 1, 2)] * 3


def test_a_size_of_the_rounds_goes_before_the_number_of_samples() -> None:
    assert len(evolved([start(n) for n in range(1, 6)], [FIX], rounds=4).candidates) == 20


def test_a_later_prompt_is_the_repair_prompt_with_more_after_it_and_asks_alike() -> None:
    made = evolved([start(1), FIX], [FIX])
    (first,), (later,) = made.first, made.later
    assert later.messages[0] == first.messages[0]
    assert len(later.messages) == 2
    assert starts(made.shown()) == [1]
    assert replace(later, messages=first.messages, stage=first.stage) == first


def test_the_first_round_asks_what_plain_sampling_asks() -> None:
    made = evolved([start(1), FIX], [FIX])
    sampler = ScriptedSampler(script([start(1), FIX], []), CARD)
    run(repair(subject(shop()), ONE, Bench(sampler).session, RepairSettings(samples=2)))
    assert [request.key() for request in sampler.requests] == [request.key() for request in made.first]


def test_each_file_list_has_its_own_later_prompt_and_what_is_not_asked_is_not_made() -> None:
    answers = ScriptedSampler(script([start(n) for n in range(1, 5)], [FIX]), CARD)
    made = Evolving(answers, EvolveSettings(rounds=3, per_round=3, parents=2), 1, localization=TWO)
    assert [len(request.indices) for request in made.first + made.later] == [2, 1, 1, 2, 2, 1]
    beginnings = [first.messages[1].content for first in made.first]
    for number, later in enumerate(made.later):
        assert later.messages[1].content.startswith(beginnings[number % 2])
    narrow = Evolving(answers, EvolveSettings(rounds=2, per_round=1, parents=2), 1, localization=TWO)
    assert [candidate.order for candidate in narrow.candidates] == [0, 1]


def test_a_prompt_that_comes_again_goes_on_with_its_next_samples() -> None:
    made = evolved([FIX, FIX], [NONSENSE], rounds=3)
    assert made.later[0].key() == made.later[1].key()
    assert [request.indices for request in made.later] == [(0, 1), (2, 3)]
    assert len({(one.request, one.index) for one in made.candidates}) == 6


# --- parents ---------------------------------------------------------------------------------------------------------


def test_at_random_a_round_is_shown_patches_of_the_round_before_alone() -> None:
    made = evolved([start(1), start(2)], [start(3), start(4)], rounds=3)
    assert [sorted(starts(made.shown(n))) for n in range(2)] == [[1, 2], [3, 4]]


def test_at_random_no_more_are_shown_than_wanted_and_the_seed_says_which() -> None:
    answers = [start(n) for n in range(1, 9)]
    seen = [starts(evolved(answers, [FIX], parents=3, seed=seed).shown()) for seed in range(6)]
    assert all(len(set(one)) == 3 for one in seen)
    assert len({tuple(sorted(one)) for one in seen}) > 1
    assert starts(evolved(answers, [FIX], parents=3, seed=2).shown()) == seen[2]


@pytest.mark.parametrize("best_first", [None, best(5, 4, 3, 2, 1)], ids=["random", "best"])
def test_the_order_is_shuffled_by_the_seed(best_first: BestFirst | None) -> None:
    answers = [start(n) for n in range(1, 6)]
    seen = [tuple(starts(evolved(answers, [FIX], best_first, seed=seed).shown())) for seed in range(8)]
    assert {tuple(sorted(one)) for one in seen} == {(1, 2, 3, 4, 5)}
    assert len(set(seen)) > 4
    assert tuple(starts(evolved(answers, [FIX], best_first, seed=5).shown())) == seen[5]


def test_equal_patches_are_one_parent() -> None:
    shown = evolved([FIX, SAME_FIX, FIX, start(1)], [FIX]).shown()
    assert shown.count("### Attempt") == 2
    assert shown.count("+    for price in prices:") + shown.count("+    for price in (prices):") == 1


def test_a_selector_shows_the_best_of_all_rounds() -> None:
    made = evolved(
        [start(n) for n in (1, 2, 3)], [start(4), NONSENSE, start(5)], best(2, 5, 3, 4, 1), rounds=3, parents=2
    )
    assert [sorted(starts(made.shown(n))) for n in range(2)] == [[2, 3], [2, 5]]


def test_a_selector_that_knows_nothing_is_told_of_and_chance_decides() -> None:
    made = evolved([start(1), start(2)], [FIX], best())
    assert sorted(starts(made.shown())) == [1, 2]
    assert made.notes[-1] == "Round 1 was shown patches at random: no test says which are better."


def test_answers_that_are_no_patches_are_shown_where_there_is_no_patch() -> None:
    made = evolved([NONSENSE, NONSENSE, "```\n???\n```", ""], [FIX, NONSENSE, FIX, WRONG], rounds=3)
    first, second = made.shown(0), made.shown(1)
    assert first.count("### Answer") == 3  # no two alike
    assert "It was rejected: no-edit: " in first
    assert "I would rather not." in first
    assert "```diff" not in first
    assert "I would rather not." not in second
    assert second.count("### Attempt") == 2
    assert "Round 1 was shown answers that are no patches: there was no patch yet." in made.notes


def test_a_round_that_only_repeats_what_was_there_is_the_round_before() -> None:
    made = evolved([start(1), start(2), start(3)], [start(2)], rounds=3)
    assert starts(made.shown(1)) == [2]


def test_after_a_round_without_a_patch_those_before_it_are_shown() -> None:
    made = evolved([start(1), NONSENSE], [NONSENSE], rounds=4)
    assert [starts(made.shown(n)) for n in range(3)] == [[1], [1], [1]]


# --- people, and a failure -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({}, True),
        ({"self_evolving": True}, False),
        ({"select": Selecting.EXECUTION}, False),
        ({"select": Selecting.REWARD_MODEL}, False),
    ],
)
def test_evolving_a_model_that_is_not_trained_for_it_without_a_selector_is_told_of(
    settings: dict[str, object], warned: bool
) -> None:
    chosen = EvolveSettings.model_validate({"rounds": 2, **settings})
    best_first = best(1) if chosen.select is not Selecting.RANDOM else None
    made = Evolving(
        ScriptedSampler(script([start(1)], [start(2)]), ModelCard("scripted", 65536)), chosen, 2, best_first
    )
    assert [note.startswith("Nothing selects what the later rounds are shown") for note in made.notes] == [
        True
    ] * warned


def test_a_run_that_failed_in_a_later_round_asks_only_for_what_is_missing(tmp_path: Path) -> None:
    said = script([start(1), start(2)], [start(3), start(4)])
    sampling, settings = RepairSettings(samples=6), EvolveSettings(rounds=3, seed=1)

    def brought(sampler: ScriptedSampler, store: Store) -> tuple[Candidate, ...]:
        session = Bench(RecordedSampler(ready(sampler), store, "scripted")).session
        return run(evolve(subject(shop()), ONE, session, sampling, settings, None))

    def asked(sampler: ScriptedSampler) -> list[tuple[str, int]]:
        return [(request.key(), index) for request in sampler.requests for index in request.indices]

    with closing(Store.open(tmp_path / "s.sqlite")) as store:
        broken = ScriptedSampler(said, CARD, (Outage(2, ServerFailed("It broke: try again."), after=1),))
        with pytest.raises(ServerFailed):
            brought(broken, store)
        mended, again = ScriptedSampler(said, CARD), ScriptedSampler(said, CARD)
        candidates = brought(mended, store)
        assert brought(again, store) == candidates
    assert len(asked(broken)) == 6
    assert asked(mended) == asked(broken)[-1:]
    assert asked(again) == []
    whole = ScriptedSampler(said, CARD)
    assert run(evolve(subject(shop()), ONE, Bench(whole).session, sampling, settings, None)) == candidates
