"""Putting a stream together: whatever the order, the grouping and the usage reports, the completions are the same."""

from collections.abc import Iterator, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agentless_mini.domain import UNTOLD, Completion, Finish, Usage
from agentless_mini.model.streams import Assembly, Event, whole_events

INDICES = (4, 5, 6)


def event(index: int, text: str = "", finish: str | None = None, usage: Mapping[str, object] | None = None) -> Event:
    choice = {"index": index, "delta": {"content": text}, "finish_reason": finish}
    return Event.model_validate({"choices": [choice], "usage": usage})


def report(completion_tokens: int, prompt_tokens: int = 9, cached: int | None = None) -> Event:
    details = {"cached_tokens": cached}
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "prompt_tokens_details": details}
    return Event.model_validate({"choices": [], "usage": usage})


def assembled(events: list[Event], indices: tuple[int, ...] = INDICES, tells: bool | None = None) -> list[Completion]:
    def given_out() -> Iterator[Completion]:
        assembly = Assembly(indices, 1000, tells)
        for each in events:
            yield from assembly.feed(each)
        yield from assembly.rest()

    return list(given_out())


@st.composite
def interleaved(draw: st.DrawFn) -> tuple[list[str], list[Event]]:
    texts = draw(st.lists(st.lists(st.text(min_size=1, max_size=4), max_size=5), min_size=3, max_size=3))
    queues = [
        [(number, piece, None) for piece in pieces] + [(number, "", "stop")] for number, pieces in enumerate(texts)
    ]
    order = draw(st.permutations([number for number, queue in enumerate(queues) for _ in queue]))
    events = [event(*queues[number].pop(0)) for number in order]
    return ["".join(pieces) for pieces in texts], events


@given(interleaved(), st.sampled_from([None, False, True]))
def test_any_interleaving_gives_each_choice_its_text_and_the_sums_are_the_servers(
    stream: tuple[list[str], list[Event]], tells: bool | None
) -> None:
    texts, events = stream
    completions = assembled([*events, report(100)], tells=tells)
    assert {c.index: c.text for c in completions} == dict(zip(INDICES, texts, strict=True))
    if tells is not False:  # a server that is known to tell nothing: what is given out early is booked without
        assert sum(c.usage.completion_tokens or 0 for c in completions) == 100
        assert sum(c.usage.prompt_tokens or 0 for c in completions) == 9


@given(interleaved(), st.sampled_from([None, False]))
def test_without_usage_no_number_is_made_up(stream: tuple[list[str], list[Event]], tells: bool | None) -> None:
    texts, events = stream
    completions = assembled(events, tells=tells)
    assert {c.index: c.text for c in completions} == dict(zip(INDICES, texts, strict=True))
    assert {completion.usage for completion in completions} == {UNTOLD}


def test_a_stream_whose_server_told_usage_before_and_does_not_now_has_a_number_missing() -> None:
    events = [event(0, "a", "stop"), event(1, "b", "stop"), event(2, "c", "stop")]
    assert [c.usage for c in assembled(events, tells=True)] == [Usage(0, 0, 1), Usage(0, 0, 1), UNTOLD]


def test_a_number_that_is_not_told_is_not_made_up() -> None:
    for told, usage in (
        ({"prompt_tokens": 9}, Usage(9, None, None)),
        ({"completion_tokens": 5}, Usage(None, None, 5)),
        ({"prompt_tokens": 9, "completion_tokens": 5, "prompt_tokens_details": {}}, Usage(9, None, 5)),
        ({"prompt_tokens": -1, "completion_tokens": 10**30, "prompt_tokens_details": None}, UNTOLD),
        ({"prompt_tokens": "9", "completion_tokens": True}, UNTOLD),
        ({"prompt_tokens": 9.0, "completion_tokens": float("nan")}, Usage(9, None, None)),
    ):
        last = Event.model_validate({"choices": [], "usage": told})
        assert [c.usage for c in assembled([event(0, "so", "stop"), last], (0,))] == [usage]


def test_usage_in_the_last_event_of_a_server_that_ignores_n_is_booked() -> None:
    told = {"prompt_tokens": 9, "completion_tokens": 3}
    assert [c.usage for c in assembled([event(0, "so", "stop", told)])] == [Usage(9, None, 3)]


@given(interleaved(), st.integers(0, 20))
def test_a_stream_that_breaks_gives_what_was_finished_and_nothing_else(
    stream: tuple[list[str], list[Event]], length: int
) -> None:
    _, events = stream
    seen = events[:length]
    finished = {INDICES[each.choices[0].index] for each in seen if each.choices[0].finish_reason}
    assert {completion.index for completion in assembled(seen)} == finished


@pytest.mark.parametrize("tells", [True, False])
def test_a_finished_choice_is_given_out_with_the_next_event(tells: bool) -> None:
    assembly = Assembly(INDICES, 1000, tells)
    assert list(assembly.feed(event(1, "done", "stop"))) == []
    assert [completion.index for completion in assembly.feed(event(0, "still"))] == [5]


def test_where_it_is_not_known_whether_usage_comes_all_wait_for_it() -> None:
    assembly = Assembly((0, 1), 1000)
    assert list(assembly.feed(event(1, "done", "stop"))) == []
    assert list(assembly.feed(event(0, "still"))) == []
    assert list(assembly.feed(event(0, "", "stop"))) == []
    assert [completion.usage for completion in assembly.feed(report(7))] == [Usage(9, None, 1), Usage(0, 0, 6)]


def test_the_last_choice_waits_for_the_usage() -> None:
    assembly = Assembly((0,), 1000)
    assert list(assembly.feed(event(0, "done", "length"))) == []
    (completion,) = assembly.feed(report(7, 9, 3))
    assert completion == Completion(0, "done", Finish.LENGTH, "", Usage(9, 3, 7))


def test_usage_after_each_choice_is_that_choice() -> None:
    events = [event(0, "a", "stop"), report(5), event(1, "b", "stop"), report(6), event(2, "c", "stop"), report(7)]
    assert [c.usage for c in assembled(events)] == [Usage(9, None, 5), Usage(0, 0, 6), Usage(0, 0, 7)]


def test_usage_with_each_event_counts_that_choice() -> None:
    running = [{"prompt_tokens": 9, "completion_tokens": tokens} for tokens in (3, 5, 2)]
    events = [event(0, "ab", None, running[0]), event(0, "c", "stop", running[1]), event(1, "d", "stop", running[2])]
    assert [c.usage for c in assembled([*events, report(7)], (0, 1))] == [Usage(0, 0, 5), Usage(9, None, 2)]
    assert [c.usage for c in assembled(events, (0, 1))] == [Usage(0, 0, 5), Usage(9, None, 2)]


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("stop", Finish.STOP),
        ("tool_calls", Finish.STOP),
        ("length", Finish.LENGTH),
        ("MAX_TOKENS", Finish.LENGTH),
        ("model_context_window_exceeded", Finish.LENGTH),
        ("content_filter", Finish.FILTER),
        ("SAFETY", Finish.FILTER),
    ],
)
def test_finish_reasons_are_ours(reason: str, finish: Finish) -> None:
    assert assembled([event(0, "x", reason)], (0,))[0].finish is finish


@pytest.mark.parametrize("reason", ["abort", "error", "insufficient_system_resource", "network_error"])
def test_a_choice_that_the_server_gave_up_is_owed(reason: str) -> None:
    assert assembled([event(0, "x", reason), report(1)], (0,)) == []


def test_choices_that_nobody_asked_for_and_words_after_the_end_are_left_out() -> None:
    events = [event(-1, "no"), event(7, "no", "stop"), event(0, "yes", "stop"), event(0, "no", "stop"), report(1)]
    assert [completion.text for completion in assembled(events, (0,))] == ["yes"]


def test_reasoning_goes_by_two_names_and_counts_once() -> None:
    delta = {"reasoning": "hm", "reasoning_content": "hm"}
    events = [
        Event.model_validate({"choices": [{"index": 0, "delta": delta}]}),
        Event.model_validate({"choices": [{"index": 0, "delta": {"reasoning_content": ", yes"}}]}),
        event(0, "so", "stop"),
    ]
    assembly = Assembly((0,), 1000)
    (completion,) = [*(one for each in events for one in assembly.feed(each)), *assembly.rest()]
    assert (completion.reasoning, completion.text, assembly.streamed) == ("hm, yes", "so", 3)


@pytest.mark.parametrize(
    ("delta", "text", "reasoning"),
    [
        ({"content": None, "reasoning": None}, "", ""),
        ({"content": "so", "thinking": "hm"}, "so", "hm"),
        ({"content": 7, "reasoning": {"effort": "low"}}, "", ""),
        ({"content": [{"type": "text", "text": "s"}, {"type": "text", "text": "o"}]}, "so", ""),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, "x"]}, "", "hm"),
        ({"content": [{"type": "text"}, {"type": "text", "text": 7}, {"type": "image_url"}]}, "", ""),
    ],
)
def test_what_a_choice_says_is_its_texts_whatever_else_is_there(delta: object, text: str, reasoning: str) -> None:
    choice = {"index": 0, "delta": delta, "finish_reason": "stop"}
    (completion,) = assembled([Event.model_validate({"choices": [choice]})], (0,))
    assert (completion.text, completion.reasoning) == (text, reasoning)


@pytest.mark.parametrize("usage", ["none", [], 7, {"prompt_tokens_details": []}])
def test_what_is_null_is_absent_and_an_odd_report_is_none(usage: object) -> None:
    said = {"index": None, "delta": {"content": "so"}, "finish_reason": None}
    ended = {"index": 0, "delta": None, "finish_reason": "stop"}
    pages = {"choices": [said], "usage": None}, {"choices": [ended]}, {"choices": None, "usage": usage}
    assert assembled([Event.model_validate(page) for page in pages], (0,)) == [
        Completion(0, "so", Finish.STOP, "", UNTOLD)
    ]
    whole, *_ = whole_events({"choices": [{"index": 0, "message": {"content": "so"}}], "usage": usage})
    assert whole.choices[0].finish_reason == "stop"


def test_an_answer_in_one_piece_is_read_as_a_stream() -> None:
    choices = [
        {"index": 1, "message": {"role": "assistant", "content": "b"}, "finish_reason": "length"},
        {"index": 0, "message": {"role": "assistant", "content": "a", "reasoning": "hm"}, "finish_reason": None},
    ]
    usage = {"prompt_tokens": 9, "completion_tokens": 5}
    one, other = assembled(list(whole_events({"object": "x", "choices": choices, "usage": usage})), (0, 1))
    assert (one.index, one.text, one.finish) == (1, "b", Finish.LENGTH)
    assert (other.index, other.text, other.reasoning, other.finish) == (0, "a", "hm", Finish.STOP)
    assert [one.usage.completion_tokens, other.usage.completion_tokens] == [1, 4]


@pytest.mark.parametrize("page", [{}, [], "x", {"choices": [{"index": 0}]}])
def test_what_is_no_answer_is_no_stream(page: object) -> None:
    with pytest.raises(ValidationError):
        list(whole_events(page))


def test_several_choices_may_come_in_one_event() -> None:
    both = [{"index": number, "delta": {"content": "x"}, "finish_reason": "stop"} for number in (0, 1)]
    completions = assembled([Event.model_validate({"choices": both}), report(9)], (0, 1))
    assert [completion.usage for completion in completions] == [Usage(9, None, 1), Usage(0, 0, 8)]


def test_samples_of_which_nothing_was_heard_are_known() -> None:
    assembly = Assembly(INDICES, 1000)
    assert list(assembly.feed(event(0, "only"))) == []
    assert assembly.ignored() == (5, 6)
