"""The directions of DESIGN.md, read off the imports: who may see whom, where a heavy library lives, what does I/O."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import agentless_mini

PACKAGE = Path(agentless_mini.__file__).parent
CORE = {
    "domain", "errors", "edits", "matching", "patches", "sources", "answers", "context", "lexical", "prompts",
    "ranking", "grammar", "line_rewriting", "line_regions", "line_edits",
}  # fmt: skip
ADAPTERS = {
    "samplers", "serving", "store", "recording", "repository", "worktree", "gitcommand", "clones", "issue_sources",
    "templates", "sandboxes",
}  # fmt: skip
MAY_SEE = {
    **dict.fromkeys(CORE, CORE),
    "ports": CORE,
    **dict.fromkeys(ADAPTERS, CORE | ADAPTERS | {"ports"}),
    "stages": CORE | {"ports", "stages"},
    "pipeline": CORE | {"ports", "stages"},
    "report": CORE | {"ports", "store", "report"},
}
HOMES = {
    "openai": {"samplers"},
    "git": {"repository", "worktree", "gitcommand", "commands"},
    "docker": {"sandboxes"},
    "xllamacpp": {"serving"},
    "numpy": {"serving", "samplers", "line_rewriting"},
    "huggingface_hub": {"serving"},
    "rich": {"report", "cli", "commands"},
    "typer": {"cli", "commands"},
    "torch": {"learning"},
    "swebench": {"evaluation"},
    "ray": {"evaluation"},
}
IO_MODULES = {"os", "subprocess", "socket", "asyncio", "threading", "time", "random", "tempfile", "shutil", "urllib"}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] not in {"__init__", "sample"}:
            yield parts[0], path


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
        if unit in MAY_SEE and name.startswith("agentless_mini.")
        and name.split(".")[1] not in MAY_SEE[unit] | {unit, "__version__"}
    ]  # fmt: skip
    assert wrong == []


def test_the_core_does_no_io_and_has_no_clock() -> None:
    wrong = [
        f"{path.name} imports {name}"
        for unit, path in modules()
        for name in imports(path)
        if unit in CORE and name.split(".")[0] in IO_MODULES
    ]
    assert wrong == []


def test_a_heavy_library_has_one_home() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for unit, path in modules()
        for name in imports(path)
        if unit not in HOMES.get(name.split(".")[0], {unit})
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
ENVIRONMENT_PASSED_ON = {"sandboxes/inside/steps.py"}


def test_the_command_line_starts_without_heavy_libraries() -> None:
    heavy = sorted({*HOMES, "pydantic", "jinja2", "sqlite3"} - {"typer", "rich"})
    program = f"import sys, agentless_mini.cli; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
