"""Mutants as tokens: where a line in other words leaves the tokens of the old one, and how it goes on."""

from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile

from agentless_mini.line_mutants import mutants
from agentless_mini.line_rewriting import Passage, Spelling, TokenLine, Tokens


def spell(passage: Passage, tokens: Tokens, tokenize: Callable[[str], Sequence[int]]) -> tuple[Spelling, ...]:
    """Return the mutants of the lines, each once.

    A line has none where its tokens alone are not those that it has in the text, as with tokenizers that begin every
    text with a blank.
    """
    texts: dict[tuple[int, int], list[str]] = {}
    for number, region in enumerate(passage.regions):
        for mutant in mutants(region):
            texts.setdefault((number, mutant.row), []).append(mutant.text)
    found: dict[Spelling, None] = {}
    for number, line in enumerate(tokens.lines):
        wanted = texts.get((line.line.region, line.line.row), [])
        found.update(dict.fromkeys(_spelled(tokens, number, line, wanted, tokenize)))
    return tuple(found)


def _spelled(
    tokens: Tokens, number: int, line: TokenLine, texts: Sequence[str], tokenize: Callable[[str], Sequence[int]]
) -> Iterator[Spelling]:
    ids = tokens.ids[line.first : line.last + 1]
    old = b"".join(tokens.pieces[line.first : line.last + 1]).decode(errors="replace")
    end = old[old.index("\n") :]
    if tuple(tokenize(old)) != ids:
        return
    kept = line.kept.decode(errors="replace")
    for text in texts:
        new = tuple(tokenize(text.removeprefix(kept) + end))
        same = _common(ids, new)
        if same < min(len(ids), len(new)):
            rest = new[same:]
            kept_tokens = _common(ids[same:][::-1], rest[::-1])
            yield Spelling(number, line.first + same, rest, len(rest) - kept_tokens)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
