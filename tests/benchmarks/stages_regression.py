"""The repository's own tests: does what is run first hold those of the fix, and does the style example lie beside them?

The files that the true fix changes stand for those that the patches touch. The answer are the test files that the fix
changes too and that hold tests; an issue without any counts for neither 8 nor 16. No patch is there yet when the style
example is chosen: it goes by the ranking.
"""

from agentless_mini.chain.generated_tests import first_with_tests, style_examples
from agentless_mini.chain.lexical import survey
from agentless_mini.chain.related_tests import related_tests, test_files
from agentless_mini.domain import Runner
from agentless_mini.testing import harness_of
from tests.benchmarks.stages import Fix, Measures

FIRST = (8, 16)


def measure(fix: Fix) -> Measures:
    """Return whether all tests of the fix are among the first related ones, and whether the example is beside one."""
    held, snapshot = fix.snapshot.by_path(), fix.snapshot
    related = related_tests(snapshot, frozenset(fix.files), fix.issue)
    wanted = {file.path for file in test_files(snapshot, Runner.PYTEST)} & set(fix.tests)
    runner = harness_of(snapshot).runner
    likely = style_examples(fix.issue, snapshot, survey(fix.issue, snapshot), runner)
    example = first_with_tests([held[path] for path in likely], runner)
    folders = {path.rpartition("/")[0] for path in tests_of(fix)}
    found = {f"regression @{most}": float(wanted <= set(related[:most])) if wanted else None for most in FIRST}
    return {**found, "style folder": float(example is not None and example.path.rpartition("/")[0] in folders)}


def tests_of(fix: Fix) -> list[str]:
    """Return what the fix's tests change, new files as well."""
    lines = str(fix.row.row["test_patch"]).split("\n")
    return [line.removeprefix("+++ b/").strip() for line in lines if line.startswith("+++ b/")]
