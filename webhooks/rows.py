"""Writes rows to the topic ``deliveries``, in order."""

import asyncio
import contextlib
import logging
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from sluicegate.brokers import Brokers

from .book import Book, in_order

log = logging.getLogger(__name__)

LINGER_S: Final = 0.02
RETRY_S: Final = 1.0
REQUEST_TIMEOUT_MS: Final = 10_000
STOP_LIMIT_S: Final = 5.0
"""A producer whose broker is away would wait for it."""


class RowWriter:
    """Brings the changes of a book to the topic; connected with the first one.

    What could not be written stays a change of the book, unless a newer one of the same row came meanwhile.
    """

    def __init__(self, brokers: Brokers, topic: str, book: Book) -> None:
        self._brokers = brokers
        self._topic = topic
        self._book = book
        self._producer: AIOKafkaProducer | None = None
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()
        self._on_the_way = 0

    @property
    def waiting(self) -> int:
        """Rows that the broker is not known to have."""
        return len(self._book.changes) + self._on_the_way

    def changed(self) -> None:
        """The book has changes: ``run`` writes them soon."""
        self._changed.set()

    async def run(self) -> None:
        """Writes what changed until cancelled; a broker that is away is waited for."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            await asyncio.sleep(LINGER_S)
            try:
                await self.flush()
            except (KafkaError, OSError):
                self._changed.set()
                await asyncio.sleep(RETRY_S)

    async def flush(self) -> None:
        """Returns once the broker has all changes that the book had. Raises KafkaError, OSError: none are lost then."""
        async with self._lock:
            book = self._book
            self._on_the_way = len(book.changes)
            taken, book.changes = book.changes, {}
            if not taken:
                return
            try:
                producer = await self._connected()
                sent = [
                    await producer.send(self._topic, value, key=key.encode(), partition=0)
                    for key, value in in_order(taken)
                ]
                await asyncio.gather(*sent)
            except BaseException:
                book.changes = taken | book.changes
                await asyncio.shield(self._disconnect())
                raise
            finally:
                self._on_the_way = 0

    async def append(self, key: str, value: bytes) -> int:
        """Writes one row now; its offset. Raises KafkaError, OSError."""
        async with self._lock:
            try:
                producer = await self._connected()
                sent = await producer.send_and_wait(self._topic, value, key=key.encode(), partition=0)
            except BaseException:
                await asyncio.shield(self._disconnect())
                raise
            return int(sent.offset)

    async def close(self) -> None:
        """Writes what is left, if the broker is there, and disconnects."""
        try:
            await self.flush()
        except (KafkaError, OSError) as error:
            log.warning("%d rows could not be written before the end (%s)", len(self._book.changes), error)
        await self._disconnect()

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                **self._brokers.options(), enable_idempotence=True, request_timeout_ms=REQUEST_TIMEOUT_MS
            )
            try:
                await producer.start()
            except BaseException:
                await producer.stop()
                raise
            self._producer = producer
        return self._producer

    async def _disconnect(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                await asyncio.wait_for(producer.stop(), STOP_LIMIT_S)
