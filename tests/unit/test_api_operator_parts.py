"""What the operators' routes stand on: turns at Kafka, pages of the trail, open drifts, the roster, settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from api import desk
from api.desk import AT_ONCE, WAITING_MAX, RealDesk
from api.drifts import OPEN_MAX, Drifts
from api.problems import ProblemError
from api.roster import Roster
from api.settings import ApiSettings
from sluicegate import Brokers
from sluicegate.follower import View
from sluicegate.operator import log_page, trail
from sluicegate.operator.groups import owners_of
from sluicegate.operator.system import System
from sluicegate_schemas.alerts import AuditDrift
from sluicegate_schemas.outputs import Position, TrailEntry
from streams.settings import SettingsError
from tests.gating import NOW, key_record, organization_record

SYSTEM = System(Brokers("127.0.0.1:1"), "sluicegate.")


async def test_operators_requests_wait_for_their_turn_and_not_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    going, running, most = asyncio.Event(), 0, 0

    async def slow(_: System, **__: Any) -> log_page.Page[TrailEntry]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await going.wait()
        running -= 1
        return log_page.Page([], {})

    monkeypatch.setattr(desk, "trail_page", slow)
    real = RealDesk(SYSTEM, worker_group="w", sink_group="s")
    asked = [
        asyncio.create_task(real.trail(limit=1, account_id=None, before=None)) for _ in range(AT_ONCE + WAITING_MAX)
    ]
    await asyncio.sleep(0.01)
    with pytest.raises(ProblemError) as refused:
        await real.trail(limit=1, account_id=None, before=None)
    assert (refused.value.status, most) == (503, AT_ONCE)
    going.set()
    await asyncio.gather(*asked)
    assert (await real.trail(limit=1, account_id=None, before=None)).entries == []


class Topic:
    """A trail in memory: for each partition its entries' times and accounts."""

    def __init__(self, partitions: list[list[tuple[int, str]]]) -> None:
        self.partitions = [TopicPartition("sluicegate.trail", number) for number in range(len(partitions))]
        self.records = {
            tp: [_record(tp.partition, offset, *one) for offset, one in enumerate(entries)]
            for tp, entries in zip(self.partitions, partitions, strict=True)
        }

    async def beginning_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: len(self.records[tp]) for tp in partitions}

    @asynccontextmanager
    async def reader(self, _: Brokers) -> AsyncIterator[Topic]:
        yield self

    async def partitions_of(self, *_: object) -> list[TopicPartition]:
        return self.partitions

    async def read_between(
        self, _: object, begins: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
    ) -> AsyncIterator[Any]:
        for tp, begin in begins.items():
            for record in self.records[tp][begin : ends[tp]]:
                yield record


def _record(partition: int, offset: int, at: int, account: str) -> Any:
    entry = TrailEntry(
        command_id=f"{partition}-{offset}",
        command="grant.put",
        account_id=account,
        organization_id=None,
        subject="g",
        issued_by="ada",
        issued_at=NOW,
        reason="",
        before=None,
        after=None,
        applied_at=NOW,
        source=Position(topic="accounts", partition=partition, offset=offset),
    )
    return SimpleNamespace(
        partition=partition, offset=offset, timestamp=at, value=entry.model_dump_json().encode(), key=None
    )


@given(
    times=st.lists(st.lists(st.integers(0, 30), max_size=12).map(sorted), min_size=1, max_size=3),
    limit=st.integers(1, 5),
    step=st.integers(1, 4),
)
def test_the_pages_of_the_trail_hold_every_entry_once_and_the_newest_first(
    times: list[list[int]], limit: int, step: int
) -> None:
    topic = Topic([[(at, "org_a") for at in one] for one in times])

    async def read() -> list[str]:
        names: list[str] = []
        before: dict[int, int] | None = None
        while before != {}:
            page = await trail.trail_page(SYSTEM, limit=limit, before=before)
            assert len(page.entries) <= limit
            names += [entry.command_id for entry in page.entries]
            before = page.before
        return names

    with pytest.MonkeyPatch.context() as patch:
        for name in ("reader", "partitions_of", "read_between"):
            patch.setattr(log_page, name, getattr(topic, name))
        patch.setattr(log_page, "STEP", step)
        names = asyncio.run(read())
    every = [(record.timestamp, record.partition, record.offset) for one in topic.records.values() for record in one]
    assert names == [f"{partition}-{offset}" for _, partition, offset in sorted(every, reverse=True)]


def drift(name: str, *, state: str = "fired", minute: int = 0) -> AuditDrift:
    return AuditDrift.model_construct(
        alert_id=f"audit_drift/{name}", state=state, fired_at=NOW + timedelta(minutes=minute)
    )


def test_a_drift_is_open_until_it_clears() -> None:
    drifts = Drifts()
    for one in (drift("b", minute=2), drift("a", minute=1), drift("c"), drift("c", state="cleared"), drift("a")):
        drifts.take(one)
    assert [one.alert_id for one in drifts.open()] == ["audit_drift/a", "audit_drift/b"]


def test_of_too_many_open_drifts_the_newest_stay() -> None:
    drifts = Drifts()
    for number in range(OPEN_MAX + 1):
        drifts.take(drift(str(number)))
    assert len(drifts.open()) == OPEN_MAX
    assert "audit_drift/0" not in {one.alert_id for one in drifts.open()}


async def test_who_waits_for_a_key_goes_on_when_it_comes() -> None:
    roster, view = Roster(), View()
    waiting = asyncio.create_task(roster.wait_for(organization_id="org_heron", api_key_id="key_heron_1", limit_s=30))
    for record in (organization_record(), key_record()):
        await asyncio.sleep(0)
        assert not waiting.done()
        roster.take(view.apply(*record))
    await asyncio.wait_for(waiting, 1)
    await roster.wait_for(organization_id="org_nobody", api_key_id=None, limit_s=0.01)


def test_a_member_whose_assignment_cannot_be_read_owns_nothing() -> None:
    assert owners_of([("m", "client", "/1.2.3.4", b"", b"\x00"), ("m", "client", "/1.2.3.4", b"", b"")]) == {}


def test_operators_may_sign_in_to_kafka_by_themselves() -> None:
    own = {"SLUICEGATE_API_OPERATORS_KAFKA_USERNAME": "operator", "SLUICEGATE_BOOTSTRAP_SERVERS": "k:9"}
    settings = ApiSettings.from_environment(own | {"SLUICEGATE_API_OPERATORS_KAFKA_PASSWORD": "p"})
    assert (settings.operators_brokers.username, settings.operators_brokers.bootstrap_servers) == ("operator", "k:9")
    assert settings.process.brokers.username is None
    assert ApiSettings.from_environment({}).operators_brokers == ApiSettings.from_environment({}).process.brokers
    with pytest.raises(SettingsError, match="OPERATORS_KAFKA_PASSWORD"):
        ApiSettings.from_environment(own)
