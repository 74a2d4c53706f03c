"""What of the ranking needs no model, with a tokenizer of words."""

import re
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.model.embedded.mutants import mutants
from agentless_mini.model.embedded.regions import Region
from agentless_mini.model.embedded.scoring import (
    HORIZON,
    MOST,
    Fork,
    Rewrite,
    choose,
    form,
    ordered,
    packed,
    spell,
    write_passage,
)

CODE = 'def f(a):\n    """Say a."""\n    # silent\n    return a + 1\n\n\nf(2)\n'
REGION = Region("m.py", 1, CODE)


class Words:
    """A tokenizer of words, marks, and line ends with the blanks that follow, as byte-level vocabularies have them."""

    def __init__(self) -> None:
        self.vocabulary: list[str] = []

    def tokenize(self, text: str) -> list[int]:
        return [self.id(piece) for piece in re.findall(r"\n\s*(?= |\Z)|\n| ?\w+| ?[^\w\n]", text)]

    def id(self, piece: str) -> int:
        if piece not in self.vocabulary:
            self.vocabulary.append(piece)
        return self.vocabulary.index(piece)

    def said(self, tokens: Sequence[int]) -> str:
        return "".join(self.vocabulary[token] for token in tokens)


def spelled(words: Words, regions: list[Region]) -> tuple[list[int], list[Fork]]:
    """Return the tokens of the text, and the forks."""
    pieces = write_passage("", regions)
    tokens = [words.tokenize(piece.text) for piece in pieces]
    return [token for some in tokens for token in some], spell(pieces, tokens, words.tokenize)


def test_the_text_shows_the_issue_the_code_and_the_same_code_again() -> None:
    pieces = write_passage("It is wrong.\n\nSee f.", [REGION])
    assert "".join(piece.text for piece in pieces) == (
        f"# m.py before the fix:\n{CODE}\n# Issue:\n# It is wrong.\n#\n# See f.\n"
        f"\n# m.py after the fix:\n{CODE}\n# The end."
    )
    rows = CODE.split("\n")
    assert [(piece.row, rows[piece.row]) for piece in pieces if piece.region] == [
        (row, line) for row, line in enumerate(rows) if line
    ]
    assert all(piece.text.lstrip("\n") == rows[piece.row] for piece in pieces if piece.region)


def test_lines_of_undecodable_text_are_shown_and_not_rewritten() -> None:
    pieces = write_passage("odd \udcff", [Region("m\udcff.txt", 1, "caf\u00e9\n\udcff\n  \nend\n")])
    assert [(piece.row, piece.text) for piece in pieces if piece.region] == [(0, "\ncaf\u00e9"), (3, "\n  \nend")]


def test_forks_read_as_the_mutants_that_they_are() -> None:
    words = Words()
    regions = [REGION, Region("m.c", 1, "int x = 1;\n")]
    ids, forks = spelled(words, regions)
    for fork in forks:
        region, row, text, _ = fork.rewrite
        line = words.tokenize("\n" + region.text.split("\n")[row])
        start = next(at for at in range(len(ids), 0, -1) if ids[at : at + len(line)] == line)
        rest = words.said(ids[fork.stop : start + len(line)])
        assert words.said(ids[start : fork.place]) + words.said(fork.tokens) + rest in (
            f"\n{text}",
            f"\n{text}\n",
            f"\n{text}\n\n",
        )
        assert ids[fork.place] != fork.tokens[0]
    wanted = {(region, *mutant) for region in regions for mutant in mutants(region)}
    same = {(region, row, line) for region in regions for row, line in enumerate(region.text.split("\n"))}
    assert {fork.rewrite[:3] for fork in forks} == wanted - same


def test_of_a_long_kept_rest_only_its_beginning_counts() -> None:
    words = Words()
    ids, forks = spelled(words, [Region("m.py", 1, f"x = a + {' + '.join('bcdefghijk')}\n")])
    fork = next(fork for fork in forks if fork.rewrite.text.startswith("x = a - b"))
    assert words.said(fork.tokens) == " - b + c +"
    assert words.said(ids[fork.place : fork.stop]) == " + b + c +"
    assert len(fork.tokens) == 1 + HORIZON


@given(st.text("ab(+1.\u00e9 =<", min_size=1, max_size=12))
def test_any_tokenization_spells_every_mutant(code: str) -> None:
    region = Region("m.py", 1, code + "\n")
    pieces = write_passage("", [region])
    tokens = [list(piece.text.encode()) for piece in pieces]
    forks = spell(pieces, tokens, lambda text: list(text.encode()))
    assert {fork.rewrite.text for fork in forks} == {mutant.text for mutant in mutants(region)} - {code}


def fork(row: int, text: str, place: int = 0, tokens: tuple[int, ...] = (1, 2)) -> Fork:
    return Fork(Rewrite(REGION, row, text), place, tokens, place + 1)


def test_what_does_not_parse_or_says_nothing_new_is_not_scored() -> None:
    said = ["    return a + 2", "    return (a + 2)", "    return a  +  1  # same", "    return a +", "    return a"]
    chosen = choose([fork(3, text, at) for at, text in enumerate(said)], lambda fork: -fork.place)
    assert [one.rewrite.text for one in chosen] == [said[0], said[4]]


def test_lines_that_the_model_is_sure_of_are_scored_too() -> None:
    likely = [fork(3, f"    return a + {number}", 1, (number,)) for number in range(2, 1002)]
    sure = [fork(6, f"f({number})", 9, (number,)) for number in range(3, 203)]
    chosen = choose([*sure, *likely], lambda fork: (0.0 if fork.place == 1 else -20.0) - fork.tokens[0] / 1000)
    assert [one.place for one in chosen] == [1] * (MOST // 2) + [1, 9] * (MOST // 4)
    assert [one.tokens[0] for one in chosen if one.place == 9] == list(range(3, 3 + MOST // 4))


def test_the_form_of_a_row_is_that_of_its_statement() -> None:
    region = Region("m.py", 7, "    @cached\n    def f(self):\n        if self:\n            return 1\n")
    assert form(region, 3, "            return (1)") == form(region, 3) != form(region, 3, "            return 2")
    assert form(region, 0, "    @other") not in (None, form(region, 0))
    assert form(region, 3, "    return 3 3") is None
    other = Region("m.c", 1, "int x;\n")
    assert form(other, 0, "int  x; ") == form(other, 0) != form(other, 0, "int y(")


def test_rewrites_are_ranked_by_score_then_place_and_no_line_crowds_out_the_others() -> None:
    many = [fork(3, f"    return a + {number}", number) for number in range(2, 22)]
    other = [fork(6, f"f({number})", 100) for number in range(3, 6)]
    order = ordered([*other, *many], lambda fork: 99.0 - fork.place if fork.place < 100 else -1.0)
    texts = [one.rewrite.text for one in (*many[:8], *other, *many[8:])]
    assert [one.text for one in order] == texts
    assert [one.score for one in order[:2]] == [97.0, 96.0]


def test_a_batch_holds_what_fits_and_what_forks_begin_with_alike_once() -> None:
    forks = [fork(3, "", 5, tokens) for tokens in ((1, 2, 3), (1, 2, 4), (1, 9), (7,))]
    ((group, nodes),) = packed(forks, 8, 8)
    assert [one.tokens for one in group] == [(1, 2, 3), (1, 2, 4), (1, 9), (7,)]
    assert nodes == {(5, (1,)): [1, 2, 3], (5, (1, 2)): [1, 2]}
    assert [len(group) for group, _ in packed(forks, 3, 8)] == [3, 1]
    apart = [fork(3, "", place, (1, 2, 3)) for place in range(5)]
    assert [(len(group), len(nodes)) for group, nodes in packed(apart, 8, 4)] == [(2, 4), (2, 4), (1, 2)]
