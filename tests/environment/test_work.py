"""Which of two environments serves an old tree."""

import asyncio
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from agentless_mini.domain import Event, Runner
from agentless_mini.environment.machine import Index
from agentless_mini.environment.needs import needs_of
from agentless_mini.environment.work import EnvironmentRequest, Manifest, Slot, Work, build_failed, fitting, last_day
from agentless_mini.errors import BuildFailed
from agentless_mini.sandbox.host import Scratch
from agentless_mini.settings.run import SandboxSettings
from tests.environment.samples import BARE
from tests.environment.trees import nothing_held, sentences

DAY = "2020-05-04"


class Builds:
    """Builds nothing: `today` and `then` say how many packages each environment lacks, -1 where it is unfit."""

    def __init__(
        self, cache: Path, scratch: Scratch, settings: SandboxSettings | None = None, until: str = DAY
    ) -> None:
        self.today, self.then = 0, 0
        self.built: list[str] = []
        self.events: list[Event] = []
        self.notes: tuple[str, ...] = ()
        asked = EnvironmentRequest(BARE, nothing_held, cache, {}, Runner.UNITTEST, until=until)
        needs = needs_of(BARE, Runner.UNITTEST)
        self.work = Work(asked, settings or SandboxSettings(), self.events.append, needs, Index(), scratch)

    def chosen(self) -> str:
        """Return the day of the environment that serves; `notes` are the sentences on it."""
        work, manifest = asyncio.run(fitting(self.work, self._slot, self._ready))
        self.notes = manifest.notes
        assert manifest.identity == work.until
        return work.until

    def _slot(self, work: Work) -> Slot:
        return work.slot(work.until or "today")

    async def _ready(self, work: Work) -> Manifest:
        slot = self._slot(work)
        async with slot.locked(lambda: None):
            if (kept := slot.read()) is not None:
                return kept
            self.built.append(work.until)
            lacking = self.then if work.until else self.today
            if lacking < 0:
                raise build_failed("uv" if work.until else "the tests cannot be started: no", slot)
            slot.keep(Manifest(identity=work.until, python="python", lacking=lacking), b"")
        return Manifest(identity=work.until, python="python", lacking=lacking)


@pytest.fixture
def scratch() -> Iterator[Scratch]:
    made = Scratch()
    yield made
    made.close()


@pytest.fixture
def builds(tmp_path: Path, scratch: Scratch) -> Builds:
    return Builds(tmp_path, scratch)


def test_those_of_the_trees_time_serve_where_nothing_lacks(builds: Builds) -> None:
    builds.today = 1
    assert (builds.chosen(), builds.built, builds.events) == (DAY, [DAY], [])


def test_a_young_tree_gets_packages_of_today(tmp_path: Path, scratch: Scratch) -> None:
    builds = Builds(tmp_path, scratch, until="")
    assert (builds.chosen(), builds.built, builds.events, builds.notes) == ("", [""], [], ())


@pytest.mark.parametrize("then", [1, -1])
def test_those_of_today_serve_where_they_are_better_and_are_taken_at_once_then(builds: Builds, then: int) -> None:
    builds.then = then
    assert builds.chosen() == ""
    assert builds.notes == (f"It has today's packages, for those of {DAY}, the day of the tree, do not work.",)
    told = builds.notes
    assert (builds.chosen(), builds.notes) == ("", told)
    assert builds.built == [DAY, ""]
    assert len(sentences(builds.events)) == 1
    assert DAY in sentences(builds.events)[0]


def test_what_an_old_tree_is_told_a_young_one_is_not(builds: Builds, tmp_path: Path, scratch: Scratch) -> None:
    builds.then = -1
    assert builds.chosen() == ""
    young = Builds(tmp_path, scratch, until="")
    assert (young.chosen(), young.built, young.notes) == ("", [], ())


@pytest.mark.parametrize("today", [2, 3, -1])
def test_those_that_are_no_better_are_tried_once(builds: Builds, today: int) -> None:
    builds.then, builds.today = 2, today
    assert builds.chosen() == DAY
    assert builds.chosen() == DAY
    assert builds.built == [DAY, ""]


def test_where_neither_works_that_of_today_is_told(builds: Builds) -> None:
    builds.today = builds.then = -1
    with pytest.raises(BuildFailed, match="the tests cannot be started: no"):
        builds.chosen()
    assert builds.built == [DAY, ""]


@pytest.mark.parametrize(
    ("until", "today", "day"),
    [
        ("2020-05-04", date(2021, 1, 1), "2020-05-04"),
        ("2020-05-04T23:00:00-08:00", date(2021, 1, 1), "2020-05-04"),
        ("2020-05-04", date(2020, 10, 31), ""),
        ("2020-05-04", date(2020, 11, 1), "2020-05-04"),
        ("2999-01-01", date(2020, 11, 1), ""),
        ("", date(2020, 11, 1), ""),
        ("long ago", date(2020, 11, 1), ""),
    ],
)
def test_the_day_counts_where_it_is_long_ago(
    tmp_path: Path, scratch: Scratch, until: str, today: date, day: str
) -> None:
    assert last_day(Builds(tmp_path, scratch, until=until).work, today) == day


@pytest.mark.parametrize("settings", [SandboxSettings(setup="make"), SandboxSettings(image="own")])
def test_what_the_user_chose_has_no_day(tmp_path: Path, scratch: Scratch, settings: SandboxSettings) -> None:
    assert last_day(Builds(tmp_path, scratch, settings).work, date(2021, 1, 1)) == ""
