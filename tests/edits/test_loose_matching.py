"""Loose matching: what a careless copy may get wrong, and what stays rejected."""

import random
import textwrap
import time

import pytest

from agentless_mini.domain import Matching, Reason
from tests.edits.edit_cases import after, edit, fenced, rejected

CODE = b"""\
class A:
    def first(self):
        value = 1

        return value

    def second(self, name):
        total = compute(name, 1, 2)
        return total
"""
LOOSE = Matching.LOOSE
BODIES = "".join(CODE.decode().splitlines(keepends=True)[1:])


def changed(search: str, new: str, before: bytes = CODE) -> str:
    text = after(fenced(edit("a.txt", search, new)), {"a.txt": before}, LOOSE)["a.txt"]
    assert text is not None
    assert rejected(fenced(edit("a.txt", search, new)), {"a.txt": before}).reason is Reason.NOT_FOUND
    return text.decode()


def refusal(search: str, new: str, before: bytes = CODE) -> Reason:
    return rejected(fenced(edit("a.txt", search, new)), {"a.txt": before}, LOOSE).reason


def expected(old: str, new: str) -> str:
    assert old in CODE.decode()
    return CODE.decode().replace(old, new)


def test_what_matches_strictly_is_applied_strictly() -> None:
    answer = fenced(edit("a.txt", "        value = 1\n", "        value = 2\n"))
    assert after(answer, {"a.txt": CODE}, LOOSE) == {"a.txt": expected("value = 1", "value = 2").encode()}


def test_a_careless_draft_is_told_from_the_answer_only_where_edits_are_few() -> None:
    draft, final = (fenced(edit("a.txt", "        value = 1 \n", f"        value = {new}\n")) for new in (2, 3))
    assert after(draft + "No:\n" + final, {"a.txt": CODE}, LOOSE) == {"a.txt": expected("= 1", "= 3").encode()}
    files = {"a.txt": CODE, "b.txt": "".join(f"{at}\n" for at in range(40)).encode()}
    more = fenced(*(edit("b.txt", f"{at}\n", f"line {at}\n") for at in range(40)))
    assert rejected(draft + "No:\n" + final + more, files, LOOSE).reason is Reason.NOT_FOUND


def test_blanks_at_the_ends_of_lines_are_ignored_and_kept_where_the_line_is() -> None:
    search = "        value = 1  \n \n        return value\t\n"
    assert changed(search, search.replace("value = 1", "value = 2")) == expected("value = 1", "value = 2  ")
    assert changed("a = 1\r\n", "a = 2\n", b"a = 1\n") == "a = 2\n"


@pytest.mark.parametrize("indentation", ["  ", "        "])
def test_a_shifted_search_shifts_its_replacement(indentation: str) -> None:
    search = textwrap.indent(CODE.decode(), indentation)
    new = search.replace("return total\n", f"if total:\n{indentation}            return -total\n")
    wanted = expected("        return total\n", "        if total:\n            return -total\n")
    assert changed(search, new) == wanted


def test_a_line_of_replace_that_is_indented_as_in_the_file_leaves_it_open_what_the_others_are() -> None:
    search = textwrap.dedent(BODIES)
    assert refusal(search, search.replace("    return total\n", "        return total\n")) is Reason.NOT_FOUND


def test_few_lines_at_another_depth_are_another_places() -> None:
    assert refusal("  value = 1\n\n  return value\n", "  x = 1\n") is Reason.NOT_FOUND
    assert changed("value = 1\n\nreturn value\n", "x = 1\n") == expected(
        "        value = 1\n\n        return value\n", "        x = 1\n"
    )


@pytest.mark.parametrize(
    ("search", "new", "before", "after_it"),
    [
        ("    cc a.c\n", "    cc -O a.c\n", "all:\n\tcc a.c\n", "all:\n\tcc -O a.c\n"),
        ("all:\n    cc a.c\n", "all:\n    cc a.c\n    rm b\n", "all:\n\tcc a.c\n", "all:\n\tcc a.c\n\trm b\n"),
        ("if x:\n\ty()\n", "if x:\n\tif z:\n\t\ty()\n", "if x:\n    y()\n", "if x:\n    if z:\n        y()\n"),
    ],
)
def test_tabs_stay_tabs_and_blanks_stay_blanks(search: str, new: str, before: str, after_it: str) -> None:
    assert changed(search, new, before.encode()) == after_it


def test_a_shift_that_does_not_fit_every_line_is_none() -> None:
    assert refusal("    value = 1\n\n  return value\n", "x\n") is Reason.NOT_FOUND
    deeper = textwrap.indent(CODE.decode(), "    ")
    assert refusal(deeper, deeper.replace("            return total\n", "outside = 1\n")) is Reason.NOT_FOUND
    assert refusal("\t \tvalue = 1\n", "\t \tvalue = 2\n") is Reason.NOT_FOUND


def test_blank_lines_are_ignored_and_stay_as_the_file_has_them() -> None:
    search = "    def first(self):\n        value = 1\n        return value\n"
    assert changed(search, search.replace("= 1", "= 2")) == expected("value = 1", "value = 2")
    assert changed(search, search.replace("value\n", "-value\n")) == expected("return value\n", "return -value\n")
    whole = expected("value = 1\n\n        return value", "value = 2\n\n        return -value")
    assert changed(search, search.replace("= 1", "= 2").replace("return value", "return -value")) == whole
    more = search.replace("value = 1\n", "value = 1\n        self.set()\n")
    assert changed(search, more) == expected("value = 1\n", "value = 1\n        self.set()\n")
    added = f"class A:\n\n{search}"
    assert changed(added, added.replace("return value", "return 2")) == expected("return value", "return 2")
    assert changed(search, "") == expected(search.replace("= 1\n", "= 1\n\n"), "")


def test_a_blank_line_at_an_end_of_search_is_the_files() -> None:
    search = "\n    def second(self, name): \n        total = compute(name, 1, 2)\n"
    assert changed(search, search.replace("1, 2", "1, 3")) == expected("1, 2", "1, 3")


def test_blank_lines_that_the_file_does_not_have_beside_a_change_say_that_another_place_is_meant() -> None:
    search = "class A:\n    def first(self):\n        value = 1\n\n        return value\n"
    blank = search.replace("A:\n", "A:\n\n")
    assert refusal(blank, blank.replace("first", "third")) is Reason.NOT_FOUND
    assert refusal("\n" + blank, ("\n" + blank).replace("= 1", "= 2")) is Reason.NOT_FOUND
    assert refusal(blank, blank.replace("A:\n\n", "A:\n\n\n")) is Reason.NOT_FOUND
    assert refusal("        value = 1\n        return value\n", "        return 1\n") is Reason.NOT_FOUND


def test_nearly_the_same_lines_are_found_and_kept_where_they_are_put_back() -> None:
    search = "    def second(self, nam):\n        total = compute(name, 1, 2)\n        return total\n"
    new = search.replace("1, 2", "1, 3")
    assert changed(search, new) == expected("1, 2", "1, 3")


LOAD = """\
def load(path, mode):
    opened = connect(path, mode, "utf-8")
    content = opened.read()
    my____cache = [content, 1000, 2]
    opened.close()
    return content
"""


@pytest.mark.parametrize(
    ("line", "said", "is_slip"),
    [
        ('mode, "utf-8")', "mode, 'utf-8')", True),
        ('mode, "utf-8")', 'mode,  "utf-8")', True),
        ("opened.read()", "opnened.read()", True),
        ("opened.read()", "openeb.read()", True),
        ("opened.read()", "opneed.read()", True),
        ("my____cache", "my_____cache", True),
        ("opened.read()", "opneedd.read()", False),
        ("opened.read()", "OPENED.read()", False),
        ("[content, 1000, 2]", "[contents, 1000, 2]", False),
        ("[content, 1000, 2]", "[content, 1001, 2]", False),
        ("[content, 1000, 2]", "[content, 1000]", False),
        ("def load(path, mode)", "def laod(path, moed)", False),
        ("opened.close()", "opened.closes()", False),
    ],
)
def test_a_slip_in_a_line_that_stays_is_the_models_and_any_other_difference_is_not(
    line: str, said: str, is_slip: bool
) -> None:
    assert line in LOAD
    search = LOAD.replace(line, said)
    new = search.replace("return content", "return None")
    if is_slip:
        assert changed(search, new, LOAD.encode()) == LOAD.replace("return content", "return None")
    else:
        assert refusal(search, new, LOAD.encode()) is Reason.NOT_FOUND


def test_a_line_with_a_slip_must_not_be_the_one_that_is_changed_nor_be_like_another() -> None:
    search = LOAD.replace("opened.close", "opened.clsoe")
    assert refusal(search, search.replace("clsoe()", "clsoe(True)"), LOAD.encode()) is Reason.NOT_FOUND
    rival = f"{LOAD}    opened.clone()\n".encode()
    search = LOAD.replace("opened.close", "opened.clode")
    assert refusal(search, search.replace("return content", "return None"), rival) is Reason.NOT_FOUND


def test_a_slip_in_a_long_line_is_not_looked_for() -> None:
    long = f"text = '{'word' * 60}'\n"
    before = "".join(f"name{number} = '{'x' * 90}'\n" for number in range(40)) + long
    search = before.replace("text", "txet")
    assert refusal(search, search.replace("name7 ", "name07 "), before.encode()) is Reason.NOT_FOUND


def test_a_near_place_is_told_by_the_lines_that_do_not_stand_everywhere() -> None:
    before = "pass\n" * 60 + LOAD + "pass\n"
    search = LOAD.replace("opened.read", "opneed.read") + "pass\n"
    new = search.replace("return content", "return None")
    assert changed(search, new, before.encode()) == before.replace("return content", "return None")


def test_a_near_match_needs_a_line_that_stands_there_and_one_clearly_best_place() -> None:
    assert refusal("    def second(self, nam):\n", "x\n") is Reason.NOT_FOUND
    assert refusal("        return total\n        quite = another(line)\n", "x\n") is Reason.NOT_FOUND
    few = "        return total\n        total = compute(names, 1, 2)\n        return totl\n"
    assert refusal(few, few.replace("compute", "x"), CODE) is Reason.NOT_FOUND
    one, said = (f"first_call()\n{name} = 1\nsecond_call()\n" for name in ("alpha", "alhpa"))
    assert changed(said, said.replace("second", "third"), one.encode()) == one.replace("second", "third")
    twins = (one + one.replace("1", "2")).encode()
    assert refusal(said, said.replace("second", "third"), twins) is Reason.NOT_FOUND
    assert refusal("a\nb\nnamx\n", "c\nb\nnamx\n", b"a\nb\nname\n") is Reason.NOT_FOUND
    long = f"x = 1\ny = '{'a' * 300}'\n"
    assert refusal(long.replace("aaa'", "aab'"), "x = 1\n", long.encode()) is Reason.NOT_FOUND
    many = "".join(f"v{number} = 1\n" for number in range(300))
    assert refusal(many.replace("v7 ", "w7 "), "x = 1\n", many.encode()) is Reason.NOT_FOUND


ELIDED = """\
    def first(self):
        # ...
        return value

    def second(self, name):
"""


def test_code_that_both_sides_leave_out_stays() -> None:
    renamed = ELIDED.replace("first", "third")
    assert changed(ELIDED, renamed) == expected("first", "third")
    first, last = "class A:\n", "        return total\n"
    search = f"{first}# ...\n{last}"
    assert changed(search, search.replace("A:", "B:")) == expected("A:", "B:")


@pytest.mark.parametrize(
    ("search", "new", "before"),
    [
        (ELIDED, "    def third(self):\n        pass\n", CODE),
        (ELIDED.replace("return value", "return nothing"), ELIDED, CODE),
        (ELIDED, ELIDED.replace("first", "third"), CODE * 2),
        ("        return value\n# ...\nclass A:\n", "        return value\n# ...\nclass B:\n", CODE),
        (
            "        value = 1\n        # ...\n        return total\n",
            "        x = 1\n        # ...\n        return x\n",
            CODE,
        ),
    ],
    ids=["on one side", "of another place", "of two places", "in another order", "with a definition"],
)
def test_code_that_is_left_out_must_be_told(search: str, new: str, before: bytes) -> None:
    assert refusal(search, new, before) in {Reason.NOT_FOUND, Reason.PLACEHOLDER}


def test_two_places_are_one_too_many() -> None:
    assert refusal("a = 1 \n", "b\n", b"a = 1\nb = 1\na = 1\n") is Reason.AMBIGUOUS
    assert refusal("\n", "b\n", b"a = 1\n") is Reason.NOT_FOUND
    assert refusal(" \n", "b\n", b"a = 1\n\nb = 1\n") is Reason.NOT_FOUND


def test_the_end_of_the_file_is_what_the_answer_says() -> None:
    note = "\\ No newline at end of file\n"
    assert changed("b \n", "c\n", b"a\nb") == "a\nc"
    assert changed("b \n" + note, "c\n", b"a\nb") == "a\nc\n"
    assert changed("b \n", "c\n" + note, b"a\nb\n") == "a\nc"
    assert changed("a \n", "b\na \n", b"x\r\na") == "x\r\nb\r\na"


@pytest.mark.parametrize("head", [0, 80], ids=["unlike lines", "lines with one head"])
def test_slips_in_a_large_file_are_told_from_rivals_in_seconds(head: int) -> None:
    dice = random.Random(1)  # noqa: S311 - drawn again alike, not for secrets
    lines = ["(" * head + "".join(dice.choices("abc(),.=+ ", k=150 - head)).strip() for _ in range(2000)]
    edits = []
    for start in range(0, 1600, 50):
        search = [line.replace("(", "( ", 1) if at % 2 else line for at, line in enumerate(lines[start : start + 16])]
        said, new = ("".join(f"{line}\n" for line in side) for side in (search, [*search[:14], "new", search[15]]))
        edits.append(edit("a.txt", said, new))
    begun = time.process_time()
    after(fenced(*edits), {"a.txt": "".join(f"{line}\n" for line in lines).encode()}, LOOSE)
    assert time.process_time() - begun < 10


def test_a_hostile_search_is_given_up_in_seconds() -> None:
    lines = [f"{'x' * 190}{number % 7}" for number in range(5000)]
    before = ("same\n" + "\n".join(lines) + "\n").encode()
    search = "same\n" + "".join("y" + line + "\n" for line in lines[:190])
    answer = fenced(*[edit("a.txt", search, "")] * 20)
    begun = time.process_time()
    assert rejected(answer, {"a.txt": before}, LOOSE).reason in {Reason.NOT_FOUND, Reason.AMBIGUOUS}
    assert refusal("a \n" * 5000, "", b"a\n" * 20_000) is Reason.AMBIGUOUS
    assert time.process_time() - begun < 5


def test_lines_that_stand_in_too_many_places_are_given_up() -> None:
    assert refusal(" x\n" * 300, "y\n", b"x\n" * 600) is Reason.NOT_FOUND


@pytest.mark.parametrize(("count", "height"), [(30, 190), (900, 3)])
def test_blocks_that_are_nowhere_are_given_up_in_seconds(count: int, height: int) -> None:
    dice = random.Random(1)  # noqa: S311 - drawn again alike, not for secrets
    lines = [
        f"known_{at // 20 % 50}" if at % 20 == 0 else "".join(dice.choices("abc(), ", k=190)) for at in range(6000)
    ]
    blocks = [
        [line if "known" in line else f"{line}y" for line in lines[at : at + height]] for at in range(0, count * 5, 5)
    ]
    answer = "".join(
        "Then:\n" + fenced(edit("a.txt", "\n".join([*block, f"line {at}\n"]), "")) for at, block in enumerate(blocks)
    )
    begun = time.process_time()
    assert rejected(answer, {"a.txt": "\n".join(lines).encode()}, LOOSE).reason is Reason.NOT_FOUND
    assert time.process_time() - begun < 6
