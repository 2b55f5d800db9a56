"""Envelopes on local disk while Kafka is away: first in, first out, for each producer and partition.

``<directory>/<producer id>/<partition>-<number>.spool`` are append-only segments. A folder belongs to the process that
holds the lock on its ``lock`` file; the kernel lets go when that process dies, however it dies, and any other may then
take the folder over. A segment is deleted when all of it is acknowledged. After a crash the rest of the oldest segment
is sent again, which counts nothing twice: an envelope's producer, epoch and sequence are in it.
"""

import contextlib
import fcntl
import os
import re
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sluicegate_schemas.bounds import ENVELOPE_BYTES_MAX

from .batcher import Envelope
from .segment import Segment

_SEGMENT: Final = re.compile(r"(?P<partition>[0-9]{1,6})-(?P<number>[0-9]{12})\.spool\Z")
_FOLDER: Final = re.compile(r"[0-9a-f]{8,64}\Z")
_PARTITIONS_FILE: Final = "partitions"
SEGMENT_BYTES: Final = 4 * 1024 * 1024

Warn = Callable[[str, str], None]
"""Takes the kind of a trouble and the trouble in words."""


@dataclass(slots=True)
class Budget:
    """The bytes that the queues of one process may hold together, and how many of them were unreadable."""

    bytes_max: int
    warn: Warn
    bytes_held: int = 0
    damaged_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, size: int, *, beyond: bool = False) -> bool:
        """Takes ``size`` bytes if they are left, or ``beyond`` what is left."""
        with self._lock:
            if not beyond and self.bytes_held + size > self.bytes_max:
                return False
            self.bytes_held += size
            return True

    def give(self, size: int) -> None:
        """Gives ``size`` bytes back."""
        with self._lock:
            self.bytes_held -= size

    def damaged(self, size: int, where: Path) -> None:
        """Counts and reports bytes that cannot be read."""
        with self._lock:
            self.damaged_bytes += size
        self.warn("spool_damaged", f"{size} bytes of the spool {where} cannot be read; they are lost")


class SpoolQueue:
    """The envelopes of one producer and partition, oldest first. One task at a time uses it, in any thread."""

    def __init__(self, folder: Path, partition: int, budget: Budget, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder = folder
        self._budget = budget
        self._segment_bytes = segment_bytes
        self._segments: list[Segment] = []
        self._number = 0
        self.partition = partition

    def __len__(self) -> int:
        """How many envelopes are left."""
        return sum(segment.records_left for segment in self._segments)

    @property
    def events(self) -> int:
        """How many events are in them."""
        return sum(segment.events_left for segment in self._segments)

    def load(self, numbers: list[int]) -> None:
        """Reads the segments that a dead process left; what cannot be read is reported and left out."""
        for number in sorted(numbers):
            segment = Segment.open(self._path(number))
            self._budget.take(segment.size, beyond=True)
            if segment.torn_bytes:
                self._budget.damaged(segment.torn_bytes, segment.path)
            self._segments.append(segment)
            self._number = number
        self._delete_finished()

    def append(self, envelopes: list[Envelope]) -> int:
        """Writes ``envelopes`` in order and returns how many of them are on disk: fewer where it is full or fails."""
        for written, envelope in enumerate(envelopes):
            size = Segment.frame_bytes(envelope)
            if not self._budget.take(size):
                return written
            try:
                if not self._segments or self._segments[-1].size + size > self._segment_bytes:
                    self._number += 1
                    self._segments.append(Segment.create(self._path(self._number)))
                self._segments[-1].append(envelope)
            except OSError as error:
                self._budget.give(size)
                self._budget.warn("spool_write", f"the spool {self._folder} cannot be written: {error}")
                return written
        return len(envelopes)

    def peek(self) -> tuple[Envelope | None, int]:
        """The oldest envelope, and how many events before it could not be read any more and are skipped."""
        skipped_events = 0
        while len(self):
            segment = self._segments[0]
            envelope = segment.peek(self.partition) if segment.records_left else None
            if envelope is not None:
                envelope.source = self
                return envelope, skipped_events
            skipped_events += segment.events_left
            self._budget.damaged(segment.abandon(), segment.path)
            self._delete_finished()
        return None, skipped_events

    def pop(self) -> None:
        """Forgets the oldest envelope."""
        self._segments[0].pop()
        self._delete_finished()

    def sync(self) -> None:
        """Forces what was written to the device."""
        for segment in self._segments:
            segment.sync()

    def close(self) -> None:
        """Closes the files and leaves them where they are."""
        for segment in self._segments:
            segment.close()

    def _delete_finished(self) -> None:
        while self._segments and not self._segments[0].records_left:
            segment = self._segments.pop(0)
            segment.delete()
            self._budget.give(segment.size)

    def _path(self, number: int) -> Path:
        return self._folder / f"{self.partition}-{number:012d}.spool"


@dataclass(slots=True)
class _Folder:
    """A producer's folder, while this process holds its lock."""

    path: Path
    lock: int
    queues: dict[int, SpoolQueue] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return not any(len(queue) for queue in self.queues.values())

    def release(self) -> None:
        for queue in self.queues.values():
            queue.close()
        if self.finished:
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self.lock)


class Spool:
    """The spool of one process: its own folder, made at the first write, and those taken over from dead processes.

    Its methods do blocking I/O and raise OSError where the directory cannot be used.
    """

    def __init__(self, directory: Path, producer_id: str, bytes_max: int, warn: Warn) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._producer_id = producer_id
        self._own: _Folder | None = None
        self._adopted: dict[str, _Folder] = {}
        self._lock = threading.Lock()
        self.budget = Budget(bytes_max, warn)

    @property
    def has_room(self) -> bool:
        """An envelope of any size would still fit."""
        return self.budget.bytes_held + ENVELOPE_BYTES_MAX <= self.budget.bytes_max

    def own(self, partition: int) -> SpoolQueue:
        """This process's queue of ``partition``."""
        with self._lock:
            if self._own is None:
                self._own = self._make_own()
            if partition not in self._own.queues:
                self._own.queues[partition] = SpoolQueue(self._own.path, partition, self.budget)
            return self._own.queues[partition]

    def adopt(self) -> list[SpoolQueue]:
        """Takes over every folder whose process is dead, and returns what is left in them.

        A folder taken over earlier that is finished now is removed.
        """
        for name in [name for name, folder in self._adopted.items() if folder.finished]:
            self._adopted.pop(name).release()
        found: list[SpoolQueue] = []
        for path in sorted(self._directory.iterdir()):
            if _FOLDER.match(path.name) is None or path.name in self._adopted or path.name == self._producer_id:
                continue
            lock = _try_lock(path / "lock")
            if lock is None:
                continue
            folder = _Folder(path, lock)
            try:
                self._load(folder)
            except OSError as error:
                folder.release()
                self.budget.warn("spool_read", f"the spool {path} cannot be read: {error}; it stays where it is")
                continue
            self._adopted[path.name] = folder
            found += [queue for queue in folder.queues.values() if len(queue)]
        return found

    def remembered_partitions(self) -> int | None:
        """The number of partitions that the topic had when Kafka was last seen from this host."""
        with contextlib.suppress(OSError, ValueError):
            count = int((self._directory / _PARTITIONS_FILE).read_text("ascii"))
            return count if 0 < count <= 100_000 else None
        return None

    def remember_partitions(self, count: int) -> None:
        """Writes ``count`` down for a start without Kafka."""
        if self.remembered_partitions() != count:
            beside = self._directory / f".{_PARTITIONS_FILE}-{self._producer_id}"
            beside.write_text(f"{count}\n", "ascii")
            beside.replace(self._directory / _PARTITIONS_FILE)

    def close(self) -> None:
        """Lets go of all folders; what is left in them is there for the next process."""
        with self._lock:
            for folder in [*self._adopted.values(), *([self._own] if self._own else [])]:
                folder.release()
            self._adopted.clear()
            self._own = None

    def leave_to_parent(self) -> None:
        """In a forked child: closes its copies of the files. The parent keeps its locks, and keeps them alone."""
        for folder in [*self._adopted.values(), *([self._own] if self._own else [])]:
            for queue in folder.queues.values():
                queue.close()
            os.close(folder.lock)

    def _make_own(self) -> _Folder:
        # Made and locked under a hidden name, so that nobody can take it for a dead process's in between.
        hidden = self._directory / f".{self._producer_id}"
        hidden.mkdir(mode=0o700)
        lock = _try_lock(hidden / "lock", create=True)
        assert lock is not None, "nobody else knows this name"
        path = self._directory / self._producer_id
        hidden.rename(path)
        return _Folder(path, lock)

    def _load(self, folder: _Folder) -> None:
        numbers: dict[int, list[int]] = {}
        for path in folder.path.iterdir():
            if (match := _SEGMENT.match(path.name)) is not None:
                numbers.setdefault(int(match["partition"]), []).append(int(match["number"]))
        for partition, of_partition in sorted(numbers.items()):
            queue = folder.queues[partition] = SpoolQueue(folder.path, partition, self.budget)
            queue.load(of_partition)


def _try_lock(path: Path, *, create: bool = False) -> int | None:
    """A descriptor that holds the lock of ``path`` until it is closed; None where another process holds it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
