"""pytest in real boxes: what is read of tests of every kind."""

from dataclasses import replace

import pytest

from agentless_mini.chain.file_roles import is_test_path
from agentless_mini.domain import Fault, Harness, Note, Outcome, Runner
from agentless_mini.testing import ran_without
from agentless_mini.testing.records import LEFT
from tests.testing.boxes import RealBoxes, case
from tests.testing.forging import FORGERIES, HOOK

PASS, FAIL, ERROR, SKIP = Outcome.PASS, Outcome.FAIL, Outcome.ERROR, Outcome.SKIP
CODE = "def get(key):\n    return {}[key]\n"
KINDS = """\
import sys, unittest
import pytest
from shop import get

def test_pass(): pass
def test_fail(): assert 1 == 2, "words"
def test_raise(): get("a")

@pytest.fixture
def no_set_up(): raise OSError("no set-up")
def test_set_up(no_set_up): pass

@pytest.fixture
def no_clean_up():
    yield
    raise OSError("no clean-up")
def test_clean_up(no_clean_up): pass

@pytest.mark.skip
def test_skip(): pass
@pytest.mark.xfail
def test_expected(): assert 0
@pytest.mark.xfail(strict=True)
def test_unexpected(): pass
@pytest.mark.parametrize("a", [1, 2, "x::y/z"])
def test_parameter(a): assert a != 2
def test_exit(): sys.exit(0)
def test_interrupted(): raise KeyboardInterrupt
def test_cut_short(): pytest.exit("all is well")

class TestClass:
    def test_method(self): pass

class Old(unittest.TestCase):
    def test_equal(self): self.assertEqual(1, 2)
    def test_parts(self):
        for number in range(3):
            with self.subTest(number=number):
                self.assertNotEqual(number, 1)

def test_last(): pass
"""
EXPECTED = {
    "test_pass": PASS,
    "test_fail": FAIL,
    "test_raise": FAIL,
    "test_set_up": ERROR,
    "test_clean_up": ERROR,
    "test_skip": SKIP,
    "test_expected": SKIP,
    "test_unexpected": FAIL,
    "test_parameter": FAIL,
    "test_parameter[1]": PASS,
    "test_parameter[2]": FAIL,
    "test_parameter[x::y/z]": PASS,
    "test_parameter[3]": Outcome.NOT_COLLECTED,
    "test_exit": FAIL,
    "test_interrupted": ERROR,
    "test_cut_short": ERROR,
    "TestClass": PASS,
    "TestClass::test_method": PASS,
    "Old": FAIL,
    "Old::test_equal": FAIL,
    "Old::test_parts": FAIL,
    "test_last": PASS,
    "test_nowhere": Outcome.NOT_COLLECTED,
}


@pytest.mark.slow
def test_every_kind_of_test_has_its_outcome(boxes: RealBoxes) -> None:
    files = {"shop.py": CODE, "tests/test_kinds.py": KINDS}
    results = boxes.run(files, [case(f"tests/test_kinds.py::{name}") for name in EXPECTED])
    told = {name.partition("::")[2]: result for name, result in results.items()}
    assert {name: result.outcome for name, result in told.items()} == EXPECTED
    assert told["test_fail"].fault == Fault("AssertionError", "words\nassert 1 == 2", "tests/test_kinds.py", 6)
    assert told["test_raise"].fault == Fault("KeyError", "'a'", "shop.py", 2)
    assert told["test_set_up"].fault == Fault("OSError", "no set-up", "tests/test_kinds.py", 10)
    assert told["Old::test_equal"].fault == Fault("AssertionError", "1 != 2", "tests/test_kinds.py", 35)
    assert told["test_pass"].fault is None


HARD = {
    "tests/test_hard.py": """\
import os, time
def test_first(): pass
def test_slow(): time.sleep(60)
def test_gone(): os._exit(0)
def test_crash():
    import ctypes
    ctypes.string_at(0)
def test_last(): pass
""",
    "tests/test_ends.py": "import os\nos._exit(3)\n",
    "tests/test_after.py": "def test_after(): pass\n",
}


@pytest.mark.slow
def test_what_hangs_or_ends_its_process_does_not_keep_others_from_running(boxes: RealBoxes) -> None:
    boxes.case_seconds = 2.0  # more than a busy machine takes to end a process
    names = ["test_first", "test_slow", "test_gone", "test_crash", "test_last"]
    wanted = ["tests/test_ends.py", *(f"tests/test_hard.py::{name}" for name in names), "tests/test_after.py"]
    outcomes = boxes.outcomes(HARD, wanted)
    assert list(outcomes.values()) == [ERROR, PASS, Outcome.TIMEOUT, ERROR, ERROR, PASS, PASS]


@pytest.mark.thorough
def test_a_test_that_swallows_its_time_limit_is_ended_with_its_process(boxes: RealBoxes) -> None:
    text = (
        "import time\ndef test_stays():\n    while True:\n"
        "        try: time.sleep(60)\n        except BaseException: pass\n"
    )
    boxes.case_seconds = 0.5
    wanted = ["tests/test_a.py::test_stays", "tests/test_a.py::test_last"]
    outcomes = boxes.outcomes({"tests/test_a.py": f"{text}def test_last(): pass\n"}, wanted)
    assert list(outcomes.values()) == [Outcome.TIMEOUT, PASS]


@pytest.mark.thorough
def test_what_a_box_was_killed_before_runs_in_another(boxes: RealBoxes) -> None:
    text = "def test_first(): pass\ndef test_memory(): [b'x' * 10**8 for _ in range(40)] and 0\ndef test_last(): pass\n"
    wanted = ["tests/test_a.py::test_first", "tests/test_a.py::test_memory", "tests/test_a.py::test_last"]
    results = boxes.run({"tests/test_a.py": text}, [*map(case, wanted)])
    assert [result.outcome for result in results.values()] == [PASS, ERROR, PASS]


FILES = {
    "tests/test_import.py": "import nowhere\ndef test_x(): pass\n",
    "tests/test_syntax.py": "def test_x(: pass\n",
    "tests/test_name.py": "nothing\ndef test_x(): pass\n",
    "tests/test_skip.py": "import pytest\npytest.skip('not here', allow_module_level=True)\ndef test_x(): pass\n",
    "tests/test_none.py": "VALUE = 1\n",
    "tests/test_good.py": "def test_a(): pass\ndef test_b(): pass\n",
    "tests/test_mixed.py": "import pytest\ndef test_a(): pytest.skip()\ndef test_b(): pass\n",
}


@pytest.mark.slow
def test_a_file_counts_as_one_and_what_cannot_be_read_is_an_error(boxes: RealBoxes) -> None:
    cases = [*(case(path) for path in FILES), case("tests/test_import.py::test_x"), case("tests/test_away.py")]
    results = boxes.run(FILES, cases)
    outcomes = [result.outcome for result in results.values()]
    gone = Outcome.NOT_COLLECTED
    assert outcomes == [ERROR, ERROR, ERROR, SKIP, gone, PASS, PASS, ERROR, gone]
    kinds = [result.fault.kind for result in results.values() if result.outcome is ERROR and result.fault]
    assert kinds == ["ModuleNotFoundError", "SyntaxError", "NameError", "ModuleNotFoundError"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "configuration",
    [
        "addopts = --cov=shop --no-such-option -n 4\n",
        "addopts = 'unclosed\n",
        *(
            pytest.param(text, marks=pytest.mark.thorough)
            for text in (
                "addopts = -x --maxfail=1\n",
                "addopts = -p no_such_plugin\nrequired_plugins = no-such-plugin\n",
                "testpaths = elsewhere\naddopts = --strict-config --collect-only\nunknown = 1\n",
                "minversion = 999\n",
            )
        ),
    ],
)
def test_options_of_a_project_do_not_get_in_the_way(boxes: RealBoxes, configuration: str) -> None:
    files = {
        "pytest.ini": f"[pytest]\n{configuration}",
        "tests/test_a.py": "def test_a(): assert 0\ndef test_b(): assert 0\ndef test_c(): pass\n",
        "elsewhere/test_d.py": "raise SystemExit(1)\n",
    }
    wanted = [f"tests/test_a.py::test_{name}" for name in "abc"]
    assert list(boxes.outcomes(files, wanted).values()) == [FAIL, FAIL, PASS]


INTERNAL = """\
def pytest_addoption(parser):
    parser.addoption("--reruns", type=int, dest="reruns", default=3)
    parser.addoption("--shuffle", dest="randomly_reorganize", default=True)
def pytest_collection(session):
    if session.config.option.strict_markers: raise RuntimeError("a plugin breaks")
    assert not session.config.option.reruns and not session.config.option.randomly_reorganize
"""


@pytest.mark.slow
def test_where_pytest_breaks_before_any_test_it_is_tried_without_options_and_new_tries_are_off(
    boxes: RealBoxes,
) -> None:
    files = {"conftest.py": INTERNAL, "pytest.ini": "[pytest]\naddopts = --strict-markers\n"}
    outcomes = boxes.outcomes(files | {"test_a.py": "def test_a(): pass\n"}, ["test_a.py::test_a"])
    assert list(outcomes.values()) == [PASS]


@pytest.mark.thorough
def test_members_whose_tests_have_the_same_names_run_together(boxes: RealBoxes) -> None:
    names = [f"{folder}tests/test_{name}.py" for folder, name in (("", "a"), ("member/", "a"))]
    files = dict.fromkeys(names, "def test_one(): pass\n")
    files["member/setup.py"] = ""
    for folder in ("tests", "member/tests"):
        files |= {f"{folder}/__init__.py": "", f"{folder}/conftest.py": ""}
    assert list(boxes.outcomes(files, [f"{name}::test_one" for name in names]).values()) == [PASS, PASS]
    found = boxes.run_files(files, names)
    assert [(one.id, one.outcome) for one in found] == [(f"{name}::test_one", PASS) for name in names]


@pytest.mark.slow
def test_a_conftest_that_breaks_is_an_error_of_every_test_and_says_why(boxes: RealBoxes) -> None:
    files = {"conftest.py": "import nowhere\n", "tests/test_a.py": "def test_a(): pass\n"}
    (result,) = boxes.run(files, [case("tests/test_a.py::test_a")]).values()
    fault = Fault("ModuleNotFoundError", "No module named 'nowhere'", "conftest.py", 1)
    assert (result.outcome, result.fault) == (ERROR, fault)


@pytest.mark.slow
def test_a_folder_with_its_own_settings_does_not_change_the_names(boxes: RealBoxes) -> None:
    files = {"sub/tests/pytest.ini": "[pytest]\n", "sub/tests/test_a.py": "import os\ndef test_a(): os.chdir('/')\n"}
    assert boxes.outcomes(files, ["sub/tests/test_a.py::test_a"]) == {"sub/tests/test_a.py::test_a": PASS}


def test_a_harness_that_does_not_run_is_an_error_that_shows_what_was_printed(boxes: RealBoxes) -> None:
    boxes.harness = Harness(Runner.PYTEST, ("python", "-m", "nothing_of_this_name"))
    (result,) = boxes.run({"tests/test_a.py": "def test_a(): pass\n"}, [case("tests/test_a.py")]).values()
    assert result.outcome is ERROR
    assert result.fault is not None
    assert "No module named nothing_of_this_name" in result.fault.message


@pytest.mark.slow
def test_the_tests_of_files_come_one_by_one_and_within_the_time(boxes: RealBoxes) -> None:
    found = boxes.run_files(FILES, ["tests/test_good.py", "tests/test_mixed.py", "tests/test_import.py"])
    assert {result.id: result.outcome for result in found} == {
        "tests/test_import.py": ERROR,
        "tests/test_good.py::test_a": PASS,
        "tests/test_good.py::test_b": PASS,
        "tests/test_mixed.py::test_a": SKIP,
        "tests/test_mixed.py::test_b": PASS,
    }
    (none,) = boxes.run_files(FILES, ["tests/test_none.py"])
    assert (none.id, none.outcome) == ("tests/test_none.py", Outcome.NOT_COLLECTED)
    slow = {"tests/test_a.py": "import time\ndef test_a(): pass\ndef test_b(): time.sleep(60)\ndef test_c(): pass\n"}
    boxes.case_seconds, boxes.limits = 60, replace(boxes.limits, seconds=3.0)
    cut = boxes.run_files(slow, ["tests/test_a.py"])
    assert [(result.id[-1], result.outcome) for result in cut] == [("a", PASS), ("b", Outcome.TIMEOUT)]


BURN = """\
import subprocess, sys, time, unittest
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
"""
IN_CHILD = "import time\nwhile time.process_time() < 0.6: pass"
TESTS = "".join(f"    def test_{n}(self): burn(0.6)\n" for n in "abcd")
BUSY = {
    "tests/test_busy.py": f"{BURN}time.sleep(2)\nburn(1.5)\nclass T(unittest.TestCase):\n{TESTS}",
    "tests/test_next.py": f"{BURN}class T(unittest.TestCase):\n    def test_e(self):\n"
    f"        subprocess.run([sys.executable, '-c', {IN_CHILD!r}], check=True)\n",
    "tests/test_over.py": f"{BURN}class T(unittest.TestCase):\n    def test_f(self): burn(9)\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("runner", [Runner.PYTEST, Runner.UNITTEST])
def test_a_budget_counts_what_tests_use_and_no_file_has_all_of_it(boxes: RealBoxes, runner: Runner) -> None:
    words = ("python", "-m", "pytest") if runner is Runner.PYTEST else ("python",)
    boxes.harness, boxes.case_seconds = Harness(runner, words), 60.0
    found = boxes.run_files(BUSY, list(BUSY), budget=1.1)  # of three files each has a third
    passed = {result.id.rpartition("::")[2]: result.seconds for result in found if result.outcome is PASS}
    assert passed.keys() == {"test_a", "test_e"}
    left = {one.id.rpartition("::")[2] for one in found if one.fault and one.fault.message == LEFT}
    assert left == {"test_b", "test_c", "test_d", "test_f"}
    assert all(seconds >= 0.5 for seconds in passed.values())


@pytest.mark.thorough
def test_a_record_has_a_size(boxes: RealBoxes) -> None:
    boxes.limits = replace(boxes.limits, result=80 * 1024)
    many = "import pytest\n@pytest.mark.parametrize('a', range(2000))\ndef test_a(a): pass\ndef test_b(): pass\n"
    wanted = ["tests/test_a.py::test_a[3]", "tests/test_a.py", "tests/test_b.py"]
    outcomes = boxes.outcomes({"tests/test_a.py": many, "tests/test_b.py": "def test_b(): pass\n"}, wanted)
    assert list(outcomes.values()) == [PASS, ERROR, PASS]


@pytest.mark.slow
@pytest.mark.parametrize("name", FORGERIES)
def test_what_a_patch_adds_does_not_speak_for_the_tests(boxes: RealBoxes, name: str) -> None:
    files = {"shop.py": CODE, "tests/test_shop.py": "from shop import get\ndef test_get(): assert get('a') == 1\n"}
    forged = FORGERIES[name]
    outcomes = boxes.outcomes(files, ["tests/test_shop.py::test_get"], {"forged.py": HOOK, **forged})
    assert outcomes == {"tests/test_shop.py::test_get": FAIL}
    told = {event.text for event in boxes.events if isinstance(event, Note)}
    assert told == {ran_without(path) for path in forged if not is_test_path(path)}


CHANGES = """\
import importlib.util, marshal, pathlib
for one in pathlib.Path(__file__).parent.glob("t*/t*p.py"):
    text = one.read_text().replace(" == 1", "")
    begin = importlib.util.MAGIC_NUMBER + bytes([3, 0, 0, 0]) + importlib.util.source_hash(one.read_bytes())
    code = marshal.dumps(compile(text, str(one), "exec"))
    {change}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        "one.write_text(text)",
        "(one.parent / '__pycache__').mkdir()\n    import pytest\n    (one.parent / '__pycache__' /"
        " f'{one.stem}.{sys.implementation.cache_tag}-pytest-{pytest.__version__}.pyc').write_bytes(begin + code)",
    ],
)
def test_tests_that_a_patch_changes_before_they_are_read_do_not_pass(boxes: RealBoxes, change: str) -> None:
    asked = "tests/test_shop.py::test_get"
    files = {
        "shop.py": CODE,
        "tests/test_shop.py": "from shop import get\ndef test_get(): assert get('a') == 1\n",
        "tests/test_a.py": "import shop\ndef test_a(): pass\n",
    }
    code = f"import sys\n{CODE.replace('{}[key]', '2')}{CHANGES.replace('{change}', change)}"
    found = boxes.run(files, [case("tests/test_a.py"), case(asked)], {"shop.py": code})[asked]
    assert (found.outcome, found.fault) == (ERROR, Fault("", "Another file's tests changed it before it ran."))


@pytest.mark.slow
def test_a_module_that_a_patch_adds_under_a_name_of_its_own_is_there(boxes: RealBoxes) -> None:
    files = {"shop.py": CODE, "tests/test_shop.py": "from shop import get\ndef test_get(): assert get('a') == 1\n"}
    change: dict[str, str | None] = {"shop.py": "from rates import get\n", "rates.py": "def get(key): return 1\n"}
    assert boxes.outcomes(files, ["tests/test_shop.py::test_get"], change) == {"tests/test_shop.py::test_get": PASS}
    assert boxes.events == []


OWN = """\
import importlib.machinery, importlib.util, os, sys
here = os.path.dirname(os.path.abspath(__file__))
spec = importlib.machinery.PathFinder.find_spec("iniconfig", [p for p in sys.path if os.path.abspath(p) != here])
sys.modules[__name__] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.OURS = True
"""


@pytest.mark.slow
def test_the_runner_is_loaded_before_the_tree_is_on_the_path(boxes: RealBoxes) -> None:
    files = {
        "bdb.py": "raise SystemExit(3)\n",
        "shop.py": "NAME = 'shop'\n",
        "tests/test_a.py": "import os, subprocess, sys, shop\n"
        "def test_own(): assert shop.NAME == 'shop'\n"
        "def test_child(): subprocess.run([sys.executable, '-c', 'import shop'], cwd='/', check=True)\n"
        "def test_word(): assert not [name for name in os.environ if name.startswith('AMINI')]\n",
    }
    wanted = [f"tests/test_a.py::test_{name}" for name in ("own", "child", "word")]
    assert list(boxes.outcomes(files, wanted).values()) == [PASS] * 3


SPREAD = """\
import multiprocessing, os, sys, unittest
from shop import get
class Spread(unittest.TestCase):
    def test_spawn(self): self.there("spawn")
    def test_server(self): self.there("forkserver")
    def test_fork(self): self.there("fork")
    def there(self, way):
        with multiprocessing.get_context(way).Pool(1) as pool: self.assertEqual(pool.map(get, [1]), [2])
    def test_raw(self):
        child = os.fork()
        if not child: sys.exit(3)
        os.waitpid(child, 0)
    def test_last(self): pass
"""


@pytest.mark.slow
@pytest.mark.parametrize("runner", [Runner.PYTEST, Runner.UNITTEST])
def test_tests_may_start_processes_in_every_way(boxes: RealBoxes, runner: Runner) -> None:
    boxes.harness, boxes.case_seconds = Harness(runner, ("python", "-m", runner.value)), 60.0
    files = {"shop.py": "def get(key): return key + 1\n", "test_shop.py": SPREAD}
    wanted = [f"test_shop.py::Spread::test_{name}" for name in ("spawn", "server", "fork", "raw", "last")]
    assert list(boxes.outcomes(files, wanted).values()) == [PASS] * 5


@pytest.mark.slow
def test_what_the_runner_needs_is_the_trees_where_the_tree_is_that(boxes: RealBoxes) -> None:
    text = "import iniconfig\ndef test_own(): assert iniconfig.OURS\n"
    wanted = "tests/test_a.py::test_own"
    assert boxes.outcomes({"iniconfig.py": OWN, "tests/test_a.py": text}, [wanted]) == {wanted: PASS}


@pytest.mark.slow
def test_a_patch_is_not_called_forged_for_a_file_whose_tests_all_must_fail(boxes: RealBoxes) -> None:
    known = "import pytest\npytestmark = pytest.mark.xfail(strict=True)\ndef test_known(): assert 0\n"
    files = {"shop.py": CODE, "test_known.py": known, "test_one.py": "def test_one(): pass\n"}
    cases = [case("test_known.py"), case("test_one.py")]
    verdicts = boxes.execute(files, [{"shop.py": f"{CODE}# {number}\n"} for number in range(6)], cases)
    assert {verdict.refusal for verdict in verdicts} == {""}


@pytest.mark.slow
@pytest.mark.parametrize("runner", [Runner.PYTEST, Runner.UNITTEST])
def test_tests_of_ours_run_with_a_patch_and_are_not_told_of(boxes: RealBoxes, runner: Runner) -> None:
    files = {
        "shop.py": CODE,
        "tests/test_shop.py": "import unittest\nfrom shop import get\nclass A(unittest.TestCase):\n"
        "    def test_get(self): self.assertEqual(get('a'), 1)\n    def test_more(self): pass\n",
    }
    boxes.harness = Harness(runner, ("python", "-m", "pytest") if runner is Runner.PYTEST else ("python",))
    right = {"shop.py": "def get(key): return 1\n"}
    forged = {"shop.py": "import unittest\nunittest.TestCase.assertEqual = lambda *a: None\n" + CODE}
    cases = [case("tests/test_shop.py::A::test_get"), case("tests/test_shop.py")]
    fixed, cheated = boxes.execute(files, [right, forged], cases)
    assert ([result.outcome for result in fixed.results], fixed.refusal) == ([PASS, PASS], "")
    assert cheated.refusal == "its test results are forged: tests that must fail there did not"
