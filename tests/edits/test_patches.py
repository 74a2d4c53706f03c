"""The patch of a change: git reads it, it gives the very bytes, and its normal form ignores what is only form."""

import random
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentless_mini.domain import FileChange, FileKind, SourceFile
from agentless_mini.edits import Forms, changed_files, make_patch
from agentless_mini.edits.sources import Difference, differing, partners
from tests.edits.edit_cases import change, git_applied

NAMES = [
    "plain.txt", "a b", " lead", "trail ", 'q"uote', "it's", "new\nline", "tab\there", "back\\slash", "\x01\x7f",
    "\u00fcn\u00ef", "byte\udcff", "a b/c d", "a b/c d ", "x b/x", "\u00e9 \u00e9", "-dash", "a\rb",
    "#", "dev/null", "\U0001f600 x",
]  # fmt: skip


def entries(changes: Sequence[FileChange]) -> dict[str, SourceFile]:
    return {
        item.path: SourceFile(item.path, item.mode, FileKind.TEXT, item.before)
        for item in changes
        if item.before is not None
    }


def check(repository: Path, changes: Sequence[FileChange]) -> None:
    """Let git apply the patch to the files before, and compare with the files after."""
    before = {item.path: item.before for item in changes if item.before is not None}
    expected = {item.path: item.after for item in changes if item.after is not None}
    patch = make_patch(changes, Forms())
    assert git_applied(repository, before, patch.diff) == expected
    assert changed_files(patch, entries(changes)) == tuple(sorted(changes, key=lambda item: item.path))


@pytest.mark.parametrize("name", NAMES)
def test_git_understands_every_name_in_every_form(repository: Path, name: str) -> None:
    kinds = ((None, b"x\n"), (None, b""), (b"x\n", None), (b"", None), (b"x\n", b"y\n"), (b"", b"y"), (b"x\n", b""))
    for before, after in kinds:
        check(repository, [change(name, before, after)])


def test_a_patch_of_several_files_is_sorted_by_path(repository: Path) -> None:
    changes = [change("b", b"1\n", b"2\n"), change("a", None, b""), change("c/d", b"1", None)]
    patch = make_patch(changes, Forms())
    assert patch.paths == ("a", "b", "c/d")
    check(repository, changes)


def test_the_patch_reads_as_git_would_write_it() -> None:
    before = b"".join(b"%d\n" % number for number in range(1, 31))
    after = before.replace(b"\n5\n", b"\nfive\n").replace(b"\n12\n", b"\n").replace(b"30\n", b"30")
    assert make_patch([change("a b.txt", before, after)], Forms()).diff.decode() == (
        "diff --git a/a b.txt b/a b.txt\n"
        "--- a/a b.txt\t\n"
        "+++ b/a b.txt\t\n"
        "@@ -2,14 +2,13 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n 9\n 10\n 11\n-12\n 13\n 14\n 15\n"
        "@@ -27,4 +26,4 @@\n 27\n 28\n 29\n-30\n+30\n\\ No newline at end of file\n"
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"a\r\nb\n", b"a\nb\r\n"),
        (b"\xff\xfe\n", b"\xfe\n"),
        (b"a\nb", b"a\nb\n"),
        (b"a\nb\n", b"a\nb"),
        (b"-- a\n++ b\n", b"++ b\n-- a\n"),
        (b"a\r", b"b\r"),
        (b"x" * 9000 + b"\n\0\n", b"x" * 9000 + b"\n\0\0\n"),
        (b"\n" * 9, b"\n" * 12),
        (b" \t\n", b"\t \n"),
        (b"\\ No newline at end of file", b"\\ No newline at end of file\n"),
    ],
)
def test_git_makes_the_very_bytes(repository: Path, before: bytes, after: bytes) -> None:
    check(repository, [change("f", before, after)])


LINES = st.lists(
    st.sampled_from([b"a", b"b", b"c", b"", b" ", b"\r", b"-", b"+++ x", b"@@", b"\xe9\xff", b"diff --git a/f b/f"]),
    max_size=14,
)


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    return b"\n".join(draw(LINES)) + draw(st.sampled_from([b"", b"\n", b"\r\n"]))


@given(before=st.none() | contents(), after=st.none() | contents(), name=st.sampled_from(NAMES))
@settings(max_examples=150)
def test_git_makes_the_very_bytes_of_any_change(
    repository: Path, before: bytes | None, after: bytes | None, name: str
) -> None:
    if before != after:
        check(repository, [change(name, before, after)])


# --- the alignment ---------------------------------------------------------------------------------------------------


def rebuilt(a: Sequence[str], b: Sequence[str], regions: Sequence[Difference]) -> list[str]:
    lines: list[str] = []
    at = 0
    for region in regions:
        lines += [*a[at : region.a_start], *b[region.b_start : region.b_stop]]
        at = region.a_stop
    return [*lines, *a[at:]]


SHORT = st.lists(st.sampled_from("abcdefgh"), max_size=30)


@given(SHORT, SHORT)
def test_the_regions_turn_one_side_into_the_other_and_never_touch(a: list[str], b: list[str]) -> None:
    regions = differing(a, b)
    assert rebuilt(a, b, regions) == b
    assert all(first.a_stop < second.a_start for first, second in pairwise(regions))
    assert all(a[place] == b[index] for index, place in partners(a, b).items())
    assert len(partners(a, b)) == len(b) - sum(region.b_stop - region.b_start for region in regions)


def test_lines_moved_past_each_other_keep_the_longest_run() -> None:
    assert differing("abcdef", "efabcd") == [Difference(0, 0, 0, 2), Difference(4, 6, 6, 6)]


def test_a_large_file_is_compared_in_no_time() -> None:
    dice = random.Random(7)  # noqa: S311 - not for secrets
    before = [dice.choice(["", "    return x\n", f"line {number}\n"]) or "\n" for number in range(20_000)]
    after = [*before[:10], "new\n", *before[10:9_000], *before[9_010:19_990], "new\n"]
    scrambled = [dice.choice(before) for _ in before]
    begun = time.process_time()
    assert len(differing(before, after)) == 3
    assert rebuilt(before, scrambled, differing(before, scrambled)) == scrambled
    assert differing(["a\n", "b\n"] * 10_000, ["b\n", "a\n", "a\n"] * 7_000)
    assert time.process_time() - begun < 3


def test_small_files_without_unique_lines_are_compared_by_difflib() -> None:
    assert differing("xxyy", "yyxx") == [Difference(0, 0, 0, 2), Difference(2, 4, 4, 4)]


@pytest.mark.parametrize(
    ("made_of", "there"),
    [
        (change("a", b"1\n2\n", b"1\n3\n"), b"1\n4\n"),
        (change("a", b"1\n2\n", b"1\n3\n"), b"1\n"),
        (change("a", b"1\n2\n", b"1\n3\n"), None),
        (change("a", b"1\n", None), b"2\n"),
        (change("a", None, b"1\n"), b"1\n"),
    ],
)
def test_a_patch_of_another_tree_changes_nothing_in_silence(made_of: FileChange, there: bytes | None) -> None:
    patch = make_patch([made_of], Forms())
    with pytest.raises(ValueError, match="of another tree"):
        changed_files(patch, entries([change("a", there, None)]))


def test_a_patch_says_which_file_is_there_against_it_or_not() -> None:
    changed, created = (make_patch([change("a", before, b"1\n")], Forms()) for before in (b"2\n", None))
    with pytest.raises(ValueError, match="a is not there"):
        changed_files(changed, {})
    with pytest.raises(ValueError, match="a is there"):
        changed_files(created, entries([change("a", b"2\n", None)]))


def test_a_patch_names_each_file_that_it_changes() -> None:
    patch = make_patch([change(name, b"1\n", b"2\n") for name in ("a", "b")], Forms())
    with pytest.raises(ValueError, match="longer"):
        changed_files(replace(patch, paths=("a",)), entries([change("a", b"1\n", None)]))
