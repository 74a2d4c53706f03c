"""Settings: file, then flags, and an unknown key is an error."""

import re
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from agentless_mini.domain import Matching
from agentless_mini.errors import UsageError
from agentless_mini.settings import Config, load_config
from agentless_mini.settings.model import Engine


def test_flags_come_before_the_file_and_the_file_before_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('engine = "vllm"\n[repair]\nsamples = 3\nmatch = "loose"\n')
    config = load_config(path, {"repair.samples": 7, "localize.samples": 1})
    assert (config.repair.samples, config.repair.match, config.localize.samples) == (7, Matching.LOOSE, 1)
    assert config.engine is Engine.VLLM
    assert load_config(None, {}).repair.samples == 10


@pytest.mark.parametrize(
    ("text", "flags", "words"),
    [
        ("x = 1\n", {}, "no setting 'x'"),
        ("[repair]\nsample = 1\n", {}, "no setting 'repair.sample'"),
        ("repair = 3\n", {"repair.samples": 1}, r"\[repair\] of the configuration must be a table"),
        ("[repair]\nsamples = 'many'\n", {}, "The setting repair.samples"),
        ("", {"repair.temperature": 9.0}, r"repair\.temperature in .* must be at most 2\.0: correct it\.$"),
        ("", {"repair.samples": 0}, r"must be at least 1: correct it\.$"),
        ("", {"endpoint.max_in_flight": 0}, r"must be greater than 0: correct it\.$"),
        ("", {"repair.samples": 1.5}, r"must be a whole number: correct it\.$"),
        ("", {"repair.temperature": "hot"}, r"must be a number: correct it\.$"),
        ("", {"repair.match": "fuzzy"}, r"must be 'strict' or 'loose': correct it\.$"),
        ("", {"endpoint.model": 7}, r"must be a text: correct it\.$"),
        ("", {"evolve.self_evolving": "perhaps"}, r"must be true or false: correct it\.$"),
        ("", {"vllm.adapters": 1}, r"must be a list: correct it\.$"),
        ("", {"prompts": 1}, r"must be a path: correct it\.$"),
        ("", {"endpoint.decoding": "lines"}, r"is not valid: line rewriting .* choose 'free' or 'grammar'\.$"),
        ("", {"endpoint.decoding": "greedy"}, r"is not valid: choose 'free' or 'grammar'\.$"),
        ("", {"endpoint.base_url": "http://[::1"}, r"is not valid: write it as http://HOST:PORT/v1\.$"),
        ("", {"endpoint.base_url": "http://h/v1?version=1"}, r"is not valid: write it as http://HOST:PORT/v1\.$"),
        ("", {"endpoint.base_url": "http://h:99999"}, r"is not valid: write it as http://HOST:PORT/v1\.$"),
        ("", {"endpoint.headers": {"X-Team": "a\nb"}}, r"a value of printable ASCII\.$"),
        ("repair = 3\n", {}, r"must be a table, written as \[NAME\] with keys below: correct it\.$"),
        ("[[[", {}, "correct it as TOML"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, text: str, flags: dict[str, object], words: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=words) as raised:
        load_config(path, flags)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="check --config"):
        load_config(tmp_path / "none.toml", {})


def test_a_mistake_in_a_flag_alone_names_the_options() -> None:
    with pytest.raises(UsageError, match="in the options"):
        load_config(None, {"repair.samples": 0})


def test_secrets_are_not_shown_when_the_settings_are_recorded() -> None:
    recorded = load_config(None, {"endpoint.api_key": "sk-secret-1"}).model_dump_json()
    assert "sk-secret-1" not in recorded


BAD_VALUES = ["many", -1, 3.5, None, [], {}, True, float("nan"), 10**9, "\ud800", "a\nb"]


def names(model: type[BaseModel], before: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield before + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from names(field.annotation, f"{before}{name}.")


@pytest.mark.parametrize("name", sorted(names(Config)))
def test_whatever_is_wrong_with_a_setting_is_told_in_words_of_ours(name: str) -> None:
    told = 0
    for value in BAD_VALUES:
        try:
            load_config(None, {name: value})
        except UsageError as error:
            told += 1
            sentence = str(error)
            assert not re.search(r"[Ii]nput|[Vv]alue error|pydantic|instance of|parse|\bclass\b", sentence), sentence
            named = rf"({re.escape(name)}|{re.escape(name.partition('.')[0])} in)"  # or its section: two that disagree
            assert re.fullmatch(rf"The setting {named}\b.* (must be|is not valid: ).*\.", sentence), sentence
    assert told


@pytest.mark.parametrize("key", ["sk-secret-1\n", " sk-secret-1\r\n"])
def test_a_line_end_after_a_key_is_left_out(key: str) -> None:
    config = load_config(None, {"endpoint.api_key": key})
    assert config.endpoint.api_key.get_secret_value() == "sk-secret-1"


@pytest.mark.parametrize("key", ["sk-sec\nret", "sk-s\u00e9cret", "sk-sec\x00ret", "sk-\udcffsecret", "", "\n"])
def test_a_key_that_no_header_can_carry_is_refused_and_never_shown(key: str) -> None:
    with pytest.raises(UsageError, match="AMINI_API_KEY") as raised:
        load_config(None, {"endpoint.api_key": key})
    shown = "".join(traceback.format_exception(raised.value))
    assert not any(part in shown for part in ("sk-", "cret"))
