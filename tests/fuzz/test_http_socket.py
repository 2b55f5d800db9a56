"""Raw bytes on a real socket: a server with the middleware answers, refuses or hangs up, and goes on serving."""

import asyncio
import logging
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
import uvicorn

from sluicegate.gate import Gate
from sluicegate.middleware import Middleware
from tests.gating import NOW_MS, SECRET, heron
from tests.metering import Recorder

from .http_targets import OPERATIONS
from .mutation import mutate

GOOD = (
    f"POST /v1/search HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {SECRET}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
)
HOSTILE = {
    "two keys": GOOD.replace(b"Host: a", b"Authorization: Bearer sk_live_other_key_1"),
    "the same key twice": GOOD.replace(b"Host: a", f"Authorization: Bearer {SECRET}".encode()),
    "two keys in one field": GOOD.replace(SECRET.encode(), f"{SECRET}, Bearer {SECRET}".encode()),
    "a folded header": GOOD.replace(b"Bearer ", b"Bearer\r\n "),
    "a split header": GOOD.replace(SECRET.encode(), SECRET.encode() + b"\r\nX-Injected: 1"),
    "a key with a NUL": GOOD.replace(SECRET.encode(), SECRET.encode() + b"\x00"),
    "a key with an escape": GOOD.replace(SECRET.encode(), b"\x1b[31m" + SECRET.encode()),
    "a key in other letters": GOOD.replace(SECRET.encode(), SECRET.replace("k", "\u212a").encode()),
    "a long key": GOOD.replace(SECRET.encode(), b"sk_live_" + b"a" * 60_000),
    "two lengths": GOOD.replace(b"Host: a", b"Content-Length: 0"),
    "length and chunks": GOOD.replace(b"Host: a", b"Transfer-Encoding: chunked"),
    "a negative length": GOOD.replace(b"Content-Length: 2", b"Content-Length: -1"),
    "a path with a split": GOOD.replace(b"/v1/search", b"/v1/search\r\nX-Injected: 1"),
    "a coded split in the path": GOOD.replace(b"/v1/search", b"/v1/search%0d%0aX-Injected:%201"),
    "a path of two bytes a sign": GOOD.replace(b"/v1/search", b"/v1/s%c1%a5arch"),
    "a path coded twice": GOOD.replace(b"/v1/search", b"/v1/%2573earch"),
    "a path beneath another": GOOD.replace(b"/v1/search", b"/v1/documents/../search"),
    "a whole address": GOOD.replace(b"/v1/search", b"http://other/v1/search"),
    "another version": GOOD.replace(b"HTTP/1.1", b"HTTP/9.9"),
    "no version": b"GET /v1/search\r\n\r\n",
    "a thousand headers": GOOD.replace(b"Host: a", b"\r\n".join(b"X-%d: 1" % number for number in range(1_000))),
    "no end": GOOD[:40],
    "nothing": b"\r\n" * 1_000,
    "another protocol": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


class Service:
    """A running server: what reached its application, and what was metered."""

    def __init__(self, port: int, reached: list[str], meter: Recorder) -> None:
        self.port = port
        self.reached = reached
        self.meter = meter

    async def send(self, value: bytes) -> bytes:
        """What the server answers on a connection of its own; it may hang up at any time."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        answer = b""
        try:
            writer.write(value)
            writer.write_eof()
            await writer.drain()
            async with asyncio.timeout(30):
                while part := await reader.read(65_536):
                    answer += part
        except OSError:
            pass
        finally:
            writer.close()
        return answer


@asynccontextmanager
async def service() -> AsyncIterator[Service]:
    reached: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    meter = Recorder()
    guarded = Middleware(app, gate=Gate(heron()), meter=meter, find_operation=OPERATIONS, clock=lambda: NOW_MS)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(guarded, log_level="warning", lifespan="off", timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield Service(listening.getsockname()[1], reached, meter)
        finally:
            server.should_exit = True
            await serving


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"(?:\A|\r\n\r\n|\})HTTP/1\.1 (\d{3})", answer)]


def holds(running: Service, answer: bytes) -> None:
    """What every answer to hostile bytes has to keep."""
    assert not answer or statuses(answer), answer[:200]
    assert set(statuses(answer)) <= {200, 400, 401, 404, 405, 413, 414, 429, 431}, answer[:200]
    assert b"x-injected" not in answer.lower()
    assert SECRET.encode() not in answer
    admitted = [event for event in running.meter.events if event["status"] == 200]
    assert len(admitted) == len(running.reached), "what reached the application was metered"
    assert SECRET not in repr(running.meter.events)


@pytest.mark.parametrize("what", HOSTILE)
async def test_hostile_bytes_are_answered_or_refused(what: str, caplog: pytest.LogCaptureFixture) -> None:
    async with service() as running:
        answer = await running.send(HOSTILE[what])
        holds(running, answer)
        if what in ("two keys", "the same key twice", "two keys in one field", "a key in other letters", "a long key"):
            assert 200 not in statuses(answer)
        assert statuses(await running.send(GOOD)) == [200]
    assert SECRET not in caplog.text
    assert all(line.isprintable() for line in caplog.text.splitlines())


async def test_mutated_requests_never_break_the_server(caplog: pytest.LogCaptureFixture) -> None:
    random = Random(20_261)
    seeds = [GOOD, *HOSTILE.values()]
    async with service() as running:
        caplog.set_level(logging.ERROR, "uvicorn.error")  # it warns of each request that is none
        for _ in range(250):
            value = mutate(random.choice(seeds)[:5_000], "bytes", random, seeds)[:20_000]
            holds(running, await running.send(value))
        assert max(statuses(await running.send(GOOD))) in (200, 429)
    assert [record for record in caplog.records if record.exc_info] == []
