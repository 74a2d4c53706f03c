"""The tests of a tree that an issue names, told from both without a model and without running anything.

`path/to/test_a.py::Class::test_b` is found where the file has such a definition; a bare `test_b` only where exactly one
test file of the tree defines it, once.
"""

import ast
import re
from collections.abc import Iterator, Sequence

from agentless_mini.chain.lexical import PathIndex, is_sayable, is_test_file
from agentless_mini.domain import FileKind, Issue, Snapshot, SourceFile
from agentless_mini.edits.sources import parse_python

# An issue that quotes the log of a broken build names hundreds; they are no reproduction of one fault.
MOST_NAMED = 10
_SHORTEST_NAME = 8  # "test_one" is a name; "test" and "test_a" are words of examples

_NODE_ID = re.compile(r"([\w.\-/\\]{1,300}\.py)((?:::\w{1,100}){1,5})(\[[^\]\n]{1,200}\])?")
_NAME = re.compile(r"(?<!\w)test[_A-Z]\w{1,100}(?!\w|/|\.py)")


def named_tests(issue: Issue, snapshot: Snapshot) -> tuple[str, ...]:
    """Return the ids of the tests, those with a path first, in order of mention; none where they are too many."""
    files = {file.path: file for file in snapshot.files if _may_be(file)}
    by_id = list(_with_paths(issue, files))
    said = {id_.partition("[")[0].rpartition("::")[2] for id_ in by_id}
    names = [name for name in dict.fromkeys(_NAME.findall(issue.text)) if len(name) >= _SHORTEST_NAME]
    found = dict.fromkeys([*by_id, *_alone([name for name in names if name not in said], tuple(files.values()))])
    return tuple(found) if len(found) <= MOST_NAMED else ()


def _may_be(file: SourceFile) -> bool:
    return file.kind is FileKind.TEXT and file.path.endswith(".py") and is_test_file(file) and is_sayable(file.path)


def _with_paths(issue: Issue, files: dict[str, SourceFile]) -> Iterator[str]:
    index = PathIndex(files)
    for said, way, parameters in _NODE_ID.findall(issue.text):
        path = index.find(said)
        if path is not None and way in _ways(files[path].data):
            yield f"{path}{way}{parameters}"


def _alone(names: Sequence[str], files: Sequence[SourceFile]) -> Iterator[str]:
    """Yield the ids of names that are defined once in all test files."""
    if not names:
        return
    any_name = re.compile(rf"\b(?:{'|'.join(re.escape(name) for name in names)})\b".encode())
    ids = [
        file.path + way
        for file in files
        if any_name.search(file.data)
        for way in _ways(file.data)
        if way.rpartition("::")[2] in names
    ]
    for name in names:
        homes = [id_ for id_ in ids if id_.endswith(f"::{name}")]
        if len(homes) == 1:
            yield homes[0]


def _ways(data: bytes) -> list[str]:
    """Return the way to each test function in a file, `::Class::method`, in order; none where it does not parse."""
    try:
        tree = parse_python(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return list(_definitions(tree.body, ""))


def _definitions(body: Sequence[ast.stmt], way: str) -> Iterator[str]:
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield f"{way}::{name}"
            case ast.ClassDef(name=name, body=inner):
                yield from _definitions(inner, f"{way}::{name}")
            case _:
                pass
