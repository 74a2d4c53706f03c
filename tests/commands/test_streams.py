"""Standard streams that are closed, broken or full: one sentence and the documented exit code, or it simply works."""

import os
import pty
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from agentless_mini.record import Store
from tests.commands.running import ISSUE, Done, Home, one_sentence, server, with_signals
from tests.fakes.server import ScriptedServer
from tests.gitrepo import git


def through_a_shell(home: Home, redirection: str, *arguments: str) -> Done:
    return home.run(["sh", "-c", f'exec "$@" {redirection}', "sh", *home.command(*arguments)])


def words(endpoint: ScriptedServer, *more: str) -> tuple[str, ...]:
    return ("repair", ".", "--base-url", endpoint.url, "-n", "5", *more)


def test_a_closed_stdout_does_not_matter_where_the_patch_goes_to_a_file(home: Home) -> None:
    with server() as endpoint:
        done = through_a_shell(home, ">&-", *words(endpoint, "--text", ISSUE, "-o", "../fix.patch"))
    assert done.returncode == 0, done.stderr
    git(home.repository, "apply", "--check", stdin=(home.root / "fix.patch").read_bytes())


def test_a_closed_stdout_of_the_other_commands_is_one_sentence(home: Home) -> None:
    with server() as endpoint:
        home.amini(*words(endpoint, "--text", ISSUE))
    done = through_a_shell(home, ">&-", "show")
    assert done.returncode == 2
    assert "standard output is closed" in one_sentence(done.stderr)


@pytest.mark.parametrize("redirection", ["<&-", "<&- 2>&-"])
def test_streams_that_are_not_needed_may_be_closed(home: Home, redirection: str) -> None:
    with server() as endpoint:
        done = through_a_shell(home, redirection, *words(endpoint, "--text", ISSUE))
    assert done.returncode == 0
    git(home.repository, "apply", "--check", stdin=done.stdout.encode())
    assert ("Sampling repairs" in done.stderr) == ("2>&-" not in redirection)


def test_a_failure_that_nobody_can_be_told_keeps_its_exit_code(home: Home) -> None:
    done = through_a_shell(home, "2>&-", "repair", "../nowhere", "--text", ISSUE)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


@pytest.mark.parametrize("command", ["repair", "show 1", "show 1 --json"])
def test_a_reader_that_has_had_enough_ends_a_command_quietly(home: Home, command: str) -> None:
    with server() as endpoint:
        home.amini(*words(endpoint, "--text", ISSUE))
        arguments = words(endpoint, "--text", ISSUE, "--quiet") if command == "repair" else tuple(command.split())
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(
            home.command(*arguments),
            cwd=home.repository,
            env=home.environment(),
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        os.close(write)
    assert (done.returncode, done.stderr) == (4, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
@pytest.mark.parametrize("command", ["repair", "show 1 --json", "--help"])
def test_a_full_disk_behind_stdout_is_one_sentence(home: Home, command: str) -> None:
    with server() as endpoint:
        home.amini(*words(endpoint, "--text", ISSUE))
        arguments = words(endpoint, "--text", ISSUE, "--quiet") if command == "repair" else command.split()
        done = through_a_shell(home, ">/dev/full", *arguments)
    assert done.returncode == 4
    assert "No space left" in one_sentence(done.stderr)


@pytest.mark.parametrize("columns", ["0", "\N{SUPERSCRIPT TWO}"])
def test_a_terminal_of_no_known_width_is_shown_as_much_as_others(home: Home, columns: str) -> None:
    assert home.amini("show").stderr == home.amini("show", env={"COLUMNS": columns}).stderr != ""


def test_an_end_before_there_is_anything_to_tell_is_quiet(home: Home) -> None:
    code = "import os, signal, sys\nimport agentless_mini.__main__ as entry\n"
    code += "class Typing:\n    def find_spec(*_): os.kill(os.getpid(), signal.SIGINT)\n"
    done = home.run([sys.executable, "-c", f"{code}sys.meta_path.insert(0, Typing())\nentry.main()"])
    assert (done.returncode, done.stderr) == (130, "")


def run_status(home: Home) -> tuple[str, int | None]:
    with Store.open_readonly(home.root / "s.sqlite") as store:
        (summary,) = store.runs.summaries()
    return summary.run.status, summary.run.exit_code


def wait_for_samples(endpoint: ScriptedServer) -> None:
    deadline = time.monotonic() + 60
    while not any(chat.stage == "repair" for chat in endpoint.log.chats()) and time.monotonic() < deadline:
        time.sleep(0.05)


def test_when_the_terminal_goes_the_run_ends_as_interrupted_and_is_recorded(home: Home) -> None:
    ours, theirs = pty.openpty()
    with server(delay=0.3) as endpoint:
        command = home.command(*words(endpoint, "--text", ISSUE, "--store", "../s.sqlite"))
        # The leader of a session gets the first terminal that it opens, and with its end a SIGHUP.
        process = subprocess.Popen(
            with_signals(["sh", "-c", 'exec 2>"$0"; exec "$@"', os.ttyname(theirs), *command], SIGHUP="DFL"),
            cwd=home.repository,
            env=home.environment({"TERM": "xterm"}),
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for_samples(endpoint)
        os.close(theirs)
        os.close(ours)
        process.send_signal(signal.SIGHUP)  # as a shell does, beside the kernel
        assert process.wait(timeout=30) == 130
    assert run_status(home) == ("interrupted", 130)


@pytest.mark.parametrize("first", ["SIGTERM", "SIGHUP"])
def test_what_ends_a_command_twice_does_not_end_what_it_does_at_its_end(first: str) -> None:
    code = f"""
        import os, signal, sys, typer
        from agentless_mini.commands.terminal import reported
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        try:
            with reported():
                try:
                    os.kill(os.getpid(), signal.{first})
                finally:
                    os.kill(os.getpid(), signal.SIGTERM)
                    os.kill(os.getpid(), signal.{first})
                    print("recorded", flush=True)
        except typer.Exit as end:
            sys.exit(end.exit_code)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "recorded\n")
    assert one_sentence(done.stderr).startswith("Interrupted")


def test_a_hangup_that_was_ignored_from_the_start_stays_ignored(home: Home) -> None:
    with server(delay=0.02) as endpoint:
        command = home.command(*words(endpoint, "--text", ISSUE, "--store", "../s.sqlite"))
        process = subprocess.Popen(
            with_signals(command, SIGHUP="IGN"),
            cwd=home.repository,
            env=home.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for_samples(endpoint)
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=60) == 0
    assert run_status(home) == ("done", 0)
