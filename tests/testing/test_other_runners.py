"""unittest and the user's own commands in real boxes."""

import os
from types import SimpleNamespace
from typing import Any

import pytest

from agentless_mini.domain import Case, Fault, Origin, Outcome, Runner
from agentless_mini.testing import harness_of
from agentless_mini.testing.inside import amini_run
from tests.testing.boxes import RealBoxes, case, tree

PASS, FAIL, ERROR, SKIP, GONE = Outcome.PASS, Outcome.FAIL, Outcome.ERROR, Outcome.SKIP, Outcome.NOT_COLLECTED
UNITTEST = """\
import os, sys, time, unittest
from shop import get
from near import VALUE

class Kinds(unittest.TestCase):
    def test_pass(self): self.assertEqual(VALUE, 3)
    def test_fail(self): self.assertEqual(1, 2)
    def test_raise(self): get("a")
    @unittest.skip("no")
    def test_skip(self): pass
    @unittest.expectedFailure
    def test_expected(self): assert 0
    @unittest.expectedFailure
    def test_unexpected(self): pass
    def test_parts(self):
        for number in range(3):
            with self.subTest(number=number): self.assertNotEqual(number, 1)
    def test_nested(self):
        class Inner(unittest.TestCase):
            def test_inner(self): raise OSError
        unittest.TestSuite([Inner("test_inner")]).run(unittest.TestResult())
    def test_slow(self): time.sleep(60)
    def test_gone(self): os._exit(0)

class NoSetUp(unittest.TestCase):
    @classmethod
    def setUpClass(cls): raise OSError("no set-up")
    def test_a(self): pass

class Last(unittest.TestCase):
    def test_last(self): pass
"""
KINDS = {
    "Kinds::test_pass": PASS,
    "Kinds::test_fail": FAIL,
    "Kinds::test_raise": FAIL,
    "Kinds::test_skip": SKIP,
    "Kinds::test_expected": SKIP,
    "Kinds::test_unexpected": FAIL,
    "Kinds::test_parts": FAIL,
    "Kinds::test_nested": PASS,
    "Kinds::test_slow": Outcome.TIMEOUT,
    "Kinds::test_gone": ERROR,
    "NoSetUp::test_a": ERROR,
    "Last": PASS,
    "Last::test_last": PASS,
    "Last::test_nowhere": GONE,
}
FILES = {
    "shop.py": "def get(key):\n    return {}[key]\n",
    "tests/near.py": "VALUE = 3\n",
    "tests/test_kinds.py": UNITTEST,
    "tests/test_import.py": "import unittest\nimport nowhere\n",
    "tests/test_skip.py": "import unittest\nraise unittest.SkipTest('not here')\n",
    "tests/deep/__init__.py": "",
    "tests/deep/test_deep.py": "import unittest\nfrom . import __name__ as n\nclass D(unittest.TestCase):\n"
    "    def test_d(self): self.assertEqual(n, 'deep')\n",
}


@pytest.mark.slow
def test_unittest_has_an_outcome_for_every_kind_of_test(boxes: RealBoxes) -> None:
    boxes.case_seconds = 1.0
    assert harness_of(tree(FILES)).runner is Runner.UNITTEST
    wanted = [f"tests/test_kinds.py::{name}" for name in KINDS]
    more = ["tests/test_import.py::A::test_a", "tests/test_skip.py", "tests/deep/test_deep.py", "tests/test_away.py"]
    results = boxes.run(FILES, [case(name) for name in [*wanted, *more]])
    assert {name: results[f"tests/test_kinds.py::{name}"].outcome for name in KINDS} == KINDS
    assert [results[name].outcome for name in more] == [ERROR, SKIP, PASS, GONE]
    assert results[wanted[2]].fault == Fault("KeyError", "'a'", "shop.py", 2)
    fault = Fault("ModuleNotFoundError", "No module named 'nowhere'", "tests/test_import.py", 2)
    assert results[more[0]].fault == fault


PROJECT = {
    # What django's command does with the names of tests, as far as it matters here.
    "django/__init__.py": "",
    "django/test.py": "from unittest import TestCase\n",
    "django/__main__.py": "import sys, unittest, os\nassert os.environ['DJANGO_SETTINGS_MODULE'] == 'tests.settings'\n"
    "assert sys.argv[:2] == ['django', 'test'], sys.argv\n"
    "unittest.main(module=None, argv=['x', *(one for one in sys.argv[2:] if one[0] != '-')])\n",
    "tests/settings.py": "",
    "app/tests.py": "from django.test import TestCase\nclass A(TestCase):\n    def test_a(self): pass\n"
    "    def test_b(self): self.fail('no')\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("program", [False, True])
def test_a_project_of_django_is_run_by_its_command(boxes: RealBoxes, program: bool) -> None:
    main = PROJECT["django/__main__.py"].replace("assert os", "#").replace("assert sys", "#")
    files = {"manage.py": main} if program else {}
    boxes.harness = harness_of(tree({**PROJECT, **files}))
    assert boxes.harness.command[-1] == "test"
    results = boxes.run({**PROJECT, **files}, [case("app/tests.py::A::test_a"), case("app/tests.py::A::test_b")])
    assert [result.outcome for result in results.values()] == [PASS, FAIL]


def test_a_command_runs_once_for_each_file_and_its_status_counts(boxes: RealBoxes) -> None:
    boxes.harness = harness_of(tree({}), "grep -q good {tests}")
    files = {"tests/test_a.py": "good\n", "tests/test_b.py": "bad\n"}
    outcomes = boxes.outcomes(files, ["tests/test_a.py", "tests/test_b.py", "tests/test_a.py::test_x"])
    assert list(outcomes.values()) == [PASS, FAIL, PASS]
    assert [(one.id, one.outcome) for one in boxes.run_files(files, ["tests/test_b.py"])] == [("tests/test_b.py", FAIL)]


@pytest.mark.slow
def test_a_command_of_a_case_stands_beside_tests(boxes: RealBoxes) -> None:
    boxes.case_seconds = 2.0
    commands = {"ok": "test -e shop.py && true", "no": "echo why; false", "none": "no-such-program", "slow": "sleep 60"}
    cases = [Case(name, Origin.GIVEN, command=command) for name, command in commands.items()]
    results = boxes.run({"shop.py": "", "test_a.py": "def test_a(): pass\n"}, [*cases, case("test_a.py::test_a")])
    assert [result.outcome for result in results.values()] == [PASS, FAIL, ERROR, Outcome.TIMEOUT, PASS]
    assert results["no"].fault == Fault("", "It ended with status 1: why")


@pytest.mark.parametrize(("runner", "hung"), [("django", False), ("unittest", True)])
def test_django_may_take_longer_than_others_to_begin(runner: str, hung: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amini_run, "STARTUP", -1.0)
    looks = [None, None, 0]
    child: Any = SimpleNamespace(
        pid=os.getpid(), poll=lambda: looks.pop(0), kill=lambda: None, wait=lambda: -9, returncode=0
    )
    ledger: Any = SimpleNamespace(room=0, limit=1.0, plan={"runner": runner, "seconds": 1.0})
    line: Any = SimpleNamespace(hear=lambda seconds: False)
    assert amini_run.watch(child, ledger, line)[1] is hung


def test_time_in_which_a_runner_waits_for_a_processor_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amini_run, "STARTUP", 5.0)
    clock, waiting = iter([0.0, 9.0, 19.0, 21.0]), iter([100.0, 109.0, 119.0, 999.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    monkeypatch.setattr(amini_run, "waited", lambda process: next(waiting))
    child: Any = SimpleNamespace(pid=1, poll=lambda: None, kill=lambda: None, wait=lambda: -9)
    ledger: Any = SimpleNamespace(room=0, plan={"runner": "unittest"})
    line: Any = SimpleNamespace(hear=lambda seconds: False)
    assert amini_run.watch(child, ledger, line) == (-9, True)
    assert list(clock) == [], "four times what it has, at most"
