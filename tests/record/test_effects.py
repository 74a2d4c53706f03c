"""What was paid for comes back as it was, under the identity of what was asked."""

import contextlib
import json
import re
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.domain import (
    Completion,
    Decoding,
    EditTask,
    Excerpt,
    Finish,
    Message,
    ModelCard,
    Role,
    SampleRequest,
    SamplingParams,
    ShownFile,
    Stage,
    Usage,
)
from agentless_mini.errors import UsageError
from agentless_mini.record import Store
from agentless_mini.record.database import pack, unpack
from agentless_mini.record.effects import chat_key, token_counts
from tests.record.building import HOSTILE, TASK, record, request


def test_a_sample_comes_back_as_it_was_recorded(store: Store) -> None:
    completion = Completion(3, HOSTILE, Finish.LENGTH, "thought " + HOSTILE, Usage(7, 5, 3))
    key = record(store, request(), completion)
    assert key == request().key()
    assert store.get_sample(key, 3) == completion
    assert store.recorded(key) == {3}


def test_a_sample_that_is_not_recorded_is_owed(store: Store) -> None:
    key = record(store, request(), Completion(0, "answer", Finish.STOP))
    assert store.get_sample(key, 1) is None
    assert store.get_sample(request("Another prompt.").key(), 0) is None
    assert store.recorded(request("Another prompt.").key()) == frozenset()


def test_a_recorded_sample_stays_as_it_is(store: Store) -> None:
    first = Completion(0, "first", Finish.STOP)
    key = record(store, request(), first, Completion(0, "second", Finish.STOP))
    assert store.get_sample(key, 0) == first


@pytest.mark.parametrize("task", [None, TASK])
def test_a_prompt_comes_back_message_by_message(store: Store, task: EditTask | None) -> None:
    asked = replace(request("Fix " + HOSTILE), task=task)
    record(store, asked)
    prompt = store.prompt(asked.prompt_digest())
    assert (prompt.messages, prompt.task) == (asked.messages, task)


def test_a_prompt_that_nobody_asked_is_a_usage_error(store: Store, path: Path) -> None:
    with pytest.raises(UsageError, match=rf"no prompt 123 in {re.escape(str(path))}"):
        store.prompt("123")


def test_the_file_says_with_which_parameters_an_answer_was_asked_for(store: Store, path: Path) -> None:
    record(store, request())
    with contextlib.closing(sqlite3.connect(path)) as connection:
        ((params, decoding),) = connection.execute("SELECT params, decoding FROM requests")
    assert json.loads(params)["max_tokens"] == request().params.max_tokens
    assert decoding == request().decoding.value


def test_short_values_are_stored_as_text_and_long_ones_compressed() -> None:
    short, long = ["a"], ["a" * 100_000]
    assert pack(short) == '["a"]'
    assert len(pack(long)) < 1_000
    assert (unpack(pack(short)), unpack(pack(long))) == (short, long)


def test_token_counts_belong_to_a_model_and_its_messages(store: Store) -> None:
    messages, kind = request().messages, token_counts("model \ud800")
    store.put_value(kind, chat_key("model \ud800", messages), 17)
    assert store.value(kind, chat_key("model \ud800", messages)) == 17
    assert store.value(kind, chat_key("model \ud800", messages[::-1])) is None
    assert store.value(token_counts("other"), chat_key("other", messages)) is None


def test_a_card_comes_back_under_the_name_that_was_asked_for(store: Store) -> None:
    card = ModelCard("served \ud800", 4096, Decoding.LINES, "llama.cpp", "b1")
    store.put_card("asked", card)
    assert store.card("asked") == card
    assert store.card("served \ud800") is None


def test_another_card_forgets_the_counts_of_that_model_alone(store: Store) -> None:
    card = ModelCard("model", 4096)
    store.put_card("model", card)
    store.put_value(token_counts("model"), "key", 17)
    store.put_value(token_counts("other"), "key", 18)
    store.put_card("model", card)
    assert store.value(token_counts("model"), "key") == 17
    store.put_card("model", replace(card, revision="2"))
    assert store.value(token_counts("model"), "key") is None
    assert store.value(token_counts("other"), "key") == 18


def test_an_address_is_remembered_with_the_model_it_served_last(store: Store) -> None:
    assert store.endpoint_model("http://127.0.0.1:8000/v1") is None
    store.put_endpoint_model("http://127.0.0.1:8000/v1", "first")
    store.put_endpoint_model("http://127.0.0.1:8000/v1", "second \ud800")
    assert store.endpoint_model("http://127.0.0.1:8000/v1") == "second \ud800"


texts = st.text(st.sampled_from('ab"\\{[\x00\ud800é'), max_size=3)
requests = st.builds(
    SampleRequest,
    model=texts,
    messages=st.lists(st.builds(Message, st.sampled_from(Role), texts), max_size=2).map(tuple),
    params=st.builds(
        SamplingParams,
        max_tokens=st.integers(1, 2),
        temperature=st.sampled_from([0.0, 1.0]),
        top_p=st.sampled_from([0.5, 1.0]),
        seed=st.integers(0, 1),
        stop=st.lists(texts, max_size=2).map(tuple),
    ),
    indices=st.just((0,)),
    stage=st.sampled_from(Stage),
    instance=texts,
    decoding=st.sampled_from(Decoding),
    task=st.none()
    | st.builds(
        EditTask,
        texts,
        st.lists(
            st.builds(ShownFile, texts, st.builds(Excerpt, st.just(1), texts).map(lambda it: (it,)), st.booleans()),
            max_size=1,
        ).map(tuple),
    ),
)


@given(requests, requests, st.sampled_from(["model", "messages", "params", "decoding", "task", "nothing"]))
def test_keys_are_equal_if_and_only_if_the_same_is_asked(one: SampleRequest, two: SampleRequest, changed: str) -> None:
    other = {
        "model": replace(one, model=two.model),
        "messages": replace(one, messages=two.messages),
        "params": replace(one, params=two.params),
        "decoding": replace(one, decoding=two.decoding),
        "task": replace(one, task=two.task),
        "nothing": one,
    }[changed]
    accounted = replace(other, stage=two.stage, instance=two.instance, indices=(1, 2))
    assert (accounted.key() == one.key()) == (other == one)
