"""A GGUF file in Q4_1 -> the same weights in Q8_0, which llama.cpp multiplies faster in batches.

Measured with SmolLM2-135M on a CPU with AVX2: 1.7 times the tokens per second, prefill and 32 sequences alike; nothing
is lost but the rounding to 8 bits. It rewrites tensors of that one type, leaves all others as they are, and knows
nothing of models.
"""

import os
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from agentless_mini.errors import EnvironmentFailed, boundary

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MAGIC, _VERSION, _ALIGNMENT = b"GGUF", 3, 32
_Q4_1, _Q8_0 = 3, 8
_BLOCK, _Q4_1_BYTES, _Q8_0_BYTES = 32, 20, 34
# Sizes of the value types of metadata; 8 is a string, 9 an array.
_SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9
_FILE_TYPE = b"general.file_type"
_FILE_TYPE_Q8_0 = 7


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: bytes
    shape: tuple[int, ...]
    type: int
    start: int
    size: int

    @property
    def elements(self) -> int:
        count = 1
        for length in self.shape:
            count *= length
        return count


class _Reader:
    """Reads the head of a GGUF file: where the metadata ends, where its file type stands, and the tensors."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 4
        version, tensors, entries = self._int("<I"), self._int("<Q"), self._int("<Q")
        if data[:4] != _MAGIC or version != _VERSION:
            raise EnvironmentFailed("The weights are no GGUF file of version 3: fetch them again.")
        self.file_type_at = 0
        for _ in range(entries):
            self._entry()
        self.metadata_end = self._at
        infos = [self._info() for _ in range(tensors)]
        start = _aligned(self._at)
        ends = [*(offset for _, _, _, offset in infos[1:]), len(data) - start]
        self.tensors = [
            _Tensor(name, shape, kind, start + offset, end - offset)
            for (name, shape, kind, offset), end in zip(infos, ends, strict=True)
        ]

    def _int(self, form: str) -> int:
        (value,) = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        return int(value)

    def _string(self) -> bytes:
        length = self._int("<Q")
        self._at += length
        return self._data[self._at - length : self._at]

    def _entry(self) -> None:
        key, kind = self._string(), self._int("<I")
        if key == _FILE_TYPE:
            self.file_type_at = self._at
        if kind == _ARRAY:
            kind, count = self._int("<I"), self._int("<Q")
        else:
            count = 1
        if kind == _STRING:
            for _ in range(count):
                self._string()
        else:
            self._at += _SCALARS[kind] * count

    def _info(self) -> tuple[bytes, tuple[int, ...], int, int]:
        name = self._string()
        shape = tuple(self._int("<Q") for _ in range(self._int("<I")))
        return name, shape, self._int("<I"), self._int("<Q")


def requantize(source: Path, target: Path) -> None:
    """Write `source` to `target` with every Q4_1 tensor as Q8_0; `target` appears whole or not at all.

    Raises `EnvironmentFailed` for what is no GGUF file, and `OSError`.
    """
    data = source.read_bytes()
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
        try:
            with boundary(dict.fromkeys((struct.error, KeyError, ValueError), _damaged)):
                file.writelines(_requantized(data))
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(target)
        except BaseException:
            Path(file.name).unlink()
            raise


def _damaged(_: BaseException) -> EnvironmentFailed:
    return EnvironmentFailed("The weights are a damaged GGUF file: fetch them again.")


def _requantized(data: bytes) -> Iterator[bytes]:
    head = _Reader(data)
    yield _head(data, head)
    for tensor in head.tensors:
        yield _padded(_contents(data, tensor))


def _head(data: bytes, head: _Reader) -> bytes:
    metadata = bytearray(data[: head.metadata_end])
    if head.file_type_at:
        struct.pack_into("<I", metadata, head.file_type_at, _FILE_TYPE_Q8_0)
    return _padded(bytes(metadata) + b"".join(_infos(head.tensors)))


def _infos(tensors: list[_Tensor]) -> Iterator[bytes]:
    offset = 0
    for old in tensors:
        new = _as_q8_0(old) if old.type == _Q4_1 else old
        shape = struct.pack(f"<{len(new.shape)}Q", *new.shape)
        yield struct.pack("<Q", len(new.name)) + new.name + struct.pack("<I", len(new.shape)) + shape
        yield struct.pack("<IQ", new.type, offset)
        offset += _aligned(new.size)


def _as_q8_0(tensor: _Tensor) -> _Tensor:
    return replace(tensor, type=_Q8_0, size=tensor.elements // _BLOCK * _Q8_0_BYTES)


def _contents(data: bytes, tensor: _Tensor) -> bytes:
    if tensor.type != _Q4_1:
        return data[tensor.start : tensor.start + tensor.size]
    return _quantized(_dequantized(data, tensor))


def _dequantized(data: bytes, tensor: _Tensor) -> "NDArray[np.float32]":
    """Return the blocks of a Q4_1 tensor, [blocks, 32]: scale and least value as halves, then 32 numbers of 4 bits."""
    import numpy as np

    count = tensor.elements // _BLOCK
    blocks = np.frombuffer(data, np.uint8, count * _Q4_1_BYTES, tensor.start).reshape(count, _Q4_1_BYTES)
    scale, least = np.ascontiguousarray(blocks[:, :4]).view("<f2").astype(np.float32).T
    digits = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1)
    values: NDArray[np.float32] = digits * scale[:, None] + least[:, None]
    return values


def _quantized(values: "NDArray[np.float32]") -> bytes:
    """Return blocks as Q8_0: the scale as a half, then 32 numbers of 8 bits."""
    import numpy as np

    scale = np.abs(values).max(axis=1) / np.float32(127)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    digits = np.rint(values * inverse[:, None]).astype(np.int8)
    return np.concatenate([scale.astype("<f2")[:, None].view(np.uint8), digits.view(np.uint8)], axis=1).tobytes()


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _padded(data: bytes) -> bytes:
    return data + bytes(_aligned(len(data)) - len(data))
