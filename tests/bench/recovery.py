"""How long a worker takes from its start until it owns all partitions, whose state logs hold a million live rows.

The logs are written as workers write them: whole flushes with headers. Beside the live rows they hold what was written
over since and is not compacted yet; a busy row is written with each flush, so that part is the larger one.
"""

import asyncio
import itertools
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from aiokafka import AIOKafkaProducer

from sluicegate_schemas import topics
from sluicegate_schemas.state import ENCODE, Claim
from streams.domain.tables import BucketsRow, KeyRow, OrganizationRow, row_key
from streams.engine.actions import StateRecord
from streams.engine.flush import FlushWriter
from tests.bench import system, workload
from tests.bench.session import Session

ROWS: Final = 1_000_000
OVERWRITTEN: Final = {"recovery_1m_keys_s": 2_000_000, "recovery_hour_s": 6_200_000, "recovery_clean_s": 0}
"""By row. An hour of 20,000 events/s leaves what 600 s of compaction lag hold, 10,300 records a second."""
_FLUSH_ROWS: Final = 10_000
_ROWS_OF_ORGANIZATION: Final = 201
_LIMIT_S: Final = 180.0
_EPOCH: Final = 1 << 32 | 7
_NOW_MS: Final = 1_790_000_000_000

Change = tuple[bytes, bytes | None]


def _live(partition: int, rows: int) -> Iterator[Change]:
    """An organization, a hundred keys of it and their buckets; and the next."""
    numbers = itertools.count()
    while rows > 0:
        organization = f"org_{partition}_{next(numbers)}"
        yield row_key("o", organization), OrganizationRow(organization, "pro", None, None).encode()
        for number in range(_ROWS_OF_ORGANIZATION // 2):
            name = f"key_{organization}_{number}"
            yield row_key("k", name), KeyRow(organization, f"{number:064x}", "live", revoked=False).encode()
            yield row_key("b", name), _buckets(number)
        rows -= _ROWS_OF_ORGANIZATION


def _buckets(moved: int) -> bytes:
    of_second, of_minute = str((_NOW_MS + moved) * 100), str((_NOW_MS + moved) * 6_000)
    return BucketsRow(100, 200, 6_000, of_second, of_minute, [6_000] * 5, [of_minute] * 5, 0, _NOW_MS).encode()


def flushes(partition: int, rows: int, overwritten: int) -> Iterator[list[StateRecord]]:
    """The flushes of a log with so many live rows, and behind them so many records that write some of them over."""
    live = list(_live(partition, rows))
    hot = [key for key, _ in live if key.startswith(b"b|")]
    over = ((key, _buckets(number)) for number, key in enumerate(itertools.islice(itertools.cycle(hot), overwritten)))
    changes = itertools.chain(live, over)
    writer = FlushWriter(_EPOCH, ENCODE(Claim("bench", 1, 0)), {})
    for flush in itertools.count(1):
        taken = list(itertools.islice(changes, _FLUSH_ROWS))
        if not taken:
            return
        yield writer.build(
            taken, flush=flush, usage_offset=-1, accounts_offset=-1, log_time_ms=_NOW_MS, catalogue_version=0,
            outbox=[], outputs_next=[],
        )  # fmt: skip


async def _fill(bootstrap: str, prefix: str, rows: int, overwritten: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_batch_size=15_000_000, max_request_size=16_000_000)
    await producer.start()
    try:
        for partition in range(workload.PARTITIONS):
            for records in flushes(partition, rows // workload.PARTITIONS, overwritten // workload.PARTITIONS):
                batch = producer.create_batch()
                for record in records:
                    batch.append(key=record.key, value=record.value, timestamp=None, headers=list(record.headers))
                await (await producer.send_batch(batch, prefix + topics.STATE.name, partition=partition))
    finally:
        await producer.stop()


async def start_s(bootstrap: str, rows: int, overwritten: int) -> float:
    """Seconds from the start of a worker's process until all partitions are recovered and claimed."""
    prefix = system.fresh_prefix()
    await system.prepare(bootstrap, prefix, commands=())
    await system.publish_catalogue(bootstrap, prefix)
    await _fill(bootstrap, prefix, rows, overwritten)
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        with system.Worker(bootstrap, prefix, Path(folder)) as worker:
            await system.until_shared([worker], _LIMIT_S)
            return time.monotonic() - began


def measure(session: Session, wanted: Collection[str]) -> dict[str, float]:
    """One round of the wanted rows."""
    figures = {}
    for name, overwritten in OVERWRITTEN.items():
        if name in wanted:
            scaled = round(overwritten * session.scale)
            figures[name] = asyncio.run(start_s(session.bootstrap, session.count(ROWS), scaled))
    return figures
