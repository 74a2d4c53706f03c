"""What is told by words alone: links, titles of bumps, lock files, licences, benchmarks, splits."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentless_mini.learning.curation.collecting import families_of, split_of
from agentless_mini.learning.curation.filters import (
    BENCHMARKS,
    NAMES,
    Link,
    Step,
    before_the_mirror,
    by_changes,
    closing_links,
    is_benchmark_fork,
    licence_of,
    unreadable,
)
from agentless_mini.learning.curation.history import Changed
from agentless_mini.learning.curation.joined import Pull
from agentless_mini.settings.learning import CurateSettings, Oracle


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("Fixes #12", [("a/b", 12)]),
        ("this closes: #12.", [("a/b", 12)]),
        ("resolved issue #12", [("a/b", 12)]),
        ("FIX GH-12", [("a/b", 12)]),
        ("fixed other/place#3", [("other/place", 3)]),
        ("Closes https://github.com/other/place/issues/3", [("other/place", 3)]),
        ("closes #1, #2 and #3", [("a/b", 1), ("a/b", 2), ("a/b", 3)]),
        ("closes #1\n- fixes #1", [("a/b", 1)]),
        ("see #12", []),
        ("prefixes #12", []),
        ("fixes #12abc", []),
        ("fixes #0", []),
        ("fixes 12", []),
        ("<!-- fixes #12 -->", []),
        ("```\nfixes #12\n```", []),
        ("say `fixes #12` here", []),
        ("fixes #1 <!-- fixes #12", [("a/b", 1)]),
        ("fixes #1\n```\nfixes #12", [("a/b", 1)]),
        ("closes https://github.com/other/place/pull/3", []),
    ],
)
def test_closing_words_are_links_and_mentions_are_not(text: str, links: list[tuple[str, int]]) -> None:
    assert closing_links([text], "a/b") == tuple(Link(*link) for link in links)


@pytest.mark.parametrize("text", ["<!--", "```", "`", "fix ", "closes the issue ", "fix a-", "fixes #1, #"])
def test_links_are_found_in_time_that_grows_with_the_text_alone(text: str) -> None:
    begun = time.process_time()
    closing_links([text * (60_000 // len(text))], "a/b")
    assert time.process_time() - begun < 2


def test_there_are_not_more_links_than_that() -> None:
    assert len(closing_links([f"fixes #{number}" for number in range(1, 40)], "a/b")) == 5


@pytest.mark.parametrize(
    "title",
    [
        "Bump lodash from 4.17.15 to 4.17.19",
        "build(deps): bump actions/checkout from 3 to 4",
        "chore(deps-dev): update dependency ruff to v1",
        "Update dependency mypy to v1.2",
        "Update numpy requirement from <2 to <3",
        "[pre-commit.ci] pre-commit autoupdate",
        "Release 1.2.3",
        "Prepare for release v2.0",
        "v1.2.3",
        "Lock file maintenance",
    ],
)
def test_bumps_are_known_by_their_titles(title: str) -> None:
    assert before_the_mirror("a/b", Pull(True, title=title)) is Step.VERSION_BUMP


@pytest.mark.parametrize(
    "title",
    [
        "Update the parser",
        "Fix bumpy edges",
        "Release the lock when it fails",
        "Do not bump the counter",
        "v1 of the API",
    ],
)
def test_other_titles_are_no_bumps(title: str) -> None:
    assert before_the_mirror("a/b", Pull(True, title=title)) is None


@pytest.mark.parametrize(
    "pull",
    [
        Pull(True, bot=True),
        Pull(True, login="renovate[bot]"),
        Pull(None, branch="dependabot/npm_and_yarn/x"),
        Pull(True, title="automerge of the day"),
    ],
)
def test_what_programs_made_is_left_out(pull: Pull) -> None:
    assert before_the_mirror("a/b", pull) is Step.BOT


def changed(path: str, before: str = "1", lines: int = 1, modes: tuple[str, str] = ("100644", "100644")) -> Changed:
    return Changed(path.encode("utf-8", "surrogateescape"), before, "2", modes, lines)


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        ([], Step.EMPTY),
        ([changed(f"{number}.py") for number in range(11)], Step.HUGE),
        ([changed("a.py", lines=1001)], Step.HUGE),
        ([changed("web/yarn.lock"), changed("Cargo.lock")], Step.LOCK_FILES_ONLY),
        ([changed("a/Poetry.lock", lines=5000)], Step.LOCK_FILES_ONLY),
        ([changed("a.py"), changed("uv.lock", lines=5000)], None),
        ([changed("a.md"), changed("uv.lock")], Step.NO_CODE),
        ([changed("tests/test_a.py")], Step.NO_CODE),
        ([changed("a.py", before="")], Step.NOTHING_TO_EDIT),
        ([changed("a.py"), changed("uv.lock"), changed("a.png", lines=-1)], None),
    ],
)
def test_changes_are_judged(changes: list[Changed], step: Step | None) -> None:
    assert by_changes(changes, CurateSettings()) is step


def test_tests_count_where_all_is_the_oracle() -> None:
    assert by_changes([changed("tests/test_a.py")], CurateSettings(oracle=Oracle.ALL)) is None


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (changed("a.py"), ""),
        (changed("../a.py"), "hostile path"),
        (changed("/etc/passwd.py"), "hostile path"),
        (changed("a/.git/x.py"), "hostile path"),
        (changed("a\n.py"), "hostile path"),
        (changed("\udcff.py"), "hostile path"),
        (changed("a.py", modes=("100644", "120000")), "link or submodule"),
        (changed("a.py", modes=("160000", "160000")), "link or submodule"),
        (changed("a.py", lines=-1), "binary"),
    ],
)
def test_files_that_cannot_stand_in_a_row(one: Changed, why: str) -> None:
    assert unreadable(one) == why


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("                 Apache License\n        Version 2.0, January 2004", "Apache-2.0"),
        ("GNU GENERAL PUBLIC LICENSE\n   Version 3, 29 June 2007", "GPL-3.0"),
        ("GNU LESSER GENERAL PUBLIC LICENSE\n Version 2.1", "LGPL-2.1"),
        ("GNU AFFERO GENERAL PUBLIC LICENSE\n Version 3", "AGPL-3.0"),
        ("Mozilla Public License Version 2.0", "MPL-2.0"),
        ("Redistributions in binary form must reproduce the above copyright\nNeither the name of X", "BSD-3-Clause"),
        ("Redistributions in binary form must reproduce the above\ncopyright notice", "BSD-2-Clause"),
        ("Permission is hereby granted, free of charge, to any person obtaining a copy", "MIT"),
        ("All rights reserved", "other"),
    ],
)
def test_licences_are_told_by_their_words(text: str, name: str) -> None:
    assert licence_of(text.encode()) == name


def test_every_repository_of_the_benchmarks_is_known_in_lower_case() -> None:
    assert all(name == name.lower() for name in NAMES)
    named = ("django/django", "Psf/Requests", "Automattic/wp-calypso", "redis/redis", "spf13/hugo")
    assert {before_the_mirror(name, Pull(True)) for name in named} == {Step.BENCHMARK}
    assert before_the_mirror("ada/django", Pull(True)) is None


def test_forks_of_benchmarks_are_known_by_origin_name_and_first_commit() -> None:
    assert is_benchmark_fork("a/b", ["c/d", "Django/django"], False)
    assert is_benchmark_fork("a/Django", [], True)
    assert is_benchmark_fork("a/b", [min(BENCHMARKS - NAMES)], False)
    assert not is_benchmark_fork("a/django", ["c/d", "0" * 40], False)


def test_families_join_over_names_and_first_commits() -> None:
    pairs = [("z/one", "root1"), ("y/two", "root2"), ("B/three", "root1"), ("B/three", "root3"), ("a/four", "root2")]
    families = families_of(pairs)
    assert {families[name] for name in ("z/one", "b/three", "root3")} == {"root1"}
    assert {families[name] for name in ("y/two", "a/four")} == {"root2"}
    families = families_of([*pairs, ("a/four", "y/two"), ("a/four", "root3"), ("a/five", "a/six")])
    assert {families[name] for name in ("z/one", "y/two", "b/three", "a/four", "root2")} == {"root1"}
    assert families["a/six"] == "a/five"
    assert "x/alone" not in families


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=20))
def test_families_are_the_connected_ones(pairs: list[tuple[int, int]]) -> None:
    groups = [{number} for number in range(10)]
    for one, two in pairs:
        joined = next(g for g in groups if one in g) | next(g for g in groups if two in g)
        groups = [group for group in groups if not group & joined] + [joined]
    families = families_of((f"o/{one}", f"o/{two}") for one, two in pairs)
    assert all(families.get(f"o/{n}", f"o/{n}") == f"o/{min(group)}" for group in groups for n in group)


def test_splits_have_their_shares_and_hang_on_name_and_seed_alone() -> None:
    settings = CurateSettings(valid=0.1, test=0.2)
    splits = [split_of(f"owner/name{number}", settings) for number in range(2000)]
    assert 150 < splits.count("valid") < 250
    assert 330 < splits.count("test") < 470
    assert splits == [split_of(f"owner/name{number}", settings) for number in range(2000)]
    assert splits != [split_of(f"owner/name{n}", settings.model_copy(update={"seed": 1})) for n in range(2000)]
