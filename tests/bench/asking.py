"""A steady load of questions to the usage API.

``python -m tests.bench.asking ADDRESS KEYS REQUESTS_PER_S SECONDS`` prints each request's latency in ms as JSON,
counted from when it was due: a slow answer delays no later question.
"""

import asyncio
import json
import sys
import time
from typing import Final

CONNECTIONS: Final = 32


def secret(number: int) -> str:
    """The secret of the bench's key ``number``."""
    return f"sk_live_bench_asking_{number:06d}"


class Connection:
    """One HTTP/1.1 connection, a question at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.lock = asyncio.Lock()

    async def usage(self, key: int) -> bytes:
        """The answer to ``GET /v1/organizations/usage``. Raises RuntimeError for any status but 200."""
        request = f"GET /v1/organizations/usage HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {secret(key)}\r\n\r\n"
        self._writer.write(request.encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        body = await self._reader.readexactly(length)
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError(f"{head[:20]!r} {body[:300]!r}")
        return body

    def close(self) -> None:
        """Ends it."""
        self._writer.close()


async def connect(address: str) -> Connection:
    """A connection to ``host:port``."""
    host, port = address.split(":")
    return Connection(*await asyncio.open_connection(host, int(port)))


async def ask(address: str, keys: int, per_s: float, seconds: float) -> list[float]:
    """Asks for each key in turn."""
    connections = [await connect(address) for _ in range(CONNECTIONS)]
    latencies_ms: list[float] = []
    began = time.monotonic()

    async def one(number: int) -> None:
        due = began + number / per_s
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        connection = connections[number % CONNECTIONS]
        async with connection.lock:
            await connection.usage(number % keys)
        latencies_ms.append((time.monotonic() - due) * 1000)

    await asyncio.gather(*(one(number) for number in range(int(per_s * seconds))))
    for connection in connections:
        connection.close()
    return latencies_ms


if __name__ == "__main__":
    _address, _keys, _per_s, _seconds = sys.argv[1:]
    sys.stdout.write(json.dumps(asyncio.run(ask(_address, int(_keys), float(_per_s), float(_seconds)))) + "\n")
