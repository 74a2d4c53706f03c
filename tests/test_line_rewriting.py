from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.line_regions import Region
from agentless_mini.line_rewriting import (
    Fork,
    Kind,
    Spelling,
    Step,
    Tokens,
    align,
    old_score,
    propose,
    write_passage,
)
from tests.line_words import Words

CODE = 'def f(a):\n    """Say a."""\n    # silent\n    return a + 1\n\n\nf(2)\n'
REGION = Region("m.py", 1, CODE)


def flat(tokens: Tokens, others: dict[int, tuple[tuple[int, float], ...]] | None = None) -> list[Step]:
    """A model that is sure of every token, but for the places in `others`."""
    start, stop = tokens.lines[0].first, tokens.lines[-1].last + 1
    return [Step(-0.5, -9.0, -7.0, (others or {}).get(place, ())) for place in range(start, stop)]


# --- the text --------------------------------------------------------------------------------------------------------


def test_the_text_shows_the_issue_the_code_and_the_same_code_again() -> None:
    passage = write_passage("It is wrong.\n\nSee f.", [REGION])
    assert passage.text == (
        f"# m.py before the fix:\n{CODE}\n# Issue:\n# It is wrong.\n#\n# See f.\n"
        f"\n# m.py after the fix:\n{CODE}\n# The end.\n"
    )


def test_lines_that_do_something_may_be_rewritten_and_no_others() -> None:
    passage = write_passage("", [REGION])
    data = passage.text.encode()
    assert [data[line.start : line.end].decode() for line in passage.lines] == ["def f(a):", "    return a + 1", "f(2)"]
    assert [line.row for line in passage.lines] == [0, 3, 6]
    assert all(line.start > len(data) // 2 for line in passage.lines)


def test_comments_of_other_languages_are_lines_like_any_other() -> None:
    passage = write_passage("", [Region("m.c", 1, "# define X\n\nint x;\n")])
    assert [line.row for line in passage.lines] == [0, 2]


def test_undecodable_text_does_not_move_the_lines() -> None:
    region = Region("m\udcff.txt", 1, "caf\u00e9\n\udcff\nend\n")
    passage = write_passage("odd \udcff", [region])
    assert [passage.text.encode()[line.start : line.end].decode() for line in passage.lines] == ["caf\u00e9", "end"]


# --- tokens ----------------------------------------------------------------------------------------------------------


def test_each_line_has_its_tokens_and_the_one_that_ends_it() -> None:
    words = Words()
    tokens = words.read(write_passage("", [REGION]))
    spoken = [b"".join(tokens.pieces[line.first : line.last + 1]) for line in tokens.lines]
    assert [line.kept + text for line, text in zip(tokens.lines, spoken, strict=True)] == [
        b"def f(a):\n   ",
        b"    return a + 1\n",
        b"f(2)\n",
    ]
    assert tokens.lines[1].kept == b"   "


def test_a_tokenizer_that_changes_the_text_is_noticed() -> None:
    passage = write_passage("", [REGION])
    assert align(passage, [0], [passage.text.lower().encode()]) is None


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r"), max_size=9), min_size=1))
def test_any_tokenization_gives_back_each_line(rows: list[str]) -> None:
    region = Region("m.txt", 1, "".join(row + "\n" for row in rows))
    passage = write_passage("", [region])
    data = passage.text.encode()
    pieces = [data[at : at + 3] for at in range(0, len(data), 3)]
    tokens = align(passage, range(len(pieces)), pieces)
    assert tokens is not None
    for line in tokens.lines:
        same = Fork(Kind.REPLACE, tokens.lines.index(line), line.first, tuple(range(line.first, line.last + 1)), 0, 0)
        try:
            wanted = data[line.line.start : line.line.end].decode()
        except UnicodeDecodeError:
            continue
        assert tokens.rewritten(same, lambda token: pieces[token]) == wanted


# --- forks -----------------------------------------------------------------------------------------------------------


def anything(fork: Fork) -> bool:
    return not fork.open


def forks_of(kind: Kind, forks: Sequence[Fork], words: Words, tokens: Tokens) -> list[str | None]:
    return [tokens.rewritten(fork, words.piece) for fork in forks if fork.kind is kind and not fork.open]


def test_the_four_kinds_of_forks() -> None:
    words = Words()
    passage = write_passage("", [Region("m.py", 1, "x = a + 1\n")])
    tokens = words.read(passage)
    minus, end = words.id(b" -"), words.id(b"\n")
    place = next(at for at in range(tokens.lines[0].first, len(tokens.ids)) if tokens.pieces[at] == b" +")
    steps = flat(tokens, {place: ((minus, -1.0), (end, -2.0))})
    forks = propose(tokens, steps, (), words.piece, anything)
    assert forks_of(Kind.REPLACE, forks, words, tokens) == ["x = a - 1"]
    assert forks_of(Kind.INSERT, forks, words, tokens) == ["x = a - + 1"]
    assert forks_of(Kind.GREEDY, forks, words, tokens) == ["x = a"]
    assert forks_of(Kind.DELETE, forks, words, tokens) == [" = a + 1", "x a + 1", "x = + 1", "x = a 1", "x = a +"]
    (open_fork,) = [fork for fork in forks if fork.open]
    assert (open_fork.tokens, open_fork.place, open_fork.odds, open_fork.opening) == ((minus,), place, -0.5, -1.0)
    (cut,) = [fork for fork in forks if fork.kind is Kind.GREEDY and not fork.open]
    assert (cut.opening, cut.odds) == (-7.0, -1.5)
    assert old_score(tokens, steps, open_fork) == -0.5 * (tokens.lines[0].last + 1 - place)


def test_a_line_can_be_added_to_but_its_end_is_not_taken_away() -> None:
    words = Words()
    tokens = words.read(write_passage("", [Region("m.py", 1, "x\n")]))
    last = tokens.lines[0].last
    others = tuple((words.id(piece), -1.0) for piece in (b" y", b"", b"\n "))
    forks = propose(tokens, flat(tokens, {last: others}), (), words.piece, anything)
    assert {(fork.kind, fork.open) for fork in forks} == {
        (Kind.GREEDY, True), (Kind.INSERT, False), (Kind.DELETE, False)
    }  # fmt: skip
    assert forks_of(Kind.INSERT, forks, words, tokens) == ["x y"]


def test_of_each_kind_the_likeliest_are_kept() -> None:
    words = Words()
    tokens = words.read(write_passage("", [Region("m.py", 1, "a b c d e f g h i j k\n" * 10)]))
    others = tuple((words.id(f" w{number}".encode()), -1.0 - number) for number in range(5))
    places = range(tokens.lines[0].first, tokens.lines[-1].last + 1)
    forks = propose(tokens, flat(tokens, dict.fromkeys(places, others)), (), words.piece, anything)
    counts = {kind: sum(fork.kind is kind for fork in forks) for kind in Kind}
    assert counts == {kind: 0 if kind is Kind.MUTANT else kind.value for kind in Kind}
    assert {fork.odds for fork in forks if fork.kind is Kind.INSERT} == {-0.5}
    assert propose(tokens, flat(tokens, dict.fromkeys(places, others)), (), words.piece, anything) == forks


def test_a_mutant_is_judged_by_what_the_model_thinks_of_its_first_token() -> None:
    words = Words()
    tokens = words.read(write_passage("", [Region("m.py", 1, "x = a + 1\n")]))
    line = tokens.lines[0]
    plain = flat(tokens)
    asked = replace(plain[2], asked=((77, -3.0), (78, -2.0)))
    spellings = [Spelling(0, line.first + 2, (77, 5), 1), Spelling(0, line.first + 2, (78, 6, 5), 2)]
    forks = propose(tokens, [*plain[:2], asked, *plain[3:]], spellings, words.piece, anything)
    best, other = [fork for fork in forks if fork.kind is Kind.MUTANT]
    assert (best.tokens, best.odds, best.opening, best.written) == ((78, 6, 5), -1.5, -2.0, 2)
    assert (other.tokens, other.odds, other.opening) == ((77, 5), -2.5, -3.0)
    assert old_score(tokens, plain, best) == -0.5 * (line.last + 1 - best.place)


def test_mutants_of_a_line_that_the_model_is_sure_of_are_judged_too() -> None:
    words = Words()
    tokens = words.read(write_passage("", [Region("m.py", 1, "x\ny\n")]))
    first, second = (line.first for line in tokens.lines)
    spellings = [Spelling(0, first, (token,), 1) for token in range(1000)]
    spellings += [Spelling(1, second, (token,), 1) for token in range(200)]
    steps = flat(tokens)
    for place, odds in ((first, -1.0), (second, -20.0)):
        asked = tuple((token, odds - token / 1000) for token in range(1000))
        steps[place - first] = replace(steps[place - first], asked=asked)
    forks = propose(tokens, steps, spellings, words.piece, anything)
    chosen = [fork for fork in forks if fork.kind is Kind.MUTANT]
    assert [fork.line for fork in chosen] == [0] * 240 + [0, 1] * 120
    assert [fork.tokens[0] for fork in chosen if fork.line == 1] == list(range(120))


def test_what_does_not_fit_leaves_its_place_to_the_next() -> None:
    words = Words()
    tokens = words.read(write_passage("", [Region("m.py", 1, "a b c d e f g h i j k\n" * 30)]))
    asked: list[Fork] = []

    def fits(fork: Fork) -> bool:
        asked.append(fork)
        return len(asked) % 2 == 0

    forks = propose(tokens, flat(tokens), (), words.piece, fits)
    assert len(forks) == Kind.DELETE.value
    assert len(asked) == 2 * Kind.DELETE.value
    assert set(forks) == set(asked[1::2])


def test_bytes_that_are_no_text_are_no_rewrite() -> None:
    words = Words()
    tokens = words.read(write_passage("", [Region("m.py", 1, "x\n")]))
    half, end = words.id(b"\xf0\x9f"), words.id(b"\n")
    assert tokens.rewritten(Fork(Kind.REPLACE, 0, tokens.lines[0].first, (half, end), 0, 0), words.piece) is None
    assert tokens.rewritten(Fork(Kind.REPLACE, 0, tokens.lines[0].first, (end,), 0, 0), words.piece) == ""
    assert tokens.rewritten(Fork(Kind.REPLACE, 0, tokens.lines[0].first, (), 0, 0), words.piece) is None


def test_no_fork_renames_what_a_line_defines() -> None:
    words = Words()
    tokens = words.read(write_passage("", [Region("m.py", 1, "def f(a):\n    pass\n")]))
    places = range(tokens.lines[0].first, tokens.lines[-1].last + 1)
    steps = flat(tokens, dict.fromkeys(places, ((words.id(b" x"), -1.0),)))
    forks = propose(tokens, steps, (), words.piece, anything)
    first = tokens.lines[0].first
    assert {fork.place - first for fork in forks if fork.line == 0} == {0, 3, 4, 5, 6}
    assert tokens.pieces[first : first + 4] == (b"def", b" f", b"(", b"a")


def test_a_long_kept_rest_counts_up_to_the_horizon_on_both_sides() -> None:
    words = Words()
    tokens = words.read(write_passage("", [Region("m.py", 1, "x" + " y" * 80 + "\n")]))
    line = tokens.lines[0]
    steps = [replace(step, here=-1.0) for step in flat(tokens)]
    rest = tokens.ids[line.first : line.last + 1]
    for kind, new, written, counted, covered in (
        (Kind.REPLACE, (7, *rest[1:]), 1, 5, 5), (Kind.INSERT, (7, *rest), 1, 5, 4), (Kind.DELETE, rest[1:], 0, 4, 5),
        (Kind.MUTANT, (7, 8, 9, *rest[2:]), 3, 7, 6), (Kind.MUTANT, (7, *rest[-2:]), 1, 3, len(rest)),
    ):  # fmt: skip
        fork = Fork(kind, 0, line.first, new, 0, 0, written)
        assert fork.scored == new[:counted]
        assert old_score(tokens, steps, fork) == -covered
    grown = Fork(Kind.GREEDY, 0, line.first, rest, 0, 0)
    assert grown.scored == rest
    assert old_score(tokens, steps, grown) == -len(rest)
