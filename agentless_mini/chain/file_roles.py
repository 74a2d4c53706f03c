"""What the files of a tree are, by their names and what stands in them: code, tests, candidates for a repair."""

import re
from itertools import takewhile

from agentless_mini.domain import FileKind, Runner, Snapshot, SourceFile
from agentless_mini.domain.runners import TESTS

# Documents, data and translations repeat an issue's words without being where the fault is: they are candidates only
# where the issue names them.
CODE_SUFFIX = re.compile(
    r"\.(pyi?|pyx|pxd|c|h|cc|cpp|cxx|hh|hpp|cs|go|java|[cm]?[jt]s|[jt]sx|kt|lua|m|php|pl|r|rb|rs|scala|sh|sql|swift|vue|html"
    r"|jinja|j2|s?css)$",
    re.IGNORECASE,
)
# The words of its name that make a repository a tool for tests, without digits: "nose2" is "nose".
TEST_TOOLS = frozenset(
    {"test", "tests", "testing", "tester", "pytest", "unittest", "doctest", "testtools", "nose", "tox", "nox"}
    | {"hypothesis", "robotframework", "behave", "locust"}
)
_NAME_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")

_DEFINES_TESTS = re.compile(rb"^(?:(?:async[ \t]+)?def[ \t]+test|class[ \t]+\w+\(.*TestCase)", re.MULTILINE)
# Of each language: its files, those that are tests by name, and what stands in one that holds tests.
_LANGUAGES = tuple(
    (re.compile(rf".*\.(?:{suffixes})"), re.compile(names), re.compile(holds.encode(), re.MULTILINE))
    for suffixes, names, holds in (
        ("py", r"test.*\.py|.*_tests?\.py|unittest_.*\.py", r"^[ \t]*(?:async[ \t]+)?def[ \t]+test|TestCase"),
        (
            "[cm]?[jt]sx?",
            r"(?:.*[._-])?(?:tests?|specs?|cy|e2e)(?:-d)?\.[^.]+",
            r"(?<![\w.])(?:describe|it|test|suite|tape|(?:QUnit|Deno)\.\w+)(?:\.\w+)*\s*[(`]",
        ),
        ("go", r".*_test\.go", r"^func (?:Test|Fuzz|Example)"),
        ("rs", r"(?:.*_)?tests?\.rs", r"#\[(?:\w+::)*\w*test"),
        (
            "java|kt|kts|groovy|scala|cs",
            r"Test[A-Z]\w*\..*|\w*(?:Tests?|TestCase|IT|Spec)\..*",
            r"[@\[](?:\w*Test\b|Fact\b|Theory\b)|extends\s+\w*(?:TestCase|Spec|Suite)\b",
        ),
        ("rb", r".*_(?:test|spec)\.rb", r"^\s*(?:(?:RSpec\.)?(?:describe|context|it|specify|test|should)\b|def test_)"),
        (
            "php|phpt",
            r"\w*Test(?:Case)?\.php|.*\.phpt",
            r"function\s+test|@test\b|#\[\w*Test|^\s*(?:it|test)\(|--TEST--",
        ),
        (
            "c|cc|cpp|cxx",
            r"tests?[_-].*|(?:.*[_-])?(?:unit)?tests?\..*|\w*[a-z]Tests?\..*",
            r"\b(?:TEST|SCENARIO|BOOST_\w*TEST)\w*\s*\(|\bmain\s*\(|\btest_\w+\s*\(",
        ),
    )
)
_TEST_FOLDERS = frozenset({"test", "spec", "specs", "Test", "Tests"})


def is_test_path(path: str) -> bool:
    """Tell whether a path is a test by the naming of its language's runners.

    A folder or file `test` of Python counts at the top only: below it may be code for testing, such as `django.test`.
    What such a file defines tells, see `is_test_file`. In other languages a folder `test` or `spec` counts wherever no
    folder of sources is above it; `src/test` is Maven's.
    """
    *folders, name = path.split("/")
    if {"tests", "__tests__", "testdata"}.intersection(folders) or path.startswith("test/"):
        return True
    if path.endswith(".py"):
        named = path == "test.py" or name in {"conftest.py", "tests.py"}
        return named or bool(re.fullmatch(r"test_.*\.py|.*_tests?\.py", name))
    is_named = any(names.fullmatch(name) for files, names, _ in _LANGUAGES if files.fullmatch(name))
    if is_named or "/src/test/" in f"/{path}":
        return True
    outside = takewhile(lambda folder: folder not in {"src", "lib", "main"}, folders)
    return not _TEST_FOLDERS.isdisjoint(outside) and CODE_SUFFIX.search(name) is not None


def holds_tests(file: SourceFile) -> bool:
    """Tell whether a test file holds tests, by its text: a folder of tests has data and scaffolding as well.

    Of Python, whose tools import such files from anywhere, only what is called a test counts.
    """
    name = file.path.rpartition("/")[2]
    return is_test_file(file) and any(
        holds.search(file.data) and (not name.endswith(".py") or names.fullmatch(name))
        for files, names, holds in _LANGUAGES
        if files.fullmatch(name)
    )


def is_test_file(file: SourceFile) -> bool:
    """Tell whether a file is a test by its path, or as a `test.py` of a package by what it defines."""
    defines = file.path.endswith("/test.py") and _DEFINES_TESTS.search(file.data) is not None
    return defines or is_test_path(file.path)


def runs_here(path: str, runner: Runner) -> bool:
    """Tell whether a runner can run a test file in a box without a service of its own; a command may run any.

    Another language's runs its own files. django's runner ends before the first test where one of `gis_tests` is named
    and the database is not a spatial one.
    """
    if runner in TESTS:
        return TESTS[runner].fullmatch(path) is not None
    if runner is Runner.DJANGO and path.startswith("tests/gis_tests/"):
        return False
    return not runner.is_python or path.endswith(".py")


def is_test_tool(snapshot: Snapshot) -> bool:
    """Tell whether the repository is itself a tool for tests, so that its "tests" may be what is to be repaired."""
    name = snapshot.name
    words = {word.lower() for word in _NAME_WORD.findall(name)}.union(re.findall(r"[a-z_]\w+", name.lower(), re.ASCII))
    return not words.isdisjoint(TEST_TOOLS)


def candidate_files(snapshot: Snapshot) -> tuple[SourceFile, ...]:
    """Return the sayable text files without tests, unless all are, or the repository is a tool for tests."""
    texts = tuple(file for file in snapshot.files if file.kind is FileKind.TEXT and is_sayable(file.path))
    if is_test_tool(snapshot):
        return texts
    return tuple(file for file in texts if not is_test_file(file)) or texts


def is_sayable(path: str) -> bool:
    """Tell whether a prompt and an edit can carry the name: no control characters, backslashes or stray bytes."""
    return path.isprintable() and "\\" not in path
