"""A TCP proxy on loopback that does to connections what networks do: hold, lose, reset, half-open, delay, throttle.

It runs in the event loop of whoever starts it. Faults hold for standing connections and new ones, until ``heal``::

    async with Proxy(target_port) as proxy:
        proxy.hold()                 # nothing passes, nothing is lost: packets that are sent again until it heals
        proxy.lose("replies")        # what the target answers vanishes; the requests arrive
        proxy.half_open()            # new connections are accepted and never answered
        proxy.reset()                # standing connections end with RST, at once
        proxy.delay(0.2)             # each piece of data comes so much later
        proxy.throttle(20_000)       # bytes a second, for each connection and direction
        proxy.heal()
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from typing import Final, Literal, Self

from stack.ports import LOOPBACK, free_port

Direction = Literal["requests", "replies"]
BOTH: Final[tuple[Direction, ...]] = ("requests", "replies")
CHUNK_BYTES: Final = 65_536
_RST_AT_CLOSE: Final = struct.pack("ii", 1, 0)


@dataclass(slots=True, eq=False)
class _Link:
    """A client's connection, and the proxy's own to the target once there is one."""

    writers: list[asyncio.StreamWriter]
    has_lost: bool = False

    def reset(self) -> None:
        for writer in self.writers:
            endpoint = writer.get_extra_info("socket")
            if endpoint is not None:
                with contextlib.suppress(OSError):
                    endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_AT_CLOSE)
            writer.transport.abort()

    def close(self) -> None:
        for writer in self.writers:
            writer.close()


@dataclass(slots=True)
class Seen:
    """What went through so far."""

    connections: int = 0
    passed_bytes: dict[Direction, int] = field(default_factory=lambda: {"requests": 0, "replies": 0})
    lost_bytes: dict[Direction, int] = field(default_factory=lambda: {"requests": 0, "replies": 0})


class Proxy:
    """Stands before the loopback port ``target_port``; ``port`` is its own, free and kept."""

    def __init__(self, target_port: int, port: int | None = None) -> None:
        self.port = port or free_port()
        self.seen = Seen()
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: set[Direction] = set()
        self._losing: set[Direction] = set()
        self._is_half_open = False
        self._delay_s = 0.0
        self._bytes_per_second: float | None = None
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accepted, LOOPBACK, self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def hold(self, *directions: Direction) -> None:
        """Nothing passes in ``directions`` (default both), and nothing is lost."""
        self._held.update(directions or BOTH)

    def lose(self, *directions: Direction) -> None:
        """What is sent in ``directions`` (default both) vanishes; a connection that lost something ends at ``heal``."""
        self._losing.update(directions or BOTH)

    def half_open(self) -> None:
        """New connections are accepted, and nobody reads them."""
        self._is_half_open = True

    def delay(self, seconds: float) -> None:
        """What passes comes ``seconds`` later, piece by piece."""
        self._delay_s = seconds

    def throttle(self, bytes_per_second: float) -> None:
        """Each connection passes so much in each direction."""
        self._bytes_per_second = bytes_per_second

    def reset(self) -> None:
        """Ends standing connections with RST."""
        for link in list(self._links):
            link.reset()

    def heal(self) -> None:
        """Ends all faults."""
        self._held.clear()
        self._losing.clear()
        self._is_half_open = False
        self._delay_s, self._bytes_per_second = 0.0, None
        for link in list(self._links):
            if link.has_lost:
                link.reset()
        self._changed.set()
        self._changed = asyncio.Event()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.seen.connections += 1
        link = _Link([writer])
        self._links.add(link)
        try:
            if self._is_half_open:
                await self._changed.wait()
                link.reset()
                return
            target_reader, target_writer = await asyncio.open_connection(LOOPBACK, self._target_port)
            link.writers.append(target_writer)
            pumps = [
                asyncio.create_task(self._pump(link, "requests", reader, target_writer)),
                asyncio.create_task(self._pump(link, "replies", target_reader, writer)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except (OSError, asyncio.CancelledError):  # asyncio would log a handler that ends with one
            link.reset()
        finally:
            link.close()
            self._links.discard(link)

    async def _pump(
        self, link: _Link, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(CHUNK_BYTES):
            while direction in self._held:
                await self._changed.wait()
            if direction in self._losing:
                link.has_lost = True
                self.seen.lost_bytes[direction] += len(data)
                continue
            pause_s = self._delay_s + (len(data) / self._bytes_per_second if self._bytes_per_second else 0.0)
            if pause_s:
                await asyncio.sleep(pause_s)
            self.seen.passed_bytes[direction] += len(data)
            writer.write(data)
            await writer.drain()
