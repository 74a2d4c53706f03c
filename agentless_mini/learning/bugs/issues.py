"""The text of an issue, from what was observed: the call, what comes of it, and what should. It names no row.

The wording is drawn by a seed from a few kinds of reports: a sentence, a session, a failing test, a report in sections.
"""

import ast
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agentless_mini.learning.bugs.harvest import is_literal
from agentless_mini.learning.bugs.observations import Observation, Outcome

_SHOWN = 3
_TITLES = {
    "wrong": (
        "`{name}` returns a wrong result",
        "Wrong result from `{name}`",
        "`{name}` gives `{got}` instead of `{wanted}`",
    ),
    "raises": ("`{name}` raises {got}", "{got} in `{name}`", "`{name}` fails with {got} on valid input"),
    "silent": ("`{name}` does not raise {wanted}", "Missing {wanted} in `{name}`", "`{name}` accepts invalid input"),
    "other": ("`{name}` raises {got} instead of {wanted}", "Wrong exception from `{name}`"),
    "words": ("Wrong message of {got} in `{name}`", "`{name}` raises {got} with a wrong message"),
    "hangs": ("`{name}` does not end", "`{name}` hangs", "Endless loop in `{name}`"),
}
_LONGEST_TITLE = 90


@dataclass(frozen=True, slots=True)
class Failure:
    """A call, what comes of it, and what should."""

    call: str
    got: Outcome
    wanted: Outcome


@dataclass(frozen=True, slots=True)
class Report:
    """What an issue tells: of a function by the name people know it by, in the module that they import."""

    name: str
    module: str
    failures: tuple[Failure, ...]
    passing: tuple[Observation, ...]


def can_be_shown(outcome: Outcome) -> bool:
    """Tell whether an issue can say what came of a call."""
    return outcome[0] in {"returns", "raises", "hangs"}


def write_issue(report: Report, rng: random.Random) -> tuple[str, str]:
    """Return the title of an issue, and its text, which begins with the title."""
    failures = _drawn(report.failures, rng)
    title = _title(report.name, failures[0], rng)
    write = rng.choice((_in_sentences, _as_session, _as_test, _in_sections))
    body = write(report, failures)
    fine = [
        seen for seen in report.passing if seen.outcome[0] == "returns" and len(seen.call) + len(seen.outcome[1]) < 80
    ]
    if fine and rng.random() < 0.4:
        seen = rng.choice(fine)
        body += f"\n\n`{seen.call}` still returns `{seen.outcome[1]}`, as it should."
    return title, f"{title}\n\n{body}\n"


def _drawn(failures: Sequence[Failure], rng: random.Random) -> tuple[Failure, ...]:
    """Return one to three of the shortest failures: at least one is held back where there are several."""
    shortest = sorted(failures, key=lambda failure: (len(failure.call) + sum(map(len, failure.got)), failure.call))
    most = min(_SHOWN, max(1, len(shortest) - 1))
    return tuple(rng.sample(shortest[: 2 * most], rng.randint(1, most)))


def _title(name: str, failure: Failure, rng: random.Random) -> str:
    got, wanted = (outcome[1] if len(outcome) > 1 else "" for outcome in (failure.got, failure.wanted))
    titles = [form.format(name=name, got=got, wanted=wanted) for form in _TITLES[_sort(failure)]]
    return rng.choice([title for title in titles if len(title) <= _LONGEST_TITLE] or titles[:1])


def _sort(failure: Failure) -> str:
    if failure.got[0] == "hangs":
        return "hangs"
    if failure.got[0] == "returns":
        return "wrong" if failure.wanted[0] == "returns" else "silent"
    if failure.wanted[0] == "returns":
        return "raises"
    return "words" if failure.wanted[1] == failure.got[1] else "other"


def _in_sentences(report: Report, failures: Sequence[Failure]) -> str:
    lines = [f"`{failure.call}` {_does(failure.got)}, but it {_should(failure.wanted)}." for failure in failures]
    return "\n".join(lines)


def _as_session(report: Report, failures: Sequence[Failure]) -> str:
    said = "".join(f">>> {failure.call}\n{_printed(failure.got)}" for failure in failures)
    expected = "\n".join(f"`{failure.call}` {_should(failure.wanted)}." for failure in failures)
    return f"```\n>>> from {report.module} import {_imported(report)}\n{said}```\n\n{expected}"


def _as_test(report: Report, failures: Sequence[Failure]) -> str:
    lines = "\n".join(_assertion(failure) for failure in failures)
    got = f"The first one: the call {_does(failures[0].got)}."
    imports = "import pytest\n" if any(failure.wanted[0] == "raises" for failure in failures) else ""
    named = report.name.replace(".", "_").lower().strip("_")
    test = f"{imports}from {report.module} import {_imported(report)}\n\n\ndef test_{named}():\n{lines}"
    return f"This test should pass, and fails:\n\n```python\n{test}\n```\n\n{got}"


def _in_sections(report: Report, failures: Sequence[Failure]) -> str:
    calls = "\n".join(failure.call for failure in failures)
    actual = "\n".join(f"- `{failure.call}` {_does(failure.got)}" for failure in failures)
    expected = "\n".join(f"- `{failure.call}` {_should(failure.wanted)}" for failure in failures)
    code = f"```python\nfrom {report.module} import {_imported(report)}\n\n{calls}\n```"
    return f"**To reproduce**\n\n{code}\n\n**Expected**\n\n{expected}\n\n**Actual**\n\n{actual}"


def _imported(report: Report) -> str:
    return report.name.partition(".")[0]


def _does(outcome: Outcome) -> str:
    match outcome:
        case ("returns", text):
            return f"returns `{text}`"
        case ("raises", kind, words):
            return f"raises `{kind}: {words}`" if words else f"raises `{kind}`"
        case _:
            return "does not come back"


def _should(outcome: Outcome) -> str:
    said: Callable[[Outcome], str] = _does
    return f"should {said(outcome).replace('returns', 'return', 1).replace('raises', 'raise', 1)}"


def _printed(outcome: Outcome) -> str:
    match outcome:
        case ("returns", text):
            return f"{text}\n"
        case ("raises", kind, words):
            return f"Traceback (most recent call last):\n  ...\n{kind}{': ' if words else ''}{words}\n"
        case _:
            return "(nothing happens)\n"


def _assertion(failure: Failure) -> str:
    if failure.wanted[0] == "raises":
        return f"    with pytest.raises({failure.wanted[1]}):\n        {failure.call}"
    wanted = failure.wanted[1]
    if _is_literal(wanted):
        is_one = wanted in {"None", "True", "False"}
        return f"    assert {failure.call} {'is' if is_one else '=='} {wanted}"
    return f"    assert repr({failure.call}) == {wanted!r}"


def _is_literal(text: str) -> bool:
    try:
        return is_literal(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
