"""The whole chain in real boxes of bubblewrap, against the scripted server: tests choose, and nothing is run twice."""

import contextlib
import json
import random
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agentless_mini.record import Store
from agentless_mini.sandbox.daemon import connect
from tests.chain.workbench import CART, FIX, WRONG, edit
from tests.commands.running import LOCALIZED, Home
from tests.fakes.model import Answer, Rule, Script
from tests.fakes.protocol import ServedModel
from tests.fakes.server import ScriptedServer
from tests.gitrepo import git, make_repository, write_files
from tests.sandbox.image import image_id
from tests.testing.forging import FORGERIES, HOOK

BWRAP = shutil.which("bwrap")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BWRAP is None, reason="bubblewrap is not installed")]

OWN_TEST = b"""\
import unittest

from shop.cart import total


class CartTest(unittest.TestCase):
    def test_nothing_costs_nothing(self):
        self.assertEqual(total([]), 0)

    def test_two_prices(self):
        self.assertEqual(total([1, 2]), 3)
"""
FILES = {
    "shop/__init__.py": b"",
    "shop/cart.py": CART.encode(),
    "tests/__init__.py": b"",
    "tests/test_cart.py": OWN_TEST,
}
BREAKS = edit("    return result\n", "    return result + prices[0]\n")


def written(body: str, imports: str = "from shop.cart import total") -> str:
    code = (
        f"import unittest\n{imports}\n\n\nclass Written(unittest.TestCase):\n    def test_it(self):\n        {body}\n"
    )
    return f"This shows it.\n\n```python\n{code}```\n"


SHOWS_IT = written("self.assertEqual(total([2, 3]), 5)")
TESTS = (SHOWS_IT, written("self.assertEqual(total([]), 0)"), written("total([1])", "from shop.basket import total"))


@pytest.fixture(scope="module")
def cache() -> Iterator[Path]:
    """Keep the environment that is built from one test to the next."""
    with tempfile.TemporaryDirectory(prefix="amini-test-cache-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def image() -> str:
    return image_id()


@pytest.fixture
def home(tmp_path: Path, cache: Path) -> Home:
    (tmp_path / "issue.md").write_text("The total of a cart leaves out its first price.\n")
    (tmp_path / "cache").symlink_to(cache)
    return Home(tmp_path, make_repository(tmp_path / "shop", FILES))


def server(delay: float = 0.0) -> ScriptedServer:
    rules = [
        Rule(stage=stage, answers=tuple(Answer(text=text) for text in texts))
        for stage, texts in (("repair", (WRONG, WRONG, WRONG, BREAKS, FIX)), ("reproduce", TESTS))
    ]
    return ScriptedServer(ServedModel(script=Script(rules=(LOCALIZED, *rules))), delay=delay)


def arguments(url: str, *more: str) -> tuple[str, ...]:
    base = ("repair", ".", "../issue.md", "--base-url", url, "--model", "scripted", "-n", "5", "--tests", "3")
    return (*base, "--sandbox", "local", "--store", "../s.sqlite", *more)


def test_the_tests_choose_what_the_vote_would_not(home: Home) -> None:
    with server() as endpoint:
        chosen = home.amini(*arguments(endpoint.url))
        voted = home.amini(*arguments(endpoint.url, "--rank", "vote"))
    assert chosen.returncode == voted.returncode == 0, chosen.stderr
    assert "for price in prices:\n" in chosen.stdout
    assert "result = 1" in voted.stdout
    assert "passes 1 of 1" in chosen.stderr


def test_a_rerun_sends_no_request_and_runs_no_box(home: Home) -> None:
    with server() as endpoint:
        first = home.amini(*arguments(endpoint.url))
    log = counting_bubblewrap(home)
    second = home.amini(*arguments(endpoint.url))
    assert second.returncode == 0, second.stderr
    assert second.stdout == first.stdout
    assert boxes_started(log) == 0


def test_the_document_has_every_verdict(home: Home) -> None:
    with server() as endpoint:
        done = home.amini(*arguments(endpoint.url, "--json"))
    document = json.loads(done.stdout)
    told = json.dumps(document)
    assert "tests/test_cart.py::CartTest::test_nothing_costs_nothing" in told
    assert '"not-reproduced"' in told
    assert '"other-fault"' in told


def test_the_users_own_test_chooses_without_any_written_one(home: Home) -> None:
    with server() as endpoint:
        done = home.amini(
            *arguments(endpoint.url, "--tests", "0", "--failing-test", "tests/test_cart.py::CartTest::test_two_prices")
        )
        command = home.amini(
            *arguments(endpoint.url, "--tests", "0"),
            *("--failing-cmd", "python -c 'from shop.cart import total; assert total([4]) == 4'"),
        )
    assert "for price in prices:\n" in done.stdout, done.stderr
    assert "for price in prices:\n" in command.stdout, command.stderr


@pytest.mark.thorough
def test_a_test_of_the_users_that_cannot_be_run_leaves_nothing_to_be_printed(home: Home) -> None:
    mine = ("--tests", "0", "--failing-test", "tests/test_cart.py::CartTest::test_two_prices", "--quiet")
    with server() as endpoint:
        unbuilt = home.amini(*arguments(endpoint.url, *mine, "--setup", "false"))
        passing = home.amini(*arguments(endpoint.url, *mine[:3], f"{mine[3][:-10]}nothing_costs_nothing", "-q"))
        absent = home.amini(*arguments(endpoint.url, *mine[:3], f"{mine[3][:-10]}three", "-q"))
        assert not any(seen.samples for seen in endpoint.log.requests), "paid for before the test failed"
        anyway = home.amini(*arguments(endpoint.url, *mine, "--setup", "false", "--require", "any"))
    assert (unbuilt.returncode, unbuilt.stdout) == (5, "")
    (line,) = unbuilt.stderr.splitlines()
    assert "Your failing test cannot be run: " in line
    assert "--require any" in line
    assert (anyway.returncode, anyway.stdout[:10]) == (0, "diff --git")
    assert (passing.returncode, passing.stdout) == (5, "")
    assert "passes already" in passing.stderr
    assert (absent.returncode, absent.stdout) == (2, "")
    assert "There is no test" in absent.stderr


def test_what_the_tests_show_is_weighed_against_what_is_required(home: Home) -> None:
    mine = ("--failing-test", "tests/test_cart.py::CartTest::test_two_prices", "--json")
    with server() as endpoint:
        trusted = home.amini(*arguments(endpoint.url, *mine))
        voted = home.amini(*arguments(endpoint.url, *mine, "--rank", "vote", "--require", "tests"))
    trust = {"required": "given", "printed": True, "shown": ["any", "agreement", "tests", "given"], "lacking": ""}
    assert (trusted.returncode, json.loads(trusted.stdout)["trust"]) == (0, trust)
    assert (voted.returncode, json.loads(voted.stdout)["trust"]["printed"]) == (5, False)
    assert "it passes 1 of 2 reproduction tests (--require tests)" in voted.stderr.splitlines()[-1]


def proposed(home: Home, name: str, old: str, new: str) -> str:
    """Write a patch of the cart as some other tool may have made it."""
    file = home.repository / "shop/cart.py"
    before = file.read_text()
    file.write_text(before.replace(old, new))
    (home.root / name).write_bytes(git(home.repository, "diff"))
    file.write_text(before)
    return f"../{name}"


def test_patches_of_other_tools_are_chosen_by_the_tests_that_there_are(home: Home) -> None:
    wrong = [proposed(home, f"agent-{n}.patch", "result = 0", f"result = 1  # {n}") for n in range(2)]
    right, breaks = (
        proposed(home, "mine.patch", "prices[1:]", "prices"),
        proposed(home, "other.patch", "return result", "return result + prices[0]"),
    )
    common = ("choose", ".", "../issue.md", *wrong, breaks, right, "--sandbox", "local", "--store", "../s.sqlite")
    mine = ("--failing-test", "tests/test_cart.py::CartTest::test_two_prices")
    given = home.amini(*common, *mine)
    assert given.returncode == 0, given.stderr
    assert "+    for price in prices:\n" in given.stdout
    assert "from       ../mine.patch" in given.stderr
    assert "No model writes tests" in given.stderr
    alone = home.amini(*common[:3], breaks, right, *common[-4:])
    assert "+    for price in prices:\n" in alone.stdout, "the regression tests tell them apart"
    log = counting_bubblewrap(home)
    again = home.amini(*common, *mine)
    assert (again.returncode, again.stdout) == (0, given.stdout)
    assert boxes_started(log) == 0
    with server() as endpoint:
        written = home.amini(*common, "--base-url", endpoint.url, "--model", "scripted", "--tests", "3")
        assert {chat.stage for chat in endpoint.log.chats()} == {"reproduce"}
    assert "+    for price in prices:\n" in written.stdout, written.stderr
    assert "passes 1 of 1" in written.stderr


def counting_bubblewrap(home: Home) -> Path:
    """Make a bubblewrap that writes down each box it starts, and the settings of the home that use it."""
    log, program = home.root / "boxes.log", home.root / "bwrap"
    program.write_text(f'#!/bin/sh\n[ "$1" = --version ] || echo box >> {log}\nexec {BWRAP} "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    settings = home.root / "config" / "amini" / "config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text(f'[sandbox]\nbubblewrap = "{program}"\nboxes = 2\n')
    return log


def boxes_started(log: Path) -> int:
    return log.read_text().count("box") if log.exists() else 0


def boxes_recorded(home: Home) -> int:
    if not (home.root / "s.sqlite").exists():
        return 0
    with Store.open_readonly(home.root / "s.sqlite") as store:
        return len({box.key for run in store.runs.summaries() for box in store.runs.trace(run.run.id).boxes})


MOMENTS = 20
Count = Callable[[], int]
"""Returns how many boxes were started since it was made."""


def killed(home: Home, count: Count, *more: str) -> None:
    """Kill a run at random moments; its rerun ends like an undisturbed one, and runs no recorded box again."""
    with server() as endpoint:
        home.amini(*arguments(endpoint.url, *more, "--store", "../first.sqlite"))  # builds what needs to be built
        before = count()
        whole = home.amini(*arguments(endpoint.url, *more, "--store", "../whole.sqlite"))
        assert whole.returncode == 0, whole.stderr
        needed, before = count() - before, count()
        moments = random.Random(3)  # noqa: S311 - moments of a test
        for _ in range(MOMENTS):
            process = subprocess.Popen(
                home.command(*arguments(endpoint.url, *more)),
                cwd=home.repository,
                env=home.environment({"TMPDIR": str(temporary(home))}),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            time.sleep(moments.uniform(0.5, 2.5))
            process.send_signal(signal.SIGKILL)
            process.wait()
        recorded, started = boxes_recorded(home), count() - before
        last = home.amini(*arguments(endpoint.url, *more), env={"TMPDIR": str(temporary(home))})
        owed = count() - before - started
    assert (last.returncode, last.stdout) == (0, whole.stdout), last.stderr
    assert boxes_recorded(home) == needed
    # What a kill cut off is run again, two boxes at once at most, and nothing that is recorded.
    assert 0 <= started - recorded <= 2 * MOMENTS
    assert recorded + owed <= needed
    assert list(temporary(home).iterdir()) == []


@pytest.mark.thorough
def test_killed_at_random_moments_bubblewrap_leaves_nothing_and_runs_nothing_recorded_again(
    home: Home, cache: Path
) -> None:
    log = counting_bubblewrap(home)
    killed(home, lambda: boxes_started(log))
    assert processes_of(cache) == []


@pytest.mark.thorough
def test_killed_at_random_moments_docker_leaves_nothing_and_runs_nothing_recorded_again(home: Home, image: str) -> None:
    settings = home.root / "config" / "amini" / "config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text("[sandbox]\nboxes = 2\n")
    client = connect(1)
    began = datetime.now(UTC)

    def created() -> int:
        filters = {"event": "create", "type": "container", "image": image}
        return len(list(client.events(since=began, until=datetime.now(UTC), filters=filters, decode=True)))

    def left() -> list[str]:
        return [
            str(box.id) for box in client.containers.list(all=True, filters={"ancestor": image, "label": "amini=1"})
        ]

    try:
        others = left()
        killed(home, created, "--sandbox", "docker", "--image", image)
        assert left() == others
    finally:
        client.close()


def temporary(home: Home) -> Path:
    folder = home.root / "tmp"
    folder.mkdir(exist_ok=True)
    return folder


def processes_of(cache: Path) -> list[bytes]:
    """Return the command lines of what runs with an environment of this cache, in boxes or around them."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            lines.append(path.read_bytes())
    return [line for line in lines if str(cache).encode() in line]


@pytest.mark.parametrize("kind", ["local", pytest.param("docker", marks=pytest.mark.thorough)])
def test_no_patch_speaks_for_the_tests(home: Home, kind: str, request: pytest.FixtureRequest) -> None:
    named = ("pytest.toml", "dist-info", "sitecustomize", "iniconfig", "argparse")
    cheats = []
    for name in named:
        files = {"shop/cart.py": CART.replace("= 0", f"= {len(name)}"), "forged.py": HOOK, **FORGERIES[name]}
        write_files(home.repository, {path: text.encode() for path, text in files.items()})
        git(home.repository, "add", "--all")
        (home.root / f"{name}.patch").write_bytes(git(home.repository, "diff", "--cached"))
        git(home.repository, "reset", "--hard", "--quiet")
        cheats.append(f"../{name}.patch")
    right = proposed(home, "mine.patch", "prices[1:]", "prices")
    failing = ("--failing-test", "tests/test_cart.py::CartTest::test_two_prices", "--test-cmd", "python -m pytest")
    more = ("--image", request.getfixturevalue("image")) if kind == "docker" else ()
    common = ("--sandbox", kind, *more, *failing)
    done = home.amini("choose", ".", "../issue.md", *cheats, right, *common, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    prediction = document["prediction"]
    assert "+    for price in prices:\\n" in json.dumps(prediction["choice"]), done.stderr
    outcomes = [verdict["outcomes"][failing[1]] for verdict in prediction["execution"]["verdicts"]]
    assert sorted(outcomes) == [*["fail"] * len(cheats), "pass"]
    alone = home.amini("choose", ".", "../issue.md", cheats[0], *common, "--require", "any")
    assert "A patch adds or changes pytest.toml: tests ran without that." in alone.stderr
    assert "; tests ran without its pytest.toml" in alone.stderr
