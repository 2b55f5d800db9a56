"""Operator commands reach their partition, whatever the moment at which it was taken over."""

from typing import Any

from aiokafka import TopicPartition

from streams.engine.followers import AccountsFollower
from streams.settings import Settings


class FakeCore:
    accounts_next = 0
    is_current = 0

    def accepts_input(self, now: float) -> bool:
        return True

    def accounts_current(self) -> list[Any]:
        self.is_current += 1
        return []


class FakeRunner:
    def __init__(self, partition: int, *, ready: bool) -> None:
        self.partition = partition
        self.ready = ready
        self.core = FakeCore()

    def perform(self, actions: list[Any]) -> None:
        assert actions == []


class FakeBroker:
    async def end(self, topic: str, partition: int) -> int:
        return 0


class FakeConsumer:
    """An empty topic; ``meanwhile`` happens while it is being polled."""

    def __init__(self, meanwhile: Any) -> None:
        self.meanwhile = meanwhile

    def assign(self, partitions: list[TopicPartition]) -> None:
        pass

    def seek(self, partition: TopicPartition, offset: int) -> None:
        pass

    async def getmany(self, *partitions: TopicPartition, timeout_ms: int, max_records: int) -> dict[Any, Any]:
        self.meanwhile()
        return {}

    async def position(self, partition: TopicPartition) -> int:
        return 0


async def test_a_refresh_asked_for_while_its_partition_becomes_ready_is_answered() -> None:
    old, new = FakeRunner(0, ready=True), FakeRunner(1, ready=False)
    follower = AccountsFollower(FakeBroker(), Settings(), lambda: [old, new])  # type: ignore[arg-type]  # doubles

    def take_over() -> None:
        if not new.ready:
            new.ready = True
            follower.refresh(new)  # type: ignore[arg-type]  # a double

    consumer: Any = FakeConsumer(take_over)
    await follower._cycle(consumer)
    await follower._cycle(consumer)
    assert new.core.is_current == 1


async def test_a_refresh_of_a_partition_that_was_given_back_is_forgotten() -> None:
    gone, other = FakeRunner(0, ready=False), FakeRunner(1, ready=True)
    follower = AccountsFollower(FakeBroker(), Settings(), lambda: [gone, other])  # type: ignore[arg-type]  # doubles
    follower.refresh(gone)  # type: ignore[arg-type]  # a double
    await follower._cycle(FakeConsumer(lambda: None))  # type: ignore[arg-type]  # a double
    assert gone.core.is_current == 0
    assert not follower._refreshes
