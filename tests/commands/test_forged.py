"""Verdicts that a patch forges, through the real command against the scripted server: none is chosen for them."""

import json
from pathlib import Path

import pytest

from agentless_mini.domain import FileChange
from agentless_mini.edits.writing import write_answer
from agentless_mini.errors import EnvironmentFailed
from agentless_mini.sandbox.bubblewrap import find_bubblewrap
from tests.chain.workbench import CART, FIX
from tests.commands.running import LOCALIZED, Home
from tests.commands.test_execution import FILES, SHOWS_IT, cache
from tests.fakes.model import Answer, Rule, Script
from tests.fakes.protocol import ServedModel
from tests.fakes.server import ScriptedServer
from tests.gitrepo import make_repository
from tests.testing.forging import FORGED, HACKS, HACKS_BESIDE, cheat

__all__ = ["cache"]  # a fixture
pytestmark = pytest.mark.thorough
GIVEN = "tests/test_cart.py::CartTest::test_two_prices"
CHEATS = {
    **{name: {"shop/cart.py": cheat(code, CART)} for name, code in FORGED.items()},
    **{name: {"shop/cart.py": cheat(code, CART)} for name, (_, code) in HACKS.items()},
    **{name: {"shop/cart.py": f"{CART}NAME = {name!r}\n", **files} for name, (_, files) in HACKS_BESIDE.items()},
}
TRIES = 40
# It forges nothing: the code gives what the tests expect, though for a wrong reason.
SPECIAL = {"other values by the number of calls"}


def answer(changes: dict[str, str]) -> str:
    made = [FileChange(path, FILES.get(path), text.encode(), "100644") for path, text in changes.items()]
    said = write_answer(made)
    assert isinstance(said, str), said
    return said


@pytest.fixture
def home(tmp_path: Path, cache: Path) -> Home:
    try:
        find_bubblewrap("bwrap")
    except EnvironmentFailed as error:
        pytest.skip(str(error))
    (tmp_path / "issue.md").write_text("The total of a cart leaves out its first price.\n")
    (tmp_path / "cache").symlink_to(cache)
    return Home(tmp_path, make_repository(tmp_path / "shop", FILES))


@pytest.mark.parametrize("runner", ["pytest", "unittest"])
@pytest.mark.parametrize("tests", ["given", "generated"])
def test_of_forty_forged_patches_and_one_that_is_right_the_right_one_is_chosen(
    home: Home, runner: str, tests: str
) -> None:
    said = [answer(changes) for changes in CHEATS.values()]
    repairs = [*said, *said[:1] * (TRIES - len(said)), FIX]
    rules = (
        LOCALIZED,
        Rule(stage="repair", answers=tuple(Answer(text=text) for text in repairs)),
        Rule(stage="reproduce", answers=(Answer(text=SHOWS_IT),)),
    )
    more = ["--failing-test", GIVEN, "--tests", "0"] if tests == "given" else ["--tests", "1"]
    more += ["--test-cmd", "python -m pytest"] if runner == "pytest" else []
    with ScriptedServer(ServedModel(script=Script(rules=rules))) as server:
        asked = ("repair", ".", "../issue.md", "--base-url", server.url, "--model", "scripted", "-n", str(TRIES + 1))
        done = home.amini(*asked, "--sandbox", "local", "--json", "--require", "tests", *more)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert "+    for price in prices:\n" in document["prediction"]["choice"]["patch"]["diff"]["text"]
    names: dict[str, tuple[str, list[str]]] = {}
    for sample in document["samples"]:
        if sample["stage"] == "repair" and (outcome := sample["outcome"]):
            names.setdefault(outcome["normal"], (repairs[sample["index"]], outcome.get("suspicious", [])))
    believed = []
    for verdict in document["prediction"]["execution"]["verdicts"]:
        text, suspicious = names[verdict["normal"]]
        passes = set(verdict["outcomes"].values()) == {"pass"} and not verdict["refusal"]
        name = next((name for name, changes in CHEATS.items() if answer(changes) == text), "the right one")
        believed += [name] if passes and not suspicious else []
    assert set(believed) - SPECIAL == {"the right one"}, believed
