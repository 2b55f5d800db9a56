"""What a month would have come to on each plan, as an operator and a customer ask the API for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from api import comparisons
from api.problems import away
from sluicegate_schemas.catalogue import Tier
from sluicegate_schemas.plan_fit import PlanFit, PlanFits
from tests.api_app import HERON, READER, ApiApp
from tests.api_world import MONTH, OTHER_SECRET, World
from tests.gating import NOW, NOW_MS, key_record, organization_record

PATH = "/v1/organizations/plan-fit"


def fit(tier: Tier, *, used_micro: int = 7_500_000, total_micro: int | None = 5_000_000, throttled: int = 1) -> PlanFit:
    beyond_micro = 0 if total_micro is None else max(0, used_micro - total_micro)
    return PlanFit(
        tier=tier,
        used_micro=used_micro,
        total_micro=total_micro,
        beyond_micro=beyond_micro,
        ran_out_at=NOW if beyond_micro else None,
        requests=3,
        throttled=throttled,
    )


def asked(world: World) -> list[tuple[Any, ...]]:
    """The months that ClickHouse was asked for: (organization, version of the catalogue, month)."""
    found = [arguments for name, arguments, _ in world.history.asked if name == "month_fits"]
    return [(name, card.version, month) for name, card, month in found]


def comparing(world: World, *fits: PlanFit) -> World:
    world.history.says["reached"] = lambda *_: (NOW_MS - 900, NOW_MS)
    world.history.says["month_fits"] = lambda name, card, month: PlanFits(
        organization_id=name, month=month, plan_version=card.version, fits=fits
    )
    return world


async def test_an_operator_sees_what_a_month_would_have_come_to_on_each_plan() -> None:
    api, path = ApiApp(), "/v1/operator/organizations/{}/plan-fit"
    pro = fit("pro")
    api.history.says["month_fits"] = lambda name, card, month: PlanFits(
        organization_id=name, month=month, plan_version=card.version, fits=(pro,)
    )
    async with api.client(READER) as reader:
        said = (await reader.get(path.format("org_heron"), params={"month": "2026-02"})).json()
        assert (said["organization_id"], said["month"], said["plan_version"]) == ("org_heron", "2026-02", 1)
        assert [PlanFit.model_validate_json(json.dumps(one)) for one in said["fits"]] == [pro]
        assert (await reader.get(path.format("org_heron"), params={"month": "2026-13"})).status_code == 422
        assert (await reader.get(path.format("org_none"))).status_code == 404


def test_a_customer_sees_what_it_would_have_paid_and_how_often_been_throttled_on_each_plan() -> None:
    world = comparing(World(), fit("free"), fit("enterprise", total_micro=None, throttled=0))
    body = world.get(PATH).json()
    assert (body["month"], body["tier"], body["plan_version"]) == (MONTH, "pro", 1)
    assert (body["as_of"], body["lag_ms"], body["final"]) == ("2026-03-10T11:59:59.100000Z", 900, False)
    assert body["plans"] == [
        {"tier": "free", "total": 5, "paid": 5, "beyond": 2.5, "ran_out_at": "2026-03-10T12:00:00Z", "requests": 3,
         "throttled": 1},
        {"tier": "enterprise", "total": None, "paid": 7.5, "beyond": 0, "ran_out_at": None, "requests": 3,
         "throttled": None},
    ]  # fmt: skip
    assert asked(world) == [("org_heron", 1, MONTH)]
    assert [event["operation"] for event in world.meter.events] == ["usage.get"]


def test_of_a_pool_a_member_is_told_of_its_own_use_alone() -> None:
    member = "sk_live_demo_key_member_1"
    world = comparing(
        World(
            organization_record("org_member", tier="enterprise", account_id="org_heron"),
            key_record(member, name="key_member_1", organization="org_member", account="org_heron"),
        ),
        fit("pro"),
    )
    world.balance("account", "org_heron", used_micro=987_654_321)
    assert b"987" not in world.get(PATH, member).content
    assert world.get(PATH, member).json()["tier"] == "enterprise"
    assert world.get(PATH).json()["tier"] == "pro"
    assert asked(world) == [("org_member", 1, MONTH), ("org_heron", 1, MONTH)], (
        "nobody is told of the others, not even who pays"
    )


def test_a_month_is_compared_once_in_five_minutes_for_each_organization() -> None:
    world = comparing(World(), fit("pro"))
    for secret in (HERON, HERON, OTHER_SECRET):
        assert world.get(PATH, secret).status_code == 200
    assert world.get(PATH, params={"month": "2026-01"}).json()["month"] == "2026-01"
    assert [name for name, *_ in asked(world)] == ["org_heron", "org_finch", "org_heron"]
    world.now_ms += comparisons.KEPT_MS
    assert world.get(PATH).status_code == 200
    assert len(asked(world)) == 4


def test_a_month_that_cannot_be_asked_for_is_503_and_asked_for_again() -> None:
    world = World()
    assert world.get(PATH).status_code == 503
    assert comparing(world, fit("pro")).get(PATH).status_code == 200
    assert world.get(PATH, params={"month": "2026-13"}).status_code == 422


async def test_one_organization_has_one_comparison_under_way(monkeypatch: Any) -> None:
    api = ApiApp()
    began, go, ask = asyncio.Event(), asyncio.Event(), api.history.ask

    async def slow(question: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        if question.__name__ == "month_fits":
            began.set()
            await go.wait()
            if arguments[2] == "2026-02":
                raise away("The past cannot be asked")
        return await ask(question, *arguments, **options)

    monkeypatch.setattr(api.history, "ask", slow)
    async with api.client(HERON) as heron, api.client(OTHER_SECRET) as finch:
        first, second = (asyncio.create_task(heron.get(PATH)) for _ in range(2))
        await began.wait()
        other_month = await heron.get(PATH, params={"month": "2026-01"})
        assert (other_month.status_code, other_month.headers["retry-after"]) == (503, "1")
        others = asyncio.create_task(finch.get(PATH))
        go.set()
        assert [one.status_code for one in await asyncio.gather(first, second, others)] == [200, 200, 200]
        assert sorted(name for name, *_ in asked(api)) == ["org_finch", "org_heron"]
        assert (await heron.get(PATH, params={"month": "2026-02"})).status_code == 503
        assert (await heron.get(PATH, params={"month": "2026-01"})).status_code == 200, "it waits for none that failed"


def test_of_the_months_that_were_compared_the_oldest_go(monkeypatch: Any) -> None:
    monkeypatch.setattr(comparisons, "KEPT_MAX", 1)
    world = comparing(World(), fit("pro"))
    for month in ("2026-01", "2026-02", "2026-01"):
        assert world.get(PATH, params={"month": month}).json()["month"] == month
    assert len(asked(world)) == 3
