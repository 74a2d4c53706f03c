import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agentless_mini.domain import Event, Note
from agentless_mini.errors import EnvironmentFailed, ImageUnavailable
from agentless_mini.evaluation.images import Images, PulledImages, PullPatience
from agentless_mini.sandbox.daemon import connect, find_image
from agentless_mini.settings.run import ImageSettings
from tests.evaluation.registry import Registry, open_registry

if TYPE_CHECKING:
    from docker import DockerClient

SHORT = PullPatience(again=(0.05, 0.05), limited=(0.1, 0.1, 0.1), told=0.2)


@pytest.fixture
def client() -> Iterator["DockerClient"]:
    try:
        made = connect(4)
    except EnvironmentFailed as error:
        pytest.skip(str(error))
    yield made
    made.close()


@pytest.fixture
def registry(client: "DockerClient") -> Iterator[Registry]:
    with open_registry() as served:
        yield served
        for image in client.api.images():  # the client's own list asks for each, and others come and go
            for tag in image["RepoTags"] or ():
                if tag.startswith(served.address):
                    client.api.remove_image(tag, force=True)


class Told:
    """What was said, and what happens when something is."""

    def __init__(self, registry: Registry | None = None, until: str = "") -> None:
        self.lines: list[str] = []
        self._registry = registry
        self._until = until

    def __call__(self, event: Event) -> None:
        assert isinstance(event, Note)
        self.lines.append(event.text)
        if self._registry is not None and self._until in event.text:
            self._registry.trouble = 0


async def _hold(images: Images, name: str, told: Told | None = None) -> None:
    async with images.held(name, told or Told()):
        pass


@pytest.fixture
def images(client: "DockerClient", tmp_path: Path) -> Callable[..., Images]:
    def make(keep: int | None = None, free: float = 0.0, patience: PullPatience = SHORT) -> Images:
        settings = ImageSettings(keep_images=keep, min_free_gib=free)
        return Images(client, settings, PulledImages(tmp_path), patience)

    return make


def test_an_image_of_this_machine_is_found_and_never_removed(
    client: "DockerClient", registry: Registry, images: Callable[..., Images], tmp_path: Path
) -> None:
    name = registry.add("mine")
    client.api.pull(name.removesuffix(":latest"), tag="latest")
    asked, told = registry.asked, Told()

    async def work() -> None:
        async with images(keep=0).held(name, told) as image:
            assert image.id.startswith("sha256:")

    asyncio.run(work())
    assert (registry.asked, told.lines) == (asked, [])
    assert find_image(client, name) is not None
    assert json.loads((tmp_path / "images.json").read_bytes()) == {}


def test_an_image_is_pulled_once_for_all_who_ask_together(registry: Registry, images: Callable[..., Images]) -> None:
    name, told = registry.add("wanted", size=4 << 20), Told()

    async def work() -> None:
        held = images()

        async def one() -> str:
            async with held.held(name, told) as image:
                return image.id

        assert len(set(await asyncio.gather(*(one() for _ in range(4))))) == 1

    asyncio.run(work())
    assert [line for line in told.lines if "Pulling" in line and "GiB" not in line] == [f"Pulling the image {name}."]


def test_a_registry_that_takes_no_more_requests_is_waited_for(
    registry: Registry, images: Callable[..., Images]
) -> None:
    name = registry.add("limited")
    registry.trouble = 429
    told = Told(registry, until="takes no more requests")

    asyncio.run(_hold(images(), name, told))
    (line,) = [line for line in told.lines if "takes no more" in line]
    assert "docker login" in line
    assert "rate limit" in line


def test_a_registry_in_trouble_is_tried_again(registry: Registry, images: Callable[..., Images]) -> None:
    name = registry.add("shaky")
    registry.trouble = 500
    told = Told(registry, until="trying again")

    asyncio.run(_hold(images(), name, told))
    assert any("could not be pulled" in line for line in told.lines)


def test_an_image_that_no_registry_has_is_an_error_at_once(registry: Registry, images: Callable[..., Images]) -> None:
    told = Told()

    with pytest.raises(ImageUnavailable, match="see that the name is right"):
        asyncio.run(_hold(images(), f"{registry.address}/absent:latest", told))
    assert len(told.lines) == 1


def test_a_registry_that_is_silent_is_told_of_and_can_be_left(
    registry: Registry, images: Callable[..., Images]
) -> None:
    name, told = registry.add("silent"), Told()
    registry.silent.set()

    async def left() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_hold(images(), name, told), 1.5)

    began = time.monotonic()
    asyncio.run(left())
    assert time.monotonic() - began < 5
    assert any("GiB" in line for line in told.lines)


def test_a_daemon_that_is_silent_for_too_long_is_not_waited_for(
    registry: Registry, images: Callable[..., Images]
) -> None:
    name = registry.add("silent")
    registry.silent.set()

    patience = PullPatience(again=(0.01,), limited=(), silent=0.5)
    with pytest.raises(ImageUnavailable, match=r"nothing came for 0\.5 s"):
        asyncio.run(_hold(images(patience=patience), name))


def test_only_so_many_pulled_images_are_kept_and_the_oldest_goes_first(
    client: "DockerClient", registry: Registry, images: Callable[..., Images]
) -> None:
    names = [registry.add(name) for name in ("first", "second", "third")]

    async def work() -> None:
        held = images(keep=2)
        for name in names:
            await _hold(held, name)

    asyncio.run(work())
    assert [find_image(client, name) is not None for name in names] == [False, True, True]


def test_an_image_that_is_held_stays_and_what_was_made_from_one_goes_with_it(
    client: "DockerClient", registry: Registry, images: Callable[..., Images]
) -> None:
    name, derived = registry.add("base"), f"{registry.address}/derived:latest"

    async def work() -> None:
        held, other = images(keep=0), registry.add("other")
        async with held.held(name, Told()):
            client.api.tag(name, derived.removesuffix(":latest"), "latest")
            await held.note_derived(name, derived)
            await _hold(held, other)
            assert find_image(client, other) is None
            assert find_image(client, name) is not None
        assert find_image(client, name) is None
        assert find_image(client, derived) is None

    asyncio.run(work())


def test_an_image_that_got_the_name_of_a_pulled_one_later_stays(
    client: "DockerClient", registry: Registry, images: Callable[..., Images], tmp_path: Path
) -> None:
    name, mine = registry.add("pulled"), registry.add("mine")
    client.api.pull(mine.removesuffix(":latest"), tag="latest")

    asyncio.run(_hold(images(), name))
    client.api.remove_image(name)
    client.api.tag(mine, name.removesuffix(":latest"), "latest")
    asyncio.run(_hold(images(keep=0), name))
    left, wanted = find_image(client, name), find_image(client, mine)
    assert left is not None
    assert left == wanted
    assert json.loads((tmp_path / "images.json").read_bytes()) == {}


def test_where_room_is_short_pulled_images_go_and_then_it_is_an_error(
    client: "DockerClient", registry: Registry, images: Callable[..., Images]
) -> None:
    old, new, told = registry.add("old"), registry.add("new"), Told()

    asyncio.run(_hold(images(), old))
    with pytest.raises(ImageUnavailable, match=r"less than 1e\+09 GiB are free"):
        asyncio.run(_hold(images(free=1e9), new, told))
    assert find_image(client, old) is None
    assert any("to make room: 1" in line for line in told.lines)


def test_a_short_disk_is_waited_for_while_an_image_is_in_use_that_may_go(
    client: "DockerClient", registry: Registry, images: Callable[..., Images]
) -> None:
    old, new = registry.add("old"), registry.add("new")

    async def work() -> None:
        await _hold(images(), old)
        short = images(free=1e9)
        async with short.held(old, Told()):
            waiting = asyncio.ensure_future(_hold(short, new))
            await asyncio.sleep(0.5)
            assert not waiting.done()
            assert find_image(client, old) is not None
        with pytest.raises(ImageUnavailable, match="make room"):
            await waiting

    asyncio.run(work())
    assert find_image(client, old) is None


def test_a_holder_that_died_holds_nothing_and_a_broken_record_is_an_empty_one(tmp_path: Path) -> None:
    pulled = PulledImages(tmp_path)
    record = tmp_path / "images.json"
    record.write_text("{")
    pulled.hold("mine", coming=True)
    pulled.add("mine", "sha256:1")
    stored = json.loads(record.read_bytes())
    namespace = stored["mine"]["holders"][0].partition(" ")[0]
    stored["dead"] = {"id": "sha256:2", "used": 1.0, "holders": [f"{namespace} 999999999 1"]}
    record.write_text(json.dumps(stored))
    gone: list[tuple[str, str | None]] = []

    def remove(name: str, identity: str | None) -> bool:
        gone.append((name, identity))
        return True

    assert pulled.evict(lambda _: False, remove) == 1
    assert gone == [("dead", "sha256:2")]
    pulled.release("mine")
    assert pulled.evict(lambda _: False, lambda *_: False) == 0
    assert list(json.loads(record.read_bytes())) == ["mine"]


def holders(folder: Path, name: str) -> list[str]:
    """Return who holds an image, as the record has it."""
    found: list[str] = json.loads((folder / "images.json").read_bytes())[name]["holders"]
    return found


class Hindered(PulledImages):
    """A record in which one method, in its thread, waits for `go`, half a second at most."""

    def __init__(self, folder: Path, method: str) -> None:
        super().__init__(folder)
        self._method = method
        self.begun, self.go, self.over = threading.Event(), threading.Event(), threading.Event()

    def _wait(self, method: str) -> None:
        if method == self._method:
            self.go.clear()
            self.begun.set()
            self.go.wait(0.5)

    def hold(self, name: str, *, coming: bool = False) -> bool:
        found = super().hold(name, coming=coming)
        self.go.set()
        return found

    def add(self, name: str, identity: str) -> None:
        self._wait("add")
        super().add(name, identity)
        self.over.set()

    def release(self, name: str) -> None:
        self._wait("release")
        super().release(name)


def test_an_image_is_on_record_before_it_has_come(
    registry: Registry, images: Callable[..., Images], tmp_path: Path
) -> None:
    """Another evaluation that finds it a moment before it is recorded would not hold it."""
    name = registry.add("coming")
    registry.silent.set()

    async def work() -> None:
        holding = asyncio.ensure_future(_hold(images(), name))
        while registry.asked == 0:  # noqa: ASYNC110 - the daemon's request sets no event
            await asyncio.sleep(0.01)
        assert len(holders(tmp_path, name)) == 1
        holding.cancel()
        await asyncio.wait([holding])
        assert await asyncio.to_thread(PulledImages(tmp_path).evict, lambda left: left == 0, lambda *_: True) == 0

    asyncio.run(work())


def test_an_image_that_is_let_go_and_wanted_again_at_once_is_held(
    client: "DockerClient", registry: Registry, images: Callable[..., Images], tmp_path: Path
) -> None:
    name = registry.add("again")
    asyncio.run(_hold(images(), name))
    record = Hindered(tmp_path, "release")
    held = Images(client, ImageSettings(), record, SHORT)

    async def work() -> None:
        first = asyncio.ensure_future(_hold(held, name))
        await asyncio.to_thread(record.begun.wait)
        async with held.held(name, Told()):
            await first
            assert len(holders(tmp_path, name)) == 1

    asyncio.run(work())


def test_an_image_that_comes_after_it_was_given_up_is_held_by_nobody(
    client: "DockerClient", registry: Registry, tmp_path: Path
) -> None:
    name, record = registry.add("late"), Hindered(tmp_path, "add")

    async def work() -> None:
        holding = asyncio.ensure_future(_hold(Images(client, ImageSettings(min_free_gib=0), record, SHORT), name))
        await asyncio.to_thread(record.begun.wait)
        holding.cancel()
        await asyncio.wait([holding])
        record.go.set()
        await asyncio.to_thread(record.over.wait)
        assert holders(tmp_path, name) == []

    asyncio.run(work())
