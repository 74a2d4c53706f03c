"""Whether a test that was run on the tree as it is shows the issue, or fails for a reason of its own (section 1.3).

It is told from the exception that ended the test, never from what was printed. It errs: a wrong use of the repository
may look like its fault, which is what the votes and the agreement of many tests are for.
"""

import re

from agentless_mini.chain.lexical import is_test_path
from agentless_mini.domain import Case, CaseResult, Fault, Issue, Outcome, Reason, Rejected, Runner
from agentless_mini.errors import printable

# What a test that is wrong itself ends with: these count only where the repository's own code raises them and the
# issue says their name.
_OWN_FAULTS = frozenset(
    {"ImportError", "ModuleNotFoundError", "SyntaxError", "IndentationError", "TabError", "NameError"}
    | {"UnboundLocalError", "CollectError", "ConftestImportFailure", "UsageError", "FixtureLookupError"}
)
# These, raised by the test itself, may as well come of a wrong idea of the repository: only if the issue says so.
_MISUSE = frozenset({"AttributeError", "TypeError"})
_NOT_THERE = frozenset({"FileNotFoundError", "NotADirectoryError", "IsADirectoryError", "PermissionError"})
# What pytest makes a test fail with that says nothing of what it tests.
_OF_PYTEST = re.compile(r"Timeout [(>]|async def functions are not|Fixture \"|fixture '|\[XPASS")

# How an exception says which name it misses.
_MISSING = re.compile(
    r"has no attribute '(\w+)'|unexpected keyword argument '(\w+)'"
    r"|missing \d+ required [\w -]{1,40}arguments?: '(\w+)'|attribute '(\w+)' of|property '(\w+)' of"
)
_WRONG_CALL = re.compile(r"takes .{0,80}arguments?\b")

_VARIES = re.compile(r"0x[0-9a-fA-F]+|\d+(?:\.\d+)?|'[^']{0,500}'|\"[^\"]{0,500}\"|<[^<>]{0,500}>")
_MOST_SIGNATURE = 300


def symptom(result: CaseResult, case: Case, issue: Issue, runner: Runner) -> str | Rejected:
    """Return what the failure looks like, equal for tests that fail alike, or why it does not show the issue.

    A command says no more than that it failed: any failure of its counts.
    """
    match result.outcome:
        case Outcome.PASS:
            return Rejected(Reason.NOT_REPRODUCED, "it passes while the issue exists")
        case Outcome.SKIP:
            return Rejected(Reason.NOT_REPRODUCED, "it is skipped")
        case Outcome.TIMEOUT:
            return _other("it takes too long")
        case Outcome.NOT_COLLECTED:
            return _other(f"{runner.value} finds no test in it")
    if runner is Runner.COMMAND and result.outcome is Outcome.FAIL:
        return runner.value
    if result.fault is None or not result.fault.kind:
        return _other("it does not end by an exception")
    return _judged(result.fault, result.outcome, case, issue)


def described(fault: Fault) -> str:
    """Return a fault in one printable line of at most 200 characters."""
    where = f" ({fault.path}:{fault.line})" if fault.path else ""
    first = fault.message.strip().partition("\n")[0][:120]
    kind = f"{fault.kind}: " if fault.kind else ""
    return printable(f"{kind}{first}{where}"[:200])


def _judged(fault: Fault, outcome: Outcome, case: Case, issue: Issue) -> str | Rejected:
    in_test = not fault.path or fault.path == case.path or is_test_path(fault.path)
    if in_test:
        is_its_own = outcome is Outcome.ERROR or fault.kind in _OWN_FAULTS or _is_misuse(fault, issue)
    else:
        is_its_own = fault.kind in _OWN_FAULTS and not _says(issue, fault.kind)
    if is_its_own or _OF_PYTEST.match(fault.message):
        return _other(described(fault))
    return printable(f"{fault.kind}: {' '.join(_VARIES.sub('_', fault.message).split())}"[:_MOST_SIGNATURE])


def _is_misuse(fault: Fault, issue: Issue) -> bool:
    """Tell whether a test does something that the issue does not speak of."""
    if fault.kind in _MISUSE:
        missing = [name for names in _MISSING.findall(fault.message) for name in names if name]
        return not any(_says(issue, name) for name in missing or _concerned(fault))
    return fault.kind in _NOT_THERE and not _says(issue, fault.kind)


def _concerned(fault: Fault) -> list[str]:
    """Return the names that an issue about such a fault says: of a wrong number of arguments only the fault's own."""
    if _WRONG_CALL.search(fault.message):
        return [fault.kind]
    types = re.findall(r"'(\w+)'", fault.message)
    return [fault.kind, *types, *(["None"] if "NoneType" in types else [])]


def _says(issue: Issue, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", issue.text) is not None


def _other(detail: str) -> Rejected:
    return Rejected(Reason.OTHER_FAULT, detail)
