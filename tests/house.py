"""`python -m tests.house`: the numbers of the house as JSON, and with --repair those of the path of one repair.

Lines are those of the package with its page, blank and comment lines too; a class name has two meanings where two
classes of the package have it. With --repair scripted repairs run, one of them with tests in a sandbox (bubblewrap, and
the network for its environment): files and functions are those that the command's own process enters.
"""

import argparse
import ast
import json
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import agentless_mini

PACKAGE = Path(agentless_mini.__file__).parent
COUNTED = {".py", ".js", ".css", ".html"}
OURS = "print(sum(name.split('.')[0] == 'agentless_mini' for name in sys.modules))"
TRACED = """
import json, sys, threading
entered = set()
def note(frame, event, argument):
    code = frame.f_code
    is_function = code.co_flags & 1  # neither a module's nor a class's body
    if event == "call" and is_function and "/agentless_mini/" in code.co_filename:
        entered.add((code.co_filename, code.co_firstlineno))
def tell():
    sys.setprofile(None)
    threading.setprofile(None)
    files, modules = {file for file, _ in entered}, [name for name in sys.modules if name.startswith("agentless_mini")]
    with open(out, "w") as file:
        json.dump({"files": len(files), "functions": len(entered), "modules_imported": len(modules)}, file)
from agentless_mini import cli
out = sys.argv.pop(1)
threading.setprofile(note)
sys.setprofile(note)
try:
    cli.main()
finally:
    tell()
"""


def numbers() -> dict[str, float]:
    """Return what reading the package tells, and how many modules its settings import."""
    files = [path for path in sorted(PACKAGE.rglob("*")) if path.suffix in COUNTED]
    trees = [ast.parse(path.read_bytes()) for path in files if path.suffix == ".py" and "sample" not in path.parts]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    classes = Counter(node.name for node in nodes if isinstance(node, ast.ClassDef))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = sorted((node.end_lineno or node.lineno) - node.lineno + 1 for node in functions)
    modules = [path for path in PACKAGE.glob("*.py") if not path.name.startswith("__")]
    return {
        "lines": sum(path.read_bytes().count(b"\n") for path in files),
        "files": len(files),
        "packages_at_the_top": sum(path.is_dir() and any(path.glob("*.py")) for path in PACKAGE.iterdir()),
        "modules_at_the_top": len(modules),
        "class_names_of_two_meanings": sum(count > 1 for count in classes.values()),
        "most_parameters": max(len([*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs]) for f in functions),
        "function_lines_median": statistics.median(long),
        "function_lines_p90": long[len(long) * 9 // 10],
        "function_lines_max": long[-1],
        "modules_imported_by_settings": modules_of("import agentless_mini.settings"),
    }


def modules_of(program: str) -> int:
    """Return how many modules of ours a program imports."""
    done = subprocess.run([sys.executable, "-c", f"import sys; {program}; {OURS}"], capture_output=True, check=True)
    return int(done.stdout)


def repair(*options: str) -> dict[str, int]:
    """Return how many files and functions one repair enters, and how many modules of ours it imports."""
    from tests.chain.workbench import FIX, WRONG
    from tests.commands.running import LOCALIZED, Home
    from tests.commands.test_execution import FILES, SHOWS_IT
    from tests.fakes.model import Answer, Rule, Script
    from tests.fakes.protocol import ServedModel
    from tests.fakes.server import ScriptedServer
    from tests.gitrepo import make_repository

    rules = (
        LOCALIZED,
        Rule(stage="reproduce", answers=(Answer(text=SHOWS_IT),)),
        Rule(stage="repair", answers=(Answer(text=WRONG), Answer(text=FIX))),
    )
    with (
        tempfile.TemporaryDirectory() as name,
        ScriptedServer(ServedModel(script=Script(rules=rules))) as server,
    ):
        home = Home(Path(name), make_repository(Path(name, "shop"), FILES))
        out = Path(name, "found.json")
        command = [sys.executable, "-c", TRACED, str(out), "repair", ".", "--text", "The total leaves out a price."]
        command += ["--base-url", server.url, "--model", "scripted", *options]
        subprocess.run(command, cwd=home.repository, env=home.environment(), check=True, stdout=subprocess.DEVNULL)
        found: dict[str, int] = json.loads(out.read_text())
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repair", action="store_true")
    found: dict[str, object] = dict(numbers())
    if parser.parse_args().repair:
        found["repair_without_tests"] = repair("--sandbox", "none")
        found["repair_with_tests"] = repair("--sandbox", "local")
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
