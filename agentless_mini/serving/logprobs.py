"""Logits of the whole vocabulary -> the few log-probabilities that line rewriting works with.

A batch of logits is some hundred megabytes: it is read in blocks that fit a cache, and what none asks for is dropped.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentless_mini.line_rewriting import Spelling, Step, Tokens

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

OTHERS = 16
BLOCK = 64


@dataclass(frozen=True, slots=True)
class Question:
    """The tokens whose log-probability is wanted at one place: the one there, the one after it, the line's end, and
    those with which spellings go on."""

    here: int
    after: int
    end: int
    more: tuple[int, ...]


def questions(tokens: Tokens, spellings: Iterable[Spelling]) -> list[Question]:
    """Return what is asked at each place from the first line's first token to the last line's end."""
    more: dict[int, set[int]] = {}
    for spelling in spellings:
        more.setdefault(spelling.place, set()).add(spelling.tokens[0])
    start, stop = tokens.lines[0].first, tokens.lines[-1].last + 1
    ends = {place: line.last for line in tokens.lines for place in range(line.first, line.last + 1)}
    ids = tokens.ids
    return [
        Question(ids[at], ids[min(at + 1, stop - 1)], ids[ends.get(at, at)], tuple(sorted(more.get(at, ()))))
        for at in range(start, stop)
    ]


def read_steps(logits: "NDArray[np.float32]", asked: Sequence[Question]) -> Iterator[Step]:
    """Yield the answer to each question from its row of logits, [len(asked), vocabulary]."""
    import numpy as np

    for low in range(0, len(asked), BLOCK):
        block = logits[low : low + BLOCK]
        best = np.argpartition(block, -OTHERS - 1, axis=1)[:, -OTHERS - 1 :]
        rows = zip(asked[low : low + BLOCK], block, log_sums(block), best.tolist(), strict=True)
        for question, row, total, likeliest in rows:
            others = sorted((-float(row[token] - total), token) for token in likeliest if token != question.here)
            here, after, end = (float(row[at] - total) for at in (question.here, question.after, question.end))
            more = tuple((token, float(row[token] - total)) for token in question.more)
            yield Step(here, after, end, tuple((token, -surprise) for surprise, token in others[:OTHERS]), more)


def chosen(logits: "NDArray[np.float32]", tokens: "NDArray[np.int64]") -> "NDArray[np.float32]":
    """Return the log-probability of one token of each row."""
    import numpy as np

    found: NDArray[np.float32] = logits[np.arange(len(tokens)), tokens] - log_sums(logits)
    return found


def log_sums(logits: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """Return the logarithm of each row's sum of exponentials."""
    import numpy as np

    sums = []
    for low in range(0, len(logits), BLOCK):
        block = logits[low : low + BLOCK]
        peaks = block.max(axis=1)
        sums.append(peaks + np.log(np.exp(block - peaks[:, None]).sum(axis=1)))
    return np.concatenate(sums)
