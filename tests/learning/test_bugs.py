"""The rows of the learning experiment: bugs that were seen, checks that are proven, in real boxes."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from agentless_mini.domain import Patch
from agentless_mini.edits import make_patch
from agentless_mini.errors import EnvironmentFailed, UsageError
from agentless_mini.learning.rewarding import check_patch, open_plain
from agentless_mini.learning.rows import Row, RowFile
from agentless_mini.settings.run import SandboxKind, SandboxSettings
from tests.benchmarks import bugs

LOCAL = SandboxSettings(kind=SandboxKind.LOCAL)


def patch(row: Row, after: str) -> Patch:
    (file,) = row.files
    return make_patch(replace(row, files=(RowFile(file.path, file.before, after),)).oracle(), row.tree().forms)


@pytest.mark.thorough
def test_bugs_are_observed_held_out_and_their_checks_are_not_fooled(tmp_path: Path) -> None:
    async def made() -> tuple[list[Row], list[bool]]:
        async with AsyncExitStack() as stack:
            try:
                opened = await open_plain(LOCAL, tmp_path, {}, lambda event: None, stack)
            except EnvironmentFailed as error:
                pytest.skip(str(error))
            rows = await bugs.made(opened, ["colorsys", "textwrap"], ["colorsys"], 0)
            right = rows[0].files[0].after or ""
            fooling = ("import os\nos._exit(0)\n", "raise SystemExit\n", "while True: pass\n", f"{right}\nprint(0)\n")
            return rows, [await check_patch(rows[0], patch(rows[0], text), opened) for text in fooling]

    rows, passed = asyncio.run(made())
    assert {(row.repo, row.split) for row in rows} == {("colorsys", "test"), ("textwrap", "train")}
    assert passed == [False, False, False, True]
    for row in rows:
        (file,) = row.files
        before, after = str(file.before).split("\n"), str(file.after).split("\n")
        (right,) = [new for old, new in zip(before, after, strict=True) if old != new]
        assert right.strip() not in row.issue


def test_without_a_sandbox_no_check_is_run(tmp_path: Path) -> None:
    async def opened() -> None:
        async with AsyncExitStack() as stack:
            await open_plain(SandboxSettings(kind=SandboxKind.NONE), tmp_path, {}, lambda event: None, stack)

    with pytest.raises(UsageError, match="leave out --sandbox none"):
        asyncio.run(opened())
