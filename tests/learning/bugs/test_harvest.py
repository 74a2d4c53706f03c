"""Functions of packages, cut out of their modules."""

from collections import Counter
from pathlib import Path

import pytest

from agentless_mini.errors import UsageError
from agentless_mini.learning.bugs.cutting import NotCut, cut
from agentless_mini.learning.bugs.harvest import Subject, harvest
from agentless_mini.learning.bugs.modules import Module, parse_module
from agentless_mini.learning.bugs.packages import ModuleText, Package, read_packages
from agentless_mini.learning.bugs.settings import BugsSettings
from tests.learning.bugs.materials import RANGES, package

SMALL = BugsSettings(max_bytes=700)


def harvested(found: Package, settings: BugsSettings = SMALL) -> tuple[dict[str, Subject], Counter[str]]:
    counts: Counter[str] = Counter()
    return {subject.called: subject for subject in harvest(found, settings, counts)}, counts


def modules(**texts: str) -> dict[str, Module]:
    found = {}
    for name, text in texts.items():
        path = f"pkg/{name}.py"
        module = parse_module(path, text)
        assert module is not None
        found[path] = module
    return found


def cut_out(name: str, **texts: str) -> str:
    parsed = modules(**texts)
    return cut(parsed, parsed["pkg/a.py"], name, 2000)


def test_a_function_comes_with_what_it_needs_and_nothing_else() -> None:
    found, _ = harvested(package("demo"))
    text = found["initials"].text
    assert text.startswith('SEPARATOR = "-"\n\n\ndef initials(')
    assert "clamp" not in text
    assert not found["initials"].whole
    assert found["parse_range"].text.startswith(
        'import re\n\n_RANGE = re.compile(r"(\\d+)(?:-(\\d+))?")\n\n\nclass RangeError'
    )


def test_a_small_module_is_shown_as_it_is() -> None:
    found, counts = harvested(package("demo"), BugsSettings())
    assert found["clamp"].text == RANGES
    assert found["clamp"].whole
    assert counts["harvested whole"] == 3


def test_calls_that_the_package_holds_come_along() -> None:
    found, _ = harvested(package("demo", RANGES + "\n\nBEST = clamp(120, high=99)\n"))
    assert found["parse_range"].calls == ("'3-5'",)
    assert found["clamp"].calls == ("120, high=99",)


def test_imports_are_reduced_to_what_is_used() -> None:
    text = "import re, math\nfrom typing import Any, cast\n\n\ndef f(a: Any):\n    return math.floor(a)\n"
    assert cut_out("f", a=text) == (
        "from __future__ import annotations\n\nimport math\n\n\ndef f(a: Any):\n    return math.floor(a)\n"
    )


def test_what_a_package_imports_from_itself_is_copied() -> None:
    helper = "LIMIT = 3\n\n\ndef near(a):\n    return a < LIMIT\n"
    text = cut_out("f", a="from .b import near\n\n\ndef f(a):\n    return near(a)\n", b=helper)
    assert text == "LIMIT = 3\n\n\ndef near(a):\n    return a < LIMIT\n\n\ndef f(a):\n    return near(a)\n"
    absolute = cut_out("f", a="from pkg.b import near\n\n\ndef f(a):\n    return near(a)\n", b=helper)
    assert absolute == text


@pytest.mark.parametrize(
    "text",
    [
        "import numpy\n\n\ndef f(a):\n    return numpy.sum(a)\n",
        "import os\n\n\ndef f(a):\n    return os.remove(a)\n",
        "def f(a):\n    return open(a)\n",
        "def f(a):\n    global b\n    b = a\n",
        "def f(a):\n    return nowhere(a)\n",
        "def f(a):\n    import subprocess\n    return subprocess.run(a)\n",
        "from .b import near as close\n\n\ndef f(a):\n    return close(a)\n",
        "from .c import near\n\n\ndef f(a):\n    return near(a)\n",
        "b = 1; c = 2\n\n\ndef f(a):\n    return b\n",
        "import datetime\n\n\ndef f(a):\n    return datetime.date.today().year - a\n",
        "from datetime import datetime\n\n\ndef f(a):\n    return datetime.now().year - a\n",
        "from email.utils import formatdate\n\n\ndef f(a):\n    return formatdate()[:a]\n",
        "import random\n\n\ndef f(a):\n    return random.random() < a\n",
        "from random import Random, choice\n\n\ndef f(a):\n    return choice('ab') == a\n",
        "import uuid\n\n\ndef f(a):\n    return uuid.getnode() == a\n",
        "import os\n\n\ndef f(a):\n    return os.path.expanduser(a)\n",
        "import os.path\n\n\ndef f(a):\n    return os.path.isdir(a)\n",
        "import posixpath\n\n\ndef f(a):\n    return posixpath.abspath(a)\n",
        "from posixpath import join, exists\n\n\ndef f(a):\n    return exists(join(a, a))\n",
        "import locale\n\n\ndef f(a):\n    return locale.str(a)\n",
    ],
)
def test_what_needs_more_than_a_file_is_left_out(text: str) -> None:
    with pytest.raises(NotCut):
        cut_out("f", a=text, b="def near(a):\n    return a\n")


@pytest.mark.parametrize(
    "text",
    [
        "import random\n\n\ndef f(a):\n    return random.Random(a).random()\n",
        "from uuid import UUID\n\n\ndef f(a):\n    return UUID(a).hex\n",
        "import datetime\n\n\ndef f(a):\n    return datetime.date(a, 1, 1).isoformat()\n",
        "from posixpath import join\n\n\ndef f(a):\n    return join(a, a)\n",
    ],
)
def test_what_is_the_same_on_every_machine_is_let_in(text: str) -> None:
    assert cut_out("f", a=text) == text


def test_path_functions_of_the_system_are_let_in() -> None:
    assert "os.path" in cut_out("f", a="import os\n\n\ndef f(a):\n    return os.path.join(a, a)\n")


def test_the_reasons_are_counted() -> None:
    _, counts = harvested(package("demo", "def f(a):\n    b = a\n    return open(b)\n\n\ndef g(a):\n    return a\n"))
    assert counts == Counter(
        {
            "modules": 1,
            "modules that cannot be read": 0,
            "functions": 2,
            "not harvested: call of open": 1,
            "not harvested: size": 1,
        }
    )


def test_tests_and_copies_of_other_packages_are_no_source() -> None:
    for module in ("tests/ranges", "_vendor/ranges", "externals/ranges", "test_ranges"):
        found, _ = harvested(package("demo", module=module))
        assert found == {}


def test_a_module_that_does_not_parse_is_counted() -> None:
    _, counts = harvested(package("demo", "def f(:\n"))
    assert counts["modules that cannot be read"] == 1


def test_a_call_that_is_nested_too_deep_is_no_example() -> None:
    deep = f"clamp({'-' * 1500}1)\n"
    found, _ = harvested(package("demo", RANGES + "\n\n" + deep + "clamp(7)\n"))
    assert found["clamp"].calls == ("7",)


def test_a_folder_is_read_as_its_packages_are_imported(tmp_path: Path) -> None:
    for path, data in {
        "src/demo.py": b"x = 1\n",
        ".venv/bad.py": b"",
        "wrong.py": b"\xff",
        "crlf.py": b"x\r\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    (found,) = read_packages([str(tmp_path)], "python-is-not-needed")
    assert found == Package(tmp_path.name, "", "", (ModuleText("src/demo.py", "x = 1\n"),), skipped=2)


def test_installed_packages_are_found_by_either_name_and_sorted() -> None:
    import sys

    found = read_packages(["textwrap", "packaging", "json"], sys.executable)
    assert [one.name for one in found] == ["json", "packaging", "textwrap"]
    assert [one.licence for one in found][::2] == ["PSF-2.0", "PSF-2.0"]
    assert "packaging/version.py" in {module.path for module in found[1].modules}
    assert found[2].modules[0].path == "textwrap.py"


def test_what_is_neither_installed_nor_a_folder_is_refused() -> None:
    import sys

    with pytest.raises(UsageError, match="no-such-thing is no package of"):
        read_packages(["no-such-thing"], sys.executable)
    with pytest.raises(UsageError, match="check --python"):
        read_packages(["json"], "/nowhere/python")
