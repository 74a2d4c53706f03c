"""How a command comes to its reward model: through the record, and only where something is owed."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from agentless_mini.commands.config import Machine
from agentless_mini.commands.models import Models
from agentless_mini.domain import Event, Issue, Note, Patch, Stage
from agentless_mini.errors import ServerUnreachable, UsageError
from agentless_mini.record import Store
from agentless_mini.settings import Config
from agentless_mini.settings.model import ScorerSettings
from tests.fakes.model import ScoreRule, Script
from tests.fakes.protocol import ServedModel
from tests.fakes.server import ScriptedServer
from tests.model.contract import run

SERVED = ServedModel(script=Script(rules=(), scores=(ScoreRule(contains="good", score=1.0), ScoreRule(score=0.0))))
PATCHES = [Patch(f"+{word}\n".encode(), word, ("a.py",)) for word in ("good", "bad")]
SCORES = {"good": 1.0, "bad": 0.0}


class Told:
    """Remembers the events of a run."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, Note):
            self.notes.append(event.text)

    def tokens(self, new: int, stage: Stage) -> None:
        pass

    def phase(self, what: str, seconds: float) -> None:
        pass


def scored(folder: Path, told: Told | None = None, **settings: object) -> Mapping[str, float]:
    async def work() -> Mapping[str, float]:
        with Store.open(folder / "store.db") as store:
            async with AsyncExitStack() as stack:
                models = Models(Config(), Machine(folder, folder, {}), store, stack, told or Told())
                scoring, model = await models.open_scorer(ScorerSettings.model_validate(settings))
                assert model.name == settings.get("model", "scripted")
                return await scoring(Issue("It fails."), PATCHES)

    return run(work())


def test_patches_are_scored_and_a_second_run_sends_nothing(tmp_path: Path) -> None:
    with ScriptedServer(SERVED) as server:
        assert scored(tmp_path, base_url=server.url, model="judge") == SCORES
        assert [seen.path for seen in server.log.requests] == ["/score"]
        assert scored(tmp_path, base_url=server.url, model="judge") == SCORES
        assert len(server.log.requests) == 1


def test_without_a_name_the_server_is_asked_for_it_and_where_it_is_gone_the_last_one_is_used(tmp_path: Path) -> None:
    told = Told()
    with ScriptedServer(SERVED) as server:
        url = server.url
        assert scored(tmp_path, told, base_url=url, route="pooling") == SCORES
        assert told.notes == []
    assert scored(tmp_path, told, base_url=url, route="pooling") == SCORES
    assert told.notes == [f"{url} does not answer; it served scripted last, whose scores are in the record."]
    with pytest.raises(ServerUnreachable):
        scored(tmp_path, base_url=url, route="classify")


def test_where_nothing_is_known_a_server_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ServerUnreachable, match=r"scorer\.base_url"):
        scored(tmp_path, base_url="http://127.0.0.1:9/v1")


def test_a_server_that_also_repairs_is_recalled_for_each_by_itself(tmp_path: Path) -> None:
    with ScriptedServer(SERVED) as server:
        url = server.url
        scored(tmp_path, base_url=url)
    with Store.open(tmp_path / "store.db") as store:
        assert store.endpoint_model(url) is None
        store.put_endpoint_model(url, "a model that repairs")
    assert scored(tmp_path, base_url=url) == SCORES


def test_no_server_is_an_error_that_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"set scorer\.base_url"):
        scored(tmp_path, model="judge")
