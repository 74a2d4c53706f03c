"""What the tests of other languages need, read from trees, and real builds of it."""

import asyncio
import shutil
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from agentless_mini.chain.execute import execute
from agentless_mini.chain.session import Boxes, Refused, run_cases
from agentless_mini.domain import BoxLimits, Candidate, Event, Outcome, Runner
from agentless_mini.environment.ecosystems import ecosystem_of, tools
from agentless_mini.environment.opening import open_environment
from agentless_mini.environment.work import Opened
from agentless_mini.settings.run import SandboxSettings
from agentless_mini.testing import harness_of
from tests.environment.trees import request, tree
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
    assert commands({**package, "yarn.lock": ""})[0].startswith("npx --yes yarn install --frozen-lockfile")
    assert commands({"package.json": '{"devDependencies": {}}'}) == ()
    assert commands({"go.mod": "module x\n"}, Runner.GO)[0] == "go mod download"
    assert commands({"lib.rb": ""}, Runner.RSPEC) == ()
    assert ecosystem_of(tree(package), Runner.PYTEST) is None


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
