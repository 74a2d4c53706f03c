"""`amini config`: every setting, where it comes from, and no secret."""

import json

import pytest

from agentless_mini.commands.config import leaves, shown
from agentless_mini.settings import Config
from tests.commands.running import Home, one_sentence

FILE = '[repair]\nsamples = 7\n[endpoint]\nmodel = "of the file"\nheaders = {X-Gate = "s3cret"}\n'


def config_of(home: Home, *arguments: str, **variables: str) -> dict[str, list[object]]:
    done = home.amini("config", "--json", *arguments, env=variables)
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert document["schema"] == 1
    return {name: [row["value"], row["source"]] for name, row in document["settings"].items()}


def test_each_setting_says_where_it_comes_from(home: Home) -> None:
    own = home.root / "config" / "amini" / "config.toml"
    own.write_text(FILE)
    found = config_of(home, "-n", "9", "--unsafe-local", AMINI_MODEL="m", AMINI_BASE_URL="http://h:1/v1")
    assert found.keys() == dict(leaves(Config())).keys()
    assert found["repair.samples"] == [9, "the command line"]
    assert found["sandbox.kind"] == ["unsafe-local", "the command line"]
    assert found["endpoint.model"] == ["m", "AMINI_MODEL"]
    assert found["endpoint.base_url"] == ["http://h:1/v1", "AMINI_BASE_URL"]
    assert found["repair.temperature"] == [1.0, "default"]
    assert config_of(home)["repair.samples"] == [7, str(own)]
    assert config_of(home, "--model", "flag", AMINI_MODEL="m")["endpoint.model"] == ["flag", "the command line"]


def test_another_file_is_named_by_its_path(home: Home) -> None:
    (home.root / "mine.toml").write_text("[repair]\nsamples = 10\n")
    assert config_of(home, "--config", "../mine.toml")["repair.samples"] == [10, "../mine.toml"]
    assert config_of(home, AMINI_CONFIG="../mine.toml")["repair.samples"] == [10, "../mine.toml"]


def test_no_secret_is_shown(home: Home) -> None:
    (home.root / "config" / "amini" / "config.toml").write_text(FILE)
    keys = {"AMINI_API_KEY": "s3cret", "AMINI_SCORER_API_KEY": "s3cret"}
    told = home.amini("config", "--setup", "pip install -i https://me:s3cret@host/simple x", env=keys)
    assert told.returncode == 0
    assert "s3cret" not in told.stdout
    assert 'endpoint.api_key = "**********"  # AMINI_API_KEY\n' in told.stdout
    assert 'scorer.api_key = "**********"  # AMINI_SCORER_API_KEY\n' in told.stdout
    assert "s3cret" not in json.dumps(config_of(home, **keys))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (["--api-key", "x", "--port", "1"], ["--api-key", "**********", "--port", "1"]),
        (["--hf-token=x", "y"], ["--hf-token=**********", "y"]),
        ("run --password=x y", "run --password=********** y"),
        (1.5, 1.5),
        (None, None),
    ],
)
def test_keys_among_words_for_other_programs_are_hidden(value: object, said: object) -> None:
    assert shown(value) == said


def test_a_wrong_setting_is_refused_as_by_every_command(home: Home) -> None:
    done = home.amini("config", "-n", "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--samples" in one_sentence(done.stderr)
