"""What the scripted server says as a reward model: the bodies of vLLM's /score, /classify and /pooling, as data."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from agentless_mini.samplers.scripted import count_pieces
from agentless_mini.samplers.scripted_protocol import Json, ServedModel, WireMessage

Row = Callable[[int, float], Json]
"""A row of a page, from the index of a text and its score."""


class _Pairs(BaseModel):
    text_1: str
    text_2: str | tuple[str, ...]

    def texts(self) -> tuple[tuple[str, str], ...]:
        seconds = (self.text_2,) if isinstance(self.text_2, str) else self.text_2
        return tuple((self.text_1, second) for second in seconds)


class _Chat(BaseModel):
    messages: tuple[WireMessage, ...]

    def texts(self) -> tuple[tuple[str, str], ...]:
        *before, last = self.messages
        return (("\n".join(message.content for message in before), last.content),)


def _score_row(index: int, score: float) -> Json:
    return {"index": index, "object": "score", "score": score}


def _classify_row(index: int, score: float) -> Json:
    return {"index": index, "label": "LABEL_0", "probs": [score], "num_classes": 1}


def _pooling_row(index: int, score: float) -> Json:
    """Return a row of numbers for each token, of which the last counts."""
    return {"index": index, "object": "pooling", "data": [[0.0], [score]]}


PAGES: Mapping[str, tuple[type[_Pairs] | type[_Chat], Row]] = {
    "/score": (_Pairs, _score_row),
    "/v1/score": (_Pairs, _score_row),
    "/classify": (_Chat, _classify_row),
    "/pooling": (_Chat, _pooling_row),
}
"""The form of what comes in and of a row that goes out, by path."""


def page_body(model: ServedModel, path: str, body: bytes) -> Json:
    """Return the body of a scoring page. Raises `ServerFailed` where the script has no score for a text."""
    form, row = PAGES[path]
    texts = form.model_validate_json(body).texts()
    scores = [model.script.score(prompt, answer) for prompt, answer in texts]
    tokens = count_pieces(text for pair in texts for text in pair)
    usage: dict[str, Any] = {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0}
    rows = [row(index, score) for index, score in enumerate(scores)]
    return {"object": "list", "model": model.name, "data": rows, "usage": usage}
