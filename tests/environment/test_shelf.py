import asyncio
import os
from pathlib import Path

import pytest

from agentless_mini.environment.build import Manifest, Slot, seal
from agentless_mini.errors import EnvironmentFailed

WHOLE = Manifest(identity="i", python="python", notes=("a note",))


@pytest.fixture
def slot(tmp_path: Path) -> Slot:
    return Slot(tmp_path / "environments" / "key")


def keep(slot: Slot) -> None:
    async def run() -> None:
        async with slot.locked(lambda: None):
            slot.venv.mkdir()
            slot.write_log("said")
            slot.keep(WHOLE, b"tar")

    asyncio.run(run())


def test_what_is_kept_is_found(slot: Slot) -> None:
    assert slot.read() is None
    keep(slot)
    assert (slot.read(), slot.overlay(), slot.log.read_text()) == (WHOLE, b"tar", "said")


def test_what_is_cleared_is_gone_save_the_log(slot: Slot) -> None:
    keep(slot)
    slot.clear()
    assert slot.read() is None
    assert not slot.venv.exists()
    assert slot.log.read_text() == "said"


@pytest.mark.parametrize("text", ["", "{", "{}", '{"identity": 1, "python": "p"}'])
def test_a_manifest_that_is_not_whole_is_none(slot: Slot, text: str) -> None:
    keep(slot)
    (slot.log.parent / "environment.json").write_text(text)
    assert slot.read() is None


def test_one_builds_and_the_others_wait(slot: Slot) -> None:
    told: list[str] = []
    inside: list[int] = []

    async def build(number: int) -> None:
        async with slot.locked(lambda: told.append("waits")):
            inside.append(number)
            await asyncio.sleep(0.05)
            assert inside[-1] == number, "somebody else came in"

    async def run() -> None:
        await asyncio.gather(*map(build, range(3)))

    asyncio.run(run())
    assert (sorted(inside), told) == ([0, 1, 2], ["waits", "waits"])


def test_a_cancelled_wait_gives_the_lock_up(slot: Slot) -> None:
    async def wait() -> None:
        async with slot.locked(lambda: None):
            pytest.fail("it was taken")

    async def run() -> None:
        async with slot.locked(lambda: None):
            waiting = asyncio.create_task(wait())
            await asyncio.sleep(0.02)
            waiting.cancel()
            await asyncio.wait([waiting])
            assert waiting.cancelled()

    asyncio.run(run())
    keep(slot)


def test_a_folder_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFailed, match="make room"):
        keep(Slot(tmp_path / "file" / "key"))


def test_nothing_sealed_runs_as_its_owner(tmp_path: Path) -> None:
    folder = tmp_path / "venv"
    (folder / "bin").mkdir(parents=True)
    outside = tmp_path / "outside"
    for path in (folder / "bin/program", outside):
        path.touch()
        path.chmod(0o6755)
    (folder / "link").symlink_to(outside)
    (folder / "gone").symlink_to(tmp_path / "nothing")
    seal(folder)
    assert os.stat(folder / "bin/program").st_mode & 0o7777 == 0o755  # noqa: PTH116 - as the code does
    assert outside.stat().st_mode & 0o7777 == 0o6755, "it is not below the folder"
