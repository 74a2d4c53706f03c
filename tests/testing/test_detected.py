"""How the tests of a tree run that is not Python's, as its files tell."""

import json
from collections.abc import Mapping

import pytest

from agentless_mini.domain import Runner
from agentless_mini.testing.detected import detected
from tests.testing.boxes import tree

TEST = "import { test } from 'node:test';\n"


def package(script: str = "", *needed: str, **more: object) -> str:
    scripts = {"scripts": {"test": script}} if script else {}
    return json.dumps({**scripts, "devDependencies": dict.fromkeys(needed, "*"), **more})


def members_of(files: Mapping[str, str]) -> tuple[str, ...]:
    found = detected(tree({**files, "packages/a/a.test.ts": TEST, "packages/b/b.test.ts": TEST}))
    assert found is not None
    assert found.runner is Runner.JEST
    return found.members


def test_a_package_of_many_runs_where_its_script_is() -> None:
    quiet = {"packages/a/package.json": package(), "packages/b/package.json": package()}
    own = {"packages/a/package.json": package("jest"), "packages/b/package.json": package("jest -b")}
    assert members_of({"package.json": package("jest"), **quiet}) == ()
    assert members_of({"package.json": package("", "jest"), **quiet}) == ()
    assert members_of({"package.json": package("npm test -ws", "jest"), **own}) == ("packages/a", "packages/b")
    assert members_of({"package.json": package("jest"), **quiet, "packages/a/package.json": package("jest")}) == (
        "packages/a",
    )
    assert members_of({"package.json": package("jest"), **quiet, "packages/b/jest.config.js": ""}) == ("packages/b",)


@pytest.mark.parametrize(
    ("script", "command", "variables"),
    [
        ("tsc && node --import tsx --test src/*.ts", ("node", "--import", "tsx", "--test"), ()),
        ("tsx --test", ("node", "--import", "tsx", "--test"), ()),
        ("node --experimental-loader ts-node/esm --test", ("node", "--experimental-loader", "ts-node/esm"), ()),
        ("c8 -r html mocha -r esm && eslint -c x", ("mocha", "-r", "esm", "--reporter"), ()),
        ("./node_modules/.bin/mocha --require esm", ("mocha", "--require", "esm", "--reporter"), ()),
        (
            "cross-env NODE_OPTIONS='--loader ts-node/esm' mocha",
            ("mocha", "--reporter"),
            (("NODE_OPTIONS", "--loader ts-node/esm"),),
        ),
        (
            'NODE_OPTIONS="$NODE_OPTIONS --no-warnings" NODE_ENV=test mocha',
            ("mocha", "--reporter"),
            (("NODE_OPTIONS", "--no-warnings"), ("NODE_ENV", "test")),
        ),
        (
            "node --experimental-vm-modules node_modules/jest/bin/jest.js -c unit.json",
            ("jest", "-c", "unit.json", "--ci"),
            (("NODE_OPTIONS", "--experimental-vm-modules"),),
        ),
        ("vitest --config unit.ts --ui", ("vitest", "run", "--config", "unit.ts", "--reporter=json"), ()),
    ],
)
def test_a_script_is_followed(script: str, command: tuple[str, ...], variables: tuple[tuple[str, str], ...]) -> None:
    found = detected(tree({"package.json": package(script, "jest", "mocha"), "a.test.ts": TEST}))
    assert found is not None
    assert (found.command[: len(command)], found.variables) == (command, variables)
