"""Alerts over random histories: a crossing fires once and clears once, whatever is killed (requirements, section 5)."""

from collections.abc import Iterable
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate_schemas.alerts import UsageAlert
from sluicegate_schemas.bounds import to_epoch_ms
from tests.alerting import DAY_MS, HOUR_MS, alerts_of, with_rules
from tests.domain_world import World, key_put, organization_put, usage
from tests.grants import grant_put
from tests.limits_world import gauge
from tests.property.alerts_reference import Reference, Told, month_start

RULES = (
    "credits_80", "credits_95", "credits_blocked", "credits_critical", "rate_limit_warning", "sustained_rate_limiting",
    "quota_breach", "unrated", "concurrency_warning", "upgrade_throttled", "upgrade_credits",
)  # fmt: skip
CATALOGUE = with_rules(*RULES)
KEYS = {"key_a": "org_a", "key_b": "org_a", "key_c": "org_b"}
RATES = {"requests_per_second": 10, "burst": 20, "requests_per_minute": 30}
MONTH_END_MS = month_start("2026-12")


KINDS = [
    "spend", "spend", "spend", "throttle", "throttle", "request", "refuse", "unrated", "put", "put", "grant",
    "gauge", "gauge", "tick", "tick",
]  # fmt: skip
GAUGE_TTL_MS = 45_000


class Step(NamedTuple):
    """One record of the log, ``after_ms`` after the one before; ``late_ms``: how late it tells what it is about."""

    what: str
    key: str
    amount: int
    after_ms: int
    late_ms: int


steps = st.builds(
    Step,
    st.sampled_from(KINDS),
    st.sampled_from(sorted(KEYS)),
    st.one_of(st.integers(1, 20), st.integers(1, 120)),
    st.one_of(
        st.sampled_from([0, 1, 500, 1_000, 4_999, 30_000, 300_000, HOUR_MS, 6 * HOUR_MS, 3 * DAY_MS]),
        st.integers(0, 90_000),
    ),
    st.sampled_from([0, 0, 0, 0, 60_000, 400_000, HOUR_MS]),
)
starts = st.sampled_from([month_start("2026-11"), MONTH_END_MS - 11 * DAY_MS, MONTH_END_MS - 2 * HOUR_MS])


class Run:
    """A machine that is flushed and killed at chosen steps; what its log holds beyond the last flush it hears again."""

    def __init__(self, start_ms: int) -> None:
        self.world = World(catalogues=[CATALOGUE])
        self.world.obey(
            organization_put("org_a", credits_micro_per_month=100_000_000, rates=RATES),
            organization_put("org_b", credits_micro_per_month=60_000_000, rates=RATES),
            *[key_put(key, org) for key, org in KEYS.items()],
            at=start_ms,
        )
        self.unflushed: list[tuple[str, tuple[int, int, None, bytes]]] = []
        self.command = 0

    def hear(self, topic: str, value: bytes, at: int) -> None:
        world = self.world
        if topic == "usage":
            world.offset += 1
        else:
            world.accounts_offset += 1
        offset = world.offset if topic == "usage" else world.accounts_offset
        record = topic, (offset, at, None, value)
        self.unflushed.append(record)
        self.apply(record)

    def apply(self, record: tuple[str, tuple[int, int, None, bytes]]) -> None:
        machine = self.world.machine
        if record[0] == "usage":
            machine.apply_usage([record[1]], accounts_current=True)
        else:
            machine.apply_accounts([record[1]])

    def flush(self) -> None:
        self.world.flush()
        if self.unflushed:
            self.world.log_time_ms = self.unflushed[-1][1][1]
        self.unflushed.clear()

    def kill(self) -> None:
        self.world.take_over()
        for record in self.unflushed:
            self.apply(record)


def play(
    start_ms: int, history: Iterable[Step], flushes: set[int], kills: set[int]
) -> tuple[list[UsageAlert], Reference]:
    run = Run(start_ms)
    reference = Reference(CATALOGUE.alert_rules, dict.fromkeys(KEYS, RATES["requests_per_minute"]))
    reference.reach(start_ms)
    reference.put("org_a", 100_000_000)
    reference.put("org_b", 60_000_000)
    reference.look()
    now = start_ms
    for at, step in enumerate(history):
        now += step.after_ms
        hear(run, reference, step, at, now)
        if at in flushes:
            run.flush()
        if at in kills:
            run.kill()
    run.flush()
    return alerts_of(run.world), reference


def hear(run: Run, reference: Reference, step: Step, at: int, now: int) -> None:
    key, org, ts = step.key, KEYS[step.key], now - step.late_ms
    reference.reach(now)
    if step.what == "put":
        used = reference.used[org, reference.month]
        near = used * 100 // (70 + step.amount % 40)  # so that thresholds and the points below them are met
        micro = near if near and step.amount > 40 else step.amount * 2_000_000
        run.hear(
            "accounts", organization_put(org, command_id=f"c{at}", credits_micro_per_month=micro, rates=RATES), now
        )
        reference.put(org, micro)
        reference.look()
        return
    if step.what == "grant":
        run.hear("accounts", grant_put(f"g{at}", step.amount * 1_000_000, account=org), now)
        reference.grant(org, step.amount * 1_000_000)
        reference.look()
        return
    if step.what == "gauge":
        run.hear("usage", gauge(step.amount % 60, sequence=at + 1, ttl_ms=GAUGE_TTL_MS, account=org, org=org), now)
        reference.serve(org, step.amount % 60, GAUGE_TTL_MS)
        reference.look()
        return
    events = []
    if step.what == "spend":
        if reference.granted:  # which month a grant pays in the grace is the ledger's own matter
            ts = max(ts, month_start(reference.month))
        events = [usage("documents.create", key=key, org=org, ts=ts, quantities={"documents": step.amount})]
        reference.spend(org, step.amount * 1_000_000, ts)
        reference.request(key, ts)
    elif step.what == "throttle":
        events = [usage(key=key, org=org, ts=ts, status=429)] * (step.amount % 16 + 1)
        for _ in events:
            reference.happens("throttled", f"key:{key}", ts)
    elif step.what == "request":
        events = [usage(key=key, org=org, ts=now)] * (step.amount % 40)
        for _ in events:
            reference.request(key, now)
    elif step.what == "refuse":
        events = [usage("collections.create", key=key, org=org, ts=now, status=403)]
        reference.request(key, now)
        if not reference.is_blocked(org):
            reference.happens("creations_refused", f"operation:{org}:collections.create", now)
    elif step.what == "unrated":
        events = [usage("frobs.make", key=key, org=org, ts=now)]
        reference.request(key, now)
        first = next(iter(reference.unrated), f"operation:{org}:frobs.make")
        reference.unrated[first] += 1
    run.hear("usage", run.world.envelope(*events) if events else b"\x91\x03", now)
    reference.look()


def as_told(alerts: Iterable[UsageAlert]) -> list[Told]:
    return sorted((one.rule, one.scope.text(), one.state, to_epoch_ms(one.at), one.observed) for one in alerts)


def comparable(told: Iterable[Told]) -> list[Told]:
    """What cleared does not always know what is observed: a month without usage has no ledger."""
    return sorted((*one[:4], one[4] if one[2] == "fired" else 0) for one in told)


@pytest.mark.contract("5.13")
@settings(max_examples=100)
@given(starts, st.lists(steps, max_size=40), st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40), max_size=8))
def test_each_crossing_is_told_once_whatever_is_killed(
    start_ms: int, history: list[Step], flushes: set[int], kills: set[int]
) -> None:
    alerts, reference = play(start_ms, history, flushes, kills)
    assert comparable(as_told(alerts)) == comparable(reference.told)
    fired = [alert.alert_id for alert in alerts if alert.state == "fired"]
    cleared = [alert.alert_id for alert in alerts if alert.state == "cleared"]
    assert len(set(fired)) == len(fired)
    assert len(set(cleared)) == len(cleared)
    assert set(cleared) <= set(fired)
    assert len(fired) - len(cleared) == len(reference.standing)


@pytest.mark.contract("5.12")
@settings(max_examples=50)
@given(starts, st.lists(steps, max_size=40), st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40), max_size=8))
def test_flushes_and_deaths_change_no_alert_and_no_id(
    start_ms: int, history: list[Step], flushes: set[int], kills: set[int]
) -> None:
    undisturbed, _ = play(start_ms, history, set(), set())
    disturbed, _ = play(start_ms, history, flushes, kills)

    def by_id(alerts: list[UsageAlert]) -> list[str]:
        return sorted(alert.model_dump_json() for alert in alerts)

    assert by_id(disturbed) == by_id(undisturbed)
