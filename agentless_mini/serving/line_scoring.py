"""Line rewriting with llama.cpp: one prefill, many short forks that share it, exact scores.

Why it exists apart from `line_rewriting`: this half asks the model and needs arrays. It decides nothing about which
forks exist or how they become edits.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agentless_mini.domain import EditTask
from agentless_mini.errors import UsageError
from agentless_mini.line_edits import Novelty, Rewrite, ranked
from agentless_mini.line_mutants.spelling import spell
from agentless_mini.line_regions import Region, choose_regions, named_rows
from agentless_mini.line_rewriting import (
    Fork,
    Passage,
    Step,
    TokenLine,
    Tokens,
    align,
    old_score,
    propose,
    write_passage,
)
from agentless_mini.serving.llama import Context, Rows
from agentless_mini.serving.logprobs import Question, chosen, log_sums, questions, read_steps

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORKS_AT_ONCE = 32
ISSUE_TOKENS = 600
LONGER_BY = 12
# What speaks for a line, in log-odds, when it is in a function that the issue names.
NAMED = 2.0


@dataclass(frozen=True, slots=True)
class Ranking:
    """Every distinct rewrite, the best first, and the tokens that it took: of the text, and of the forks."""

    rewrites: tuple[Rewrite, ...]
    prompt_tokens: int
    fork_tokens: int


@dataclass(frozen=True, slots=True)
class Scored:
    """What is copied, its rewrites in no order, among them equal ones, and the tokens that it took."""

    regions: tuple[Region, ...]
    rewrites: tuple[Rewrite, ...]
    prompt_tokens: int
    fork_tokens: int


class LineScorer:
    """Ranks the rewrites of one task's lines. `watch` is told of the tokens decoded since it was last told."""

    def __init__(self, context: Context, watch: Callable[[int], None]) -> None:
        """Rank with a context that nothing else uses meanwhile, of more than FORKS_AT_ONCE sequences."""
        self._context, self._model, self._watch = context, context.model, watch
        self._pieces = dict[int, bytes]()
        self._decoded = 0

    def rank(self, task: EditTask, copy_tokens: int) -> Ranking:
        """Rank the rewrites of what is copied, each form of one once."""
        scored = self.score(task, copy_tokens)
        return Ranking(ranked(scored.regions, scored.rewrites), scored.prompt_tokens, scored.fork_tokens)

    def score(self, task: EditTask, copy_tokens: int) -> Scored:
        """Score the rewrites of what is copied: at most `copy_tokens` of the code, twice.

        Deterministic for one number of threads: another number may add floats in another order.
        Raises `llama.Aborted`, and `UsageError` where the model's tokenizer does not keep the text's bytes.
        """
        passage = self._passage(task, copy_tokens)
        tokens = self._tokens(passage)
        if not tokens.lines:
            return Scored(passage.regions, (), 0, 0)
        self._context.clear()
        spellings = spell(passage, tokens, self._model.tokenize)
        steps = self._prefill(tokens, questions(tokens, spellings))
        prompt_tokens, self._decoded = self._decoded, 0
        draft = _Draft(tokens, passage, task.issue, self._piece)
        forks = propose(tokens, steps, spellings, self._piece, draft.parses)
        scored = [(fork, score - old_score(tokens, steps, fork)) for fork, score in self._judged(tokens, forks)]
        return Scored(passage.regions, draft.rewrites(scored), prompt_tokens, self._decoded)

    def _passage(self, task: EditTask, copy_tokens: int) -> Passage:
        def count(text: str) -> int:
            return len(self._model.tokenize(text))

        issue = task.issue.strip().splitlines()
        while issue and count("\n".join(issue)) > ISSUE_TOKENS:
            issue.pop()
        return write_passage("\n".join(issue), choose_regions(task, copy_tokens, count))

    def _tokens(self, passage: Passage) -> Tokens:
        ids = self._model.tokenize(passage.text)
        tokens = align(passage, ids, [self._piece(token) for token in ids])
        if tokens is None:
            raise UsageError("This model's tokenizer changes the text, so it cannot rewrite lines: use another way.")
        return tokens

    def _piece(self, token: int) -> bytes:
        if token not in self._pieces:
            self._pieces[token] = self._model.piece(token)
        return self._pieces[token]

    def _decode(self, rows: Rows) -> "NDArray[np.float32]":
        logits = self._context.decode(rows)
        self._decoded += len(rows.tokens)
        self._watch(len(rows.tokens))
        return logits

    # --- the text ---------------------------------------------------------------------------------------------------

    def _prefill(self, tokens: Tokens, asked: Sequence[Question]) -> tuple[Step, ...]:
        """Decode the text once as sequence 0 and return the steps from the first line's first token on."""
        start, stop = tokens.lines[0].first, tokens.lines[-1].last + 1
        steps: list[Step] = []
        for low in range(0, stop - 1, self._context.shape.batch):
            places = range(low, min(low + self._context.shape.batch, stop - 1))
            logits = self._decode(Rows.of([(tokens.ids[at], at, 0, at + 1 >= start) for at in places]))
            first = max(low + 1, start)
            steps += read_steps(logits, asked[first - start : first - start + len(logits)])
        return tuple(steps)

    # --- the forks --------------------------------------------------------------------------------------------------

    def _judged(self, tokens: Tokens, forks: Sequence[Fork]) -> Iterator[tuple[Fork, float]]:
        """Yield each fork, complete, with the log-probability of its scored tokens."""
        closed = [fork for fork in forks if not fork.open]
        for group in _packed(closed, self._context.shape.batch):
            yield from zip(group, self._score_group(group), strict=True)
        yield from self._grow(tokens, [fork for fork in forks if fork.open])

    def _branch(self, sequence: int, fork: Fork) -> None:
        self._context.forget(sequence, 0)
        self._context.share(0, sequence, fork.place)

    def _score_group(self, forks: Sequence[Fork]) -> list[float]:
        import numpy as np

        for sequence, fork in enumerate(forks, 1):
            self._branch(sequence, fork)
        rows = [
            (token, fork.place + at, sequence, True)
            for sequence, fork in enumerate(forks, 1)
            for at, token in enumerate(fork.scored[:-1])
        ]
        scores = [fork.opening for fork in forks]
        if rows:
            following = np.array([token for fork in forks for token in fork.scored[1:]])
            logps = chosen(self._decode(Rows.of(rows)), following)
            for (_, _, sequence, _), logp in zip(rows, logps, strict=True):
                scores[sequence - 1] += float(logp)
        for sequence in range(1, len(forks) + 1):
            self._context.forget(sequence, 0)
        return scores

    def _grow(self, tokens: Tokens, forks: Sequence[Fork]) -> Iterator[tuple[Fork, float]]:
        """Let the model finish each line greedily, FORKS_AT_ONCE of them; one that grows too long is dropped."""
        waiting = iter(sorted(forks, key=lambda fork: (fork.line, fork.place)))
        growing: dict[int, _Growing] = {}
        free = list(range(1, FORKS_AT_ONCE + 1))
        while True:
            for fork in itertools.islice(waiting, len(free)):
                sequence = free.pop()
                self._branch(sequence, fork)
                growing[sequence] = _Growing(fork, fork.opening)
            if not growing:
                return
            for sequence, grown in self._grown(tokens, growing).items():
                growing[sequence] = grown
                if grown.is_complete:
                    yield grown.fork, grown.score
                if grown.is_complete or grown.is_too_long(tokens.lines[grown.fork.line]):
                    self._context.forget(sequence, 0)
                    free.append(sequence)
                    del growing[sequence]

    def _grown(self, tokens: Tokens, growing: Mapping[int, "_Growing"]) -> dict[int, "_Growing"]:
        """Let each sequence grow by one token."""
        logits = self._decode(Rows.of([(one.last_token, one.place, at, True) for at, one in growing.items()]))
        sums = log_sums(logits)
        grown = {}
        for row, (sequence, one) in enumerate(growing.items()):
            line_end = tokens.ids[tokens.lines[one.fork.line].last]
            grown[sequence] = one.step(logits[row], float(sums[row]), line_end, self._piece)
        return grown


class _Draft:
    """The forks of one text as rewrites."""

    def __init__(self, tokens: Tokens, passage: Passage, issue: str, piece: Callable[[int], bytes]) -> None:
        self._tokens, self._passage, self._piece = tokens, passage, piece
        self._novelty = Novelty(passage.regions)
        self._named = [named_rows(region, issue) for region in passage.regions]

    def parses(self, fork: Fork) -> bool:
        """Say whether the code would still parse."""
        return any(map(self._novelty.parses, self._rewrite(fork, 0.0)))

    def rewrites(self, scored: Sequence[tuple[Fork, float]]) -> tuple[Rewrite, ...]:
        """Return the forks as rewrites, but for those whose bytes are no line of text."""
        return tuple(rewrite for fork, score in scored for rewrite in self._rewrite(fork, score))

    def _rewrite(self, fork: Fork, score: float) -> Iterator[Rewrite]:
        """Yield the fork as a rewrite, nothing where its bytes are no line of text."""
        text = self._tokens.rewritten(fork, self._piece)
        if text is not None:
            line = self._tokens.lines[fork.line].line
            bonus = NAMED if line.row in self._named[line.region] else 0.0
            yield Rewrite(self._passage.regions[line.region], line.row, text, score + bonus, fork.kind)


@dataclass(frozen=True, slots=True)
class _Growing:
    fork: Fork
    score: float
    is_complete: bool = False

    @property
    def last_token(self) -> int:
        return self.fork.tokens[-1]

    @property
    def place(self) -> int:
        return self.fork.place + len(self.fork.tokens) - 1

    def step(
        self, logits: "NDArray[np.float32]", total: float, line_end: int, piece: Callable[[int], bytes]
    ) -> "_Growing":
        """Add the likeliest token; where that ends the line, add the old line's own end instead."""
        best = int(logits.argmax())
        ends = b"\n" in piece(best)
        token = line_end if ends and piece(line_end).startswith(b"\n") else best
        score = self.score + float(logits[token]) - total
        return _Growing(replace(self.fork, tokens=(*self.fork.tokens, token)), score, ends)

    def is_too_long(self, line: TokenLine) -> bool:
        return len(self.fork.tokens) > line.last - self.fork.place + LONGER_BY


def _packed(forks: Sequence[Fork], batch: int) -> Iterator[list[Fork]]:
    """Group forks of one batch: at most FORKS_AT_ONCE, and no more tokens than fit."""
    group: list[Fork] = []
    size = 0
    for fork in sorted(forks, key=lambda fork: (fork.line, fork.place)):
        if group and (len(group) == FORKS_AT_ONCE or size + len(fork.scored) > batch):
            yield group
            group, size = [], 0
        group.append(fork)
        size += len(fork.scored)
    if group:
        yield group
