"""What a box is sent and says: a description and the contents that it counts; messages and the blobs that they count.

Every message is two lengths of four bytes, a JSON object, and its blobs. The other end is `sandboxes.wire`.
"""

from __future__ import annotations

import json
import os
import struct
from typing import IO, Any

Message = Any  # a JSON object


class Abandoned(Exception):
    """Nobody waits for the box any more."""


def receive(stream: IO[bytes]) -> Message:
    """Read the job's description; the contents that it lists follow it."""
    (size,) = struct.unpack(">I", read(stream, 4))
    return json.loads(read(stream, size))


def read(stream: IO[bytes], size: int) -> bytes:
    """Read so many bytes. Raises Abandoned where they end before."""
    data = stream.read(size)
    if len(data) < size:
        raise Abandoned
    return data


def say(message: Message, *blobs: bytes) -> None:
    """Write one message with its blobs. Raises Abandoned where nobody reads it."""
    text = json.dumps(message).encode()
    data = memoryview(b"".join((struct.pack(">II", len(text), sum(map(len, blobs))), text, *blobs)))
    try:
        while data:
            data = data[os.write(1, data) :]
    except BrokenPipeError as error:
        raise Abandoned from error
