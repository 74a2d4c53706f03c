from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.line_mutants import mutants
from agentless_mini.line_mutants.spelling import spell
from agentless_mini.line_regions import Region
from agentless_mini.line_rewriting import Fork, Kind, align, write_passage
from tests.line_words import Words

CODE = "def f(a, b):\n    # silent\n    if a < b:\n        return a\n    return b - 1\n"


def rewritten(words: Words, regions: list[Region]) -> list[tuple[int, str | None]]:
    """Return the (row, text) of every spelling, read back from its tokens."""
    passage = write_passage("", regions)
    tokens = words.read(passage)
    forks = [Fork(Kind.MUTANT, one.line, one.place, one.tokens, 0, 0) for one in spell(passage, tokens, words.tokenize)]
    return [(tokens.lines[fork.line].line.row, tokens.rewritten(fork, words.piece)) for fork in forks]


def test_spellings_read_as_the_mutants_that_they_are() -> None:
    region = Region("m.py", 1, CODE)
    rows = CODE.split("\n")
    found = rewritten(Words(), [region, Region("m.c", 1, "int x;\n")])
    wanted = {(one.row, one.text) for one in mutants(region)} - set(enumerate(rows))
    assert set(found) == wanted
    assert (4, "    return b + 1") in found


def test_a_spelling_starts_where_it_leaves_the_old_tokens() -> None:
    words = Words()
    passage = write_passage("", [Region("m.py", 1, "x = a\n")])
    tokens = words.read(passage)
    said = {b"".join(map(words.piece, one.tokens)): one for one in spell(passage, tokens, words.tokenize)}
    first = tokens.lines[0].first
    assert said[b" += a\n"].place == first + 1
    assert said[b" x\n"].place == first + 2
    assert said[b" + 1\n"].place == first + 3
    assert all(tokens.ids[one.place] != one.tokens[0] for one in said.values())


def test_a_line_whose_tokens_depend_on_what_stands_before_has_none() -> None:
    words = Words()
    passage = write_passage("", [Region("m.py", 1, "x = a\n")])
    tokens = words.read(passage)
    assert spell(passage, tokens, lambda text: words.tokenize(" " + text)) == ()


@given(st.text("ab(+1.\u00e9 =<", max_size=12))
def test_any_tokenization_spells_lines_that_read_as_mutants(code: str) -> None:
    region = Region("m.py", 1, code + "\n")
    passage = write_passage("", [region])
    data = passage.text.encode()
    pieces = [data[at : at + 1] for at in range(len(data))]
    tokens = align(passage, [piece[0] for piece in pieces], pieces)
    assert tokens is not None
    spoken = {mutant.text for mutant in mutants(region)}
    for one in spell(passage, tokens, lambda text: list(text.encode())):
        fork = Fork(Kind.MUTANT, one.line, one.place, one.tokens, 0, 0)
        assert tokens.rewritten(fork, lambda token: bytes([token])) in spoken
