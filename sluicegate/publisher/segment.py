"""One append-only file of framed envelopes.

A frame is a header (length of what follows, its CRC-32, number of events, length of the key; big-endian), the key and
the envelope. What does not match its CRC ends the readable part of a file.
"""

import os
import struct
from pathlib import Path
from typing import Final, Self
from zlib import crc32

from sluicegate_schemas.bounds import ENVELOPE_BYTES_MAX, ENVELOPE_EVENTS_MAX

from .batcher import Envelope

_HEADER: Final = struct.Struct(">IIHH")
_BODY_BYTES_MAX: Final = ENVELOPE_BYTES_MAX + 1024


class Segment:
    """A file that is written at its end and read from its start. All methods do blocking I/O and may raise OSError."""

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        self.path = path
        self.size = size
        self.records_left = 0
        self.events_left = 0
        self.torn_bytes = 0
        self._descriptor = descriptor
        self._read_at = 0
        self._unsynced = False

    @classmethod
    def create(cls, path: Path) -> Self:
        """A new file, readable by its owner alone."""
        segment = cls(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), 0)
        folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return segment

    @classmethod
    def open(cls, path: Path) -> Self:
        """An existing file, counted up to the first frame that cannot be read: ``torn_bytes`` lie behind."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        segment = cls(path, descriptor, os.fstat(descriptor).st_size)
        at = 0
        while (frame := segment._frame(at)) is not None:
            events, _, _, frame_bytes = frame
            segment.records_left += 1
            segment.events_left += events
            at += frame_bytes
        segment.torn_bytes = segment.size - at
        return segment

    @staticmethod
    def frame_bytes(envelope: Envelope) -> int:
        """What ``envelope`` takes on disk."""
        return _HEADER.size + len(envelope.key) + len(envelope.value)

    def append(self, envelope: Envelope) -> None:
        """Writes ``envelope`` at the end; after an error the file is as before."""
        body = envelope.key + envelope.value
        tail = struct.pack(">HH", envelope.events, len(envelope.key))
        frame = _HEADER.pack(len(body), crc32(body, crc32(tail)), envelope.events, len(envelope.key)) + body
        try:
            done = 0
            while done < len(frame):
                done += os.pwrite(self._descriptor, frame[done:], self.size + done)
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            raise
        self.size += len(frame)
        self.records_left += 1
        self.events_left += envelope.events
        self._unsynced = True

    def peek(self, partition: int) -> Envelope | None:
        """The oldest envelope that is left, or None where it cannot be read any more."""
        frame = self._frame(self._read_at)
        if frame is None:
            return None
        events, key, value, _ = frame
        return Envelope(
            partition=partition, sequence=0, key=key, value=value, events=events, oldest_ms=0.0, held_bytes=0
        )  # fmt: skip

    def pop(self) -> None:
        """Forgets the oldest envelope that is left."""
        frame = self._frame(self._read_at)
        assert frame is not None, "only what was peeked or appended is popped"
        self._read_at += frame[3]
        self.records_left -= 1
        self.events_left -= frame[0]

    def abandon(self) -> int:
        """Gives up what is left, and says how many bytes that is."""
        self.records_left = self.events_left = 0
        return self.size - self._read_at

    def sync(self) -> None:
        """Forces what was appended to the device."""
        if self._unsynced:
            os.fsync(self._descriptor)
            self._unsynced = False

    def close(self) -> None:
        """Gives the file back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def delete(self) -> None:
        """Closes and removes the file."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _frame(self, at: int) -> tuple[int, bytes, bytes, int] | None:
        """(events, key, envelope, bytes of the frame) at ``at``; None where no whole frame is."""
        header = os.pread(self._descriptor, _HEADER.size, at)
        if len(header) < _HEADER.size:
            return None
        length, checksum, events, key_bytes = _HEADER.unpack(header)
        if length > _BODY_BYTES_MAX or key_bytes > length or not 0 < events <= ENVELOPE_EVENTS_MAX:
            return None
        body = os.pread(self._descriptor, length, at + _HEADER.size)
        if len(body) < length or crc32(body, crc32(header[8:])) != checksum:
            return None
        return events, body[:key_bytes], body[key_bytes:], _HEADER.size + length
