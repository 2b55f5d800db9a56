"""Kafka behind the seam: one idempotent aiokafka producer, made anew when it breaks."""

import asyncio
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from sluicegate_schemas.bounds import ENVELOPE_BYTES_MAX

from ..brokers import Brokers
from .settings import PublisherSettings
from .transport import TransportError

_RECORD_OVERHEAD_BYTES: Final = 4096
_CLOSE_SECONDS: Final = 2.0
_RETRY_BACKOFF_MS: Final = 250
"""How long aiokafka waits between its own tries; it logs each."""


class KafkaTransport:
    """Sends records with acks=all through an idempotent producer.

    aiokafka repeats a send that failed for a passing reason itself, in order, for as long as it takes. What it gives up
    (a lost producer state, a fenced producer, an expired leader) ends that producer: its later records of the partition
    would be refused or, worse, come first. So the next call starts a new one, and the caller sends the same record
    again before any later one. ``send`` keeps one record of a partition on its way, so none can overtake it.
    """

    def __init__(self, brokers: Brokers, topic: str, client_id: str, request_timeout_ms: int) -> None:
        self._brokers = brokers
        self._topic = topic
        self._client_id = client_id
        self._request_timeout_ms = request_timeout_ms
        self._producer: AIOKafkaProducer | None = None
        self._connecting: asyncio.Task[AIOKafkaProducer] | None = None
        self._retired: set[asyncio.Task[None]] = set()

    async def partitions(self) -> int:
        """See ``Transport``. The topic is looked up among those that exist, so that asking never creates it."""
        producer = await self._connected()
        try:
            cluster = await producer.client.fetch_all_metadata()
        except (KafkaError, OSError, TimeoutError) as error:
            raise TransportError(f"Kafka does not answer: {error!r}") from error
        found = cluster.partitions_for_topic(self._topic)
        if not found:
            raise TransportError(f"the topic {self._topic} does not exist, or this client may not see it")
        return len(found)

    async def send(self, partition: int, key: bytes | None, value: bytes) -> None:
        """See ``Transport``."""
        producer = await self._connected()
        try:
            await producer.send_and_wait(self._topic, value=value, key=key, partition=partition)
        except (KafkaError, OSError, TimeoutError, AssertionError) as error:
            self._retire(producer)
            raise TransportError(f"Kafka did not acknowledge partition {partition}: {error!r}") from error

    async def close(self) -> None:
        """See ``Transport``."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait({self._connecting})
        if self._producer is not None:
            self._retire(self._producer)
        if self._retired:
            await asyncio.wait(self._retired, timeout=_CLOSE_SECONDS + 1)

    async def _connected(self) -> AIOKafkaProducer:
        """The producer; all who ask while there is none share one attempt to connect."""
        if self._producer is not None:
            return self._producer
        if self._connecting is None:
            self._connecting = asyncio.ensure_future(self._connect())
            self._connecting.add_done_callback(self._connect_ended)
        return await asyncio.shield(self._connecting)

    def _connect_ended(self, attempt: "asyncio.Task[AIOKafkaProducer]") -> None:
        self._connecting = None
        if not attempt.cancelled() and attempt.exception() is None:
            self._producer = attempt.result()

    async def _connect(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._brokers.options(),
            client_id=self._client_id,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=ENVELOPE_BYTES_MAX + _RECORD_OVERHEAD_BYTES,
            max_request_size=ENVELOPE_BYTES_MAX + _RECORD_OVERHEAD_BYTES,
            request_timeout_ms=self._request_timeout_ms,
            retry_backoff_ms=_RETRY_BACKOFF_MS,
        )
        try:
            async with asyncio.timeout(self._request_timeout_ms / 1000):
                await producer.start()
        except (KafkaError, OSError, TimeoutError) as error:
            self._retire(producer)
            raise TransportError(f"Kafka at {self._brokers.bootstrap_servers} cannot be reached: {error!r}") from error
        except BaseException:
            self._retire(producer)
            raise
        return producer

    def _retire(self, producer: AIOKafkaProducer) -> None:
        if self._producer is producer:
            self._producer = None
        task = asyncio.ensure_future(_stop(producer))
        self._retired.add(task)
        task.add_done_callback(self._retired.discard)


def kafka_of(settings: PublisherSettings) -> KafkaTransport:
    """The usage topic of ``settings``."""
    brokers = settings.brokers or Brokers(settings.bootstrap_servers)
    return KafkaTransport(brokers, settings.topic, f"sluicegate-{settings.node}", settings.request_timeout_ms)


async def _stop(producer: AIOKafkaProducer) -> None:
    """Stops ``producer`` without waiting for its records: whoever sent them sends them again."""
    # stop() would wait for all records, for ever while Kafka is away; aiokafka offers no other public way out.
    producer._message_accumulator.fail_all(KafkaError("the producer was given up"))
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await producer.stop()
    except (KafkaError, OSError, TimeoutError):
        await producer.client.close()
