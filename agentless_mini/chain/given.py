"""The tests that need no model: the user's own failing ones, and those that the issue names.

They are taken as the tree has them before any patch, so that no patch can change what they ask. Whether they fail is
found out in a box (`confirm`); nothing is run before.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from agentless_mini.chain.bench import Bench
from agentless_mini.chain.execute import Refused, run_cases
from agentless_mini.chain.named_tests import named_tests
from agentless_mini.chain.reproduction import described
from agentless_mini.domain import (
    BoxDone,
    Case,
    CaseResult,
    FileKind,
    Harness,
    Issue,
    Origin,
    Outcome,
    Phase,
    PhaseStarted,
    Runner,
    Snapshot,
    SourceFile,
)
from agentless_mini.errors import EnvironmentFailed, UsageError, printable
from agentless_mini.settings.run import GivenSettings, case_id

# These run a file as a whole and know nothing of what is in it.
_OF_WHOLE_FILES = frozenset({Runner.SCRIPT, Runner.COMMAND})
# Of a Python file: classes and a function (a doctest's name is dotted), then what pytest calls the parameters.
_NAME = re.compile(r"[\w.]+(?:::[\w.]+)*(?:\[.*\])?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class NamedCase(Case):
    """A test that the issue names. Nobody asked for it, so nobody is told where it says nothing."""


def given_cases(settings: GivenSettings, snapshot: Snapshot, issue: Issue, harness: Harness) -> tuple[Case, ...]:
    """Return the user's tests, in order, then those that the issue names (`NamedCase`), each once.

    Raises `UsageError` for a path that is no text file of the tree, a name that the runner cannot select, and an empty
    command.
    """
    files = _texts(snapshot)
    own = [_own_case(said, files, harness.runner) for said in settings.tests]
    own += [_command_case(line) for line in settings.commands]
    ids = () if harness.runner in _OF_WHOLE_FILES else named_tests(issue, snapshot)
    named = [NamedCase(id_, Origin.GIVEN, path, files[path].data) for id_ in ids for path in [id_.partition("::")[0]]]
    cases: dict[str, Case] = {}
    for case in (*own, *named):
        cases.setdefault(case.id, case)
    return tuple(cases.values())


def check_given(settings: GivenSettings, snapshot: Snapshot, runner: Runner | None) -> None:
    """Raise `UsageError` as `given_cases` does for the user's tests; without a runner any name may be selected."""
    if settings.tests:
        files = _texts(snapshot)
        for said in settings.tests:
            _own_case(said, files, runner)
    for line in settings.commands:
        _command_case(line)


def _texts(snapshot: Snapshot) -> dict[str, SourceFile]:
    return {file.path: file for file in snapshot.files if file.kind is FileKind.TEXT}


def _own_case(said: str, files: dict[str, SourceFile], runner: Runner | None) -> Case:
    file = said.partition("::")[0]
    path, mark, name = case_id(said).partition("::")
    if path not in files:
        message = (
            f"No text file of the repository is called {printable(file)!r}: give --failing-test PATH or PATH::NAME."
        )
        raise UsageError(message)
    selectable = name and (_NAME.fullmatch(name) or not path.endswith(".py"))
    if mark and (runner in _OF_WHOLE_FILES or not selectable):
        message = (
            f"The test {printable(said)!r} cannot be run by name here: give --failing-test {printable(path)} alone."
        )
        raise UsageError(message)
    return Case(case_id(said), Origin.GIVEN, path, files[path].data)


def _command_case(line: str) -> Case:
    if not line.strip() or "\0" in line:
        raise UsageError("The command of --failing-cmd is empty or not text: give a command line that fails now.")
    return Case(line, Origin.GIVEN, command=line)


async def confirm(cases: Sequence[Case], bench: Bench) -> tuple[tuple[Case, ...], tuple[str, ...]]:
    """Run the cases on the tree as it is; return those that do not pass, and sentences about the user's others.

    Raises `UsageError` where a test that the user gave is not there, `EnvironmentFailed` where none can be run.
    """
    if not cases:
        return (), ()
    bench.watch(PhaseStarted(Phase.REPRODUCTION, 1))
    results = await run_cases(bench, None, cases)
    if isinstance(results, Refused):
        raise EnvironmentFailed(f"The tests cannot be put over the tree ({results.detail}): use --sandbox none.")
    bench.watch(BoxDone(Phase.REPRODUCTION, tuple(result.outcome for result in results)))
    told = list(zip(cases, results, strict=True))
    kept = tuple(_plain(case) for case, result in told if _fails(result))
    notes = [_note(case, result) for case, result in told if not isinstance(case, NamedCase)]
    return kept, tuple(note for note in notes if note)


def _plain(case: Case) -> Case:
    return Case(case.id, case.origin, case.path, case.data, case.command)


def _fails(result: CaseResult) -> bool:
    return result.outcome in {Outcome.FAIL, Outcome.ERROR, Outcome.TIMEOUT}


def _note(case: Case, result: CaseResult) -> str:
    """Return what the user should know of a test of theirs, "" for nothing."""
    name = printable(case.id)
    match result.outcome:
        case Outcome.NOT_COLLECTED:
            raise UsageError(f"There is no test {name!r}: give --failing-test PATH::NAME as pytest writes it.")
        case Outcome.PASS:
            return f"Your test {name} passes already, so it cannot show a repair and was left out."
        case Outcome.SKIP:
            return f"Your test {name} is skipped here: it was left out."
        case Outcome.ERROR:
            why = f" ({described(result.fault)})" if result.fault else ""
            if case.command:
                raise UsageError(f"The command {name!r} cannot be run here{why}: correct --failing-cmd.")
            return f"Your test {name} does not run to its end{why}: if the issue does not say so, give --setup."
        case Outcome.TIMEOUT:
            return f"Your test {name} takes longer than a test may: give it more time if that is not the issue."
        case Outcome.FAIL:
            return ""
