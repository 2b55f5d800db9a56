"""Loopback ports: which are free, and who refuses one that is not."""

from __future__ import annotations

import random
import socket

from stack.errors import PortInUseError, StackError

LOOPBACK = "127.0.0.1"

# Below the range that kernels hand out for outgoing connections (32768 and up on Linux): a client that retries a port
# inside that range while nobody listens can connect to itself, and then holds the port against the real server.
FREE_PORTS = range(23_000, 32_000)
TRIES_MAX = 200

_chooser = random.SystemRandom()


def is_free(port: int) -> bool:
    """Whether a server could listen on the loopback port at this moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """A loopback port that is free now. Somebody else may take it before it is used: the caller tries again then."""
    for _ in range(TRIES_MAX):
        port = _chooser.choice(FREE_PORTS)
        if is_free(port):
            return port
    raise StackError(
        f"No free loopback port was found between {FREE_PORTS.start} and {FREE_PORTS.stop - 1}",
        next_step="Stop programs that listen there, or name the ports",
    )


def require_free(port: int, *, user: str, option: str) -> None:
    """Raise ``PortInUseError`` if something listens on ``port``; ``option`` names the setting that chooses another."""
    if not is_free(port):
        raise PortInUseError(
            f"Port {port} is in use by another program, so {user} was not started",
            kept="Nothing was changed",
            next_step=f"Stop that program, or choose another port with {option}",
        )


def accepts(port: int, *, timeout_s: float = 0.5) -> bool:
    """Whether something accepts connections on the loopback port."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=timeout_s):
            return True
    except OSError:
        return False
