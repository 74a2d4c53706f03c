"""What the README and the manual say is so: commands, options, settings and exit codes."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from agentless_mini import errors
from agentless_mini.commands import terminal
from agentless_mini.settings import Config, load_config

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "agentless_mini/docs"
TOPICS = {path.stem: path.read_text() for path in sorted(DOCS.glob("*.md"))}
README = (ROOT / "README.md").read_text()
MANUAL = "\n".join([README, *TOPICS.values()])


def help_of(*command: str) -> str:
    asked = [sys.executable, "-m", "agentless_mini", *command, "--help"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout


def shell_lines() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", MANUAL, re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`((?:\.venv/bin/)?amini [^`]+)`", MANUAL)
    return [part for text in [*blocks, *inline] for line in text.splitlines() for part in line.split("&&")]


def amini_commands() -> list[list[str]]:
    words = [shlex.split(line, comments=True) for line in shell_lines()]
    return [line[1:] for line in words if line and line[0].endswith("amini") and len(line) > 1]


def test_there_are_commands_to_check() -> None:
    assert {command[0] for command in amini_commands()} >= {"repair", "serve", "show", "demo"}


def named(words: list[str]) -> tuple[str, ...]:
    """Return the words that name the command, such as `learn sft`; none for options of `amini` itself."""
    return tuple(words[: 2 if words[0] == "learn" and len(words) > 1 else 1]) if words[0][0] != "-" else ()


@pytest.mark.parametrize("command", sorted({named(command) for command in amini_commands()}), ids=" ".join)
def test_every_option_of_a_command_is_one_that_its_help_names(command: tuple[str, ...]) -> None:
    told = help_of(*command)
    ours = [" ".join(words).split(" | ")[0].split(" ") for words in amini_commands() if named(words) == command]
    options = {word.split("=")[0] for words in ours for word in words if word.startswith("-") and word != "-"}
    assert options <= set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", told))


def test_the_settings_of_the_readme_are_settings(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```toml\n(.*?)^```", TOPICS["settings"], re.MULTILINE | re.DOTALL)
    (tmp_path / "config.toml").write_text(text)
    assert isinstance(load_config(tmp_path / "config.toml", {}), Config)
    said = tomllib.loads(text)
    for section in ("localize", "repair"):
        for name, value in said[section].items():
            assert Config().model_dump(mode="json")[section][name] == value, f"the default of {section}.{name}"


def test_the_list_of_settings_is_that_of_their_tree() -> None:
    # In a process of its own: an option is named by the command that ran last.
    program = "import sys; from tests.settings_page import page; sys.stdout.buffer.write(page().encode())"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout.decode() == TOPICS["settings"], "run python -m tests.settings_page"


def test_the_exit_codes_are_those_of_the_errors() -> None:
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", TOPICS["exit-codes"], re.MULTILINE)}
    ours = {
        kind.exit_code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.AminiError)
    }
    assert told == ours | {
        terminal.EXIT_FOUND,
        terminal.EXIT_NO_PATCH,
        terminal.EXIT_UNTRUSTED,
        errors.EXIT_BUG,
        errors.EXIT_INTERRUPTED,
    }


def test_the_environment_variables_of_the_readme_are_read() -> None:
    told = set(re.findall(r"`((?:AMINI|OPENAI|GITHUB)_[A-Z_]+)", MANUAL))
    sources = "".join(path.read_text() for path in (ROOT / "agentless_mini").rglob("*.py"))
    assert told
    assert {name for name in told if name not in sources} == set()


def test_modules_that_the_readme_runs_exist() -> None:
    for module in re.findall(r"python -m ([a-z_.]+)", MANUAL):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


def test_every_benchmark_of_the_manual_has_a_help() -> None:
    named = re.findall(r"python -m (tests\.benchmarks\.\w+)", TOPICS["benchmarks"])
    sources = {name: (ROOT / f"{name.replace('.', '/')}.py").read_text() for name in named}
    assert [name for name, source in sources.items() if "ArgumentParser(" not in source] == []


def test_the_readme_names_every_topic_and_stays_short() -> None:
    assert set(re.findall(r"\(agentless_mini/docs/(\S+)\.md\)", README)) == set(TOPICS)
    assert len(README.split()) <= 1300


def test_a_topic_is_printed_as_it_is_written_where_nobody_sees_it() -> None:
    told = subprocess.run([sys.executable, "-m", "agentless_mini", "help", "tests"], capture_output=True, check=True)
    assert told.stdout == TOPICS["tests"].encode()


def test_help_lists_all_topics() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "agentless_mini", "help"], capture_output=True, text=True, check=True
    )
    assert set(re.findall(r"amini help ([\w-]+)`", listed.stdout)) == set(TOPICS)


def test_a_topic_that_is_not_there_is_answered_with_the_nearest() -> None:
    asked = [sys.executable, "-m", "agentless_mini", "help", "rund"]
    refused = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "see `amini help rounds`." in refused.stderr


def test_every_file_that_the_architecture_names_is_there() -> None:
    named = set(re.findall(r"`([a-z_]+/?(?:[a-z_]+/?)*(?:\.py)?)`", TOPICS["architecture"]))
    paths = {name for name in named if "/" in name or name.endswith(".py")}
    assert len(paths) > 20
    homes = (ROOT, ROOT / "agentless_mini", *(ROOT / "agentless_mini").iterdir())
    assert {path for path in paths if not any((home / path).exists() for home in homes)} == set()
