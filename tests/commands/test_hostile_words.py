"""What servers, files and issues say reaches the terminal as text: nothing in it steers, hides, or begins a line."""

import os
import pty
import subprocess

import pytest

from tests.chain.workbench import FIX
from tests.commands.running import REPAIRS, Home, script
from tests.fakes.faults import CHAT, Fault, FaultKind
from tests.fakes.protocol import ServedModel
from tests.fakes.server import ScriptedServer

MARKUP = "[red]x[/red][link=http://evil]y[/link][/]:boom:"
EVIL = f"\x1b]0;evil\x07\x1b[31m\u202e\u200b\u2066\x9b1m{MARKUP}\r\x08\namini: forged"


def harmless(*shown: str) -> None:
    """Make sure that a terminal only prints what is shown, and that no line of it was made up."""
    for text in shown:
        assert all(letter.isprintable() or letter == "\n" for letter in text), ascii(text)
        assert not any(line.lstrip().startswith("amini: forged") for line in text.split("\n")), text


def settle(home: Home, settings: str) -> None:
    """Add to the user's settings."""
    file = home.root / "config" / "amini" / "config.toml"
    file.write_text(f"{file.read_text()}{settings}\n")


def evil_server(*faults: Fault, name: str = "scripted") -> ScriptedServer:
    return ScriptedServer(ServedModel(script=script(*REPAIRS), name=name), faults)


@pytest.mark.parametrize("path", [CHAT, "/v1/models"])
@pytest.mark.parametrize("kind", [FaultKind.FORBIDDEN, FaultKind.REFUSED])
def test_an_error_of_the_model_server(home: Home, kind: FaultKind, path: str) -> None:
    with evil_server(Fault(kind=kind, times=99, path=path, says=EVIL)) as endpoint:
        settle(home, f'[endpoint]\nbase_url = "{endpoint.url}"\nretries = 0')
        done = home.amini("repair", ".", "../issue.md", "-n", "2")
        looked = home.amini("doctor")
    assert done.returncode == 3, done.stderr
    harmless(done.stdout, done.stderr, looked.stdout, looked.stderr)
    if kind is FaultKind.REFUSED:
        assert MARKUP in done.stderr


def test_an_error_within_a_stream(home: Home) -> None:
    with evil_server(Fault(kind=FaultKind.STREAM_ERROR, times=99, says=EVIL)) as endpoint:
        settle(home, "[endpoint]\nretries = 0")
        done = home.amini("repair", ".", "../issue.md", "-n", "2", "--base-url", endpoint.url)
    assert (done.returncode, done.stdout) == (3, "")
    assert MARKUP in done.stderr
    harmless(done.stderr)


def test_an_error_of_the_reward_model(home: Home) -> None:
    faults = [Fault(kind=FaultKind.FORBIDDEN, times=99, path=path, says=EVIL) for path in ("/score", "/v1/score")]
    rounds = ("--rounds", "2", "--per-round", "2", "--select", "reward-model")
    with evil_server() as endpoint, evil_server(*faults) as scorer:
        settle(home, f'[scorer]\nbase_url = "{scorer.url}"\nmodel = "judge"\nretries = 0')
        done = home.amini("repair", ".", "../issue.md", "--base-url", endpoint.url, *rounds)
    assert done.returncode == 3, done.stderr
    harmless(done.stderr)


def test_the_name_of_a_model_an_issue_and_an_answer(home: Home) -> None:
    (home.root / "issue.md").write_text(f"The total of a cart is wrong. {EVIL}\n")
    with evil_server(name=EVIL) as endpoint:
        done = home.amini("repair", ".", "../issue.md", "-n", "5", "--base-url", endpoint.url)
        looked = home.amini("doctor", env={"AMINI_BASE_URL": endpoint.url})
        planned = home.amini("repair", ".", "../issue.md", "--dry-run", "--base-url", endpoint.url)
    assert done.returncode == 0, done.stderr
    shown = [home.amini("show", *more) for more in ((), ("1",), ("1", "--prompts", "--completions"))]
    harmless(done.stderr, looked.stdout, looked.stderr, planned.stdout, planned.stderr)
    harmless(*(part.stderr for part in shown), *(part.stdout for part in shown[:2]))
    assert MARKUP in shown[0].stdout
    assert MARKUP in shown[2].stdout
    assert all(letter.isprintable() or letter == "\n" for letter in shown[2].stdout)  # its lines are the issue's


def test_words_of_the_command_line(home: Home) -> None:
    told = [
        home.amini(*words, env={"HF_ENDPOINT": "http://127.0.0.1:9"})
        for words in (
            ("repair", EVIL, "../issue.md"),
            ("repair", ".", EVIL),
            ("serve", EVIL),
            ("serve", f"../{MARKUP}.gguf"),
            ("serve", "--engine", "vllm", EVIL),
            ("help", EVIL),
            (EVIL,),
            ("show", "--store", f"../{EVIL}"),
            ("repair", ".", "../issue.md", "--base-url", "http://127.0.0.1:9/v1", "--model", EVIL),
        )
    ]
    for done in told:
        harmless(done.stdout, done.stderr)
    assert MARKUP in told[3].stderr


def test_a_patch_is_in_its_own_bytes_but_for_a_terminal(home: Home) -> None:
    hostile = FIX.replace("in prices:", "in prices:  # \x1b[31m\u202e\t")
    assert hostile != FIX
    ours, theirs = pty.openpty()
    with ScriptedServer(ServedModel(script=script(hostile))) as endpoint:
        words = ("repair", ".", "../issue.md", "-n", "2", "--base-url", endpoint.url)
        piped = home.amini(*words)
        command = home.command(*words, "--quiet")
        subprocess.run(command, cwd=home.repository, env=home.environment(), stdout=theirs, check=True)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    os.close(theirs)
    assert "\x1b[31m\u202e" in piped.stdout
    assert "\\x1b[31m\\u202e" in shown
    harmless(shown.replace("\r\n", "\n").replace("\t", ""))
