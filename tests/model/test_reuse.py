"""Streams one after the other share a connection: a handshake for each would cost more than a short answer."""

import asyncio
import contextlib

from agentless_mini.model.connection import Address, Advice, Connection, Patience
from agentless_mini.settings.model import EndpointSettings

EVENTS = b'data: {"id": "1", "choices": []}\n\ndata: [DONE]\n\n'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = f"{len(EVENTS):x}\r\n".encode() + EVENTS + b"\r\n"


def test_streams_one_after_the_other_share_a_connection() -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))
                writer.write(ANSWER + CHUNKS)
                await writer.drain()
                writer.write(b"0\r\n\r\n")  # what ends the body comes apart from the last event

    async def scene() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        address = Address.of(url, EndpointSettings(base_url=url), Advice(), {})
        connection = Connection(address, Patience(0), lambda _: None)
        for _ in range(3):
            assert len([event async for event in connection.events({"n": 1}, {}, 0)]) == 1
        await connection.aclose()
        server.close()
        await server.wait_closed()

    asyncio.run(scene())
    assert connections == 1
