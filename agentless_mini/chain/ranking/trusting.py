"""What the chosen patch has shown, and whether that is enough to print it: a pure function of its votes and tests.

`tests` and `given` are each enough for `agreement`. Neither is enough for the other: tests of the user's own say
nothing of what a patch breaks, and those of a model say less than the user's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from agentless_mini.domain import Execution, Level, Origin
from agentless_mini.errors import printable

UNTESTED = "The vote alone chooses the patch."
"""The beginning of the note that says why no test was run."""
DOUBTFUL = 4
"""Without a test that reproduces the issue, a patch that less than one in so many votes agree on is not trusted."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The chosen patch by its normal form, with `votes` of all `valid` ones."""

    normal: str
    votes: int
    valid: int


@dataclass(frozen=True, slots=True)
class Trust:
    """What a patch lacks for each level, as a clause for people; "" where it lacks nothing.

    What it lacks for `any` is what speaks against it: that keeps no patch from being printed where any will do.
    """

    any: str
    agreement: str
    tests: str
    given: str

    def lacks(self, level: Level) -> str:
        """Return what the patch lacks for a level."""
        return {
            Level.ANY: self.any,
            Level.AGREEMENT: self.agreement,
            Level.TESTS: self.tests,
            Level.GIVEN: self.given,
        }[level]

    def suffices(self, level: Level) -> bool:
        """Return whether the patch has shown enough to be printed."""
        return level is Level.ANY or not self.lacks(level)


def trust(chosen: Chosen, execution: Execution | None, own: Sequence[str] = (), notes: Sequence[str] = ()) -> Trust:
    """Return what a patch has shown. `own` are the ids of the user's failing tests.

    `notes` are those of the run: they say why one of `own` was not run, or tells nothing.
    """
    found = next((one for one in execution.verdicts if one.normal == chosen.normal), None) if execution else None
    passing = found.passed() if found else frozenset()
    results = {origin: dict[str, bool]() for origin in Origin}
    for case in execution.cases if execution and found else ():
        results[case.origin][case.id] = case.id in passing
    given, kept = results[Origin.GIVEN], list(results[Origin.REGRESSION].values())
    fixed = [*given.values(), *results[Origin.GENERATED].values()]

    doubt = _doubt(chosen, fixed, kept, is_refused=bool(found and found.refusal))
    of_own = _own(given, own, notes)
    of_tests = doubt or _tests(list(given.values()), fixed, kept)
    divided = chosen.votes < 2 or 2 * chosen.votes <= chosen.valid
    of_votes = doubt or (_share(chosen) if divided and of_tests and of_own else "")
    return Trust(doubt or (of_own if own else ""), of_votes, of_tests, of_own)


def _doubt(chosen: Chosen, fixed: Sequence[bool], kept: Sequence[bool], *, is_refused: bool) -> str:
    if is_refused:
        return "it cannot be put over the tree that the tests run on"
    if fixed:
        return "" if any(fixed) else f"it passes none of {_counted(fixed, 'reproduction')}"
    if kept and not any(kept):
        return f"it passes none of {_counted(kept, 'regression')}"
    if DOUBTFUL * chosen.votes < chosen.valid:
        return f"no test shows that it repairs the issue, and {_share(chosen)}"
    return ""


def _tests(given: Sequence[bool], fixed: Sequence[bool], kept: Sequence[bool]) -> str:
    if not fixed:
        return "no test that was run reproduces the issue"
    if not all(given):
        return f"it passes {sum(given)} of {_counted(given, 'given')}"
    if 2 * sum(fixed) <= len(fixed):
        return f"it passes {sum(fixed)} of {_counted(fixed, 'reproduction')}"
    return "" if all(kept) else f"it breaks {len(kept) - sum(kept)} of {_counted(kept, 'regression')}"


def _own(given: dict[str, bool], own: Sequence[str], notes: Sequence[str]) -> str:
    if not own:
        return "no failing test was given"
    silent, failing = (
        ", ".join(printable(test) for test in own if given.get(test) is state) for state in (None, False)
    )
    if silent:
        telling = [note for note in notes if note.startswith(UNTESTED) or any(printable(test) in note for test in own)]
        why = f" ({' '.join(telling)})" if telling else ""
        return f"your test {silent} shows nothing{why}"
    return f"your test {failing} does not pass with it" if failing else ""


def _share(chosen: Chosen) -> str:
    verb = "has" if chosen.votes == 1 else "agree on"
    return f"{chosen.votes} of {chosen.valid} valid samples {verb} it"


def _counted(tests: Sequence[bool], kind: str) -> str:
    return f"{len(tests)} {kind} test{'s' * (len(tests) != 1)}"
