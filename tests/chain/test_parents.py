"""Parents of a round: chosen without likes, and cut by a rule that keeps the first ones."""

from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.chain.context import Gauge
from agentless_mini.chain.evolve import (
    ANSWER_LETTERS,
    PROBLEM_LETTERS,
    attempts_of,
    best_parents,
    distinct,
    fit_attempts,
    random_parents,
    shuffled,
)
from agentless_mini.chain.prompts import Attempt
from agentless_mini.chain.repair import Drawn
from agentless_mini.domain import Candidate, Patch, Reason, Rejected

texts = st.text(st.sampled_from("ab\n`{%é"), max_size=400)
attempts = st.lists(st.builds(Attempt, texts, texts), min_size=1, max_size=6).map(tuple)
gauges = st.floats(0.05, 1).map(Gauge)
outcomes = st.sampled_from(["n1", "n2", "n3", ""])
rounds = st.lists(st.lists(outcomes, min_size=1, max_size=5), min_size=1, max_size=4)


def drawn_of(of: list[list[str]]) -> list[Drawn]:
    """Return the samples of these rounds: a normal form each, or none for an answer that is no patch."""
    flat = [(number, normal) for number, some in enumerate(of) for normal in some]
    return [
        Drawn(Candidate("k", n, n, outcome(normal), number), f"answer {n % 2}")
        for n, (number, normal) in enumerate(flat)
    ]


def outcome(normal: str) -> Patch | Rejected:
    if not normal:
        return Rejected(Reason.NO_EDIT, "it says nothing")
    return Patch(b"+" + normal.encode() + b"\n", normal, ("a.py",))


def normals(parents: tuple[Drawn, ...]) -> list[str]:
    return [one.candidate.outcome.normal for one in parents if isinstance(one.candidate.outcome, Patch)]


@given(attempts, st.integers(-50, 3000), gauges)
def test_what_is_kept_fits_and_is_a_beginning(wanted: tuple[Attempt, ...], budget: int, gauge: Gauge) -> None:
    kept = fit_attempts(wanted, budget, gauge)
    assert 1 <= len(kept) <= len(wanted)
    assert kept[1:] == wanted[1 : len(kept)]
    assert wanted[0].problem.startswith(kept[0].problem)
    assert bool(kept[0].problem) == bool(wanted[0].problem)
    if kept[0] != wanted[0]:
        assert len(kept) == 1
        assert kept[0].text == wanted[0].text or "characters are not shown ...]" in kept[0].text
    elif len(kept) < len(wanted):  # one more would not have fitted
        assert fit_attempts(wanted[: len(kept) + 1], budget, gauge) == kept


@given(attempts, st.integers(0, 3000), st.integers(0, 500), gauges)
def test_more_room_shows_no_less(wanted: tuple[Attempt, ...], budget: int, more: int, gauge: Gauge) -> None:
    less, greater = fit_attempts(wanted, budget, gauge), fit_attempts(wanted, budget + more, gauge)
    assert len(less) <= len(greater)
    assert fit_attempts(wanted, 10**6, gauge) == wanted


@given(rounds, st.integers(1, 6), st.text(max_size=5))
def test_random_parents_are_distinct_and_of_the_last_round_with_a_patch(
    of: list[list[str]], most: int, seed: str
) -> None:
    drawn = drawn_of(of)
    parents = random_parents(drawn, most, seed)
    assert parents == random_parents(drawn, most, seed)
    last = next((some for some in reversed(of) if any(some)), None)
    if last is None:  # no patch anywhere: answers, no two of them alike
        answers = {one.answer for one in drawn if one.candidate.round == len(of) - 1}
        assert len(parents) == min(most, len(answers))
        assert len({one.answer for one in parents}) == len(parents)
        assert {one.candidate.round for one in parents} == {len(of) - 1}
    else:
        kinds = set(last) - {""}
        assert set(normals(parents)) <= kinds
        assert len(set(normals(parents))) == len(parents) == min(most, len(kinds))


@given(rounds, st.permutations(["n1", "n2", "n3", "unknown"]), st.integers(1, 4))
def test_the_best_parents_are_the_first_that_there_are(of: list[list[str]], order: list[str], most: int) -> None:
    drawn = drawn_of(of)
    parents = best_parents(drawn, [*order, *order], most)
    assert normals(parents) == [normal for normal in order if normal in distinct(drawn)][:most]
    for one in parents:  # the earliest of its form stands for it
        assert one.candidate.order == min(
            other.candidate.order for other in drawn if other.candidate.outcome == one.candidate.outcome
        )


@given(st.lists(st.integers(), max_size=30), st.text(max_size=5))
def test_a_shuffled_order_loses_nothing_and_comes_again(items: list[int], seed: str) -> None:
    assert sorted(shuffled(items, seed)) == sorted(items)
    assert shuffled(items, seed) == shuffled(items, seed)


def test_a_shuffled_order_is_the_same_everywhere() -> None:
    assert "".join(shuffled("abcdef", "0 1 0")) == "abefcd"
    assert len({shuffled("abcd", str(seed)) for seed in range(400)}) == 24


def test_what_is_shown_of_an_answer_and_its_problem_is_bounded() -> None:
    long = Rejected(Reason.NOT_FOUND, "no\x1b[31m line\n" + "x" * 5000)
    (shown,) = attempts_of([Drawn(Candidate("k", 0, 0, long), "y" * 50_000)])
    assert len(shown.text) < ANSWER_LETTERS + 60
    assert len(shown.problem) == PROBLEM_LETTERS
    assert shown.problem.startswith("search-not-found: no?[31m line?xxx")


def test_a_patch_that_is_no_text_is_shown_escaped() -> None:
    patch = Patch(b"+caf\xe9 \xc3\xa9\n", "n", ("a.py",))
    assert attempts_of([Drawn(Candidate("k", 0, 0, patch), "")]) == (Attempt("+caf\\xe9 é\n"),)
