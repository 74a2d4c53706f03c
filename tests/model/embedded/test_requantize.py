import struct

import numpy as np

from agentless_mini.model.embedded.weights import requantize

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
