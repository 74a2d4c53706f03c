"""Tests of ours beside a repository's, under every runner and every Python of this machine: a cheat shows in each."""

import subprocess
from pathlib import Path

import pytest

from agentless_mini.domain import Outcome, Verdict
from agentless_mini.sandbox.host import VirtualEnvironment
from agentless_mini.testing import harness_of
from tests.environment.conftest import package_index
from tests.testing.boxes import RealBoxes, case, patch_of, tree
from tests.testing.forging import FORGED, cheat

__all__ = ["package_index"]
# Tests run with Python 3.7 or newer.
PYTHONS = sorted(
    set(Path.home().glob(".pyenv/versions/3.*/bin/python3")) - set(Path.home().glob(".pyenv/versions/3.6.*/*/*"))
)
CART = "def total(prices):\n    return 0\n"
RIGHT = "def total(prices):\n    return sum(prices)\n"
TESTS = """\
from {module} import TestCase
from shop.cart import total


class CartTest(TestCase):
    def test_two_prices(self):
        self.assertEqual(total([1, 2]), 3)

    def test_nothing_costs_nothing(self):
        self.assertEqual(total([]), 0)
"""
SETTINGS = """\
SECRET_KEY = "x"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
INSTALLED_APPS = []
USE_TZ = True
"""
MANAGE = """\
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
# What each needs of the runner's process differs: its classes, its frames, the recorder itself.
CHEATS = [name for name in FORGED if "recorder" in name] + ["changes how tests are called", "notes nothing but passes"]


def passes(verdict: Verdict) -> bool:
    return not verdict.refusal and all(result.outcome is Outcome.PASS for result in verdict.results)


@pytest.fixture(scope="module", params=PYTHONS, ids=lambda path: path.parents[1].name)
def environment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, package_index: None
) -> VirtualEnvironment:
    folder = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([request.param, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin/python", "-m", "pip", "install", "-q", "pytest", "django"], check=True)
    return VirtualEnvironment("there", folder)


@pytest.mark.thorough
@pytest.mark.parametrize("runner", ["pytest", "unittest", "django"])
def test_no_cheat_is_believed_under_any_runner_and_python(
    boxes: RealBoxes, environment: VirtualEnvironment, runner: str
) -> None:
    module = "django.test" if runner == "django" else "unittest"
    files = {"shop/__init__.py": "", "shop/cart.py": CART, "tests/__init__.py": ""}
    files["tests/test_cart.py"] = TESTS.format(module=module.replace("django.test", "django.test.testcases"))
    if runner == "django":
        files |= {"manage.py": MANAGE, "settings.py": SETTINGS}
    boxes.environment = environment
    boxes.harness = harness_of(tree(files), "python -m pytest" if runner == "pytest" else "")
    assert boxes.harness.runner.value == runner
    cases = [case("tests/test_cart.py::CartTest::test_two_prices")]
    changes = [{"shop/cart.py": code} for code in (RIGHT, *(cheat(FORGED[name], CART) for name in CHEATS))]
    right, *cheats = boxes.execute(files, changes, cases)
    assert passes(right)
    told = [patch_of(tree(files), change).suspicious for change in changes]
    assert not told[0]
    tried = zip(CHEATS, cheats, told[1:], strict=True)
    assert [name for name, verdict, suspicious in tried if passes(verdict) and not suspicious] == []
