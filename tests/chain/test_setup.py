"""A model's setups: when they are asked for, how they are read, and which one is kept."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from agentless_mini.chain.session import Boxes, Make, NoBoxes, Opening
from agentless_mini.chain.setup import declaring, read_commands, set_up
from agentless_mini.domain import Completion, Environment, Finish, ModelCard, Note, Outcome, Place, Reason, Stage
from agentless_mini.edits import KNOWN
from agentless_mini.errors import AminiError, EnvironmentFailed
from agentless_mini.ports import Watch
from agentless_mini.settings.run import SetupSettings
from tests.chain import boxes
from tests.chain.workbench import Bench, run, shop, subject, text_file
from tests.fakes.model import Answer, Rule, Script, ScriptedSampler

TESTS = tuple(f"tests/test_{name}.py" for name in ("cart", "tax", "total"))
SHOP = shop(
    *(text_file(path, "from shop import cart, tax\ndef test_one(): ...\n") for path in TESTS),
    text_file("pyproject.toml", "[project]\nname = 'shop'\n"),
    text_file("docs/pyproject.toml", "nothing"),
    text_file(".github/workflows/test.yml", "run: pip install -e .\n"),
    text_file("requirements/test.txt", "pytest\n"),
)
FAILED = NoBoxes("It could not be built.", "error: no such package")
UNREAD = boxes.fails("ModuleNotFoundError", "No module named 'rates'")
Worlds = Mapping[str, int | NoBoxes | AminiError]
"""How many of the test files can be read in the environment of each command, or why there is none."""


class World:
    """Environments by command, the rules' as ""; what was kept, opened and asked."""

    def __init__(self, worlds: Worlds, *answers: str) -> None:
        self.worlds = worlds
        self.kept: dict[str, str] = {}
        self.built: list[str] = []
        self.sampler = ScriptedSampler(
            Script(rules=(Rule(stage=Stage.SETUP, answers=tuple(Answer(text=text) for text in answers)),)),
            ModelCard("m", 8192),
        )
        self.bench = Bench(self.sampler)
        self.samples = len(answers)

    async def build(self, watch: Watch, command: str) -> Boxes | NoBoxes:
        self.built.append(command)
        world = self.worlds[command]
        if isinstance(world, NoBoxes):
            return world
        sandbox = boxes.bench(lambda _: world, SHOP)[0].sandbox if isinstance(world, AminiError) else None
        readable = world if isinstance(world, int) else 0

        def decide(name: str, _: str) -> boxes.Said:
            return boxes.PASSES if name in TESTS[:readable] else (Outcome.ERROR, UNREAD[1])

        made = boxes.bench(boxes.recording(decide), SHOP)[0]
        place = Place(Environment(command or "rules"), boxes.PLACE.tree)
        return replace(made, place=place, sandbox=sandbox or made.sandbox)

    async def open(self, watch: Watch) -> Boxes | NoBoxes:
        return await self.build(watch, "")

    async def keep(self, what: str, make: Make) -> str:
        if what not in self.kept and (text := await make()):
            self.kept[what] = text
        return self.kept.get(what, "")

    def opened(self) -> str:
        """Return by which command the boxes were opened, or why there are none."""
        self.built.clear()
        opening = Opening(boxes.PYTEST, self.open, self.build, self.keep)
        settings = SetupSettings(samples=self.samples)
        found = run(set_up(subject(SHOP), self.bench.session, opening, self.build, settings))
        return found.reason if isinstance(found, NoBoxes) else found.place.environment.identity

    @property
    def notes(self) -> str:
        return " ".join(event.text for event in self.bench.events if isinstance(event, Note))


def fenced(command: str) -> str:
    return f"It lacks that.\n\n```sh\n{command}\n```\n"


def test_nothing_is_asked_where_most_tests_can_be_read() -> None:
    world = World({"": 2}, fenced("true"))
    assert world.opened() == "rules"
    assert (world.sampler.requests, world.kept) == ([], {})


def test_nothing_is_asked_where_no_build_has_failed() -> None:
    world = World({"": NoBoxes("There is no sandbox.")}, fenced("true"))
    assert world.opened() == "There is no sandbox."
    assert not world.sampler.requests


@pytest.mark.parametrize("rules", [FAILED, 1])
def test_the_answer_under_which_most_tests_pass_is_kept_and_a_rerun_asks_and_builds_no_other(
    rules: int | NoBoxes,
) -> None:
    worlds: Worlds = {
        "": rules, "make a": FAILED, "make b": 2, "make c": 3, "make d": EnvironmentFailed("It has no python: see."),
    }  # fmt: skip
    world = World(worlds, *(fenced(command) for command in worlds if command), fenced("make b"), "None.")
    assert world.opened() == "make c"
    assert world.built == ["", "make b", "make a", "make c", "make d"]
    (asked,) = world.sampler.requests
    assert ("no such package" if rules is FAILED else "No module named 'rates'") in asked.messages[-1].content
    assert "pip install -e ." in asked.messages[-1].content
    assert "leaves out its first price" not in asked.messages[-1].content
    assert "--setup 'make c'" in world.notes
    assert world.opened() == "make c"
    assert (world.built, len(world.sampler.requests)) == (["make c"], 1)


def test_where_no_answer_serves_more_tests_the_rules_stay_and_what_failed_is_not_built_again() -> None:
    world = World({"": 1, "make a": FAILED, "make b": 1, "make c": 0}, *map(fenced, ("make a", "make b", "make c")))
    assert world.opened() == "rules"
    assert "None of 3 setups" in world.notes
    assert world.opened() == "rules"
    assert "make a" not in world.built


def test_an_environment_without_related_tests_is_better_than_none() -> None:
    assert World({"": FAILED, "make a": 0}, fenced("make a")).opened() == "make a"
    assert World({"": FAILED, "make a": FAILED}, fenced("make a")).opened() == FAILED.reason


def test_a_setup_that_no_sandbox_can_try_is_not_recorded_as_failed() -> None:
    world = World({"": FAILED, "make a": NoBoxes("There is no sandbox.")}, fenced("make a"))
    assert world.opened() == FAILED.reason
    assert not any(what.startswith("failed") for what in world.kept)


def test_the_files_that_declare_are_shown_the_most_telling_first() -> None:
    paths = [file.path for file in declaring(SHOP)]
    assert paths == ["pyproject.toml", ".github/workflows/test.yml", "requirements/test.txt"]


@pytest.mark.parametrize(
    ("block", "read"),
    [
        ("pip install -e .\n\n# then\npip install x  # too\n", "pip install -e .; pip install x"),
        ("$ pip install \\\n  a b;\n", "pip install    a b"),
        (
            "# don't\npip install 'a # b' # it's\nmake \"c\" # \"d\"\nmake e\n",
            "pip install 'a # b'; make \"c\"; make e",
        ),
        ("echo" + " " * 100_000 + "'\n", Reason.MALFORMED),
        ("pip install git+https://x/y#egg=z\n", "pip install git+https://x/y#egg=z"),
        ("for x in a b\ndo pip install $x\ndone\n", Reason.MALFORMED),
        ("cat > x <<EOF\na\nEOF\n", Reason.MALFORMED),
        ("echo 'a\n", Reason.SYNTAX),
        ("true &&\nfalse\n", Reason.MALFORMED),
        ("echo \x1b[2J\n", Reason.MALFORMED),
        ("true\n" * 2000, Reason.MALFORMED),
        ("# nothing\n", Reason.MALFORMED),
        (";\n", Reason.MALFORMED),
    ],
)
def test_commands_are_read_as_one_line_and_must_be_plain(block: str, read: str | Reason) -> None:
    found = read_commands(Completion(0, f"First.\n```\nother\n```\n```sh\n{block}```\n", Finish.STOP), KNOWN)
    assert (found if isinstance(found, str) else found.reason) == read


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [
        ("Just install it.", Finish.STOP, Reason.MALFORMED),
        (fenced("true"), Finish.LENGTH, Reason.TRUNCATED),
        ("<think>" + fenced("true"), Finish.STOP, Reason.TRUNCATED),
    ],
)
def test_an_answer_without_commands_is_rejected(text: str, finish: Finish, reason: Reason) -> None:
    found = read_commands(Completion(0, text, finish), KNOWN)
    assert not isinstance(found, str)
    assert found.reason is reason
