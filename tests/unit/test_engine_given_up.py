"""How a partition is given up: with nothing half made, and never in silence."""

import asyncio
import gc
import warnings
from types import SimpleNamespace
from typing import Any, cast

from streams.engine.actions import AppendTick, Drop
from streams.engine.core import PartitionCore
from streams.engine.figures import Figures
from streams.engine.limits import Limits
from streams.engine.runner import Runner
from streams.settings import Settings
from tests.faults.counting_machine import CountingMachine


async def test_a_call_that_kafkas_client_cancels_itself_gives_the_partition_up_instead_of_ending_in_silence() -> None:
    reasons: list[str] = []
    host: Any = SimpleNamespace(
        broker=None, settings=Settings(), figures=Figures(), dropped=lambda runner, reason: reasons.append(reason)
    )
    runner = Runner(PartitionCore(0, CountingMachine(), Limits()), cast(Any, host))

    async def cancelled_by_itself() -> None:
        raise asyncio.CancelledError

    runner._spawn(cancelled_by_itself())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert reasons == ["a client of Kafka cancelled its own call"]


async def test_work_that_never_began_is_not_complained_about() -> None:
    host: Any = SimpleNamespace(
        broker=None, settings=Settings(), figures=Figures(), dropped=lambda runner, reason: None
    )
    runner = Runner(PartitionCore(0, CountingMachine(), Limits()), cast(Any, host))
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        runner.perform([AppendTick(), Drop("another worker owns the partition")])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gc.collect()
    assert [str(complaint.message) for complaint in complaints] == []
