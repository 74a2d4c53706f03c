"""What is not on macOS is not needed where tests run in Docker or not at all."""

import subprocess
import sys

import pytest

from tests.commands import as_on_macos
from tests.commands.running import Home, one_sentence, server
from tests.gitrepo import git
from tests.sandbox.image import image_id


def amini(home: Home, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", as_on_macos.__file__, *arguments]
    return subprocess.run(
        command, cwd=home.repository, env=home.environment(), capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.parametrize("command", ["", "repair"])
def test_the_help_is_told(home: Home, command: str) -> None:
    done = amini(home, *command.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--help" in done.stdout


def test_a_repair_without_tests_prints_its_patch_and_can_be_shown(home: Home) -> None:
    with server() as endpoint:
        arguments = ("repair", ".", "../issue.md", "--base-url", endpoint.url, "-n", "5", "--sandbox", "none")
        done = amini(home, *arguments, "--commit", "fix")
        again = amini(home, *arguments)
    assert done.returncode == 0, done.stderr
    git(home.repository, "apply", "--check", stdin=done.stdout.encode())
    assert again.stdout == done.stdout
    assert "Traceback" not in done.stderr
    assert amini(home, "show", "1").returncode == 0


@pytest.mark.thorough
def test_a_repair_with_tests_in_docker_chooses_by_them(home: Home) -> None:
    command = "python3 -c 'from shop.cart import total; assert total([1, 2]) == 3'"
    with server() as endpoint:
        arguments = ("repair", ".", "../issue.md", "--base-url", endpoint.url, "-n", "5", "--tests", "0")
        boxes = ("--sandbox", "docker", "--image", image_id(), "--failing-cmd", command)
        done = amini(home, *arguments, *boxes)
    assert done.returncode == 0, done.stderr
    assert "it passes 1 of 1 test that failed before" in done.stderr


def test_bubblewrap_is_refused_with_what_to_do(home: Home) -> None:
    with server() as endpoint:
        done = amini(home, "repair", ".", "../issue.md", "--base-url", endpoint.url, "-n", "2", "--sandbox", "local")
    assert (done.returncode, done.stdout) == (4, "")
    assert "docker" in one_sentence(done.stderr.strip().split("\n")[-1])


def test_the_doctor_and_the_settings_are_told(home: Home) -> None:
    told = amini(home, "doctor")
    assert told.stderr == ""
    assert "It needs Linux" in told.stdout
    assert amini(home, "config").returncode == 0
