"""The tokens of an example: the model's template, the answer alone to be learned, what is too long left out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from agentless_mini.chain.templates import load_prompts
from agentless_mini.domain import Message, Role
from agentless_mini.errors import UsageError
from agentless_mini.learning.rows import Row
from agentless_mini.learning.texts import IGNORED, ChatTokens
from tests.learning import tiny

ASKED = (Message(Role.SYSTEM, "Be brief."), Message(Role.USER, "1 + 1?"))


class Letters:
    """A tokenizer whose tokens are letters, with a template like most."""

    eos_token = "$"  # noqa: S105 - no secret
    eos_token_id = ord("$")
    chat_template = "made below"

    def apply_chat_template(self, chat: Sequence[dict[str, str]], tokenize: bool, add_generation_prompt: bool) -> str:
        assert not tokenize
        said = "".join(f"<{one['role']}>{one['content']}$\n" for one in chat)
        return said + ("<assistant>" if add_generation_prompt else "")

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        assert not add_special_tokens
        return {"input_ids": [ord(letter) for letter in text]}


def spelled(tokens: Sequence[int]) -> str:
    return "".join(map(chr, tokens))


def test_an_answer_begins_where_the_prompt_opens_it_and_ends_with_the_end_of_a_turn() -> None:
    example = ChatTokens(Letters()).example(ASKED, "2")
    assert spelled(example.prompt) == "<system>Be brief.$\n<user>1 + 1?$\n<assistant>"
    assert spelled(example.answer) == "2$"


def test_an_end_within_the_answer_stays() -> None:
    assert spelled(ChatTokens(Letters()).example(ASKED, "a $ or two").answer) == "a $ or two$"


def test_a_scored_chat_has_no_opening() -> None:
    assert spelled(ChatTokens(Letters()).chat(ASKED)).endswith("1 + 1?$\n")


def test_a_template_that_writes_answers_differently_is_still_answered() -> None:
    class Thinking(Letters):
        def apply_chat_template(
            self, chat: Sequence[dict[str, str]], tokenize: bool, add_generation_prompt: bool
        ) -> str:
            said = super().apply_chat_template(chat, tokenize, add_generation_prompt)
            return said + ("<think>" if add_generation_prompt else "")

    assert spelled(ChatTokens(Thinking()).example(ASKED, "2").answer) == "2$"


def test_a_model_without_a_chat_template_is_refused() -> None:
    class Bare(Letters):
        chat_template = ""

    with pytest.raises(UsageError, match="chat template"):
        ChatTokens(Bare())


def found(rows: list[Row], most: int) -> tuple[list[dict[str, Any]], dict[str, int]]:
    tiny.need_training()
    from agentless_mini.learning.sft import examples

    counts: Counter[str] = Counter()
    return list(examples(rows, load_prompts(None), ChatTokens(Letters()), most, counts)), dict(counts)


def test_a_template_that_refuses_system_messages_is_said() -> None:
    from jinja2 import TemplateError

    class Refusing(Letters):
        def apply_chat_template(
            self, chat: Sequence[dict[str, str]], tokenize: bool, add_generation_prompt: bool
        ) -> str:
            raise TemplateError("System role not supported")

    with pytest.raises(UsageError, match=r"refuses a system message .System role not supported"):
        ChatTokens(Refusing()).prompt(ASKED)


@pytest.mark.slow
def test_what_is_too_long_is_left_out_and_counted() -> None:
    rows = tiny.rows(3)
    rows[1] = replace(rows[1], issue=rows[1].issue + " very much" * 1000)
    kept, counts = found(rows, 8000)
    assert counts == {"kept": 2, "too long": 1}
    assert len(kept) == 2


@pytest.mark.slow
def test_what_the_format_cannot_say_is_left_out_and_counted() -> None:
    unchanged = replace(tiny.rows(1)[0].files[0], path="a\nb.py")
    row = replace(tiny.rows(1)[0], files=(unchanged,))
    assert found([row], 8000) == ([], {"no answer": 1})


@pytest.mark.slow
def test_only_the_answer_is_learned() -> None:
    ((one,), _) = found(tiny.rows(1), 8000)
    answer = tiny.rows(1)[0].answer() + "$"
    assert spelled(one["input_ids"]).endswith(answer)
    assert one["labels"] == (IGNORED,) * (len(one["input_ids"]) - len(answer)) + tuple(map(ord, answer))
