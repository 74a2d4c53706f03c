"""Rows as they are shown, answered and kept."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentless_mini.chain.templates import load_prompts
from agentless_mini.domain import Completion, Finish, Patch
from agentless_mini.edits import changed_files, read_answer
from agentless_mini.errors import UsageError
from agentless_mini.learning.rows import Row, RowFile, read_rows, require_apart, row_files, write_rows

pytest.importorskip("pyarrow", reason="pyarrow is not installed (the extra 'train')")

CHANGED = RowFile("pkg/core.py", "def f():\n    return 1\n", "def f():\n    return 2\n")
CREATED = RowFile("pkg/new.py", None, "x = 1\n")
DELETED = RowFile("pkg/old.py", "y = 1\n", None)
SAME = RowFile("pkg/same.py", "z = 1\r\n", "z = 1\r\n")


def row(*files: RowFile, reasoning: str = "", parents: tuple[str, ...] = ()) -> Row:
    return Row(
        id="owner/name#12",
        repo="owner/name",
        title="f returns 1",
        issue="f returns 1\n\nIt must be 2.",
        conversation="",
        files=files,
        base="0" * 40,
        merged_at="2025-01-01T00:00:00Z",
        licence="MIT",
        split="train",
        reasoning=reasoning,
        parents=parents,
    )


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
files_of_rows = st.builds(RowFile, texts, st.none() | texts, st.none() | texts)
rows = st.builds(
    Row, **dict.fromkeys(("id", "repo", "title", "issue", "conversation", "base", "merged_at", "licence"), texts),
    **dict.fromkeys(("split", "reasoning", "check"), texts),
    files=st.lists(files_of_rows, max_size=4).map(tuple), parents=st.lists(texts, max_size=3).map(tuple),
)  # fmt: skip


@settings(max_examples=60)
@given(st.lists(rows, max_size=6))
def test_rows_come_back_as_they_were_written(tmp_path_factory: pytest.TempPathFactory, written: list[Row]) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    assert write_rows(path, written) == len(written)
    assert list(read_rows(path)) == written


def test_a_folder_is_read_in_order_of_name(tmp_path: Path) -> None:
    first, second = row(CHANGED), row(CHANGED, CREATED)
    write_rows(tmp_path / "b" / "0.parquet", [second])
    write_rows(tmp_path / "a.parquet", [first])
    assert list(read_rows(tmp_path)) == [first, second]


def test_what_is_hidden_or_half_written_is_not_read(tmp_path: Path) -> None:
    for name in ("a.parquet", ".b.parquet", ".train.partial/c.parquet", "train/d.parquet"):
        write_rows(tmp_path / "rows" / name, [row(CHANGED)])
    assert [file.name for file in row_files(tmp_path / "rows")] == ["a.parquet", "d.parquet"]


@pytest.mark.parametrize("out", ["rows", "rows/train/out", "rows/../rows/x"])
def test_an_output_within_the_data_is_refused(tmp_path: Path, out: str) -> None:
    (tmp_path / "rows" / "train").mkdir(parents=True)
    with pytest.raises(UsageError, match="lies in the folder of the data"):
        require_apart(tmp_path / "rows", tmp_path / out)
    require_apart(tmp_path / "rows", tmp_path / "rows2")
    require_apart(tmp_path / "rows" / "x.parquet", tmp_path / "rows" / "out")


def test_many_rows_are_written_in_groups(tmp_path: Path) -> None:
    from pyarrow import parquet

    large = row(RowFile("a.py", "x = 1\n" * 200_000, "x = 2\n"))
    write_rows(tmp_path / "rows.parquet", (large for _ in range(20)))
    with parquet.ParquetFile(tmp_path / "rows.parquet") as file:
        assert file.num_row_groups > 1
    assert sum(1 for _ in read_rows(tmp_path)) == 20


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    def torn() -> object:
        yield row(CHANGED)
        raise ValueError("torn")

    path = tmp_path / "rows.parquet"
    write_rows(path, [row(CHANGED)])
    with pytest.raises(ValueError, match="torn"):
        write_rows(path, torn())  # type: ignore[arg-type]
    assert list(read_rows(path)) == [row(CHANGED)]


def test_what_holds_no_rows_is_a_sentence(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    (tmp_path / "text.parquet").write_text("no parquet")
    parquet.write_table(pyarrow.table({"id": ["1"]}), tmp_path / "other.parquet")
    (tmp_path / "empty").mkdir()
    for name in ("text.parquet", "other.parquet", "absent.parquet", "empty"):
        with pytest.raises(UsageError, match=r"name the output of a curation|name rows in parquet"):
            list(read_rows(tmp_path / name))
    with pytest.raises(UsageError, match="not Unicode"):
        write_rows(tmp_path / "rows.parquet", [row(RowFile("\udcff.py", "x", "y"))])


def test_the_answer_makes_the_change_on_the_tree() -> None:
    one = row(CHANGED, CREATED, DELETED, SAME)
    assert [change.path for change in one.oracle()] == ["pkg/core.py", "pkg/new.py", "pkg/old.py"]
    for told in (one, row(CHANGED, CREATED, DELETED, SAME, reasoning="It says 1.\n### drafts")):
        outcome = read_answer(Completion(0, told.answer(), Finish.STOP), told.tree())
        assert isinstance(outcome, Patch)
        assert changed_files(outcome, one.tree().entries) == one.oracle()


def test_a_change_that_the_format_cannot_say_has_no_answer() -> None:
    with pytest.raises(UsageError, match="has no answer"):
        row(RowFile("a.py", "x = 1\n", "x = (\n")).answer()


def test_the_prompt_shows_every_file_that_exists_and_not_which_of_them_change() -> None:
    prompts = load_prompts(None)
    others = [RowFile(f"pkg/m{number}.py", "a = 1\n", "a = 1\n") for number in range(9)]
    asked = row(CHANGED, CREATED, *others).messages(prompts)[-1].content
    shown = re.findall(r"^### (pkg/\S+)$", asked, re.MULTILINE)
    assert sorted(shown) == sorted(file.path for file in (CHANGED, *others))
    assert "It must be 2." in asked
    assert row(*others, CHANGED).messages(prompts)[-1].content == asked


def test_parents_come_after_the_prompt() -> None:
    prompts = load_prompts(None)
    plain = row(CHANGED).messages(prompts)
    asked = row(CHANGED, parents=("--- a/x\n+++ b/x\n",)).messages(prompts)
    assert asked[-1].content.startswith(plain[-1].content)
    assert "--- a/x\n+++ b/x" in asked[-1].content
