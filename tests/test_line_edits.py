import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.domain import Completion as Answer
from agentless_mini.domain import EditTask, Excerpt, FileKind, Finish, Patch, ShownFile, Snapshot, SourceFile
from agentless_mini.edits import Tree, changed_files, read_answer
from agentless_mini.line_edits import Novelty, Rewrite, ranked, render
from agentless_mini.line_regions import Region, choose_regions
from agentless_mini.line_rewriting import Kind

CODE = 'def f(a):\n    """Say a."""\n    # silent\n    return a + 1\n\n\nf(2)\n'
REGION = Region("m.py", 1, CODE)


def test_rewrites_that_do_not_parse_or_say_nothing_new_go() -> None:
    novelty = Novelty([REGION])
    said = ["    return a + 2", "    return (a + 2)", "    return a  +  1  # same", "    return a +", "    return a"]
    assert [novelty.admits(Rewrite(REGION, 3, text)) for text in said] == [True, False, False, False, True]


def test_what_is_defined_keeps_its_name() -> None:
    novelty = Novelty([REGION])
    said = ["def g(a):", "class f:", "def f(b):", "def f(a, b=1):"]
    assert [novelty.parses(Rewrite(REGION, 0, text)) for text in said] == [False, True, True, True]


def test_text_that_is_no_python_is_told_apart_but_for_blanks() -> None:
    for region in (Region("m.c", 1, "int x;\n"), Region("m.py", 1, "int x;\n")):
        novelty = Novelty([region])
        said = ["int  x;", "int y;", "int y; ", "int z("]
        assert [novelty.admits(Rewrite(region, 0, text)) for text in said] == [False, True, False, True]


def test_a_method_is_parsed_without_its_class() -> None:
    region = Region("m.py", 7, "    def f(self):\n        return 1\n")
    novelty = Novelty([region])
    assert novelty.admits(Rewrite(region, 1, "        return 2"))
    assert not novelty.admits(Rewrite(region, 1, "    return 3 3"))


def test_mutants_and_what_the_model_came_upon_take_turns() -> None:
    def of(kind: Kind, text: str, score: float) -> Rewrite:
        return Rewrite(REGION, 3, f"    return {text}", score, kind)

    mutants = [of(Kind.MUTANT, f"a + {number}", -number) for number in range(2, 9)]
    found = [of(Kind.GREEDY, "b", 9.0), of(Kind.REPLACE, "c", 8.0), of(Kind.DELETE, "a 1", 7.0)]
    again = [of(Kind.INSERT, "a+2", 8.5), of(Kind.GREEDY, "a + 1  # the same", 10.0)]
    order = ranked([REGION], [*found, *again, *mutants])
    assert order == (*mutants[:3], found[0], *mutants[3:6], found[1], mutants[6])
    assert ranked([REGION], reversed([*found, *again])) == (found[0], again[0], found[1])
    assert ranked([REGION], ()) == ()


def test_no_line_crowds_out_the_others() -> None:
    many = [Rewrite(REGION, 3, f"    return a + {number}", 99.0 - number) for number in range(2, 22)]
    other = [Rewrite(REGION, 6, f"f({number})", -number) for number in range(3, 6)]
    assert ranked([REGION], [*other, *many]) == (*many[:8], *other, *many[8:])


def test_rewrites_are_ranked_by_score_then_place() -> None:
    other = Region("a.py", 5, "x\n")
    rewrites = [Rewrite(REGION, 6, "b", 1.0), Rewrite(REGION, 6, "a", 1.0), Rewrite(other, 0, "c", 1.0)]
    best = Rewrite(REGION, 3, "    return d", 2.0)
    assert ranked([REGION, other], [*rewrites, best]) == (best, rewrites[2], rewrites[1], rewrites[0])


# --- edits -----------------------------------------------------------------------------------------------------------


def applied(task: EditTask, rewrite: Rewrite, data: bytes) -> bytes:
    """Apply a rendered rewrite with the project's parser and applier to the file's real bytes."""
    path = rewrite.region.path
    tree = Tree.of(Snapshot("", "", "", (SourceFile(path, "100644", FileKind.TEXT, data),)))
    outcome = read_answer(Answer(0, render(task, rewrite), Finish.STOP), tree)
    assert isinstance(outcome, Patch), outcome
    (change,) = changed_files(outcome, tree.entries)
    assert change.after is not None
    return change.after


def shown(path: str, text: str) -> EditTask:
    return EditTask("", (ShownFile(path, (Excerpt(1, text),), whole=True),))


def test_a_rewrite_becomes_an_ordinary_edit() -> None:
    task = shown("m.py", CODE)
    rewrite = Rewrite(REGION, 3, "    return a - 1")
    assert render(task, rewrite) == (
        "```\n### m.py\n<<<<<<< SEARCH\n    return a + 1\n=======\n    return a - 1\n>>>>>>> REPLACE\n```\n"
    )
    assert applied(task, rewrite, CODE.encode()) == CODE.replace("+", "-").encode()


def test_a_line_that_stands_twice_is_found_by_its_neighbours() -> None:
    text = "a\nx\nb\nx\nc\n"
    task = shown("m.txt", text)
    rewrite = Rewrite(Region("m.txt", 1, text), 3, "y")
    assert "SEARCH\nb\nx\nc\n" in render(task, rewrite)
    assert applied(task, rewrite, text.encode()) == b"a\nx\nb\ny\nc\n"


def test_of_a_file_shown_in_part_the_neighbours_are_always_taken() -> None:
    excerpts = (Excerpt(1, "one\nx\ntwo\n"), Excerpt(9, "x\nthree\n"))
    task = EditTask("", (ShownFile("m.txt", excerpts, whole=False),))
    data = b"one\nx\ntwo\n4\n5\n6\n7\n8\nx\nthree\n"
    rewrite = Rewrite(Region("m.txt", 9, "x\nthree\n"), 0, "y")
    assert "SEARCH\nx\nthree\n=" in render(task, rewrite)
    assert applied(task, rewrite, data) == data.replace(b"8\nx", b"8\ny")


@pytest.mark.parametrize(
    ("path", "text", "row", "new"),
    [
        ("m.txt", "one\r\ntwo\r\n", 1, "three"),
        ("m.txt", "one\ntwo", 1, "three"),
        ("a b.txt", "```\n=======\nx\n=======\n", 2, "y"),
        ("m.txt", "<<<<<<< SEARCH\nx\n", 0, "========"),
        ("m.txt", "same\nsame\nsame\n", 1, "other"),
        (" odd .txt", "x\n", 0, "y"),
    ],
)
def test_the_edit_changes_that_line_and_not_one_byte_more(path: str, text: str, row: int, new: str) -> None:
    task = shown(path, text)
    (region,) = choose_regions(task, 1000, len)
    rows = text.split("\n")
    rows[row] = new + ("\r" if rows[row].endswith("\r") else "")
    assert applied(task, Rewrite(region, row, new), text.encode()) == "\n".join(rows).encode()


@given(st.lists(st.sampled_from(["a", "b", "", "=======", " x", "```"]), min_size=1, max_size=12), st.data())
def test_every_line_of_any_file_can_be_rewritten(rows: list[str], data: st.DataObject) -> None:
    row = data.draw(st.integers(0, len(rows) - 1))
    text = "".join(one + "\n" for one in rows)
    wanted = "".join(("new" if at == row else one) + "\n" for at, one in enumerate(rows))
    assert (
        applied(shown("m.txt", text), Rewrite(Region("m.txt", 1, text), row, "new"), text.encode()) == wanted.encode()
    )
