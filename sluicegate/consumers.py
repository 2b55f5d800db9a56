"""The end of an aiokafka consumer, and of the tasks that use one."""

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
        if is_cancelled():
            raise


def is_cancelled() -> bool:
    """Whether the running task itself is cancelled: a CancelledError may also be of a call that a client gave up."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
