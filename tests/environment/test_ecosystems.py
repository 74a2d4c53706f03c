"""What the tests of other languages need, read from trees, and real builds of it."""

import asyncio
import json
import re
import shutil
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from agentless_mini.chain.execute import execute
from agentless_mini.chain.session import Boxes, Refused, run_cases
from agentless_mini.domain import BoxLimits, Candidate, Event, Outcome, Runner, Step
from agentless_mini.environment.ecosystems import ecosystem_of, tools, without_tests
from agentless_mini.environment.imaged import base_image
from agentless_mini.environment.needs import needs_of
from agentless_mini.environment.opening import open_environment
from agentless_mini.environment.work import Opened
from agentless_mini.errors import EnvironmentFailed
from agentless_mini.run import foreseen
from agentless_mini.settings.run import SandboxKind, SandboxSettings
from agentless_mini.testing import harness_of
from tests.environment.trees import opened, request, run_there, sentences, tree
from tests.testing.boxes import case, patch_of

PASS, FAIL = Outcome.PASS, Outcome.FAIL


def commands(files: dict[str, str], runner: Runner = Runner.JEST) -> tuple[str, ...]:
    found = ecosystem_of(tree(files), runner)
    assert found is not None
    return found.commands


def test_the_lock_file_tells_the_package_manager() -> None:
    package = {"package.json": '{"devDependencies": {"jest": "1"}}'}
    assert commands(package)[0].startswith("npm install --no-package-lock")
    assert commands({**package, "package-lock.json": "{}"})[0].startswith("npm ci")
    assert commands({**package, "yarn.lock": ""})[0].startswith("npx --yes yarn@1 install --frozen-lockfile")
    assert commands({"package.json": '{"devDependencies": {}}'}) == ()
    assert commands({"go.mod": "module x\n"}, Runner.GO)[0] == "go mod download"
    assert commands({"lib.rb": ""}, Runner.RSPEC) == ()
    assert ecosystem_of(tree(package), Runner.PYTEST) is None


@pytest.mark.parametrize(
    ("lock", "text", "manager", "program"),
    [
        ("pnpm-lock.yaml", "lockfileVersion: 5.4\n", "", "pnpm@7"),
        ("pnpm-lock.yaml", "lockfileVersion: '6.0'\n", "", "pnpm@8"),
        ("pnpm-lock.yaml", "lockfileVersion: '9.0'\n", "", "pnpm@10"),
        ("pnpm-lock.yaml", "lockfileVersion: '12.0'\n", "", "pnpm@latest"),
        ("pnpm-lock.yaml", "lockfileVersion: '9.0'\n", "pnpm@9.15.0+sha512.0f", "pnpm@9.15.0"),
        ("pnpm-lock.yaml", "lockfileVersion: '9.0'\n", "yarn@4.5.0", "pnpm@10"),
        ("pnpm-lock.yaml", "lockfileVersion: '9.0'\n", "pnpm@1.2.3; reboot", "pnpm@10"),
        ("yarn.lock", "# yarn lockfile v1\n", "yarn@1.22.22", "yarn@1"),
        ("yarn.lock", "__metadata:\n  version: 6\n", "", "@yarnpkg/cli-dist@3"),
        ("yarn.lock", "# It.\n\n__metadata:\n  version: 8\n", "", "@yarnpkg/cli-dist@4"),
        ("yarn.lock", "__metadata:\n  version: 8\n", "yarn@4.5.0", "@yarnpkg/cli-dist@4.5.0"),
        ("yarn.lock", "__metadata:\n  version: 8\n", "yarn@1.22.22", "@yarnpkg/cli-dist@4"),
    ],
)
def test_a_lock_file_is_read_by_the_version_that_wrote_it(lock: str, text: str, manager: str, program: str) -> None:
    package = json.dumps({"packageManager": manager, "devDependencies": {"jest": "1"}})
    (command,) = commands({"package.json": package, lock: text})
    assert re.findall(r"npx --yes (?:-p )?(\S+)", command) == [program, program], "with scripts of packages, or without"


def test_packages_of_a_project_below_the_top_are_had_there() -> None:
    package = {"web app/package.json": '{"devDependencies": {"jest": "1"}}', "web app/package-lock.json": "{}"}
    (command,) = commands(package)
    assert command.startswith("cd 'web app' && { npm ci")
    assert command.endswith("; }")
    below = {"a/go.mod": "module a\n", "b/go.mod": "module b\n", "b/testdata/c/go.mod": "module c\n"}
    fetched = [command.split(" &&")[0] for command in commands(below, Runner.GO)]
    assert fetched == ["cd a", "cd a", "cd b", "cd b"]


def test_the_image_is_that_of_the_version_that_the_project_names() -> None:
    def image(files: dict[str, str], runner: Runner) -> str:
        found = ecosystem_of(tree(files), runner)
        assert found is not None
        return found.image

    assert image({"package.json": "{}", ".nvmrc": "v18.2\n"}, Runner.NODE) == "node:18-slim"
    assert image({"package.json": "{}"}, Runner.NODE) == "node:22-slim"
    assert image({"go.mod": "module x\n\ngo 1.21\n"}, Runner.GO) == "golang:1.21"


def test_the_environment_hangs_on_the_files_that_declare_and_on_no_others() -> None:
    def digest(**files: str) -> str:
        found = ecosystem_of(tree({"package.json": "{}", **files}), Runner.NODE)
        assert found is not None
        return found.digest

    assert digest(a="1") == digest(a="2") != digest(**{"package-lock.json": "{}"})


def test_tools_beside_the_system_are_seen(tmp_path: Path) -> None:
    program = tmp_path / "node-20" / "bin" / "node"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert tools(Runner.NODE, str(program.parent)) == (tmp_path / "node-20",)
    assert tools(Runner.NODE, str(tmp_path)) == ()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"package.json": "{}", "app.js": ""}, "no test of node --test, jest, vitest or mocha is found"),
        ({"package.json": '{"scripts": {', "app.js": ""}, r"package.json cannot be read \(Expecting property name"),
        ({"package.json": "[]", "app.js": ""}, r"package.json cannot be read \(it is no object"),
        ({"main.go": "package main\n", "go.mod": "module x\n"}, "no test of go test is found"),
    ],
)
def test_a_tree_without_python_is_told_why_no_test_runs(files: dict[str, str], said: str) -> None:
    assert re.search(said, without_tests(tree(files), Runner.PYTEST))
    foretold = asyncio.run(foreseen(SandboxSettings(), tree(files)))
    assert re.search(f"no test is run, for .*{said}.*give --test-cmd", foretold)
    for more in ({"setup": "true"}, {"test_command": "make check"}, {"image": "own:1"}):
        assert "no test is run, for the tree" not in asyncio.run(
            foreseen(SandboxSettings.model_validate(more), tree(files))
        )
    assert "no test is run, for the tree" not in asyncio.run(foreseen(SandboxSettings(), tree(files), commanded=True))


@pytest.mark.parametrize(
    "files",
    [
        {"requirements/test.txt": "robot\n", "tests/a.robot": ""},
        {"environment.yml": "dependencies:\n  - pip:\n    - numpy\n", "a.c": ""},
    ],
)
def test_what_a_tree_without_a_file_of_python_declares_is_installed(files: dict[str, str]) -> None:
    assert needs_of(tree(files), Runner.COMMAND).of_python
    assert not needs_of(tree({"a.c": "", "run.sh": ""}), Runner.COMMAND).of_python


def test_a_tree_of_python_or_of_no_language_may_have_tests_in_python() -> None:
    for more in ("setup.py", "requirements.txt", "tool.sh"):
        files = {"package.json": "{}", "app.js": "", more: ""} if more != "tool.sh" else {more: ""}
        assert without_tests(tree(files), Runner.PYTEST) == ""
    assert without_tests(tree({"package.json": "{}", "app.js": ""}), Runner.NODE) == ""


def test_an_unreadable_package_is_told_where_tests_run_all_the_same(tmp_path: Path) -> None:
    events: list[Event] = []
    settings = SandboxSettings.model_validate({"kind": "local", "bubblewrap": "/nowhere/bwrap"})
    with pytest.raises(EnvironmentFailed):
        opened(request(tree({"package.json": "{", "app.js": ""}), tmp_path, Runner.NODE), settings, events)
    assert sentences(events)[0].startswith("package.json cannot be read (Expecting property name")


@pytest.mark.slow
@pytest.mark.usefixtures("boxes")
@pytest.mark.parametrize("kind", ["local", "landlock"])
@pytest.mark.parametrize("file", ["package.json", "Makefile"])
def test_without_python_in_a_tree_no_virtual_environment_is_made(kind: str, file: str, open_cache: Path) -> None:
    events: list[Event] = []
    asked, settings = request(tree({file: "{}"}), open_cache, Runner.COMMAND), SandboxSettings(kind=SandboxKind(kind))
    result, _ = run_there(asked, settings, Step(("sh", "-c", "ls")), events=events)
    assert result.steps[0].output.text().split() == [file]
    assert [text for text in sentences(events) if "Python" in text or "virtual" in text] == []
    assert not [*open_cache.glob("environments/*/venv/pyvenv.cfg")]


def test_an_image_of_python_is_not_pulled_for_another_language() -> None:
    found = needs_of(tree({"CMakeLists.txt": "", "test_a.c": ""}), Runner.CTEST)
    with pytest.raises(EnvironmentFailed, match=r"No image .* CMakeLists.txt: name one with --image"):
        base_image(SandboxSettings(), found)
    assert base_image(SandboxSettings(base_image="own:1"), found) == "own:1"


CART = "exports.total = (prices) => prices.slice(1).reduce((a, b) => a + b, 0);\n"
TESTS = """\
const { total } = require('../cart');
describe('cart', () => {
  it('adds', () => { if (total([1, 2]) !== 3) throw new Error('no'); });
  it('is empty', () => { if (total([]) !== 0) throw new Error('no'); });
});
"""
AS_MODULE = "import { describe, it } from 'vitest';\n" + TESTS.replace(
    "const { total } = require('../cart')", "import { total } from '../cart'"
)
PACKAGES = {"jest": "^29.7.0", "mocha": "^10.4.0", "vitest": "^1.6.0"}
CHEATS = {
    "leaves": "process.exit(0);\n",
    "checks nothing": CART + "global.expect = () => new Proxy({}, { get: () => () => {} });\n",
    "runs nothing": CART + "global.it = global.test = () => {};\n",
    "writes the report": CART + "const report = process.argv.find((one) => /report/.test(one));\n"
    "process.on('exit', () => require('fs').writeFileSync(report.split('=').pop(), '{\"testResults\": []}'));\n",
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", PACKAGES)
@pytest.mark.usefixtures("boxes", "package_index")
def test_packages_of_npm_are_installed_and_their_runner_runs(name: str, tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not here")
    test, is_module = "test/cart.test.js", name == "vitest"
    source = CART.replace("exports.total", "export const total") if is_module else CART
    package = f'{{"scripts": {{"test": "{name}"}}, "devDependencies": {{"{name}": "{PACKAGES[name]}"}}}}'
    snapshot = tree({"package.json": package, "cart.js": source, test: AS_MODULE if is_module else TESTS})
    harness, events = harness_of(snapshot), list[Event]()

    async def run() -> None:
        async with AsyncExitStack() as stack:
            asked = request(snapshot, tmp_path / "cache", harness.runner)
            settings = SandboxSettings.model_validate({"kind": "local"})
            opened = await open_environment(asked, settings, events.append, stack)
            assert isinstance(opened, Opened), opened
            told = replace(harness, variables=(*harness.variables, *opened.variables))
            boxes = Boxes(opened.sandbox, opened.place, told, snapshot, events.append, BoxLimits(), 20.0)
            wanted = [case(f"{test}::cart::adds"), case(f"{test}::cart::is empty"), case(test)]
            came = await run_cases(boxes, None, wanted)
            assert not isinstance(came, Refused)
            assert [result.outcome for result in came] == [FAIL, PASS, FAIL], came
            cheats = {"leaves": CHEATS["leaves"]} if is_module else CHEATS
            changes = {"fix": source.replace(".slice(1)", ""), **cheats}
            patches = [patch_of(snapshot, {"cart.js": code}) for code in changes.values()]
            found = await execute(boxes, [Candidate("r", at, at, patch) for at, patch in enumerate(patches)], wanted)
            verdicts = dict(zip(changes, found, strict=True))
            assert len(verdicts["fix"].passed()) == 3, verdicts["fix"]
            failing = {f"{test}::cart::adds", test}
            assert {name: one for name, one in verdicts.items() if name != "fix" and one.passed() & failing} == {}

    asyncio.run(run())
