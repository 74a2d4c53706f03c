import struct
from pathlib import Path

import numpy as np
import pytest

from agentless_mini.errors import EnvironmentFailed
from agentless_mini.serving.requantize import requantize

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


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.gguf"
    blocks = q4_1(0.5, -3.0, DIGITS) + q4_1(0.0, 0.0, [0] * 32)
    path.write_bytes(gguf([(b"norm", (3,), F32, FLOATS), (b"w", (32, 2), Q4_1, blocks), (b"last", (3,), F32, FLOATS)]))
    return path


def test_the_values_stay_up_to_the_rounding_of_eight_bits(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    requantize(source, target)
    data = target.read_bytes()
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


def test_everything_else_stays_as_it_is(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    requantize(source, target)
    old, new = source.read_bytes(), target.read_bytes()
    key = string(b"general.file_type") + struct.pack("<I", 4)
    assert new[new.index(key) + len(key)] == 7
    head = old.index(string(b"norm"))
    assert new[:head].replace(key + b"\x07", key + b"\x03") == old[:head]
    assert new.count(FLOATS) == 2
    assert new.endswith(FLOATS + bytes(20))


@pytest.mark.parametrize("damage", [lambda data: b"PK" + data[2:], lambda data: data[:60], lambda data: b""])
def test_what_is_no_gguf_file_is_said_to_be_none(damage: object, source: Path, tmp_path: Path) -> None:
    assert callable(damage)
    source.write_bytes(damage(source.read_bytes()))
    with pytest.raises(EnvironmentFailed, match="GGUF file"):
        requantize(source, tmp_path / "out.gguf")


def test_a_failure_leaves_no_file_behind(source: Path, tmp_path: Path) -> None:
    source.write_bytes(source.read_bytes()[:-100])
    with pytest.raises(EnvironmentFailed, match="damaged"):
        requantize(source, tmp_path / "out.gguf")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.gguf"]
