"""The end of an aiokafka consumer."""

import asyncio

from aiokafka import AIOKafkaConsumer


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Stops ``consumer``, and raises CancelledError only where the caller itself is cancelled.

    While a failed fetch waits to be tried again (the broker is away), ``AIOKafkaConsumer.stop`` cancels that fetch and
    lets its CancelledError out, with the connections still open. A task that follows a topic for ever would take that
    for its own end, and end in silence.
    """
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        await consumer._client.close()
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
