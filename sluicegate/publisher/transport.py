"""The seam between the publisher and Kafka."""

from typing import Protocol


class TransportError(Exception):
    """Kafka did not confirm: the record may be in the log or not. The message says what happened."""


class Transport(Protocol):
    """Where sealed envelopes go. Used by one event loop; ``send`` is called by at most one task for each partition."""

    async def partitions(self) -> int:
        """How many partitions the topic has. Connects where needed. Raises TransportError where it cannot be known."""

    async def send(self, partition: int, key: bytes | None, value: bytes) -> None:
        """Returns when the record is in the log for good. Raises TransportError where that is not known."""

    async def close(self) -> None:
        """Gives connections back, without waiting for records that are under way. May be called at any time."""
