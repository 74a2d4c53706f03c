"""Checks as a potential: what a sandbox says of a patch, and nothing where its box is lost."""

from contextlib import AsyncExitStack

import pytest

from agentless_mini.domain import BoxLimits, Ending, Environment, PackedTree, Patch, Place
from agentless_mini.edits import make_patch
from agentless_mini.environment.work import Opened
from agentless_mini.errors import EnvironmentFailed
from agentless_mini.learning.rewarding import running_checks
from tests.fakes.sandbox import Answering, ScriptedSandbox, each_step, ended, exited, refusing
from tests.learning import tiny

ROW = tiny.rows(1, check="raise SystemExit(0)")[0]
PATCH = make_patch(ROW.oracle(), ROW.tree().forms)


def said(answering: Answering, *patches: Patch) -> list[float | None]:
    async def opening(stack: AsyncExitStack) -> Opened:
        place = Place(Environment("here"), PackedTree("0" * 64))
        return Opened(ScriptedSandbox(answering), place, BoxLimits(memory=1, pids=1, disk=1, seconds=1.0))

    with running_checks(opening) as values:
        return values([(ROW, patch) for patch in patches])


def test_a_check_passes_or_fails() -> None:
    assert said(each_step(exited(0)), PATCH, PATCH) == [1.0, 1.0]
    assert said(each_step(exited(1)), PATCH) == [0.0]
    assert said(refusing("no such folder"), PATCH) == [0.0]
    assert said(each_step(exited(0))) == []


def test_a_lost_box_tells_nothing() -> None:
    assert said(each_step(ended(Ending.BOX_DIED)), PATCH) == [None]


def test_where_there_is_no_place_it_is_said() -> None:
    async def opening(stack: AsyncExitStack) -> Opened:
        raise EnvironmentFailed("There is no sandbox: install one.")

    with pytest.raises(EnvironmentFailed, match="no sandbox"), running_checks(opening):
        pass
