"""The existing test file that a prompt for a new test shows, and how much of it.

It is chosen without a model: by the files that the issue points at and by the issue's words. One rule cuts it: of a
file that is too long its beginning is shown (imports, fixtures, the first tests), up to the end of a definition.
"""

import ast
from collections.abc import Iterator, Sequence

from agentless_mini.chain.context import OVERHEAD_BYTES, Gauge, Source
from agentless_mini.chain.lexical import Survey, is_sayable, is_test_file, mentions, rank_files, runs_here
from agentless_mini.chain.regression import related_tests
from agentless_mini.chain.written_tests import holds_test
from agentless_mini.domain import Excerpt, FileKind, Issue, Runner, ShownFile, Snapshot, SourceFile
from agentless_mini.edits.sources import parse_python

# On 54 bug fixes of six projects the first choice was a file that the fix changed in 27 (by words alone 26, by relation
# alone 22). With the likeliest three files instead of one it was worse: 14 of 36, not 18.
LIKELY_FILES = 1
# An issue that no test file resembles is not worth parsing thousands of them.
MOST_LOOKED_INTO = 50
_NO_TESTS = frozenset({"conftest.py", "__init__.py", "setup.py"})


def style_examples(issue: Issue, snapshot: Snapshot, found: Survey) -> tuple[str, ...]:
    """Return the paths of the likeliest test files, best first.

    Those that the issue names come before all others, which are ordered by relation and words together.
    """
    tests = {file.path: file for file in snapshot.files if _may_be(file)}
    if not tests:
        return ()
    named = mentions(issue, tuple(tests.values()))
    lexical = rank_files(issue, tuple(tests.values()), named)
    scores = dict.fromkeys(lexical, 0.0)
    related = related_tests(snapshot, frozenset(found.ranked[:LIKELY_FILES]))
    for ranking in (lexical, [path for path in related if path in tests]):
        for place, path in enumerate(ranking, 1):
            scores[path] += 1 / place
    by_score = sorted(scores, key=lambda path: -scores[path])  # sorted() leaves equals as the issue's words have them
    ordered = dict.fromkeys([*named.paths, *by_score])
    return tuple(ordered)[:MOST_LOOKED_INTO]


def first_with_tests(files: Sequence[SourceFile], runner: Runner) -> SourceFile | None:
    """Return the first file in which the runner finds a test, None where there is no such file."""
    fitting = (file for file in files if runner is not Runner.DJANGO or _is_of_an_app(file.path))
    fitting = (file for file in fitting if runs_here(file.path, runner))
    return next((file for file in fitting if holds_test(file.data, runner)), None)


def _is_of_an_app(path: str) -> bool:
    """Tell whether django's own runner finds a new file beside it: at `tests/<app>/`, not at the top of `tests`."""
    return path.startswith("tests/") and path.count("/") > 1


def _may_be(file: SourceFile) -> bool:
    name = file.path.rsplit("/", 1)[-1]
    is_code = file.kind is FileKind.TEXT and name.endswith(".py") and name not in _NO_TESTS
    return is_code and is_test_file(file) and is_sayable(file.path)


def fit_example(source: Source, budget: int, gauge: Gauge) -> ShownFile | None:
    """Show the file, or its beginning, within `budget` tokens; None where not even one definition fits."""
    left = budget - gauge.tokens(source.path + " " * OVERHEAD_BYTES)
    if gauge.tokens(source.text) <= left:
        return ShownFile(source.path, (Excerpt(1, source.text),), whole=True)
    lines = source.text.split("\n")
    fitting = 0
    for end in _ends(source.text):
        left -= gauge.tokens("".join(f"{line}\n" for line in lines[fitting:end]))
        if left < 0:
            break
        fitting = end
    excerpt = Excerpt(1, "".join(f"{line}\n" for line in lines[:fitting]))
    return ShownFile(source.path, (excerpt,), whole=False) if fitting else None


def _ends(text: str) -> list[int]:
    """Return the lines after which it may be cut, ascending: the end of each statement at the top, of each method."""
    try:
        tree = parse_python(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return sorted({node.end_lineno for node in _statements(tree) if node.end_lineno is not None})


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    for node in tree.body:
        yield node
        if isinstance(node, ast.ClassDef):
            yield from node.body
