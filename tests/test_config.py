"""Settings: file, then flags, and an unknown key is an error."""

from pathlib import Path

import pytest

from agentless_mini.config import Engine, load_config
from agentless_mini.edits import Matching
from agentless_mini.errors import UsageError


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
        ("", {"repair.temperature": 9.0}, "repair.temperature"),
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
