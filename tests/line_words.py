"""A tokenizer for tests of line rewriting, in place of a model's."""

import re

from agentless_mini.line_rewriting import Passage, Tokens, align


class Words:
    """A tokenizer of words, marks, and line ends with the blanks that follow, as byte-level vocabularies have them."""

    def __init__(self) -> None:
        self.vocabulary: list[bytes] = []

    def tokenize(self, text: str) -> list[int]:
        return [self.id(piece.encode()) for piece in re.findall(r"\n\s*(?= |\Z)|\n| ?\w+| ?[^\w\n]", text)]

    def id(self, piece: bytes) -> int:
        if piece not in self.vocabulary:
            self.vocabulary.append(piece)
        return self.vocabulary.index(piece)

    def piece(self, token: int) -> bytes:
        return self.vocabulary[token]

    def read(self, passage: Passage) -> Tokens:
        ids = self.tokenize(passage.text)
        tokens = align(passage, ids, [self.piece(token) for token in ids])
        assert tokens is not None
        return tokens
