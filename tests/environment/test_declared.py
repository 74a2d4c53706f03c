from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.environment.declared import Declared, named, read_lock, read_pyproject


def test_groups_of_every_tool_by_name() -> None:
    text = """
[dependency-groups]
dev = [{include-group = "Li_nt"}, "delta"]
li-nt = ["ruff", {include-group = "dev"}]
[tool.poetry.dev-dependencies]
four = "*"
[tool.poetry.group.test.dependencies]
five = "5.1"
[tool.pdm.dev-dependencies]
more = ["seven"]
[tool.hatch.envs.default]
dependencies = ["nine"]
"""
    found = Declared()
    read_pyproject(text, found)
    assert found.groups == {
        "dev": ("ruff", "delta"), "li-nt": ("ruff", "delta"), "test": ("five==5.1",), "more": ("seven",),
        "hatch-test": ("nine",)
    }  # fmt: skip
    assert found.own == {"dev", "li-nt"}


def test_a_requirement_has_a_name_unless_it_leads_elsewhere() -> None:
    texts = ("A_b[x]>=1; python_version > '3'", "a @ https://host/a.zip", "-e .", "./a", "a b")
    assert [named(text) for text in texts] == ["a-b", "", "", "", ""]


@given(st.text())
def test_any_text_is_read_as_a_lock(text: str) -> None:
    assert isinstance(read_lock(text), tuple)
