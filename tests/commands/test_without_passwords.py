"""What is recorded of a command line holds no password."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.commands.terminal import without_passwords


@pytest.mark.parametrize(
    ("word", "kept"),
    [
        ("https://me:s3cret@host/a.git", "https://***@host/a.git"),
        ("https://ghp_token@github.com/a/b", "https://***@github.com/a/b"),
        ("HTTPS://me:s3@cret@host/a", "HTTPS://***@host/a"),
        ("ssh://git:s3cret@host:22/a", "ssh://git:***@host:22/a"),
        ("ssh://git@host/a", "ssh://git@host/a"),
        ("git@host:a/b.git", "git@host:a/b.git"),
        ("--repository=https://me:s3cret@host/a", "--repository=https://***@host/a"),
        ("see https://a:b@c/d and http://e:f@g", "see https://***@c/d and http://***@g"),
        ("https://host/a@b", "https://host/a@b"),
        ("https://host/a?to=me@b", "https://host/a?to=me@b"),
        ("owner/name#12", "owner/name#12"),
        ("", ""),
    ],
)
def test_passwords_of_addresses_are_left_out_and_nothing_else(word: str, kept: str) -> None:
    assert without_passwords([word]) == (kept,)


@given(st.lists(st.text()))
def test_any_words_are_taken_and_done_twice_is_done_once(words: list[str]) -> None:
    once = without_passwords(words)
    assert len(once) == len(words)
    assert without_passwords(once) == once


@given(st.text(alphabet=st.characters(exclude_characters="/?#@", exclude_categories=["Z", "C"]), min_size=1))
def test_no_password_survives(password: str) -> None:
    for scheme in ("https", "http", "ssh", "git+ssh"):
        (kept,) = without_passwords([f"{scheme}://user:<{password}>@host/path"])
        assert f"<{password}>" not in kept
