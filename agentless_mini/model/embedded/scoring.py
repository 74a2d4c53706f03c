"""Ranks the mutants of some code by how much likelier a model finds them than the lines that are there.

A text shows the code "before the fix", the issue, and the same code again "after the fix". One pass over it gives the
odds of each mutant's first token in the second copy; the best are scored exactly, many in a batch, each as a sequence
that shares the text up to its place. Score = log p(new rest of the line) - log p(old rest of the line).
"""

import ast
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from agentless_mini.domain import EditTask
from agentless_mini.errors import UsageError
from agentless_mini.model.embedded.llama import Context, Row
from agentless_mini.model.embedded.mutants import mutants
from agentless_mini.model.embedded.regions import Region, choose_regions, named_rows, parse

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SEQUENCES = 128  # of the context: the text, and the mutants of a batch
MOST = 480  # mutants that are scored: half the likeliest of all by their first token, half line by line
HORIZON = 4  # tokens: of the rest of a line that a mutant keeps, what lies further on says next to nothing about it
ISSUE_TOKENS = 600
NAMED = 2.0  # what speaks for a line, in log-odds, when it is in a function that the issue names
PER_LINE = 8  # mutants of one line that come before the next ones of it wait for those of the other lines
_BLOCK = 64  # rows of logits that fit a cache


class Rewrite(NamedTuple):
    """A row of a region in new words, and how much likelier the model finds them (log), with what else is for them."""

    region: Region
    row: int
    text: str
    score: float = 0.0


class Ranking(NamedTuple):
    """Every distinct rewrite, the best first, and the tokens that it took: of the text, and of the mutants."""

    rewrites: tuple[Rewrite, ...] = ()
    prompt_tokens: int = 0
    mutant_tokens: int = 0


class Piece(NamedTuple):
    """Some of the text, which begins with its line ends, as most tokenizers cut it; of which row it is, if of one."""

    text: str
    region: Region | None = None
    row: int = 0


class Fork(NamedTuple):
    """A rewrite as tokens: at `place` the text goes on with `tokens`, in the stead of those up to `stop`."""

    rewrite: Rewrite
    place: int
    tokens: tuple[int, ...]
    stop: int


Node = tuple[int, tuple[int, ...]]
"""A place in the text, and some tokens of a fork from there on."""


def write_passage(issue: str, regions: Sequence[Region]) -> list[Piece]:
    """Write the regions before the fix, the issue as comments, and the same regions after the fix."""
    said = "".join(f"\n# {line}".rstrip() for line in ["Issue:", *issue.strip().splitlines()])
    pieces = [Piece("".join(f"# {one.path} before the fix:\n{one.text}\n" for one in regions)[:-1] + said)]
    for region in regions:
        pieces.append(Piece(f"\n\n# {region.path} after the fix:"))
        gap = "\n"
        for row, line in enumerate(region.text.removesuffix("\n").split("\n")):
            gap += line if line.strip() else line + "\n"
            if line.strip():
                is_text = line.encode(errors="replace").decode() == line  # surrogates stand for undecodable bytes
                pieces.append(Piece(gap, region if is_text else None, row))
                gap = "\n"
    return [*pieces, Piece("\n\n# The end.")]


def spell(pieces: Sequence[Piece], tokens: Sequence[Sequence[int]], tokenize: Callable[[str], list[int]]) -> list[Fork]:
    """Return the mutants of the pieces that are rows, whose tokens are given, as tokens; of equal ones the first."""
    rewrites: dict[tuple[Region | None, int], list[Rewrite]] = {}
    for region in dict.fromkeys(piece.region for piece in pieces if piece.region):
        for mutant in mutants(region):
            rewrites.setdefault((region, mutant.row), []).append(Rewrite(region, *mutant))
    found: dict[Node, Fork] = {}
    start = 0
    for (piece, own), following in zip(zip(pieces, tokens, strict=True), [*tokens[1:], []], strict=True):
        old, gap = [*own, *following[:1]], piece.text[: piece.text.rfind("\n") + 1]
        for rewrite in rewrites.get((piece.region, piece.row), ()):
            new = [*tokenize(gap + rewrite.text), *following[:1]]
            same = _common(old, new)
            if same < min(len(old), len(new)):
                rest, place = tuple(new[same:]), start + same
                scored = rest[: len(rest) - _common(old[same:][::-1], rest[::-1]) + HORIZON]
                stop = start + len(old) - (len(rest) - len(scored))
                found.setdefault((place, rest), Fork(rewrite, place, scored, stop))
        start += len(own)
    return list(found.values())


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens both begin with."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def choose(forks: Iterable[Fork], odds: Callable[[Fork], float]) -> list[Fork]:
    """Return the forks worth scoring, by the odds of their first token: the best of all, then the best of each line.

    (A copying model is so sure of some lines that none of their mutants is among the likeliest.) What does not parse,
    or differs from the code and those before by formatting alone, is left out.
    """
    every = sorted(forks, key=lambda fork: (-odds(fork), fork.place, fork.tokens))
    ordered = [*every[: MOST // 2], *_by_turns(every[MOST // 2 :], 1)]
    known = {(*row, form(*row)) for row in {fork.rewrite[:2] for fork in every}}
    chosen: list[Fork] = []
    for fork in ordered:
        found = (*fork.rewrite[:2], form(*fork.rewrite[:3]))
        if found[2] is not None and found not in known and len(chosen) < MOST:
            known.add(found)
            chosen.append(fork)
    return chosen


def _by_turns(forks: Iterable[Fork], at_once: int) -> list[Fork]:
    """Return the forks in rounds, in each of which every row has its next so many."""
    counts, rounds = Counter[tuple[Region, int]](), list[tuple[int, Fork]]()
    for fork in forks:
        rounds.append((counts[fork.rewrite[:2]] // at_once, fork))
        counts[fork.rewrite[:2]] += 1
    return [fork for _, fork in sorted(rounds, key=lambda pair: pair[0])]


def form(region: Region, row: int, text: str | None = None) -> str | None:
    """Return the statement of a row, in other words if given, but for its formatting; None where nothing parses."""
    rows = region.text.split("\n")
    rows[row] = rows[row] if text is None else text
    if not region.is_python:
        return " ".join(rows[row].split())
    inner: ast.AST | None = parse("\n".join(rows))
    node = inner
    while inner is not None:
        node = inner
        children = (child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt))
        inner = next((one for one in children if one.lineno <= row + 1 <= (one.end_lineno or 0)), None)
    return ast.dump(node) if node else None


def ordered(forks: Iterable[Fork], score: Callable[[Fork], float]) -> tuple[Rewrite, ...]:
    """Return the rewrites by score, then place and text, but of every line only so many in one round."""
    scored = [fork._replace(rewrite=fork.rewrite._replace(score=score(fork))) for fork in forks]
    scored.sort(key=lambda one: (-one.rewrite.score, one.rewrite.region.path, one.place, one.rewrite.text))
    return tuple(fork.rewrite for fork in _by_turns(scored, PER_LINE))


def packed(forks: Iterable[Fork], most: int, batch: int) -> Iterator[tuple[list[Fork], dict[Node, list[int]]]]:
    """Group forks of one batch: at most so many, and no more tokens than fit; what they begin with alike is one token.

    With each group come the tokens to decode, and the sequences that each belongs to: fork i of it is number i + 1.
    """
    group, nodes = list[Fork](), dict[Node, list[int]]()
    for fork in sorted(forks, key=lambda fork: (fork.place, fork.tokens)):
        own = [(fork.place, fork.tokens[:end]) for end in range(1, len(fork.tokens))]
        if group and (len(group) == most or len({*nodes, *own}) > batch):
            yield group, nodes
            group, nodes = [], {}
        group.append(fork)
        for node in own:
            nodes.setdefault(node, []).append(len(group))
    if group:
        yield group, nodes


class LineScorer:
    """Ranks the mutants of one task's lines. `watch` is told of the tokens decoded since it was last told."""

    def __init__(self, context: Context, watch: Callable[[int], None]) -> None:
        """Rank with a context of at least two sequences that nothing else uses meanwhile."""
        self._context, self._model, self._watch = context, context.model, watch
        self._decoded = 0

    def rank(self, task: EditTask, copy_tokens: int) -> Ranking:
        """Rank the mutants of what is copied: at most `copy_tokens` of the code, twice. One thread count ranks alike.

        Raises `llama.Aborted`, and `UsageError` where the model's tokenizer does not keep the text's bytes.
        """
        issue = task.issue.strip().splitlines()
        while issue and self._count("\n".join(issue)) > ISSUE_TOKENS:
            issue.pop()
        pieces = write_passage("\n".join(issue), choose_regions(task, copy_tokens, self._count))
        tokens = [self._model.tokenize(piece.text) for piece in pieces]
        ids = [token for some in tokens for token in some]
        if b"".join(map(self._model.piece, ids)) != "".join(piece.text for piece in pieces).encode(errors="replace"):
            raise UsageError("This model's tokenizer changes the text, so it cannot rewrite lines: use another way.")
        forks = spell(pieces, tokens, self._model.tokenize)
        if not forks:
            return Ranking()
        logps = self._read(ids, forks)
        prompt_tokens, self._decoded = self._decoded, 0
        chosen = choose(forks, lambda fork: logps[fork.place, fork.tokens[:1]] - logps[fork.place, (ids[fork.place],)])
        for group, nodes in packed(chosen, self._context.sequences - 1, self._context.batch):
            logps |= self._score(group, nodes)
        named = {region: named_rows(region, task.issue) for region in {fork.rewrite.region for fork in chosen}}

        def score(fork: Fork) -> float:
            new = sum(logps[fork.place, fork.tokens[:end]] for end in range(1, len(fork.tokens) + 1))
            old = sum(logps[place, (ids[place],)] for place in range(fork.place, fork.stop))
            return new - old + (NAMED if fork.rewrite.row in named[fork.rewrite.region] else 0.0)

        return Ranking(ordered(chosen, score), prompt_tokens, self._decoded)

    def _count(self, text: str) -> int:
        return len(self._model.tokenize(text))

    def _read(self, ids: Sequence[int], forks: Sequence[Fork]) -> dict[Node, float]:
        """Decode the text as sequence 0; return the log-probabilities of the forks' first tokens and of its own."""
        start, stop = min(fork.place for fork in forks), max(fork.stop for fork in forks)
        asked = {place: {ids[place]} for place in range(start, stop)}
        for fork in forks:
            asked[fork.place].add(fork.tokens[0])
        self._context.clear()
        logps: dict[Node, float] = {}
        for low in range(0, stop - 1, self._context.batch):
            places = range(low + 1, min(low + self._context.batch, stop - 1) + 1)
            logits = self._decode([(ids[at - 1], at - 1, (0,), at >= start) for at in places])
            wanted = range(max(places.start, start), places.stop)
            for place, row, total in zip(wanted, logits, log_sums(logits), strict=True):
                logps |= {(place, (token,)): float(row[token] - total) for token in asked[place]}
        return logps

    def _score(self, group: Sequence[Fork], nodes: Mapping[Node, Sequence[int]]) -> dict[Node, float]:
        """Decode what some forks say, and return the log-probability of each token of them after their first ones."""
        if not nodes:
            return {}
        for sequence, fork in enumerate(group, 1):
            self._context.share(0, sequence, fork.place)
        logits = self._decode([(said[-1], at + len(said) - 1, who, True) for (at, said), who in nodes.items()])
        rows = dict(zip(nodes, zip(logits, log_sums(logits), strict=True), strict=True))
        for sequence in range(1, len(group) + 1):
            self._context.forget(sequence)
        every = {(fork.place, fork.tokens[:end]) for fork in group for end in range(2, len(fork.tokens) + 1)}
        found = ((node, *rows[node[0], node[1][:-1]]) for node in every)
        return {node: float(row[node[1][-1]] - total) for node, row, total in found}

    def _decode(self, rows: Sequence[Row]) -> "NDArray[np.float32]":
        logits = self._context.decode(rows)
        self._decoded += len(rows)
        self._watch(len(rows))
        return logits


def log_sums(logits: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """Return the logarithm of each row's sum of exponentials."""
    import numpy as np

    sums = [np.empty(0, np.float32)]
    for low in range(0, len(logits), _BLOCK):
        block = logits[low : low + _BLOCK]
        peaks = block.max(axis=1)
        sums.append(peaks + np.log(np.exp(block - peaks[:, None]).sum(axis=1)))
    return np.concatenate(sums)
