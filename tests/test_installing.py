"""The command that installs an extra: from where amini itself came."""

import pytest

from agentless_mini.installing import install_command, requirement


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        ({}, "'agentless-mini[eval]'"),
        ({"url": "file:///a%20b/c", "dir_info": {"editable": True}}, "-e '/a b/c[eval]'"),
        ({"url": "file:///a", "dir_info": {}}, "'agentless-mini[eval] @ file:///a'"),
        (
            {"url": "https://host/amini.git", "vcs_info": {"vcs": "git", "commit_id": "1a2b"}},
            "'agentless-mini[eval] @ git+https://host/amini.git@1a2b'",
        ),
    ],
)
def test_an_extra_comes_from_where_amini_came(origin: dict[str, object], words: str) -> None:
    assert requirement(origin, "eval") == words


def test_the_command_names_this_environment() -> None:
    import sys

    assert sys.executable in install_command("eval")
    assert "[eval]" in install_command("eval")
