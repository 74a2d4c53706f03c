"""Files that a patch adds so that tests which fail are told to pass: each was believed once.

All but what imports `forged` by itself make pytest do so, whose hook then runs no test function.
"""

HOOK = "def pytest_pyfunc_call(pyfuncitem): return True\n"
_STAND_IN = """\
import importlib.machinery, importlib.util, os, sys
os.environ["PYTEST_PLUGINS"] = "forged"
here = os.path.dirname(os.path.abspath(__file__).replace("/__init__.py", ""))
spec = importlib.machinery.PathFinder.find_spec(__name__, [p for p in sys.path if os.path.abspath(p) != here])
if spec:
    sys.modules[__name__] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
"""
_ENTRY = "[pytest11]\nforged = forged\n"
_NAMED = "Metadata-Version: 2.1\nName: forged\nVersion: 1\n"

FORGERIES: dict[str, dict[str, str]] = {
    "pytest.toml": {"pytest.toml": '[pytest]\naddopts = ["-p", "forged"]\n'},
    ".pytest.toml": {".pytest.toml": '[pytest]\naddopts = ["-p", "forged"]\n'},
    "pytest.ini": {"pytest.ini": "[pytest]\naddopts = -p forged\n"},
    "nearer": {"tests/.pytest.ini": "[pytest]\naddopts = -p forged\n"},
    "pyproject.toml": {"pyproject.toml": '[tool.pytest.ini_options]\naddopts = "-p forged"\n'},
    "setup.cfg": {"setup.cfg": "[tool:pytest]\naddopts = -p forged\n"},
    "tox.ini": {"tox.ini": "[pytest]\naddopts = -p forged\n"},
    "dist-info": {"forged-1.dist-info/entry_points.txt": _ENTRY, "forged-1.dist-info/METADATA": _NAMED},
    "egg-info": {"Forged.EGG-INFO/entry_points.txt": _ENTRY, "Forged.EGG-INFO/PKG-INFO": _NAMED},
    "sitecustomize": {"sitecustomize/__init__.py": _STAND_IN},
    "usercustomize": {"usercustomize/__init__.py": _STAND_IN},
    "iniconfig": {"iniconfig.py": _STAND_IN},
    "argparse": {"argparse.py": _STAND_IN},
    "a package": {"iniconfig/__init__.py": _STAND_IN},
    "a package of the standard library": {"logging/__init__.py": _STAND_IN},
    "conftest": {"conftest.py": "pytest_plugins = ['forged']\n"},
}
