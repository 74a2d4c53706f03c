"""Rows -> the tokens that a trainer sees: the model's own chat template around the very prompt of inference.

What is too long is left out and counted, never cut, for a cut prompt lacks code that the answer edits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from agentless_mini.domain import Message
from agentless_mini.errors import UsageError, boundary, printable

IGNORED = -100
KEPT = "kept"
TOO_LONG = "too long"


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and its answer in tokens; the answer ends with the token that ends a turn."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


class ChatTokens:
    """Turns chats into tokens as a model's own server does."""

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401 - transformers' tokenizers have no common type
        """Use a tokenizer of transformers. Raises `UsageError` for one without a chat template."""
        if not getattr(tokenizer, "chat_template", None):
            raise UsageError("The model has no chat template: choose one that was trained to follow instructions.")
        self._tokenizer = tokenizer

    def prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the chat, with the opening of the answer."""
        return self._tokens(self._text(messages, opening=True))

    def chat(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return a whole chat, as a model that scores it is shown it."""
        return self._tokens(self._text(messages))

    def example(self, messages: Sequence[Message], answer: str) -> Example:
        """Return the chat and its answer. The two are apart, as the answer begins anew at inference."""
        asked, whole = self._text(messages, opening=True), self._text(messages, answer)
        end = str(self._tokenizer.eos_token)
        said = whole.removeprefix(asked) if whole.startswith(asked) else answer + end
        closed = said[: said.rfind(end)] if end in said else said
        return Example(self._tokens(asked), (*self._tokens(closed), int(self._tokenizer.eos_token_id)))

    def _text(self, messages: Sequence[Message], answer: str | None = None, *, opening: bool = False) -> str:
        chat = [{"role": str(message.role), "content": message.content} for message in messages]
        if answer is not None:
            chat.append({"role": "assistant", "content": answer})
        with boundary({TemplateError: _refused}):
            return str(self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=opening))

    def _tokens(self, text: str) -> tuple[int, ...]:
        said = text.encode("utf-8", "replace").decode()  # bytes of a file that are no UTF-8 cannot be said
        return tuple(self._tokenizer(said, add_special_tokens=False)["input_ids"])


def _refused(error: BaseException) -> UsageError:
    said = printable(" ".join(str(error).split()))[:200]
    return UsageError(f"The model's chat template refuses a system message ({said}): choose a model that takes one.")
