"""Compressed request bodies, unpacked within a limit."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from typing import Protocol

import lz4.frame

from stack.clickhouse_http.failures import EngineError, bad_request, too_large

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


class Decompressor(Protocol):
    """The face that lz4, zstd and zlib share; one object unpacks one frame."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _zlib(window_bits: int) -> Callable[[], Decompressor]:
    return lambda: zlib.decompressobj(window_bits)


DECOMPRESSORS: dict[str, Callable[[], Decompressor]] = {
    "lz4": lz4.frame.LZ4FrameDecompressor,
    "zstd": zstd.ZstdDecompressor,
    "gzip": _zlib(31),
    "deflate": _zlib(15),
}


def unpack(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """The body without its content encoding; clients may send many frames one after the other.

    :raises EngineError: unknown encoding, damaged or truncated data, or more than ``limit_bytes`` when unpacked.
    """
    if encoding in ("", "identity"):
        return body
    if encoding not in DECOMPRESSORS:
        raise EngineError(48, "NOT_IMPLEMENTED", f"Content-Encoding {encoding!r} is not known here")
    pieces: list[bytes] = []
    room = limit_bytes
    try:
        while body:
            frame = DECOMPRESSORS[encoding]()
            piece = frame.decompress(body, room + 1)
            room -= len(piece)
            if room < 0:
                raise too_large("The unpacked body", limit_bytes)
            if not frame.eof:
                raise bad_request(f"The {encoding} body is truncated")
            pieces.append(piece)
            body = frame.unused_data or b""
    except (RuntimeError, EOFError, zlib.error, zstd.ZstdError) as error:
        raise bad_request(f"The {encoding} body is damaged: {error}") from error
    return b"".join(pieces)
