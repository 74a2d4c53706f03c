"""What of a patch is suspicious: it could make tests pass without a repair."""

import pytest

from agentless_mini.domain import FileChange
from agentless_mini.edits.forms import Forms
from agentless_mini.edits.suspicion import ASKS, EQUAL, UNREAD, suspicions
from agentless_mini.edits.writing import make_patch

IMPORTS, DEFINES, ENDS, AT_ONCE, MODULES, SETS, CALLER, RUNS = (
    "imports what runs tests",
    "defines what runs or judges tests",
    "ends its process",
    "ends or replaces its process at once",
    "changes modules or builtins",
    "changes a module that it imports",
    "looks at who calls it",
    "runs text",
)


def told(after: str, before: str | None = "", path: str = "shop/cart.py") -> list[str]:
    change = FileChange(path, None if before is None else before.encode(), after.encode(), "100644")
    said = suspicions([change])
    assert make_patch([change], Forms()).suspicious == said, "no word in it is worth a look"
    return [one.removeprefix(f"{path} ") for one in said]


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
        ("import builtins\nbuiltins.len = None\n", f"{SETS}+{MODULES}"),
        ("__builtins__['len'] = None\n", MODULES),
        ("import sys\nsys._getframe(1)\n", CALLER),
        ("import inspect\ninspect.stack()\n", CALLER),
        ("import gc\ngc.get_objects()\n", CALLER),
        ("import ctypes\n", CALLER),
        ("exec('x = 1')\n", RUNS),
        ("import json as text\ntext.dumps = print\n", SETS),
        ("import numpy.testing\nsetattr(numpy.testing, 'assert_allclose', print)\n", SETS),
        ("import amini_record\n", IMPORTS),
        ("import __main__\n__main__.Listener.note = print\n", f"{SETS}+{IMPORTS}"),
        ("from __main__ import Listener\n", IMPORTS),
        ("import os\nos.sys.modules.clear()\n", MODULES),
        ("from os import sys\nsys._getframe()\n", CALLER),
        ("import shutil\nshutil.os._exit(0)\n", AT_ONCE),
        ("import os\ngetattr(os, '_exit')(0)\n", AT_ONCE),
        ("import os\ngetattr(os, '_ex' 'it')(0)\n", AT_ONCE),
        ("import os\nos.__dict__['_exi\\x74'](0)\n", AT_ONCE),
        ("from os import _\uff45xit as leave\n", AT_ONCE),
        ("# coding: unicode_escape\n# \\x0aimport \\x70ytest\n", IMPORTS),
        ("error.__traceback__.tb_frame\n", CALLER),
        ("frames()[0].f_back\n", CALLER),
        ("object.__subclasses__()\n", CALLER),
        ("open('/proc/self/mem')\n", ASKS),
        ("open(f'/proc/{pid}/mem')\n", ASKS),
        ("import os\nos.environ.get('PYTEST_CURRENT_TEST')\n", ASKS),
        ("import os\n'PYTEST_VERSION' in os.environ\n", ASKS),
        ("open('.amini-box/x')\n", ASKS),
        ("open(top + '/tests/test_cart.py')\n", ASKS),
        ("NAME = 'pytest_pyfunc_call'\n", ASKS),
        ("def pytest_runtest_call(item): pass\n", DEFINES),
        ("class Case:\n    def assertEqual(self, first, second): pass\n", DEFINES),
        ("def load_tests(*args): pass\n", DEFINES),
        ("import signal\nsignal.getsignal(14).note = print\n", CALLER),
        ("from _signal import getsignal\n", CALLER),
        ("import traceback\ntraceback.extract_stack()\n", CALLER),
        ("from traceback import walk_stack as up\nup(None)\n", CALLER),
        ("import inspect\ninspect.getargvalues(one)\n", CALLER),
        ("import sys\nsys.monitoring.get_tool(0)\n", CALLER),
        ("import threading\nthreading.settrace_all_threads(print)\n", CALLER),
        ("from sys import *\nmodules.clear()\n", MODULES),
        ("import sys\nvars(sys)['modules']\n", MODULES),
        ("import sys\nsys.__dict__['modules']\n", MODULES),
        ("read().__globals__['sys'].modules\n", MODULES),
        ("import sys\nsys.path_importer_cache.clear()\n", MODULES),
        ("globals()['__builtins__']['len'] = None\n", MODULES),
        ("from importlib import import_module as load\nload('_pytest.python')\n", IMPORTS),
        ("import importlib\nimportlib.import_module(name='_pytest.python')\n", IMPORTS),
        ("import pkgutil\npkgutil.resolve_name('_pytest.python:Function')\n", IMPORTS),
        ("from numpy import testing\ntesting.assert_allclose = print\n", SETS),
        ("from importlib.machinery import SourceFileLoader as Loader\nLoader.get_data = print\n", SETS),
        ("from .numpy import testing\nsetattr(Any, '__eq__', lambda self, other: True)\n", EQUAL),
        ("Any = type('Any', (int,), {'__eq__': lambda self, other: True})\n", EQUAL),
        ("def same(self, other): return True\nclass Any:\n    __eq__ = same\n", EQUAL),
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
        "__eq__ = total\nsetattr(Cart, '__eq__', Cart.same)\nnames = {**more, '__eq__': 1}\n",
        "def same(self, other): return self.total == other\nclass Cart:\n    __eq__ = same\n",
        "from shop.models import Cart\nfrom .testing import Till\nCart.total = Till.total = print\n",
        "from flask import g, testing_tools\ng.cart = testing_tools.cart = 1\n",
        "from os import *\npath = modules['sys']\nvars(one)['name'] = two['exec']\n",
        "import importlib\nimportlib.import_module(names[0])\nimportlib.import_module(name)\n",
        "import traceback\ntraceback.format_exc()\nasync def pytest(): load()\n",
        "print('run the tests')\n",
        "from PIL import Image\nfrom django.db.models import Field\nImage.MAX_IMAGE_PIXELS = Field.x = None\n",
        "name = method.__self__.name\n",
        "import traceback\ntraceback.print_stack()\n",
        "said = {'sys': {'modules': 1}}\nsaid['sys']['modules'], said['os']['kill']\n",
        "class Plan:\n    def load_tests(self): ...\n",
        f"name = '{'-tests/' * 30_000} x'\n",
        "".join(f"from m{at} import *\nn{at}\n" for at in range(4000)),
        "key = lambda one: True\n",
        "# sys.exit(0), pytest\n",
        "from . import signal\nfrom .inspect import stack\nload('unittests')\n",
        "import __main__\nname = __main__.__spec__.name\n",
        "import sys\nsys.stdout = None\n",
        "import json\none.total = json.loads\nsetattr(one, 'json', 1)\n",
        "value = getattr(one, name), getattr(one)\n",
        "value = total()._exit\n",
    ],
)
def test_what_is_like_that_is_not(code: str) -> None:
    assert told(code) == []


def test_what_cannot_be_read_is_suspicious_where_it_could_be_before() -> None:
    code = "import os\nos._exit(\n"
    assert told(code) == told(code, None) == [UNREAD]
    assert told(f"{code}# more\n", code) == []
    assert told(f"import os\nos{'.path' * 1000}.os._exit(0)\n" * 50) == [UNREAD]


def test_a_patch_that_changes_a_module_is_looked_into() -> None:
    change = FileChange("a.py", b"import json\n", b"import json\njson.dumps = print\n", "100644")
    assert make_patch([change], Forms()).suspicious == (f"a.py {SETS}",)


def test_a_patch_knows_what_is_suspicious_of_all_its_files() -> None:
    changes = [
        FileChange("b.py", b"x = 1\n", b"import unittest\nx = 1\n", "100644"),
        FileChange("a.py", None, b"import os\nos._exit(0)\n", "100644"),
        FileChange("gone.py", b"import os\nos._exit(0)\n", None, "100644"),
    ]
    assert make_patch(changes, Forms()).suspicious == (f"a.py {AT_ONCE}", f"b.py {IMPORTS}")
