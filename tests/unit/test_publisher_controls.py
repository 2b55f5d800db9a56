"""Gauges and lease requests on the way of the events: behind all that was published before them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from sluicegate import Publisher, PublisherSettings
from sluicegate.publisher.control import CONTROLS_MAX
from sluicegate.publisher.testing import Fault, MemoryTransport
from sluicegate_schemas.envelope import ENCODE, GAUGE_VERSION, WireEnvelope, WireGauge, WireInFlight
from sluicegate_schemas.partitioning import partition_of

NOW_MS = 1_795_291_000_000
faults: st.SearchStrategy[Fault] = st.sampled_from(["none", "none", "lost", "unconfirmed", "late"])
steps = st.lists(st.tuples(st.sampled_from(["event", "control", "turn"]), st.integers(0, 3)), max_size=60)


def event(account: str, subject: str) -> Any:
    return {
        "org_id": account,
        "api_key_id": "key_1",
        "operation": "search.knn",
        "started_at_ms": NOW_MS,
        "ts_ms": NOW_MS,
        "duration_ms": 0,
        "status": 200,
        "subject": subject,
    }


def gauge(account: str, number: int) -> bytes:
    return ENCODE(WireGauge(GAUGE_VERSION, "node-1", "boot-1", number, 5_000, account, [WireInFlight(account, 1, [])]))


def settings(**more: Any) -> PublisherSettings:
    return PublisherSettings(**{"node": "node-1", "retry_ms_min": 1, "retry_ms_max": 2, "linger_ms_min": 0} | more)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (the condition belongs to several tasks; the time-out limits it)
            await asyncio.sleep(0.001)


def in_order(kafka: MemoryTransport) -> list[tuple[str, str]]:
    """The log as (account, what): an event by its subject, a gauge as ``gauge <sequence>``; the second copy of what was
    sent again is left out."""
    found: dict[tuple[str, str], None] = {}
    for record in kafka.log:
        content = record.content
        if isinstance(content, WireEnvelope):
            found |= dict.fromkeys((one.org_id, one.subject or "") for one in content.events)
        else:
            assert isinstance(content, WireGauge)
            assert record.partition == partition_of(content.account_id, 2)
            found[content.account_id, f"gauge {content.sequence}"] = None
    return list(found)


@given(steps, st.lists(faults, max_size=20))
@hypothesis_settings(max_examples=60)
def test_a_control_record_stands_behind_all_events_published_before_it(
    script: list[tuple[str, int]], trouble: list[Fault]
) -> None:
    async def play() -> None:
        kafka = MemoryTransport(partitions=2)
        publisher = Publisher(settings(), transport=kafka)
        await publisher.start()
        await until(lambda: publisher.stats().connected)
        before: dict[tuple[str, str], list[tuple[str, str]]] = {}
        published: list[tuple[str, str]] = []
        kafka.faults.extend(trouble)
        for number, (kind, which) in enumerate(script):
            account = f"org_{which}"
            if kind == "event":
                assert publisher.publish(**event(account, f"s{number}"))
                published.append((account, f"s{number}"))
            elif kind == "control":
                if publisher.send_control(account, gauge(account, number)) is not None:
                    before[account, f"gauge {number}"] = [one for one in published if one[0] == account]
            else:
                for _ in range(which):
                    await asyncio.sleep(0)
        await publisher.close()
        log = in_order(kafka)
        assert sorted(log) == sorted([*published, *before])
        for control, events in before.items():
            assert all(log.index(one) < log.index(control) for one in events)

    asyncio.run(play())


async def test_events_on_disk_go_before_a_control_that_came_after_them(tmp_path: Path) -> None:
    kafka = MemoryTransport(partitions=2)
    spooled = settings(overflow="spool", spool_directory=tmp_path, spool_after_ms=10)
    async with Publisher(spooled, transport=kafka) as publisher:
        await until(lambda: publisher.stats().connected)
        kafka.away = True
        for number in range(5):
            publisher.publish(**event("org_0", f"s{number}"))
        control = publisher.send_control("org_0", gauge("org_0", 1))
        await until(lambda: publisher.stats().spooled == 5)
        assert control is not None
        assert not control.is_sent
        kafka.away = False
    assert control.is_sent
    assert in_order(kafka) == [*(("org_0", f"s{number}") for number in range(5)), ("org_0", "gauge 1")]


async def test_while_kafka_is_away_only_so_many_controls_wait() -> None:
    kafka = MemoryTransport(partitions=2)
    publisher = Publisher(settings(), transport=kafka)
    assert publisher.send_control("org_0", b"before the start") is None
    await publisher.start()
    await until(lambda: publisher.stats().connected)
    kafka.away = True
    taken = [publisher.send_control("org_0", gauge("org_0", number)) for number in range(CONTROLS_MAX + 1)]
    assert [control is None for control in taken] == [False] * CONTROLS_MAX + [True]
    await publisher.close(timeout_s=0.05)
    assert publisher.send_control("org_0", gauge("org_0", 1)) is None
    assert not kafka.log
