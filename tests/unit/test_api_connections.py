"""Who opens a connection and says nothing, half of a request, or takes no answer, keeps its place for a stated time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn

from api import connections
from api.connections import configuration, listening_socket
from stack.ports import LOOPBACK
from tests.api_world import World
from tests.gating import SECRET

GOOD = f"GET /v1/organizations/usage HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {SECRET}\r\n\r\n".encode()
LIMIT_S = 20.0
"""Of a test's own patience, far beyond the limits that it sets."""


@asynccontextmanager
async def served() -> AsyncIterator[int]:
    """The API on a port."""
    listening = listening_socket(LOOPBACK, 0)
    server = uvicorn.Server(configuration(World().app))
    running = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        while not server.started:  # noqa: ASYNC110  # the server has no event for it
            await asyncio.sleep(0.01)
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        await running


@asynccontextmanager
async def client(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()  # what was not taken is not waited for


async def rest(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the server closes."""
    with contextlib.suppress(ConnectionResetError):
        return await asyncio.wait_for(reader.read(), LIMIT_S)
    return b""


async def answer(reader: asyncio.StreamReader) -> bytes:
    """One answer's head; its body is read too."""
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), LIMIT_S)).lower()
    await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
    return head


@pytest.mark.parametrize("said", [b"", b"GET /v1/organ", GOOD[:-2]], ids=["nothing", "half a line", "half a head"])
async def test_a_connection_that_asks_nothing_is_closed(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_LIMIT_S" if said else "IDLE_LIMIT_S", 0.3)
    async with served() as port, client(port) as (reader, writer):
        writer.write(said)
        assert await rest(reader) == b""


async def test_a_head_that_comes_sign_by_sign_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_LIMIT_S", 0.3)
    async with served() as port, client(port) as (reader, writer):
        writer.write(GOOD)
        assert (await answer(reader)).startswith(b"http/1.1 200")
        for sign in GOOD * 10:  # the second request begins to come, and goes on coming
            if reader.at_eof():
                break
            writer.write(bytes([sign]))
            await asyncio.sleep(0.02)
        assert await rest(reader) == b""


async def test_a_connection_between_two_requests_is_kept_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_LIMIT_S", 0.2)
    monkeypatch.setattr(connections, "IDLE_LIMIT_S", 1)
    async with served() as port, client(port) as (reader, writer):
        for _ in range(2):
            writer.write(GOOD)
            assert (await answer(reader)).startswith(b"http/1.1 200")
            await asyncio.sleep(0.4)  # more than a head may take
        assert await rest(reader) == b""


async def test_one_connection_more_than_there_may_be_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CONNECTIONS_MAX", 2)
    async with served() as port, client(port), client(port) as (reader, writer):
        writer.write(GOOD)
        assert (await answer(reader)).startswith(b"http/1.1 200")
        async with client(port) as (third, _):
            assert (await rest(third)).startswith(b"HTTP/1.1 503")
        writer.write(GOOD)
        assert (await answer(reader)).startswith(b"http/1.1 200")


async def test_a_head_without_end_is_not_kept() -> None:
    async with served() as port, client(port) as (reader, writer):
        with contextlib.suppress(ConnectionError):
            writer.write(GOOD[:-2])
            for number in range(2_000):
                writer.write(b"x-%d: %s\r\n" % (number, b"1" * 100))
                await writer.drain()
                if reader.at_eof():
                    break
        found = await rest(reader)
        assert not found or found.split()[1] in (b"400", b"431")


async def test_a_head_without_end_behind_a_stream_is_not_kept() -> None:
    live = GOOD.replace(b"usage", b"live")
    async with served() as port, client(port) as (reader, writer):
        writer.write(live)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        sent = 0
        with contextlib.suppress(ConnectionError, TimeoutError):
            writer.write(GOOD[:-2])
            while sent < 8_000_000:
                writer.write(b"x: " + b"1" * 1_000 + b"\r\n")
                sent += 1_005
                await asyncio.wait_for(writer.drain(), 1.0)  # or it is not read: then the sender waits
        assert sent < 8_000_000


async def test_who_accepts_gives_up_a_client_that_takes_nothing() -> None:
    listening = listening_socket(LOOPBACK, 0)
    with listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            limit_ms = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            assert limit_ms == connections.UNTAKEN_LIMIT_MS
