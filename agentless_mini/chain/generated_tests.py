"""What a generated test needs of neither model nor box: an example of style, its reading, and what its failure says.

What the model says is parsed and never imported or run here, and never chooses a path.
"""

import ast
import hashlib
import itertools
import re
import textwrap
from collections.abc import Iterator, Sequence

from agentless_mini.chain.file_roles import is_sayable, is_test_path, runs_here
from agentless_mini.chain.lexical import Survey, mentions, rank_files
from agentless_mini.chain.related_tests import related_tests, test_files
from agentless_mini.domain import (
    Case,
    CaseResult,
    Completion,
    Fault,
    Finish,
    Issue,
    Origin,
    Outcome,
    Reason,
    Rejected,
    Runner,
    Snapshot,
    SourceFile,
)
from agentless_mini.domain.runners import ROWS
from agentless_mini.edits import KNOWN, Marks, answer_text
from agentless_mini.edits.paths import TakenNames
from agentless_mini.edits.sources import parse_python
from agentless_mini.errors import printable

# --- the existing test file that a prompt shows ----------------------------------------------------------------------

# Of the files that are likeliest to be repaired: no patch is there yet that the tests could be related to.
LIKELY_FILES = 3
# An issue that no test file resembles is not worth parsing thousands of them.
MOST_LOOKED_INTO = 50


def style_examples(issue: Issue, snapshot: Snapshot, found: Survey, runner: Runner) -> tuple[str, ...]:
    """Return the runner's likeliest test files: those that the issue names, then those of likely files."""
    kind = runner if runner in ROWS else Runner.PYTEST
    tests = tuple(file for file in test_files(snapshot, kind) if is_sayable(file.path))
    named, paths = mentions(issue, tests), {file.path for file in tests}
    related = related_tests(snapshot, found.ranked[:LIKELY_FILES], issue, kind)
    ordered = dict.fromkeys((*named.paths, *related, *rank_files(issue, tests, named)))
    return tuple(path for path in ordered if path in paths)[:MOST_LOOKED_INTO]


def first_with_tests(files: Sequence[SourceFile], runner: Runner) -> SourceFile | None:
    """Return the first file in which the runner finds a test, None where there is no such file.

    django's own runner finds a new file beside another at `tests/<app>/`, not at the top of `tests`.
    """
    for file in files:
        in_app = file.path.startswith("tests/") and file.path.count("/") > 1
        here = (runner is not Runner.DJANGO or in_app) and runs_here(file.path, runner)
        if here and (runner in ROWS or holds_test(file.data, runner)):
            return file
    return None


# --- the test in an answer -------------------------------------------------------------------------------------------

PREFIX = "test_amini_"
# So many hex digits of the digest are in the name, more where a file of the tree has it already.
NAME_DIGITS = (10, 20, 64)
# No honest answer has so many fences, the last of which are looked at, or so many ways to pair them.
MOST_FENCES = 64
MOST_TRIES = 64

_FENCE = re.compile(r"(`{3,}|~{3,})[ \t]*+([^`]*)")
_PYTHON_INFO = re.compile(r"(?:(?:python|py)[\d.]*\b.*)?", re.IGNORECASE)
_Definition = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def read_test(
    completion: Completion, folder: str, taken: TakenNames, runner: Runner, marks: Marks = KNOWN, example: str = ""
) -> Case | Rejected:
    """Return the test file that a completion holds, with one vote, or why it holds none.

    It is the last fenced block that parses as Python and holds a test for the runner, or an answer without any fence.
    It is put in `folder` ("" is the top of the tree), by a name that is not taken and made of its normal form: tests
    that differ in comments, docstrings and formatting alone are one test. For a runner of another language the block is
    of that, and the name like that of the path `example`.
    """
    if completion.finish is Finish.LENGTH:
        return Rejected(Reason.TRUNCATED, "the test was cut off by the token limit")
    if completion.finish is Finish.FILTER:
        return Rejected(Reason.WITHHELD, "the server withheld the answer")
    text = answer_text(completion.text, marks)
    if isinstance(text, Rejected):
        return text
    if runner in ROWS:
        return _of_other(text, folder, taken, runner, example)
    problem, has_python = "", False
    for block in itertools.islice(_blocks(text.split("\n")), MOST_TRIES):
        data = block.encode("utf-8", "surrogatepass")  # what is no Unicode does not parse
        tree = _parsed(data)
        if isinstance(tree, str):
            problem = problem or tree
        elif _has_test(tree, runner):
            return _placed(data, tree, folder, taken)
        else:
            has_python = has_python or bool(tree.body)
    if problem and not has_python:
        return Rejected(Reason.SYNTAX, problem)
    return Rejected(Reason.NO_TEST, f"no block of the answer holds a test for {runner.value}")


def _of_other(text: str, folder: str, taken: TakenNames, runner: Runner, example: str) -> Case | Rejected:
    """Return the last block that holds a test for a runner of another language."""
    row = ROWS[runner]
    infos = re.compile(rf"(?:(?:{'|'.join(row.fences)})\b.*)?", re.IGNORECASE)
    found = (block for block in _blocks(text.split("\n"), infos) if re.search(row.holds, block))
    block = next(itertools.islice(found, MOST_TRIES), "")
    if not block:
        return Rejected(Reason.NO_TEST, f"no block of the answer holds a test for {runner.value}")
    digest = hashlib.sha256("".join(block.split()).encode("utf-8", "surrogatepass")).hexdigest()
    found_tail = re.search(r"([._-](?:test|spec)s?)?(\.\w+)$", example)
    tail = f"{found_tail[1] or '.test'}{found_tail[2]}" if found_tail else ".test.js"
    names = (row.new.format(digest=digest[:digits], tail=tail) for digits in NAME_DIGITS)
    name = _free([f"{folder}/{name}".lstrip("/") for name in names], taken)
    if isinstance(name, Rejected):
        return name
    block = re.sub(r"^func (Test\w+)\(", rf"func \1_{digest[: NAME_DIGITS[0]]}(", block, flags=re.MULTILINE)
    if row.new[0].isupper() and (old := re.search(r"\bclass (\w+)", block)):  # a file is called as its class is
        block = re.sub(rf"\b{old[1]}\b", name.rpartition("/")[2].partition(".")[0], block)
    return Case(name, Origin.GENERATED, name, block.encode("utf-8", "surrogatepass"))


def _free(names: Sequence[str], taken: TakenNames) -> str | Rejected:
    """Return the first name that is free, else why that of the first is not."""
    refusals = [taken.refusal(name) for name in names]
    return next((name for name, why in zip(names, refusals, strict=True) if why is None), refusals[0] or "")


def _blocks(lines: list[str], infos: re.Pattern[str] = _PYTHON_INFO) -> Iterator[str]:
    """Yield what may be the blocks of Python, or of what `infos` says, the last first.

    A docstring may hold fences too, so every fence may open a block, and every later one like it may close that: the
    nearest is tried first. One that nothing closes goes on to the end.
    """
    read = enumerate(_FENCE.fullmatch(line.strip(" \t")) for line in lines)
    fences = [(number, match[1], match[2]) for number, match in read if match]
    if not fences and infos is _PYTHON_INFO:
        text = "\n".join(lines) + "\n"
        if not isinstance(_parsed(text.encode("utf-8", "surrogatepass")), str):  # prose is no broken Python
            yield text
    fences = fences[-MOST_FENCES:]
    for place, (first, mark, info) in reversed(list(enumerate(fences))):
        if infos.fullmatch(info):
            closing = [line for line, other, said in fences[place + 1 :] if not said and other.startswith(mark)]
            for end in closing or [len(lines)]:
                if any(line.strip() for line in lines[first + 1 : end]):
                    yield textwrap.dedent("\n".join(lines[first + 1 : end])) + "\n"


def _placed(data: bytes, tree: ast.Module, folder: str, taken: TakenNames) -> Case | Rejected:
    for node in ast.walk(tree):
        if isinstance(node, _Definition) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    try:
        normal = ast.dump(tree).encode("utf-8", "surrogatepass")
    except RecursionError:  # an expression of a thousand terms is valid all the same
        normal = data
    digest = hashlib.sha256(normal).hexdigest()
    name = _free([f"{folder}/{PREFIX}{digest[:digits]}.py".lstrip("/") for digits in NAME_DIGITS], taken)
    return name if isinstance(name, Rejected) else Case(name, Origin.GENERATED, name, data)


def holds_test(data: bytes, runner: Runner) -> bool:
    """Tell whether a Python file defines a test that the runner finds. What does not parse holds none."""
    tree = _parsed(data)
    return not isinstance(tree, str) and _has_test(tree, runner)


def _has_test(tree: ast.Module, runner: Runner) -> bool:
    def is_function(node: ast.AST) -> bool:
        return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test")

    nodes = list(ast.walk(tree))
    if runner is Runner.COMMAND:  # it fails by whatever it does
        return any(isinstance(node, ast.Call | ast.Assert | ast.Raise) for node in nodes)
    if runner is Runner.PYTEST and any(map(is_function, nodes)):
        return True
    # A class with a test method and a base may be a `unittest.TestCase`: the base may be the tree's.
    return any(isinstance(node, ast.ClassDef) and node.bases and any(map(is_function, node.body)) for node in nodes)


def _parsed(code: bytes | str) -> ast.Module | str:
    """Return the syntax tree, or in one line why there is none."""
    try:
        return parse_python(code)
    except SyntaxError as error:
        return f"line {error.lineno or 1}: {error.msg}"
    except (ValueError, RecursionError, MemoryError) as error:
        return f"the parser refuses the test ({type(error).__name__})"


# --- whether its failure shows the issue -----------------------------------------------------------------------------

# It is told from the exception that ended the test, never from what was printed, and it errs: so many tests vote.

# What a test that is wrong itself ends with: these count only where the repository's own code raises them and the
# issue says their name.
_OWN_FAULTS = frozenset(
    {"ImportError", "ModuleNotFoundError", "SyntaxError", "IndentationError", "TabError", "NameError"}
    | {"UnboundLocalError", "CollectError", "ConftestImportFailure", "UsageError", "FixtureLookupError"}
)
# These, raised by the test itself, may as well come of a wrong idea of the repository: only if the issue says so.
_MISUSE = frozenset({"AttributeError", "TypeError"})
_NOT_THERE = frozenset({"FileNotFoundError", "NotADirectoryError", "IsADirectoryError", "PermissionError"})
# A box has no network.
_NO_NETWORK = frozenset(
    {"ConnectionError", "ConnectionRefusedError", "NewConnectionError", "MaxRetryError", "ConnectTimeout", "gaierror"}
    | {"ConnectError", "URLError", "herror", "SSLError", "ProxyError", "NameResolutionError", "ServerNotFoundError"}
)
# What pytest makes a test fail with that says nothing of what it tests.
_OF_PYTEST = re.compile(r"Timeout [(>]|async def functions are not|Fixture \"|fixture '|\[XPASS")
# How an exception says which name it misses.
_MISSING = re.compile(
    r"has no attribute '(\w+)'|unexpected keyword argument '(\w+)'"
    r"|missing \d+ required [\w -]{1,40}arguments?: '(\w+)'|attribute '(\w+)' of|property '(\w+)' of"
)
# The same in other languages, of what is called, imported or compiled.
_LACKS = re.compile(
    r"(\w+) is not (?:a function|defined|a constructor)|undefined: (?:\w+\.)?(\w+)|undefined (?:local variable or )?"
    r"method [`'](\w+)|(?:cannot find|no) [\w, ]{1,40}`(\w+)`|Cannot find (?:module|package) '([^']+)'"
    r"|Call to undefined (?:function|method) ([\w:\\]+)|has no field or method (\w+)|symbol: +\w+ (\w+)"
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
            return Rejected(Reason.OTHER_FAULT, "it takes too long")
        case Outcome.NOT_COLLECTED:
            return Rejected(Reason.OTHER_FAULT, f"{runner.value} finds no test in it")
    if runner is Runner.COMMAND and result.outcome is Outcome.FAIL:
        return runner.value
    fault = result.fault
    if not runner.is_python and runner is not Runner.COMMAND:
        return _symptom_of_other(result.outcome, fault or Fault("", runner.value), issue)
    if fault is None or not fault.kind:
        return Rejected(Reason.OTHER_FAULT, "it does not end by an exception")
    if not fault.path or fault.path == case.path or is_test_path(fault.path):
        is_its_own = result.outcome is Outcome.ERROR or fault.kind in _OWN_FAULTS or _is_misuse(fault, issue)
    else:
        is_its_own = fault.kind in _OWN_FAULTS and not _says(issue, fault.kind)
    is_its_own = is_its_own or (fault.kind in _NO_NETWORK and not _says(issue, fault.kind))
    if is_its_own or _OF_PYTEST.match(fault.message):
        return Rejected(Reason.OTHER_FAULT, described(fault))
    return _signature(fault)


def _symptom_of_other(outcome: Outcome, fault: Fault, issue: Issue) -> str | Rejected:
    """Return what a failure in another language looks like: one for a lack counts only if the issue names that."""
    lacks = [name for names in _LACKS.findall(fault.message) for name in names if name]
    is_its_own = bool(lacks) or outcome is Outcome.ERROR or fault.kind in {*_OWN_FAULTS, "ReferenceError"}
    if is_its_own and not any(_says(issue, name) for name in lacks):
        return Rejected(Reason.OTHER_FAULT, described(fault))
    return _signature(fault)


def _signature(fault: Fault) -> str:
    return printable(f"{fault.kind}: {' '.join(_VARIES.sub('_', fault.message).split())}"[:_MOST_SIGNATURE])


def described(fault: Fault) -> str:
    """Return a fault in one printable line of at most 200 characters."""
    where = f" ({fault.path}:{fault.line})" if fault.path else ""
    first = fault.message.strip().partition("\n")[0][:120]
    kind = f"{fault.kind}: " if fault.kind else ""
    return printable(f"{kind}{first}{where}"[:200])


def _is_misuse(fault: Fault, issue: Issue) -> bool:
    """Tell whether a test does something that the issue does not speak of."""
    if fault.kind not in _MISUSE:
        return fault.kind in _NOT_THERE and not _says(issue, fault.kind)
    names = [name for names in _MISSING.findall(fault.message) for name in names if name]
    if not names and _WRONG_CALL.search(fault.message):
        names = [fault.kind]
    elif not names:
        types = re.findall(r"'(\w+)'", fault.message)
        names = [fault.kind, *types, *(["None"] if "NoneType" in types else [])]
    return not any(_says(issue, name) for name in names)


def _says(issue: Issue, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", issue.text) is not None
