"""A rebalance that takes a partition away while its fetch is under way ends no worker."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.consumer import AIOKafkaConsumer
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.errors import IllegalStateError
from aiokafka.structs import TopicPartition
from faust.types import TP

from streams.engine.batching import BatchConsumer

LOST, KEPT = TopicPartition("usage", 1), TopicPartition("usage", 2)


class Fetching(BatchConsumer):
    """A consumer whose group leaves it ``left`` while its committed offsets are asked for, flow stopped."""

    should_stop = False
    flow_active = True

    def __init__(self, left: set[TopicPartition]) -> None:
        self._left = left
        self._subscription = SubscriptionState()
        self._subscription.subscribe({"usage"})
        self._subscription.assign_from_subscribed({LOST, KEPT})
        self._paused_partitions: set[TP] = set()
        self._read_offset = {}
        self._committed_offset = {}
        self.app: Any = SimpleNamespace(consumer_generation_id=1, positions=self._positions)
        self._thread: Any = SimpleNamespace(assignment=self._assigned, seek_to_committed=self._seek_in_thread)

    def _assigned(self) -> set[TP]:
        return {TP(*tp) for tp in self._subscription.assigned_partitions()}

    async def _positions(self, assigned: frozenset[TP]) -> Mapping[TP, int]:
        return {}

    def _get_active_partitions(self) -> set[TP]:
        return self._assigned()

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109 (Faust's)
        self.flow_active = False
        return {TP(*LOST): (None, [])}

    async def committed(self, tp: TopicPartition) -> int:
        """As aiokafka asks for it: the group goes on meanwhile."""
        self._subscription.assign_from_subscribed(self._left)
        return 7

    async def _seek_in_thread(self) -> Any:
        if not self._left:
            self._subscription.assign_from_subscribed(set())
        consumer: Any = SimpleNamespace(
            _subscription=self._subscription,
            _fetcher=SimpleNamespace(seek_to=self._subscription.seek),
            committed=self.committed,
        )
        return await AIOKafkaConsumer.seek_to_committed(consumer)


@pytest.mark.parametrize("left", [{KEPT}, set()], ids=["one is left", "none is left"])
async def test_a_partition_that_goes_while_it_is_sought_is_not_delivered_and_ends_nothing(
    left: set[TopicPartition],
) -> None:
    consumer = Fetching(left)
    assert [delivered async for delivered in consumer.getmany(1.0)] == []
    assert consumer._assigned() == {TP(*tp) for tp in left}


async def test_the_seek_before_the_flow_says_what_faust_takes_for_a_further_rebalance() -> None:
    with pytest.raises(IllegalStateError):
        await Fetching(set()).perform_seek()
