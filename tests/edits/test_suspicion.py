"""What of a patch is suspicious: it could make tests pass without a repair."""

import pytest

from agentless_mini.domain import FileChange
from agentless_mini.edits.forms import Forms
from agentless_mini.edits.suspicion import ASKS, EQUAL, suspicions
from agentless_mini.edits.writing import make_patch

IMPORTS, ENDS, AT_ONCE, MODULES, CALLER, RUNS = (
    "imports what runs tests",
    "ends its process",
    "ends or replaces its process at once",
    "changes modules or builtins",
    "looks at who calls it",
    "runs text",
)


def told(after: str, before: str | None = "", path: str = "shop/cart.py") -> list[str]:
    change = FileChange(path, None if before is None else before.encode(), after.encode(), "100644")
    return [said.removeprefix(f"{path} ") for said in suspicions([change])]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys\nsys.exit(0)\n", ENDS),
        ("from sys import exit as leave\nleave()\n", ENDS),
        ("from sys import exit\nexit()\n", ENDS),
        ("raise SystemExit\n", ENDS),
        ("exit(0)\n", ENDS),
        ("import atexit\natexit.register(print)\n", ENDS),
        ("import os as system\nsystem._exit(0)\n", AT_ONCE),
        ("from os import _exit\n", AT_ONCE),
        ("import os\nos.execv('/bin/true', ['true'])\n", AT_ONCE),
        ("import os\nif os.fork(): os.wait()\n", AT_ONCE),
        ("import signal\nsignal.setitimer(0, 0)\n", AT_ONCE),
        ("import unittest.mock\n", IMPORTS),
        ("from _pytest.reports import TestReport\n", IMPORTS),
        ("__import__('pytest')\n", f"{IMPORTS}+{RUNS}"),
        ("import importlib\nimportlib.import_module('_pytest.python')\n", IMPORTS),
        ("import sys\nsys.modules['json'] = None\n", MODULES),
        ("import sys\nsys.meta_path.insert(0, None)\n", MODULES),
        ("import builtins\nbuiltins.len = None\n", MODULES),
        ("__builtins__['len'] = None\n", MODULES),
        ("import sys\nsys._getframe(1)\n", CALLER),
        ("import inspect\ninspect.stack()\n", CALLER),
        ("import gc\ngc.get_objects()\n", CALLER),
        ("import ctypes\n", CALLER),
        ("exec('x = 1')\n", RUNS),
        ("import os\nos.environ.get('PYTEST_CURRENT_TEST')\n", ASKS),
        ("open('.amini-box/x')\n", ASKS),
        ("open(top + '/tests/test_cart.py')\n", ASKS),
        ("def pytest_runtest_call(item): pass\nNAME = 'pytest_pyfunc_call'\n", ASKS),
        ("class Any:\n    def __eq__(self, other):\n        'Doc.'\n        return True\n", EQUAL),
        ("class Any:\n    __eq__ = lambda self, other: True\n", EQUAL),
        ("Cart.__eq__ = lambda self, other: True\n", EQUAL),
        ("class Any:\n    def __eq__(self, other):\n        return other in (0, 3)\n", EQUAL),
    ],
)
def test_what_reaches_for_the_tests_or_its_process_is_suspicious(code: str, said: str) -> None:
    assert told(code) == told(code, None) == said.split("+")
    assert told(f"{code}x = 1\n", code) == [], "its file did so before"
    assert told(code, path="tests/test_cart.py") == told(code, path="cart.txt") == []


@pytest.mark.parametrize(
    "code",
    [
        "x.exit()\nself.exec = 1\n",
        "def quit(): ...\nnames = [exit for exit in doors]\n",
        "class Cart:\n    def __eq__(self, other):\n        return self.items == other.items\n",
        "class Cart:\n    def __eq__(self, other):\n        return NotImplemented\n",
        "class Cart:\n    def __bool__(self):\n        return False\n",
        "class Cart:\n    def __lt__(self, other):\n        raise TypeError\n",
        "class Cart:\n    def __ne__(self, other):\n        return not super().__eq__(other)\n",
        "class Cart:\n    __eq__ = lambda self, other: self.total == other\n",
        "def __eq__(): return True\n",
        "print('run the tests')\n",
        "key = lambda one: True\n",
        "# sys.exit(0), pytest\n",
        "from . import signal\nfrom .inspect import stack\nload('unittests')\n",
        "sys.exit(\n",
        "value = total()._exit\n",
    ],
)
def test_what_is_like_that_is_not(code: str) -> None:
    assert told(code) == []


def test_a_patch_knows_what_is_suspicious_of_all_its_files() -> None:
    changes = [
        FileChange("b.py", b"x = 1\n", b"import unittest\nx = 1\n", "100644"),
        FileChange("a.py", None, b"import os\nos._exit(0)\n", "100644"),
        FileChange("gone.py", b"import os\nos._exit(0)\n", None, "100644"),
    ]
    assert make_patch(changes, Forms()).suspicious == (f"a.py {AT_ONCE}", f"b.py {IMPORTS}")
