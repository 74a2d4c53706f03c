"""The tests that need no model: the user's own failing ones, and those that the issue names.

They are taken as the tree has them, so that no patch can change what they ask. Whether they fail is found out in a box
(`reproduce.confirm`). Those that the issue names are hints: they count as generated ones do. In an issue
`path/to/test_a.py::Class::test_b` is found where the file has such a definition; a bare `test_b` only where exactly one
test file of the tree defines it, once.
"""

import ast
import re
from collections.abc import Iterator, Sequence

from agentless_mini.chain.file_roles import is_sayable, is_test_file
from agentless_mini.chain.lexical import PathIndex
from agentless_mini.domain import Case, FileKind, GivenTests, Issue, Origin, Runner, Snapshot, SourceFile, case_id
from agentless_mini.edits.sources import parse_python
from agentless_mini.errors import UsageError, printable

ANYWAY = "Use --require any to go on without it"
"""What is told where a test of the user's says nothing, and a patch must pass it."""
# An issue that quotes the log of a broken build names hundreds; they are no reproduction of one fault.
MOST_NAMED = 10
_SHORTEST_NAME = 8  # "test_one" is a name; "test" and "test_a" are words of examples

# Of a Python file: classes and a function (a doctest's name is dotted), then what pytest calls the parameters.
_SELECTABLE = re.compile(r"[\w.]+(?:::[\w.]+)*(?:\[.*\])?", re.DOTALL)
_NODE_ID = re.compile(r"([\w.\-/\\]{1,300}\.py)((?:::\w{1,100}){1,5})(\[[^\]\n]{1,200}\])?")
_NAME = re.compile(r"(?<!\w)test[_A-Z]\w{1,100}(?!\w|/|\.py)")


def own_cases(given: GivenTests, snapshot: Snapshot, runner: Runner | None) -> tuple[Case, ...]:
    """Return the user's tests, in order, each once; without a runner any name may be selected.

    Raises `UsageError` for what is no text file of the tree, no name that the runner can select, or an empty command.
    """
    files = {file.path: file for file in snapshot.files if file.kind is FileKind.TEXT} if given.tests else {}
    cases: dict[str, Case] = {}
    for said in given.tests:
        path, mark, name = case_id(said).partition("::")
        if path not in files:
            file = printable(said.partition("::")[0])
            raise UsageError(
                f"No text file of the repository is called {file!r}: give --failing-test PATH or PATH::NAME."
            )
        selectable = name and (_SELECTABLE.fullmatch(name) or not path.endswith(".py"))
        if mark and (runner is Runner.COMMAND or not selectable):
            raise UsageError(
                f"The test {printable(said)!r} cannot be run by name here: give --failing-test {printable(path)} alone."
            )
        cases.setdefault(case_id(said), Case(case_id(said), Origin.GIVEN, path, files[path].data))
    for line in given.commands:
        if not line.strip() or "\0" in line:
            raise UsageError("The command of --failing-cmd is empty or not text: give a command line that fails now.")
        cases.setdefault(line, Case(line, Origin.GIVEN, command=line))
    return tuple(cases.values())


def named_cases(issue: Issue, snapshot: Snapshot, runner: Runner) -> tuple[Case, ...]:
    """Return the tests that the issue names, those with a path first, in order of mention; none where there are many.

    There is none for a runner of another language, or that knows nothing of what is in a file.
    """
    if not runner.is_python:
        return ()
    files = {
        file.path: file
        for file in snapshot.files
        if file.kind is FileKind.TEXT and file.path.endswith(".py") and is_test_file(file) and is_sayable(file.path)
    }
    index, ids = PathIndex(files), dict[str, str]()
    for said, way, parameters in _NODE_ID.findall(issue.text):
        path = index.find(said)
        if path is not None and way in _ways(files[path].data):
            ids[f"{path}{way}{parameters}"] = path
    known = {id_.partition("[")[0].rpartition("::")[2] for id_ in ids}
    bare = [name for name in dict.fromkeys(_NAME.findall(issue.text)) if len(name) >= _SHORTEST_NAME]
    if unknown := [name for name in bare if name not in known]:
        ids |= _alone(unknown, tuple(files.values()))
    if len(ids) > MOST_NAMED:
        return ()
    return tuple(Case(id_, Origin.GENERATED, path, files[path].data) for id_, path in ids.items())


def _alone(names: Sequence[str], files: Sequence[SourceFile]) -> dict[str, str]:
    """Return the ids of names that are defined once in all test files, with the paths of these."""
    any_name = re.compile(rf"\b(?:{'|'.join(re.escape(name) for name in names)})\b".encode())
    defined = [(file.path + way, file.path) for file in files if any_name.search(file.data) for way in _ways(file.data)]
    homes = [[pair for pair in defined if pair[0].endswith(f"::{name}")] for name in names]
    return dict(found[0] for found in homes if len(found) == 1)


def _ways(data: bytes) -> list[str]:
    """Return the way to each test function in a file, `::Class::method`, in order; none where it does not parse."""

    def definitions(body: Sequence[ast.stmt], way: str) -> Iterator[str]:
        for node in body:
            match node:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    yield f"{way}::{name}"
                case ast.ClassDef(name=name, body=inner):
                    yield from definitions(inner, f"{way}::{name}")
                case _:
                    pass

    try:
        return list(definitions(parse_python(data).body, ""))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
