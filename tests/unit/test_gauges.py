"""What a process says of the requests that it serves."""

from __future__ import annotations

import asyncio
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.follower.entries import Verdict
from sluicegate.gate.in_flight import InFlight
from sluicegate.gauges import Gauges, GaugeSettings
from sluicegate.node_process import NodeProcess
from sluicegate.publisher import Control
from sluicegate_schemas.decode import decode_usage
from sluicegate_schemas.envelope import WireGauge
from sluicegate_schemas.gauge_checks import GAUGE_ORGANIZATIONS_MAX, GAUGE_SUBJECTS_MAX

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


def sum_of(decision_id: str, observed: int) -> Verdict:
    """The workers' word on how many requests of an organization all nodes serve."""
    return Verdict(decision_id, "organization:org_0", "concurrency", 10, observed, None, NOW_MS, blocks=False)


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
    assert sorted((one.org_id, one.in_flight, one.subjects) for one in first.organizations) == [
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


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 130)), min_size=1, max_size=6), st.integers(0, 120))
def test_whatever_runs_each_gauge_keeps_its_bounds_and_what_is_left_out_is_counted(
    organizations: list[tuple[int, int]], others: int
) -> None:
    in_flight, sender = InFlight(), Sender()
    gauges = speaking(in_flight, sender)
    for at, (plain, subjects) in enumerate([*organizations, *[(1, 0)] * others]):
        for _ in range(plain):
            in_flight.begin(f"org_{at}", "org_root", None)
        for subject in range(subjects):
            in_flight.begin(f"org_{at}", "org_root", ("cluster.execute", f"c-{subject}"))
    gauges.say(NOW_MS)
    said = sender.said[0].organizations if sender.said else []
    subjects_said = sum(len(one.subjects) for one in said)
    assert all(one.in_flight == in_flight.serving[one.org_id].running for one in said)
    assert gauges.organizations_left_out == len(in_flight.serving) - len(said)
    assert gauges.subjects_left_out == sum(len(one.subjects) for one in in_flight.serving.values()) - subjects_said
    assert not gauges.organizations_left_out or len(said) == GAUGE_ORGANIZATIONS_MAX
    assert not gauges.subjects_left_out or subjects_said == GAUGE_SUBJECTS_MAX


def test_an_organization_with_too_many_subjects_is_said_in_full_and_crowds_no_other_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    in_flight, sender = InFlight(), Sender()
    gauges = speaking(in_flight, sender)
    for name, subjects in (("a", 300), ("b", 3), ("c", 60)):
        for number in range(subjects):
            in_flight.begin(f"org_{name}", "org_root", ("cluster.execute", f"{name}-{number}"))
    with caplog.at_level(logging.WARNING, "sluicegate.gauges"):
        for number in range(5):
            gauges.say(NOW_MS + 1_000 * number)
    for gauge in sender.said:
        said = {one.org_id: (one.in_flight, [subject for _, subject, _ in one.subjects]) for one in gauge.organizations}
        assert said["org_a"] == (300, [f"a-{number}" for number in range(49)]), "those that began first"
        assert said["org_b"] == (3, ["b-0", "b-1", "b-2"])
        assert said["org_c"] == (60, [f"c-{number}" for number in range(48)])
    assert gauges.subjects_left_out == 263 * len(sender.said)
    assert len(caplog.records) == 1, "the log is told once"


def test_the_busiest_organizations_of_a_pool_are_said_and_the_others_when_there_is_room() -> None:
    in_flight, sender = InFlight(), Sender()
    gauges = speaking(in_flight, sender)
    for number in range(150):
        for _ in range(1 + number):
            in_flight.begin(f"org_{number}", "org_root", None)
    for at in range(3):
        gauges.say(NOW_MS + 250 * at)
    assert [sorted(count for _, count in sender.counts())] == [list(range(51, 151))], "and only once"
    for number in range(100, 150):
        for _ in range(1 + number):
            in_flight.end(f"org_{number}", None, NOW_MS + 1_000)
    gauges.say(NOW_MS + 1_000)
    said = {one.org_id: one.in_flight for one in sender.said[1].organizations}
    assert said == {f"org_{number}": 1 + number for number in range(100)}
    assert gauges.organizations_left_out == 50, "those of the first gauge: what ended meanwhile is not left out"


def test_what_was_left_out_of_a_gauge_is_not_taken_for_a_part_of_the_workers_sum() -> None:
    in_flight, sender = InFlight(), Sender()
    gauges = speaking(in_flight, sender)
    for number in range(101):
        for _ in range(2 if number else 1):
            in_flight.begin(f"org_{number}", "org_root", None)
    gauges.say(NOW_MS)
    left_out, said = in_flight.serving["org_0"], in_flight.serving["org_1"]
    assert left_out.others(sum_of("d-1", 7), NOW_MS + 10_000) == 7
    assert said.others(sum_of("d-2", 7), NOW_MS + 10_000) == 5


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
