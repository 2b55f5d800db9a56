"""A month's end under load, in virtual time: late events land in the old month, and gates open and close in time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from sluicegate_schemas.bounds import to_epoch_ms
from sluicegate_schemas.envelope import WireEvent
from sluicegate_schemas.topics import ACCOUNTS, USAGE

from . import rows, tenants
from .gateway import Admission, Gateway, Request
from .plan import Plan, Send
from .play import Stage, staged
from .tenants import Tenant
from .traffic import Producer, Traffic
from .world import World

EDGE_MS = to_epoch_ms(tenants.default_catalogue().effective_at.replace(year=2026, month=4))
BEFORE_MS, AFTER_MS = 7_000, 5_000
EVERY_MS = 50
"""Each gateway has a request of each organization so often."""
CREDIT = 1_000_000
MONTH, NEXT = "2026-03", "2026-04"
RATES = {"requests_per_second": 10_000, "burst": 10_000, "requests_per_minute": 600_000}


def _tenant(name: str, credits_each_month: int, **own: Any) -> Tenant:
    own |= {"credits_micro_per_month": credits_each_month * CREDIT, "rates": RATES, "concurrency": 1_000}
    return Tenant(f"org_{name}", "enterprise", 0, f"org_{name}", own, (f"key_{name}_0",))


RESET = _tenant("oak", 1_000)
"""Used up before the end, and served again after it."""
AHEAD = _tenant("pine", 1_000)
"""Served until the end; the next month is used up by then, by events that are ahead of the log."""
HARD_CREDITS = 60
HARD = _tenant("rowan", HARD_CREDITS, credits_mode="hard")
"""Used up by the load itself, through leases; served again after the end."""
ALL = (RESET, AHEAD, HARD)


def _requests(seed: int, send: Send) -> Iterator[Request]:
    for tenant in ALL:
        yield Request(
            tenant, tenant.keys[0], "documents.create", {"documents": 1}, None, [], cached=False, subject=None,
            labels={}, says_quantities=True, status=200, takes_ms=5,
        )  # fmt: skip


def _run(tenant: Tenant, ts_ms: int) -> WireEvent:
    """A cluster's run, which costs 500 credits."""
    times = ts_ms, ts_ms, 0
    name, size = tenant.organization_id, {"dataset_size": 1_000_000}
    return WireEvent(None, name, tenant.keys[0], "cluster.execute", *times, 200, size)


class MonthEnd:
    """The stage: two workers, two gateways under load, and what comes past them."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.world: World = stage.world
        self._traffic = Traffic(stage.plan)
        self._producers = [Producer(f"sdk{number}") for number in range(stage.plan.partitions)]
        sends = [Send(at_ms, "requests", 0, at_ms) for at_ms in range(1_000, BEFORE_MS + AFTER_MS, EVERY_MS)]
        stage.gateways = stage.watch.gateways = [Gateway(self.world, 0, n, sends, _requests) for n in range(2)]
        for tenant in ALL:
            home = self._traffic.home(tenant.account_id)
            start_ms, key = stage.plan.start_ms, tenant.account_id.encode()
            put = tenants.put_organization(tenant, f"put-{tenant.account_id}", start_ms)
            key_put = tenants.put_key(tenant, tenant.keys[0], f"put-{tenant.keys[0]}", start_ms)
            self.world.append(ACCOUNTS.name, home, put, key_put, key=key)

    def comes(self, at_ms: int, event: WireEvent) -> None:
        """An event that no gate knew of arrives at ``at_ms`` of virtual time."""
        home = self._traffic.home(event.org_id)

        def arrive() -> None:
            value = self._producers[home].seal(home, [event], self.world.broker.now_ms())
            self.world.append(USAGE.name, home, value)

        self.world.at(at_ms, arrive)

    def play(self) -> None:
        """Runs it, and holds every invariant of the simulator."""
        stage = self.stage
        stage.begin()
        self.world.run(stage.plan.duration_ms)
        stage.make_peace()
        stage.come_to_rest()
        stage.watch.look()
        assert stage.watch.faults == []

    def answers(self, tenant: Tenant, from_ms: int, until_ms: int) -> list[Admission]:
        """What the gates answered, by their clocks relative to the month's end."""
        found = (one for gateway in self.stage.gateways for one in gateway.answers)
        name = tenant.account_id
        return [one for one in found if one.account_id == name and from_ms <= one.at_ms - EDGE_MS < until_ms]

    def used(self, tenant: Tenant, month: str) -> int:
        """Credits in the ledger."""
        watch = self.stage.watch.states[self._traffic.home(tenant.account_id)]
        row = rows.ledger_row(watch.rows[f"l|account|{tenant.account_id}|{month}".encode()])
        return row.used_micro // CREDIT

    def latency_ms(self) -> int:
        """The longest that a decision was under way, from its cause's place in the log to a gate."""
        lags = [gateway.follower.lags.figures(gateway.now_ms()).worst_ms for gateway in self.stage.gateways]
        return max(lag for lag in lags if lag is not None)


def _statuses(answers: Iterable[Admission]) -> set[int]:
    return {one.status for one in answers}


@pytest.mark.contract("1.8", "9.10")
def test_a_month_ends_under_load(capsys: pytest.CaptureFixture[str]) -> None:
    plan = Plan(7, 2, 2, 2, BEFORE_MS + AFTER_MS, EDGE_MS - BEFORE_MS, (), ())
    with staged(plan) as stage:
        month = MonthEnd(stage)
        for _ in range(2):
            month.comes(500, _run(RESET, EDGE_MS - BEFORE_MS))
            month.comes(BEFORE_MS - 3_000, _run(AHEAD, EDGE_MS + 2_000))
            month.comes(BEFORE_MS + 2_000, _run(RESET, EDGE_MS - 1))
        month.play()

        latency_ms = month.latency_ms()
        assert _statuses(month.answers(RESET, -3_000, 0)) == {403}
        assert _statuses(month.answers(AHEAD, -3_000, 0)) == {200}
        served = [one.status for one in month.answers(HARD, -BEFORE_MS, 0)].count(200)
        assert served == HARD_CREDITS, "all that the month holds, and no more"
        opened_ms = min(one.at_ms for one in month.answers(RESET, 0, AFTER_MS) if one.status == 200) - EDGE_MS
        closed_ms = min(one.at_ms for one in month.answers(AHEAD, 0, AFTER_MS) if one.status == 403) - EDGE_MS
        served_ms = min(one.at_ms for one in month.answers(HARD, 0, AFTER_MS) if one.status == 200) - EDGE_MS
        with capsys.disabled():
            print(
                f"\na month's end under load: decisions took {latency_ms} ms at most; opened after {opened_ms} ms, "
                f"closed after {closed_ms} ms, hard credits lent again after {served_ms} ms"
            )
        assert max(opened_ms, closed_ms, served_ms) <= latency_ms + EVERY_MS
        assert _statuses(month.answers(RESET, latency_ms + EVERY_MS, 4_000)) == {200}
        assert _statuses(month.answers(AHEAD, latency_ms + EVERY_MS, AFTER_MS)) == {403}

        assert month.used(RESET, MONTH) == 2_000
        admitted = len([one for one in month.answers(RESET, 0, AFTER_MS) if one.status == 200])
        assert month.used(RESET, NEXT) == admitted
        assert month.used(HARD, MONTH) <= 60
        assert month.used(HARD, NEXT) <= 60
