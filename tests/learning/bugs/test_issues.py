"""What an issue says: only what was observed, in one of a few wordings."""

import random

from agentless_mini.learning.bugs.issues import Failure, Report, can_be_shown, write_issue
from agentless_mini.learning.bugs.observations import Observation, Outcome, changed, worth_keeping

FOUR: Outcome = ("returns", "4")
FIVE: Outcome = ("returns", "5")
KEY: Outcome = ("raises", "KeyError", "'a'")


def report(*failures: Failure) -> Report:
    return Report("f", "pkg.mod", failures, (Observation("f(9)", ("returns", "99")),))


def written(*failures: Failure) -> list[tuple[str, str]]:
    return [write_issue(report(*failures), random.Random(seed)) for seed in range(40)]  # noqa: S311 - no secrets


def test_every_wording_has_the_call_and_both_outcomes() -> None:
    for title, text in written(Failure("f(1)", FIVE, FOUR)):
        assert text.startswith(f"{title}\n\n")
        assert "f(1)" in text
        assert "5" in text
        assert "4" in text


def test_there_are_several_wordings_and_each_seed_has_its_own() -> None:
    first, again = written(Failure("f(1)", FIVE, FOUR)), written(Failure("f(1)", FIVE, FOUR))
    assert first == again
    assert len(set(first)) > 6


def test_exceptions_and_calls_without_end_are_told() -> None:
    for title, text in written(Failure("f(1)", KEY, FOUR)):
        assert "KeyError" in title
        assert "KeyError: 'a'" in text
        assert "line" not in text
    for _, text in written(Failure("f(1)", FOUR, KEY)):
        assert "KeyError" in text
    assert all("message" in title for title, _ in written(Failure("f(1)", KEY, ("raises", "KeyError", "'b'"))))
    assert all("IndexError" in text for _, text in written(Failure("f(1)", KEY, ("raises", "IndexError", ""))))
    assert all("f" in text for _, text in written(Failure("f(1)", ("hangs",), FOUR)))
    assert can_be_shown(("hangs",))
    assert not can_be_shown(("unfit",))


def test_a_failure_is_held_back_where_there_are_several() -> None:
    failures = tuple(Failure(f"f({number})", FIVE, FOUR) for number in range(10, 14))
    for _, text in written(*failures):
        assert sum(failure.call in text for failure in failures) < len(failures)


def test_expected_texts_are_tests_that_can_be_run() -> None:
    bodies = [text for _, text in written(Failure("f(1)", FIVE, ("returns", "{'a': (1,)}"))) if "def test_f" in text]
    assert bodies
    assert all("    assert f(1) == {'a': (1,)}\n" in text for text in bodies)
    shown = [text for _, text in written(Failure("f(1)", FIVE, ("returns", "<A b>"))) if "def test_f" in text]
    assert all("    assert repr(f(1)) == '<A b>'\n" in text for text in shown)


def test_observations_are_kept_where_two_runs_agree_and_outcomes_differ() -> None:
    calls = [f"f({number})" for number in range(6)]
    run = [FOUR, FIVE, KEY, FOUR, ("unfit",), FOUR]
    other = [FOUR, FIVE, KEY, FOUR, ("unfit",), FIVE]
    kept = worth_keeping("raise KeyError(a)", calls, (run, other), 24)
    assert [seen.call for seen in kept] == ["f(0)", "f(1)", "f(2)", "f(3)"]
    assert worth_keeping("pass", calls, (run, other), 24) == ()  # what the file does not raise is no intention
    assert worth_keeping("pass", calls, ([FOUR] * 6, [FOUR] * 6), 24) == ()


def test_new_outcomes_come_before_more_of_the_same() -> None:
    calls = [f"f({number})" for number in range(50)]
    run: list[Outcome] = [FOUR] * 40 + [("returns", str(number)) for number in range(10)]
    kept = worth_keeping("", calls, (run, run), 8)
    assert len({seen.outcome for seen in kept}) == 8


def test_what_changed_is_told_with_its_new_outcome() -> None:
    kept = (Observation("f(1)", FOUR), Observation("f(2)", FIVE))
    assert changed(kept, (FOUR, KEY)) == (Observation("f(2)", KEY),)
