"""A rate limiter that stands on a server: what one decision costs the request that asks it over loopback.

The limiter is written in Go (``peers/server_limiter``) and built from its pinned modules; where there is no Go it is
left out. The client is as small as one can be: a kept connection, a request made beforehand, no parsing but the status.
"""

import shutil
import socket
import statistics
import subprocess
import time
from pathlib import Path
from typing import Final

from tests.bench.session import ROOT, Session

_SOURCE: Final = ROOT / "tests/bench/peers/server_limiter"
_BUILD_LIMIT_S: Final = 600.0
_KEYS: Final = 1_000
_CHECKS: Final = 20_000
_AT_ONCE: Final = 100


def _built(session: Session, go: str) -> Path:
    """The server's program, built once for all rounds."""
    kept = session.kept.get("server_limiter")
    if not isinstance(kept, Path):
        kept = session.folder / "server_limiter"
        command = [go, "build", "-mod=readonly", "-o", str(kept), "."]
        subprocess.run(command, cwd=_SOURCE, check=True, timeout=_BUILD_LIMIT_S)
        session.kept["server_limiter"] = kept
    return kept


def _median_us(address: tuple[str, int]) -> float:
    lines = "GET / HTTP/1.1\r\nHost: limiter\r\nX-Api-Key: key_{}\r\n\r\n"
    requests = [lines.format(number).encode() for number in range(_KEYS)]
    times = []
    with socket.create_connection(address) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, _CHECKS, _AT_ONCE):
            began = time.perf_counter()
            for number in range(at, at + _AT_ONCE):
                connection.sendall(requests[number % _KEYS])
                answer = b""
                while not answer.endswith(b"\r\n\r\n"):
                    answer += connection.recv(4_096)
                assert answer.startswith(b"HTTP/1.1 200"), answer
            times.append((time.perf_counter() - began) / _AT_ONCE * 1e6)
    return statistics.median(times)


def request_us(session: Session) -> float | None:
    """Microseconds for each decision with its headers; None where there is no Go."""
    if (go := shutil.which("go")) is None:
        return None
    with subprocess.Popen([_built(session, go)], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            host, _, port = server.stdout.readline().strip().rpartition(":")
            return _median_us((host, int(port)))
        finally:
            server.kill()
