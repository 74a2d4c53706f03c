"""The directions of DESIGN.md, read off the imports: who may see whom, where a heavy library lives, what does I/O."""

import ast
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import agentless_mini
from tests.house import modules_of, numbers

PACKAGE = Path(agentless_mini.__file__).parent
# The pure core, parts of rooms named by their module: `python -m tests` measures the coverage of these.
CORE = {
    "domain", "errors", "edits", "model/grammar", "model/embedded/mutants", "model/embedded/regions",
    "learning/matching", "learning/reward",
    *(f"chain/{name}" for name in ("context", "file_lists", "file_roles", "generated_tests", "given", "import_graph")),
    *(f"chain/{name}" for name in ("lexical", "measures", "other_imports", "prompts", "rank", "related_tests")),
    "chain/stopping", "chain/trust",
}  # fmt: skip
# What is sent into boxes and runs there by itself: no part of the room around it.
BOXED = {"sandbox/inside", "testing/inside"}
ADAPTERS = {
    "model",
    "record",
    "repository",
    "installing",
    "chain/templates",
    "sandbox",
    "environment",
    "evaluation/connection",
}
MAY_SEE = {
    **dict.fromkeys(CORE, CORE),
    "ports": CORE,
    "settings": {"domain", "errors", "settings"},
    **dict.fromkeys(ADAPTERS, CORE | ADAPTERS | {"ports", "settings"}),
    **{unit: {unit} for unit in BOXED},
    "testing": CORE | {"testing"},  # it reads what it sends into boxes from the package
    "chain": CORE | {"ports", "settings", "chain", "testing"},
    "report": CORE | {"ports", "record", "report"},
    "evaluation": CORE | ADAPTERS | {"ports", "settings", "chain", "testing", "run", "evaluation"},
    "run": CORE | {"ports", "settings", "chain", "record", "repository", "environment", "testing", "run"},
    "learning": CORE | ADAPTERS | {"ports", "settings", "chain", "testing", "learning"},
}
UNITS = CORE | BOXED | ADAPTERS | MAY_SEE.keys()
HOMES = {
    "httpx2": {"model"},
    "git": {"repository", "commands"},
    "docker": {"sandbox", "environment", "evaluation"},
    "unidiff": {"evaluation"},
    "tree_sitter": {"edits"},
    "tree_sitter_language_pack": {"edits"},
    "pyflakes": {"edits"},
    "cydifflib": {"learning"},
    "pyarrow": {"evaluation", "learning"},
    "xllamacpp": {"model"},
    "numpy": {"model", "learning"},
    "huggingface_hub": {"model"},
    "rich": {"report", "cli", "commands"},
    "typer": {"cli", "commands"},
    **{name: {"learning"} for name in ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "gguf")},
    "swebench": {"evaluation"},
    "ray": {"evaluation", "learning"},
    "duckdb": {"learning"},
    "datasketch": {"learning"},
}
IO_MODULES = {
    "os", "sys", "io", "subprocess", "multiprocessing", "concurrent", "socket", "ssl", "select", "signal", "asyncio",
    "threading", "time", "random", "secrets", "uuid", "tempfile", "shutil", "glob", "fileinput", "urllib", "http",
    "sqlite3", "pickle", "shelve", "ctypes", "importlib", "runpy", "builtins", "logging", "getpass", "platform",
    "posix", "fcntl",
}  # fmt: skip
# Called, whatever they are attributes of.
IO_CALLS = {
    "open", "input", "print", "eval", "exec", "__import__", "breakpoint", "Path", "PosixPath", "WindowsPath",
    "read_text", "read_bytes", "write_text", "write_bytes", "now", "utcnow", "today",
}  # fmt: skip
# Named at all, as a name or an attribute.
IO_NAMES = {"environ", "environb", "getenv", "Path", "stdin", "stdout", "stderr", "eval", "exec", "__import__"}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] != "__init__" and "sample" not in parts:
            yield unit_of(parts), path


def unit_of(parts: Sequence[str]) -> str:
    """Return the unit of the rules that a module, by the parts of its name, belongs to: a part of a room, or a room."""
    names = ("/".join(parts[:length]) for length in (3, 2, 1))
    return next((name for name in names if name in UNITS), parts[0])


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module == "agentless_mini")


def test_every_module_imports_only_what_lies_below_it() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for unit, path in modules()
        for name in imports(path)
        if unit in MAY_SEE and name.startswith("agentless_mini.") and not may_see(unit, unit_of(name.split(".")[1:]))
    ]
    assert wrong == []


def may_see(unit: str, other: str) -> bool:
    """Tell whether a unit may import another: itself, a part of itself, or what the rules name."""
    return other in MAY_SEE[unit] | {unit, "__version__"} or other.startswith(f"{unit}/")


def test_the_product_imports_no_tests() -> None:
    named = {name.split(".")[0]: path for _, path in modules() for name in imports(path)}
    assert "tests" not in named, named["tests"]


def test_the_core_does_no_io_and_has_no_clock() -> None:
    wrong = [
        f"{path.name} imports {name}"
        for unit, path in modules()
        for name in imports(path)
        if unit in CORE and name.split(".")[0] in IO_MODULES
    ]
    assert wrong == []


def reaches_out(code: str) -> Iterator[str]:
    """Yield what in the code of a module is I/O, a clock or an evaluation, told by names."""
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in IO_CALLS:
                yield f"calls {name} in line {node.lineno}"
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name) if name in IO_NAMES:
                yield f"names {name} in line {node.lineno}"


def test_the_core_calls_nothing_that_reaches_out_of_it() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)} {said}"
        for unit, path in modules()
        if unit in CORE
        for said in reaches_out(path.read_text())
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "code",
    [
        "open('x')",
        "data = io.open(name, 'rb')",
        "input()",
        "print(1)",
        "eval(text)",
        "run = eval",
        "exec(text, {})",
        "from pathlib import Path",
        "pathlib.Path('x')",
        "path.read_text()",
        "os.environ['HOME']",
        "from os import environ",
        "datetime.now()",
        "datetime.datetime.now(tz)",
        "date.today()",
        "sys.stderr.write('x')",
    ],
)
def test_what_reaches_out_is_seen(code: str) -> None:
    assert list(reaches_out(code))


@pytest.mark.parametrize("code", ["re.compile('x')", "PurePosixPath('x')", "text.splitlines()", "'open(x)'", "x = 1"])
def test_what_does_not_reach_out_is_let_be(code: str) -> None:
    assert list(reaches_out(code)) == []


def test_every_unit_of_these_rules_exists() -> None:
    assert (CORE | ADAPTERS | MAY_SEE.keys()) - {unit for unit, _ in modules()} == set()


def test_a_heavy_library_has_one_home() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for unit, path in modules()
        for name in imports(path)
        if unit.split("/")[0] not in HOMES.get(name.split(".")[0], {unit.split("/")[0]})
    ]
    assert wrong == []


def test_only_the_command_line_reads_the_environment() -> None:
    readers = {
        str(path.relative_to(PACKAGE))
        for unit, path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"} and unit not in {"cli", "commands"}
    }
    assert readers <= ENVIRONMENT_PASSED_ON


# They hand the environment on to a process that they start; they read no setting from it.
ENVIRONMENT_PASSED_ON = {
    "repository/gitcommand.py",
    "sandbox/inside/runner.py",
    "testing/inside/amini_record.py",
    "testing/inside/amini_report.py",
    "testing/inside/amini_run.py",
}


def test_the_command_line_starts_without_heavy_libraries() -> None:
    heavy = sorted({*HOMES, "pydantic", "jinja2", "sqlite3"} - {"typer", "rich"})
    program = f"import sys, agentless_mini.cli; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# What the house has reached, rounded up: what is built later has to keep within it.
MOST = {
    "lines": 44_050, "files": 201, "packages_at_the_top": 14, "modules_at_the_top": 5,
    "class_names_of_two_meanings": 8, "most_parameters": 8, "modules_imported_by_settings": 11,
}  # fmt: skip


def test_the_house_grows_no_larger_than_it_was() -> None:
    found = numbers()
    assert {name: found[name] for name in MOST if found[name] > MOST[name]} == {}
    assert modules_of("import agentless_mini.cli, agentless_mini.commands.repair") <= 80
