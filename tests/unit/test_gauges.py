"""What a process says of the requests that it serves."""

from __future__ import annotations

import asyncio

import pytest

from sluicegate.gate.in_flight import InFlight
from sluicegate.gauges import Gauges, GaugeSettings
from sluicegate.node_process import NodeProcess
from sluicegate.publisher import Control
from sluicegate_schemas.decode import decode_usage
from sluicegate_schemas.envelope import WireGauge

NOW_MS = 1_795_291_000_000
PROCESS = NodeProcess("node-1@7", "boot-1")


class Sender:
    """Kafka's place: keeps what was said; ``is_away`` leaves it on its way."""

    def __init__(self) -> None:
        self.said: list[WireGauge] = []
        self.is_away = False
        self.is_full = False

    def __call__(self, account_id: str, value: bytes) -> Control | None:
        if self.is_full:
            return None
        gauge = decode_usage(value)
        assert isinstance(gauge, WireGauge)
        assert gauge.account_id == account_id
        self.said.append(gauge)
        return Control(account_id.encode(), value, 0, is_sent=not self.is_away)

    def counts(self) -> list[tuple[str, int]]:
        """(organization, requests) of each gauge that was said, in order."""
        return [(one.org_id, one.in_flight) for gauge in self.said for one in gauge.organizations]


def speaking(in_flight: InFlight, sender: Sender) -> Gauges:
    gauges = Gauges(in_flight, sender, GaugeSettings(ttl_ms=3_000))
    gauges._process = PROCESS  # the time is the test's own
    return gauges


@pytest.mark.contract("2.3")
def test_a_change_is_said_once_and_silence_is_broken_before_the_time_to_live_is_over() -> None:
    in_flight, sender = InFlight(), Sender()
    gauges = speaking(in_flight, sender)
    in_flight.begin("org_a", "org_root", ("cluster.execute", "c-1"))
    in_flight.begin("org_b", "org_root", None)
    for now_ms in range(NOW_MS, NOW_MS + 3_000, 250):
        gauges.say(now_ms)
    assert [gauge.sequence for gauge in sender.said] == [1, 2, 3]
    first = sender.said[0]
    assert (first.node, first.boot_id, first.ttl_ms) == ("node-1@7", "boot-1", 3_000)
    assert [(one.org_id, one.in_flight, one.subjects) for one in first.organizations] == [
        ("org_a", 1, [("cluster.execute", "c-1", 1)]),
        ("org_b", 1, []),
    ]


def test_the_end_of_the_last_request_is_said_and_then_nothing_is_held_of_its_organization() -> None:
    in_flight, sender = InFlight(), Sender()
    gauges = speaking(in_flight, sender)
    in_flight.begin("org_a", "org_a", None)
    gauges.say(NOW_MS)
    in_flight.end("org_a", None, NOW_MS + 100)
    for now_ms in range(NOW_MS + 250, NOW_MS + 20_000, 250):
        gauges.say(now_ms)
    assert sender.counts() == [("org_a", 1), ("org_a", 0)]
    assert (len(gauges), in_flight.serving, in_flight.changed) == (0, {}, set())


def test_a_request_that_ends_before_anybody_was_told_of_it_leaves_nothing() -> None:
    in_flight, sender = InFlight(), Sender()
    gauges = speaking(in_flight, sender)
    in_flight.begin("org_a", "org_a", None)
    in_flight.end("org_a", None, NOW_MS)
    gauges.say(NOW_MS)
    assert (sender.said, in_flight.serving, in_flight.changed) == ([], {}, set())


def test_while_kafka_is_away_one_gauge_an_account_waits_and_the_next_says_how_things_are_then() -> None:
    in_flight, sender = InFlight(), Sender()
    gauges = speaking(in_flight, sender)
    sender.is_away = True
    for number in range(40):
        in_flight.begin("org_a", "org_a", None)
        gauges.say(NOW_MS + number * 250)
    assert sender.counts() == [("org_a", 1)]
    sender.is_away = False
    assert gauges._accounts["org_a"].control is not None
    gauges._accounts["org_a"].control.is_sent = True
    gauges.say(NOW_MS + 10_000)
    assert sender.counts() == [("org_a", 1), ("org_a", 40)]


def test_a_gauge_that_found_no_room_is_said_later() -> None:
    in_flight, sender = InFlight(), Sender()
    gauges = speaking(in_flight, sender)
    sender.is_full = True
    in_flight.begin("org_a", "org_a", None)
    gauges.say(NOW_MS)
    sender.is_full = False
    gauges.say(NOW_MS + 250)
    assert sender.counts() == [("org_a", 1)]


async def test_a_process_that_stops_says_that_it_serves_nothing() -> None:
    in_flight, sender = InFlight(), Sender()
    gauges = Gauges(in_flight, sender, GaugeSettings(every_ms=5))
    gauges.start(PROCESS)
    in_flight.begin("org_a", "org_a", None)
    async with asyncio.timeout(10):
        while not sender.said:  # noqa: ASYNC110 (the gauges' own task says it)
            await asyncio.sleep(0.005)
    await gauges.stop()
    assert [len(gauge.organizations) for gauge in sender.said][-1] == 0


def test_two_processes_of_a_host_have_two_names_that_events_may_carry() -> None:
    process = NodeProcess.this("n" * 64)
    assert len(process.node) <= 64
    assert process.node.startswith("nnnn")
    assert NodeProcess.this("node").boot_id != NodeProcess.this("node").boot_id
