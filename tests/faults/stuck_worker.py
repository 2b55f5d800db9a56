"""A counting worker that gets stuck at the marker: ``python -m faust -A tests.faults.stuck_worker worker``.

STUCK_AT says where, once usage with ``MARKER`` comes: ``loop`` blocks the event loop inside the machine, ``flush``
keeps the broker's reply to the next flush for ever. Without the marker ``slow`` makes it slow, and ``group`` ends its
client's part in the group before it has begun. Else it is well.
"""

import asyncio
import os
import threading
import time
from collections.abc import Iterable, Sequence

from aiokafka.consumer.group_coordinator import GroupCoordinator

from streams.engine.actions import StateRecord
from streams.engine.broker import Broker
from streams.engine.machine import InputRecord
from streams.settings import Settings
from streams.worker import build_worker
from tests.faults.counting_machine import CountingMachine

MARKER = b"the-marker"
_stuck_at = os.environ.get("STUCK_AT", "")
_seen = threading.Event()


class StuckMachine(CountingMachine):
    def apply_usage(self, records: Sequence[InputRecord], *, accounts_current: bool = False) -> int:
        if _stuck_at == "slow":
            time.sleep(0.05)
        if any(MARKER in (record.value or b"") for record in records):
            _seen.set()
            if _stuck_at == "loop":
                threading.Event().wait()
        return super().apply_usage(records, accounts_current=accounts_current)


_append = Broker.append


async def _append_without_reply(self: Broker, topic: str, partition: int, records: Iterable[StateRecord]) -> int | None:
    if _seen.is_set() and _stuck_at == "flush":
        await asyncio.Event().wait()
    return await _append(self, topic, partition, records)


_ensure_coordinator_known = GroupCoordinator.ensure_coordinator_known


async def _ensure_no_broker_known(self: GroupCoordinator) -> None:
    assert _stuck_at != "group", "Did we not perform bootstrap?"
    await _ensure_coordinator_known(self)


Broker.append = _append_without_reply  # type: ignore[method-assign]  # as where the reply gets lost in the client
# As aiokafka does where a broker that has just come back tells of no brokers at all.
GroupCoordinator.ensure_coordinator_known = _ensure_no_broker_known
app = build_worker(Settings.from_environment(), StuckMachine)
