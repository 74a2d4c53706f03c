"""Rows -> the tokens that a trainer sees: the model's own chat template around the very prompt of inference.

Only the answer is learned: the labels of the prompt are `IGNORED`. What is too long is left out and counted, never
cut, for a cut prompt lacks code that the answer edits. Examples lie in an Arrow file that is mapped into memory.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from agentless_mini.domain import Message
from agentless_mini.errors import EnvironmentFailed, Translation, UsageError, boundary, printable
from agentless_mini.learning.rows import Row
from agentless_mini.prompts import Prompts

IGNORED = -100
KEPT = "kept"
TOO_LONG = "too long"
NO_ANSWER = "no answer"

_GROUP = 256


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and its answer in tokens; the answer ends with the token that ends a turn."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


class ChatTokens:
    """Turns chats into tokens as a model's own server does.

    Raises `UsageError` for a tokenizer without a chat template.
    """

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401 - transformers' tokenizers have no common type
        """Use a tokenizer of transformers."""
        if not getattr(tokenizer, "chat_template", None):
            raise UsageError("The model has no chat template: choose one that was trained to follow instructions.")
        self._tokenizer = tokenizer

    def prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the chat, with the opening of the answer."""
        return self._tokens(self._text(messages, opening=True))

    def chat(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return a whole chat, as a model that scores it is shown it."""
        return self._tokens(self._text(messages, opening=False))

    def example(self, messages: Sequence[Message], answer: str) -> Example:
        """Return the chat and its answer. The two are apart, as the answer begins anew at inference."""
        asked = self._text(messages, opening=True)
        whole = self._text((*messages, _Answer(answer)), opening=False)
        end = str(self._tokenizer.eos_token)
        said = whole.removeprefix(asked) if whole.startswith(asked) else answer + end
        closed = said[: said.rfind(end)] if end in said else said
        return Example(self._tokens(asked), (*self._tokens(closed), int(self._tokenizer.eos_token_id)))

    def _text(self, messages: Sequence["Message | _Answer"], *, opening: bool) -> str:
        chat = [{"role": message.role, "content": message.content} for message in messages]
        with boundary({TemplateError: _refused}):
            return str(self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=opening))

    def _tokens(self, text: str) -> tuple[int, ...]:
        said = text.encode("utf-8", "replace").decode()  # bytes of a file that are no UTF-8 cannot be said
        return tuple(self._tokenizer(said, add_special_tokens=False)["input_ids"])


def _refused(error: BaseException) -> UsageError:
    said = printable(" ".join(str(error).split()))[:200]
    return UsageError(f"The model's chat template refuses a system message ({said}): choose a model that takes one.")


@dataclass(frozen=True, slots=True)
class _Answer:
    content: str
    role: str = "assistant"


def examples(
    rows: Iterable[Row], prompts: Prompts, tokens: ChatTokens, most: int, counts: Counter[str]
) -> Iterator[Example]:
    """Yield the examples of at most `most` tokens; `counts` says what became of each row."""
    for row in rows:
        try:
            answer = row.answer()
        except UsageError:
            counts[NO_ANSWER] += 1
            continue
        example = tokens.example(row.messages(prompts), answer)
        is_long = len(example.prompt) + len(example.answer) > most
        counts[TOO_LONG if is_long else KEPT] += 1
        if not is_long:
            yield example


def write_examples(path: Path, found: Iterable[Example]) -> None:
    """Write examples as the columns `input_ids` and `labels`, a group at a time."""
    columns = ("input_ids", "labels")
    _write(path, ({"input_ids": one.prompt + one.answer, "labels": _labels(one)} for one in found), columns)


def write_prompts(path: Path, found: Iterable[tuple[str, Sequence[Message]]]) -> None:
    """Write chats without answers as the columns `prompt` and `row` (the row's id)."""
    chats = (
        {"prompt": [{"role": one.role.value, "content": one.content} for one in messages], "row": row}
        for row, messages in found
    )
    _write(path, chats, ("prompt", "row"))


def write_pairs(path: Path, found: Iterable[Mapping[str, Sequence[float]]], columns: tuple[str, ...]) -> None:
    """Write what a reward model learns from."""
    _write(path, found, columns)


def _labels(example: Example) -> tuple[int, ...]:
    return (IGNORED,) * len(example.prompt) + example.answer


def _write(path: Path, found: Iterable[Mapping[str, Any]], columns: tuple[str, ...]) -> None:
    import pyarrow as pa

    name = printable(str(path))
    full: Translation = {
        OSError: lambda error: EnvironmentFailed(f"{name} cannot be written ({error}): free some room.")
    }
    with boundary(full), path.open("wb") as sink:
        schema = pa.schema([(column, _type(column, pa)) for column in columns])
        with pa.ipc.new_stream(sink, schema) as stream:
            for group in _groups(found):
                stream.write_batch(pa.RecordBatch.from_pylist(group, schema))


def _type(column: str, arrow: Any) -> Any:  # noqa: ANN401 - pyarrow has no types
    if column == "row":
        return arrow.string()
    if column == "label":
        return arrow.list_(arrow.float32())
    if column == "prompt":
        return arrow.list_(arrow.struct([("role", arrow.string()), ("content", arrow.string())]))
    return arrow.list_(arrow.int32())


def _groups(found: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    group: list[Mapping[str, Any]] = []
    for one in found:
        group.append(one)
        if len(group) == _GROUP:
            yield group
            group = []
    if group:
        yield group
