"""A model sets up what the declared environment cannot, in real boxes of bubblewrap against the scripted server."""

import http.server
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from agentless_mini.errors import EnvironmentFailed
from agentless_mini.sandbox.bubblewrap import find_bubblewrap
from tests.chain.workbench import CART, FIX, WRONG
from tests.commands.running import ISSUE, LOCALIZED, Home
from tests.environment.conftest import package_index as package_index
from tests.fakes.model import Answer, Rule, Script
from tests.fakes.protocol import ServedModel
from tests.fakes.server import ScriptedServer
from tests.gitrepo import make_repository

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def boxes() -> None:
    try:
        find_bubblewrap("bwrap")
    except EnvironmentFailed as error:
        pytest.skip(str(error))


def case_of(imports: str) -> bytes:
    return (
        f"import unittest\n{imports}\n\n\nclass CartTest(unittest.TestCase):\n"
        "    def test_nothing(self):\n        self.assertEqual(total([]), 0)\n\n"
        "    def test_first_is_free(self):\n        self.assertEqual(total([0]), 0)\n"
    ).encode()


GENERATED = {
    "shop/__init__.py": b"",
    "shop/cart.py": CART.encode(),
    "tools/rates.py": b"open('shop/rates.py', 'w').write('RATE = 1\\n')\n",
    "tests/__init__.py": b"",
    "tests/test_cart.py": case_of("from shop.cart import total\nfrom shop.rates import RATE"),
    "tests/test_total.py": case_of("import shop.rates\nfrom shop.cart import total"),
}
"""A module that tests import is made by a program."""
HANGING = {
    "setup.py": b"import time\n\ntime.sleep(900)\n",
    "shop/cart.py": CART.encode(),
    "lib/prices/__init__.py": b"",
    "tests/__init__.py": b"",
    "tests/test_cart.py": case_of("import prices\nfrom shop.cart import total"),
}
"""The build takes too long, and a folder is missing in the path."""
UNDECLARED = {
    "shop/cart.py": CART.encode(),
    "README.md": b"The tests need YAML.\n",
    "tests/test_cart.py": b"import yaml\nfrom shop.cart import total\n\ndef test_nothing(): assert total([]) == 0\n",
}
"""No file of the project names a package that its tests need."""
TEST_MODULE = "printf 'def test_nothing():\\n    pass\\n' > tests/test_cart.pyc"
FAKING = (
    "printf 'import sys\\nsys.modules[\"shop.rates\"] = sys\\n' > tests/conftest.py; printf '[pytest]\\n' > pytest.ini"
)


def answers(*commands: str) -> tuple[Answer, ...]:
    return tuple(Answer(text=f"It lacks something.\n\n```sh\n{command}\n```\n") for command in commands)


def server(*commands: str) -> ScriptedServer:
    rules = (
        LOCALIZED,
        Rule(stage="repair", answers=(Answer(text=WRONG), Answer(text=FIX))),
        Rule(stage="setup", answers=answers(*commands)),
    )
    return ScriptedServer(ServedModel(script=Script(rules=rules), context_window=16384))


def home_of(tmp_path: Path, files: Mapping[str, bytes]) -> Home:
    (tmp_path / "issue.md").write_text(ISSUE)
    return Home(tmp_path, make_repository(tmp_path / "shop", files))


def repaired(home: Home, url: str, count: int, *more: str, seconds: int = 300) -> tuple[str, str]:
    settings = home.root / "settings.toml"
    settings.write_text(f"[sandbox]\nbuild_seconds = {seconds}\n")
    done = home.amini(
        *("repair", ".", "../issue.md", "--base-url", url, "--model", "scripted", "-n", "2", "--tests", "0"),
        *("--sandbox", "local", "--store", "../s.sqlite", "--config", str(settings), "--setup-samples", str(count)),
        *more,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, " ".join(done.stderr.split())


def asked(endpoint: ScriptedServer) -> int:
    return len(endpoint.log.chats())


@pytest.mark.thorough
def test_of_several_answers_the_one_is_kept_under_which_most_tests_pass(tmp_path: Path) -> None:
    home = home_of(tmp_path, GENERATED)
    right = "python tools/rates.py"
    with server("exit 3", "true", right, f"{FAKING}; {TEST_MODULE}") as endpoint:
        patch, told = repaired(home, endpoint.url, 4)
        before = asked(endpoint)
        again, retold = repaired(home, endpoint.url, 4)
        assert asked(endpoint) == before
        (home.root / "issue.md").write_text("A cart with two prices has the total of one.\n")
        _, other = repaired(home, endpoint.url, 4)
    assert f"to keep it: --setup '{right}'" in told
    assert "2 of the 2 nearest test files can be read, and 4 tests pass" in told
    assert "to keep it" in other
    assert "Building" not in other
    assert "the model is asked how" not in other
    assert again == patch
    assert "Building" in told
    assert "Building" not in retold


@pytest.mark.thorough
def test_an_environment_that_could_not_be_built_is_set_up(tmp_path: Path) -> None:
    home = home_of(tmp_path, HANGING)
    folder = "import os, site; open(site.getsitepackages()[0] + '/lib.pth', 'w').write(os.getcwd() + '/lib')"
    right = f'python -c "{folder}"'
    with server("sleep 900", "no-such-program", right) as endpoint:
        patch, told = repaired(home, endpoint.url, 3, seconds=30)
        before = asked(endpoint)
        again, retold = repaired(home, endpoint.url, 3, seconds=30)
        assert asked(endpoint) == before
    assert "1 of the 1 nearest test files can be read, and 2 tests pass" in told
    assert again == patch
    assert "Building" not in retold


@pytest.mark.thorough
def test_a_package_that_nothing_declares_is_installed(tmp_path: Path, package_index: None) -> None:
    home = home_of(tmp_path, UNDECLARED)
    with server("pip install pytest", "python -m pip install pytest pyyaml") as endpoint:
        _, told = repaired(home, endpoint.url, 2)
    assert "to keep it: --setup 'python -m pip install pytest pyyaml'" in told


@contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """Serve what no build may reach; note who came."""
    came: list[str] = []

    class Noting(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            came.append(self.path)

    with http.server.HTTPServer(("127.0.0.1", 0), Noting) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}/", came
        served.shutdown()


@pytest.mark.thorough
def test_hostile_answers_are_contained(tmp_path: Path) -> None:
    home = home_of(tmp_path, GENERATED)
    (secret := tmp_path / "secret").write_text("do not tell")
    with listening() as (address, came):
        hostile = (
            f"cat {secret}; echo seen > {tmp_path}/touched; rm -rf {tmp_path}/shop {tmp_path}/secret",
            f"python -c \"import urllib.request as u; u.urlopen('{address}')\"",
            "kill -9 -1; rm -rf /; python tools/rates.py",
            "python -c 'import os; [os.fork() for _ in range(14)]'",
            'rm -f "$(command -v python)"; ln -s /bin/true "$(command -v python3)"',
        )
        with server(*hostile, "python tools/rates.py") as endpoint:
            patch, told = repaired(home, endpoint.url, 6, seconds=30)
    assert "to keep it: --setup 'python tools/rates.py'" in told
    assert patch
    assert not came
    assert secret.read_text() == "do not tell"
    assert "do not tell" not in told
    assert not (tmp_path / "touched").exists()
    assert (home.repository / "shop/cart.py").read_text() == CART


@pytest.mark.parametrize("more", [("--setup", "true"), ("--setup-samples", "0")])
def test_no_model_is_asked_where_the_user_says_how(tmp_path: Path, more: tuple[str, ...]) -> None:
    home = home_of(tmp_path, GENERATED)
    with server("python tools/rates.py") as endpoint:
        _, told = repaired(home, endpoint.url, 2, *more)
    assert "to keep it" not in told
