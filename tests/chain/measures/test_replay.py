"""Parts of a run, ranked again: they choose what `rank` chooses of a run that has no more."""

import time
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.chain.measures import Replay, choices, curves
from agentless_mini.chain.rank import rank
from agentless_mini.domain import (
    Candidate,
    Case,
    CaseResult,
    Execution,
    GeneratedCase,
    Localization,
    Method,
    Origin,
    Outcome,
    Patch,
    Prediction,
    Verdict,
)
from tests.chain.voting import BAD, samples, vote

OLD = Case("old", Origin.REGRESSION)


def generated(*writers: int | None) -> tuple[GeneratedCase, ...]:
    """Return what became of each test sample: it wrote the test of this number, or none that counts."""
    cases = [BAD if test is None else Case(f"test_{test}.py", Origin.GENERATED) for test in writers]
    return tuple(GeneratedCase("key", at, at, case) for at, case in enumerate(cases))


def execution(cases: Sequence[Case], passing: dict[str, set[int] | None]) -> Execution:
    """Return verdicts: the places of the cases that pass with each patch; None for one that was refused."""
    verdicts = []
    for normal, places in passing.items():
        results = tuple(
            CaseResult(case.id, Outcome.PASS if at in (places or ()) else Outcome.FAIL) for at, case in enumerate(cases)
        )
        verdicts.append(Verdict(normal, () if places is None else results, "no" if places is None else ""))
    return Execution(tuple(cases), (), tuple(verdicts))


def ended(
    candidates: Sequence[Candidate], drafts: Sequence[GeneratedCase] = (), ran: Execution | None = None
) -> Prediction:
    """Return a run that came to its end."""
    return Prediction(Localization((), ()), tuple(candidates), None, generated=tuple(drafts), execution=ran)


def part(replayed: Prediction, n: int, t: int) -> tuple[tuple[Candidate, ...], Execution | None]:
    """Return the sub-run as data, built the plain way: what `Replay` must choose as if it were given this."""
    some, whole = tuple(one for one in replayed.candidates if one.order < n), replayed.execution
    if whole is None:
        return some, None
    early = {one.outcome.id for one in replayed.generated if one.order < t and isinstance(one.outcome, Case)}
    places = [at for at, case in enumerate(whole.cases) if case.origin is not Origin.GENERATED or case.id in early]
    verdicts = tuple(
        replace(one, results=tuple(one.results[at] for at in places if at < len(one.results))) for one in whole.verdicts
    )
    return some, Execution(tuple(whole.cases[at] for at in places), (), verdicts)


def spared(whole: Execution, given: int) -> Execution:
    """Return what was run where patches that fail the given test, which comes first, are spared the other tests."""
    verdicts = tuple(
        replace(one, results=one.results[:given])
        if any(r.outcome is Outcome.FAIL for r in one.results[:given])
        else one
        for one in whole.verdicts
    )
    return replace(whole, verdicts=verdicts)


@st.composite
def predictions(draw: st.DrawFn) -> Prediction:
    candidates = samples(draw(st.text("abcd.", max_size=12)))
    drafts = generated(*draw(st.lists(st.none() | st.integers(0, 3), max_size=8)))
    kept = dict.fromkeys(one.outcome for one in drafts if isinstance(one.outcome, Case))
    given_cases = [Case(f"given_{at}.py", Origin.GIVEN) for at in range(draw(st.integers(0, 1)))]
    old = [Case(f"old_{at}.py", Origin.REGRESSION) for at in range(draw(st.integers(0, 3)))]
    cases = [*given_cases, *kept, *old]
    normals = sorted({one.outcome.normal for one in candidates if isinstance(one.outcome, Patch)})
    judged = [normal for normal in normals if draw(st.integers(0, 9))]
    places = st.sets(st.sampled_from(range(len(cases)))) if cases else st.just(set[int]())
    passing = {normal: draw(places) if draw(st.integers(0, 9)) else None for normal in judged}
    ran = execution(cases, passing) if draw(st.booleans()) else None
    if ran and draw(st.booleans()):
        ran = spared(ran, len(given_cases))
    return ended(candidates, drafts, ran)


@given(predictions(), st.sampled_from(Method), st.integers(0, 13), st.integers(0, 9))
def test_a_part_of_a_run_chooses_what_rank_chooses_of_that_part(
    whole: Prediction, method: Method, n: int, t: int
) -> None:
    expected = rank(*part(whole, n, t), method)
    chosen = Replay(whole).choice(n, t, method)
    assert (chosen.diff if chosen else None) == (expected.patch.diff if expected else None)


def test_patches_that_were_spared_most_tests_are_no_witnesses_in_a_part_either() -> None:
    cases = [Case("mine", Origin.GIVEN), *(Case(f"test_{at}.py", Origin.GENERATED) for at in range(3)), OLD]
    ran = spared(execution(cases, {"a": {0, 2, 3}, "b": set(), "c": {0, 3, 4}, "d": set(), "e": {0, 2, 3, 4}}), 1)
    whole = ended(samples("bcbcbdaaecc"), generated(0, 1, 2), ran)
    expected = rank(whole.candidates, ran)
    assert expected is not None
    assert Replay(whole).choice(11, 3, Method.PROBABILITY) == expected.patch


@given(predictions(), st.sampled_from(Method))
def test_the_last_point_of_each_curve_is_the_choice_of_the_whole(whole: Prediction, method: Method) -> None:
    drawn = curves(Replay(whole), method)
    expected = rank(whole.candidates, whole.execution, method)
    for curve, number in ((drawn.samples, len(whole.candidates)), (drawn.tests, len(whole.generated))):
        assert curve[-1] == (number, expected.patch if expected else None)
    by_vote = rank(whole.candidates, whole.execution, Method.VOTE)
    assert drawn.votes[-1][1] == (by_vote.patch if by_vote else None)


@given(predictions(), st.sampled_from(Method))
def test_what_is_to_be_graded_is_each_choice_once_and_the_whole_runs_first(whole: Prediction, method: Method) -> None:
    drawn = curves(Replay(whole), method)
    asked = choices(drawn)
    points = [patch for curve in (drawn.samples, drawn.tests, drawn.votes) for _, patch in curve if patch]
    assert len(asked) == len({patch.normal for patch in asked})
    assert set(asked) == set(points)
    expected = rank(whole.candidates, whole.execution, method)
    assert (asked[0] if asked else None) == (expected.patch if expected else None)
    orders = {one.outcome.normal: one.order for one in reversed(whole.candidates) if isinstance(one.outcome, Patch)}
    assert all(patch.diff == f"{patch.normal}{orders[patch.normal]}".encode() for patch in asked)


def test_a_test_counts_from_the_first_sample_that_wrote_it() -> None:
    drafts = generated(None, 7, 3, 7)
    cases = [Case("test_7.py", Origin.GENERATED), Case("test_3.py", Origin.GENERATED)]
    replay = Replay(ended(samples("aab"), drafts, execution(cases, {"a": set(), "b": {0}})))
    assert [getattr(replay.choice(3, t, Method.AGREEMENT), "normal", None) for t in (0, 1, 2, 3)] == list("aabb")


def test_without_an_execution_the_curve_is_that_of_the_vote() -> None:
    whole = samples("abb.ba")
    drawn = curves(Replay(ended(whole[::-1])), Method.AGREEMENT)
    for n, patch in drawn.samples:
        voted = vote(whole[:n])
        assert voted is not None
        assert patch == voted.patch
    assert drawn.tests == ((0, drawn.samples[-1][1]),)


def test_nothing_drawn_is_nothing_chosen() -> None:
    drawn = curves(Replay(ended(())), Method.AGREEMENT)
    assert (drawn.samples, drawn.tests, choices(drawn)) == (((0, None),), ((0, None),), ())


def large(seed: int, n: int, tests: int, old: int) -> Prediction:
    rng = Random(seed)  # noqa: S311 - drawn again alike, not for secrets
    normals = [f"{int(rng.paretovariate(0.5)):x}" for _ in range(n)]
    candidates = tuple(Candidate("k", at, at, Patch(b"d", normal, ())) for at, normal in enumerate(normals))
    drafts = generated(*range(tests))
    cases = [
        *(one.outcome for one in drafts if isinstance(one.outcome, Case)),
        *(Case(f"o{at}", Origin.REGRESSION) for at in range(old)),
    ]
    every = range(len(cases))
    verdicts = execution(
        cases, {normal: {at for at in every if rng.random() < 0.7} for normal in dict.fromkeys(normals)}
    )
    return Prediction(Localization((), ()), candidates, None, generated=drafts, execution=verdicts)


def test_500_samples_on_130_tests_are_replayed_in_seconds() -> None:
    whole = large(1, 500, 30, 100)
    started = time.process_time()
    curves(Replay(whole), Method.AGREEMENT)
    assert time.process_time() - started < 0.5
