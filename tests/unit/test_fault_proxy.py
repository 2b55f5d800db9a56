"""The proxy does to connections what it says; the tests that put it between worker and broker rely on that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from stack.ports import LOOPBACK, free_port
from tests.faults.proxy import Proxy

SOON_S = 0.3
LIMIT_S = 10.0


class Echo:
    """A server that answers each line with itself, and remembers them."""

    def __init__(self) -> None:
        self.port = free_port()
        self.lines: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                self.lines.append(line)
                writer.write(line)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def echo() -> AsyncIterator[Echo]:
    made = Echo()
    async with await asyncio.start_server(made.serve, LOOPBACK, made.port):
        yield made


class Caller:
    """One connection through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, line: bytes) -> bytes:
        self.writer.write(line)
        await self.writer.drain()
        return await asyncio.wait_for(self.reader.readline(), LIMIT_S)


@asynccontextmanager
async def calling(proxy: Proxy) -> AsyncIterator[Caller]:
    reader, writer = await asyncio.open_connection(LOOPBACK, proxy.port)
    try:
        yield Caller(reader, writer)
    finally:
        writer.transport.abort()


async def test_what_is_held_arrives_once_the_network_heals() -> None:
    async with echo() as server, Proxy(server.port) as proxy, calling(proxy) as caller:
        assert await caller.ask(b"one\n") == b"one\n"
        proxy.hold()
        caller.writer.write(b"two\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(answer := asyncio.ensure_future(caller.reader.readline())), SOON_S)
        assert server.lines == [b"one\n"]
        proxy.heal()
        assert await asyncio.wait_for(answer, LIMIT_S) == b"two\n"


async def test_a_lost_reply_is_never_seen_though_the_request_arrived_and_the_connection_ends() -> None:
    async with echo() as server, Proxy(server.port) as proxy, calling(proxy) as caller:
        assert await caller.ask(b"one\n") == b"one\n"
        proxy.lose("replies")
        caller.writer.write(b"two\n")
        answer = asyncio.ensure_future(caller.reader.readline())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(answer), SOON_S)
        assert server.lines == [b"one\n", b"two\n"]
        assert proxy.seen.lost_bytes == {"requests": 0, "replies": 4}
        proxy.heal()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(answer, LIMIT_S)


async def test_a_half_open_connection_is_accepted_and_never_answered() -> None:
    async with echo() as server, Proxy(server.port) as proxy:
        proxy.half_open()
        async with calling(proxy) as caller:
            caller.writer.write(b"one\n")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(answer := asyncio.ensure_future(caller.reader.read(1))), SOON_S)
            assert server.lines == []
            proxy.heal()
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(answer, LIMIT_S)
        async with calling(proxy) as caller:
            assert await caller.ask(b"two\n") == b"two\n"


async def test_a_reset_ends_standing_connections_alone() -> None:
    async with echo() as server, Proxy(server.port) as proxy:
        async with calling(proxy) as caller:
            assert await caller.ask(b"one\n") == b"one\n"
            proxy.reset()
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(caller.reader.readline(), LIMIT_S)
        async with calling(proxy) as caller:
            assert await caller.ask(b"two\n") == b"two\n"


@pytest.mark.parametrize("fault", ["delay", "throttle"])
async def test_a_slow_network_is_slow_and_loses_nothing(fault: str) -> None:
    async with echo() as server, Proxy(server.port) as proxy, calling(proxy) as caller:
        if fault == "delay":
            proxy.delay(0.2)
        else:
            proxy.throttle(500)
        began = time.monotonic()
        line = b"x" * 99 + b"\n"
        assert await caller.ask(line) == line
        assert time.monotonic() - began > 0.35


async def test_a_target_that_is_away_looks_like_a_reset() -> None:
    async with Proxy(free_port()) as proxy, calling(proxy) as caller:
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(caller.reader.readline(), LIMIT_S)
