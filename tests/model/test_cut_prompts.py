"""Servers that cut prompts in silence, and those that only count otherwise."""

from itertools import pairwise

import pytest

from agentless_mini.domain import Message, Role, Usage
from agentless_mini.errors import ServerFailed
from agentless_mini.model.endpoints import FEWEST_CLEAR, OPENING, PromptCheck, fewest_tokens

WORDS = "price total cart tax sum item count rate "


def chat(text: str) -> tuple[Message, ...]:
    return (Message(Role.SYSTEM, "You repair."), Message(Role.USER, text))


def long(start: str, words: int = 8000) -> tuple[Message, ...]:
    """Return a prompt of at least so many tokens that opens as no other."""
    return chat(f"{start} " + WORDS * (words // 8))


class Told:
    def __init__(self, most: int = 3) -> None:
        self.said: list[str] = []
        self.check = PromptCheck(self.said.append, "http://host/v1", most)

    def read(self, messages: tuple[Message, ...], prompt: int | None, cached: int | None = 0) -> None:
        self.check.read(messages, Usage(prompt, cached, 1))


@pytest.mark.parametrize(
    ("text", "fewest"),
    [
        ("", 0),
        ("word", 0),
        ("a b c d e f g h i j", 9),
        ("internationalization " * 100, 90),
        (" " * 1000 + "-" * 1000, 0),
        ("x = foo_bar(1.25)\n" * 10, 45),
        ("\u56fd\u52a1\u9662" * 100, 0),
        ("ti\u1ebfng " * 100, 90),
    ],
)
def test_a_text_has_no_fewer_tokens_than_this(text: str, fewest: int) -> None:
    assert fewest_tokens(text) == fewest


def test_the_first_cut_prompt_is_told_and_the_third_in_a_row_is_an_error() -> None:
    told = Told()
    told.read(long("one"), 4096)
    told.read(long("two"), 4096)
    (sentence,) = told.said
    assert "http://host/v1 cuts prompts in silence (it read 4096 tokens of a prompt of at least 7" in sentence
    assert "num_ctx" in sentence
    with pytest.raises(ServerFailed, match=r"3 in a row .* --context"):
        told.read(long("three"), 2048)


def test_with_zero_it_is_never_an_error() -> None:
    told = Told(most=0)
    for number in range(10):
        told.read(long(str(number)), 4096)
    assert len(told.said) == 1


def test_a_long_prompt_that_is_read_whole_ends_the_row_and_a_short_one_does_not() -> None:
    told = Told()
    for start in ("one", "two"):
        told.read(long(start), 4096)
    told.read(chat("short"), 20)
    with pytest.raises(ServerFailed):
        told.read(long("three"), 4096)
    told.read(long("four"), 9000)
    told.read(long("five"), 4096)


def test_what_the_servers_own_tokenizer_counted_is_compared_closely() -> None:
    told, prompt, other = Told(), chat("some prompt"), chat("some other prompt")
    told.check.counted(prompt, 10_000)
    told.check.counted(other, 10_000)
    told.read(prompt, 8_940)
    assert told.said == []
    told.read(other, 8_192)
    assert "read 8192 tokens of a prompt of 10000" in told.said[0]


@pytest.mark.parametrize("prompt", [None, 0])
def test_where_nothing_is_told_nothing_is_said(prompt: int | None) -> None:
    told = Told(most=1)
    told.read(long("one"), prompt)
    assert told.said == []


def test_each_prompt_counts_once() -> None:
    told = Told()
    for _ in range(5):
        told.read(long("one"), 4096)
    assert len(told.said) == 1


# --- servers that tell only what they computed anew ------------------------------------------------------------------


def test_what_is_told_to_be_cached_was_read() -> None:
    told = Told(most=1)
    told.read(long("one"), 100, 8000)
    told.read(long("two"), 4100, 3900)
    assert told.said == []


def test_what_opens_like_an_earlier_prompt_may_be_cached() -> None:
    told = Told(most=1)
    told.read(long("one"), 8200, None)
    told.read(chat(long("one")[1].content + WORDS * 50), 400, None)
    assert told.said == []
    with pytest.raises(ServerFailed):
        told.read(chat(long("one")[1].content + "other " + WORDS * 1000), 400, None)


def test_very_few_tokens_may_be_the_rest_of_a_prompt_that_another_process_left_in_the_cache() -> None:
    told = Told(most=1)
    told.read(long("one"), FEWEST_CLEAR - 1, None)
    assert told.said == []
    with pytest.raises(ServerFailed):
        told.read(long("two"), FEWEST_CLEAR, None)


def test_an_opening_that_is_longer_than_what_is_remembered_is_taken_for_cached() -> None:
    told = Told(most=1)
    same = WORDS * (OPENING // len(WORDS) + 1)
    told.read(chat(same + "one"), 20_000, None)
    told.read(chat(same + WORDS * 5000), 300, None)
    assert told.said == []


def test_prompts_that_grow_on_an_uncached_only_server_are_never_called_cut() -> None:
    told = Told(most=1)
    texts = [WORDS * (100 * number) for number in range(1, 20)]
    told.read(chat(texts[0]), 900, None)
    for before, after in pairwise(texts):
        told.read(chat(after), (len(after) - len(before)) // 5, None)
    assert told.said == []
