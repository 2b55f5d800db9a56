"""Hard limits at the gate: admitted out of leases alone, waited for within bounds, refused for what is known."""

from __future__ import annotations

import asyncio
import json

import pytest

from sluicegate.errors import RefusedError
from sluicegate.gate import Description, Gate
from sluicegate.metering import current
from sluicegate_schemas.bounds import LABELS_MAX, LEASES_MAX
from sluicegate_schemas.decode import check_numbers
from sluicegate_schemas.envelope import WireCharge
from sluicegate_schemas.outputs import Scope, Sequence
from tests.borrowing import CREDIT, Service, hard
from tests.domain_world import usage
from tests.gating import (
    NOW_MS,
    SECRET,
    Known,
    catalogue_record,
    heron,
    key_record,
    organization_record,
)


@pytest.mark.contract("3.20")
async def test_a_first_request_waits_for_its_lease_and_its_event_names_it() -> None:
    service = Service()
    call = asyncio.create_task(service.call())
    request = await service.asked()
    assert (request.needed_micro, request.least_micro, request.scope) == (
        100 * CREDIT,
        100 * CREDIT,
        "account:org_heron",
    )
    service.answer(request, 200 * CREDIT)
    assert (await call).status_code == 200
    assert [event["leases"] for event in service.meter.events] == [[f"0-{request.request_id}"]]
    assert (await service.call()).status_code == 200
    assert len(service.sent) == 1, "the second one was paid for by what was lent ahead"


@pytest.mark.contract("3.20", "9.14")
async def test_who_waits_in_vain_is_answered_503_and_runs_nothing() -> None:
    service = Service()
    answer = await service.call()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert [event["status"] for event in service.meter.events] == [503]


@pytest.mark.contract("9.14")
async def test_what_cannot_be_lent_is_refused_as_used_up_and_at_once_the_next_time() -> None:
    service = Service()
    call = asyncio.create_task(service.call())
    service.answer(await service.asked(), 0)
    details = json.loads((await call).content)["error"]["details"]
    assert ((await call).status_code, details["resource"], details["current"]) == (403, "credits", 900)
    assert (await service.call()).status_code == 403
    assert len(service.sent) == 1


@pytest.mark.contract("3.17")
async def test_parallel_requests_are_admitted_as_far_as_the_lease_pays() -> None:
    service = Service(hangs_s=0.05, tokens=10_000)
    calls = [asyncio.create_task(service.call()) for _ in range(5)]
    request = await service.asked()
    assert request.needed_micro == 500 * CREDIT
    service.answer(request, 300 * CREDIT)
    statuses = sorted([(await call).status_code for call in calls])
    assert statuses == [200, 200, 200, 403, 403]


async def test_what_a_request_did_not_use_pays_for_the_next() -> None:
    service = Service(tokens=1_000)
    call = asyncio.create_task(service.call())
    service.answer(await service.asked(), 120 * CREDIT)
    await call
    for _ in range(2):
        assert (await service.call()).status_code == 200, "10 of 120 credits were used by each before"
    (purse,) = service.lending.escrow
    assert [(lease.spent_micro, lease.reserved_micro) for lease in purse.leases] == [(30 * CREDIT, 0)]


async def test_a_request_that_outlasts_its_lease_is_ended_and_pays_for_what_it_used() -> None:
    service = Service(hangs_s=60.0)
    call = asyncio.create_task(service.call())
    service.answer(await service.asked(), 200 * CREDIT, request_ms_max=50)
    with pytest.raises(TimeoutError):
        await call
    (purse,) = service.lending.escrow
    assert [lease.running for lease in purse.leases] == [0]


async def test_a_request_under_two_hard_limits_takes_a_lease_of_each() -> None:
    budgets = (
        Scope(kind="key", id="key_heron_1"),
        Scope(kind="label", id="org_heron", label="pipeline=a"),
    )
    service = Service(heron(hard(hard_budgets=budgets, hard_budget_limits=("budget_day", "budget_month"))))
    call = asyncio.create_task(service.call())
    asked = [await service.asked(0), await service.asked(1)]
    assert [one.scope for one in asked] == ["account:org_heron", "key:key_heron_1"]
    for request in asked:
        service.answer(request, 200 * CREDIT)
    assert (await call).status_code == 200
    assert len(service.meter.events[-1]["leases"] or ()) == 2


async def test_a_request_under_every_hard_limit_that_may_cover_one_takes_a_lease_of_each() -> None:
    labels = {f"l{number}": "a" for number in range(LABELS_MAX)}
    scopes = [
        Scope(kind="organization", id="org_heron"),
        Scope(kind="key", id="key_heron_1"),
        *(Scope(kind="label", id="org_heron", label=f"{name}=a") for name in labels),
    ]
    budgets = tuple(scope for scope in scopes for _ in range(2))
    service = Service(
        heron(hard(hard_budgets=budgets, hard_budget_limits=("budget_day", "budget_month") * len(scopes)))
    )
    service.app._describe = lambda _: {"labels": labels}
    call = asyncio.create_task(service.call())
    for number in range(1 + len(budgets)):
        service.answer(await service.asked(number), 200 * CREDIT)
    assert (await call).status_code == 200
    leases = service.meter.events[-1]["leases"] or []
    assert len(leases) == len(set(leases)) == LEASES_MAX
    event = usage()
    event.leases = leases
    check_numbers(event)


async def test_free_and_soft_requests_need_no_lease() -> None:
    service = Service()
    assert (await service.call("collections.list")).status_code == 200
    soft = Service(heron())
    assert (await soft.call()).status_code == 200
    assert not service.sent + soft.sent


@pytest.mark.parametrize(
    ("operation", "described"),
    [
        ("upload.file", {"quantities": {"bytes": 0}}),
        ("retriever.execute", {"charges": [WireCharge("search.knn", cached=True)]}),
    ],
)
async def test_what_is_known_to_cost_nothing_needs_no_lease(operation: str, described: Description) -> None:
    service = Service()
    service.app._describe = lambda _: described
    assert (await service.call(operation)).status_code == 200
    assert not service.sent


async def test_what_is_taken_to_cost_nothing_names_the_lease_at_hand_should_it_cost_something() -> None:
    service = Service()
    call = asyncio.create_task(service.call())
    service.answer(await service.asked(), 200 * CREDIT)
    await call
    service.app._describe = lambda _: {"quantities": {"bytes": 0}}
    await service.call("upload.file")
    assert [len(event["leases"] or ()) for event in service.meter.events] == [1, 1]
    (purse,) = service.lending.escrow
    assert [(lease.running, lease.reserved_micro) for lease in purse.leases] == [(0, 0)]


@pytest.mark.contract("9.14")
async def test_a_gate_that_cannot_borrow_admits_nothing_under_a_hard_limit() -> None:
    gate = Gate(heron(hard()), clock=lambda: NOW_MS)
    assert gate.check(SECRET, "inference.llm").status == 503
    assert gate.check(SECRET, "collections.list").status == 200


MEMBER_SECRET = "sk_live_demo_key_wren_1"


def pool(*, is_root_known: bool = True) -> Known:
    """An organization whose cost another one's account pays for, hard; its own plan is soft."""
    member = organization_record("org_wren", account_id="org_heron")
    member_key = key_record(MEMBER_SECRET, name="key_wren_1", organization="org_wren", account="org_heron")
    return (heron(hard()) if is_root_known else Known().learn(catalogue_record())).learn(member, member_key)


@pytest.mark.contract("9.14")
async def test_a_member_of_a_pool_spends_out_of_leases_where_its_payers_credits_are_hard() -> None:
    service = Service(pool())
    call = asyncio.create_task(service.call(secret=MEMBER_SECRET))
    request = await service.asked()
    assert (request.org_id, request.scope) == ("org_wren", "account:org_heron")
    service.answer(request, 200 * CREDIT)
    assert (await call).status_code == 200
    assert [event["leases"] for event in service.meter.events] == [[f"0-{request.request_id}"]]


@pytest.mark.contract("9.14")
async def test_a_gate_that_cannot_borrow_admits_no_member_of_a_hard_pool() -> None:
    gate = Gate(pool(), clock=lambda: NOW_MS)
    assert gate.check(MEMBER_SECRET, "inference.llm").status == 503
    assert gate.check(MEMBER_SECRET, "collections.list").status == 200


async def test_a_member_whose_payer_is_not_known_is_answered_503() -> None:
    gate = Gate(pool(is_root_known=False), clock=lambda: NOW_MS)
    assert gate.check(MEMBER_SECRET, "collections.list").status == 503


async def test_a_pool_that_becomes_hard_needs_leases_from_then_on() -> None:
    known = pool().learn(organization_record(rank=(3, 0)))
    gate = Gate(known, clock=lambda: NOW_MS)
    assert gate.check(MEMBER_SECRET, "inference.llm").allowed
    known.learn(hard(sequence=Sequence(epoch=4, counter=0)))
    assert gate.check(MEMBER_SECRET, "inference.llm").status == 503


async def test_everything_goes_back_in_the_end_behind_its_events() -> None:
    service = Service()
    call = asyncio.create_task(service.call())
    service.answer(await service.asked(), 200 * CREDIT)
    await call
    await service.lending.stop()
    assert service.sent[-1].returned == [(f"0-{service.sent[0].request_id}", 10 * CREDIT)]
    assert service.sent[-1].wanted_micro == 0


def expecting_later(service: Service, charge: str = "search.web") -> None:
    """The application has begun its response and used tokens when it learns of a further stage."""

    async def application(scope: object, receive: object, send: object) -> None:
        current().quantities["tokens"] = 10_000
        await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[operator]
        await send({"type": "http.response.body", "body": b"part", "more_body": True})  # type: ignore[operator]
        await current().expect(charges=[charge])
        await send({"type": "http.response.body", "body": b""})  # type: ignore[operator]

    service.app._app = application  # type: ignore[assignment]  # ASGI


async def test_a_further_stage_that_is_refused_leaves_the_request_on_its_lease() -> None:
    service = Service()
    expecting_later(service)
    call = asyncio.create_task(service.call())
    service.answer(await service.asked(), 100 * CREDIT)
    further = await service.asked(1)
    assert not further.returned, "the request on the lease still runs"
    service.answer(further, 0)
    with pytest.raises(RefusedError):
        await call
    (event,) = service.meter.events
    assert (event["status"], event["leases"]) == (200, [f"0-{service.sent[0].request_id}"])
    (purse,) = service.lending.escrow
    held = [*purse.leases, *purse.closing]
    assert [(one.spent_micro, one.reserved_micro, one.running) for one in held] == [(100 * CREDIT, 0, 0)]


async def test_a_client_that_leaves_while_a_further_stage_waits_leaves_the_cost_on_the_lease() -> None:
    service = Service()
    expecting_later(service)
    call = asyncio.create_task(service.call())
    service.answer(await service.asked(), 100 * CREDIT)
    assert not (await service.asked(1)).returned
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert [event["leases"] for event in service.meter.events] == [[f"0-{service.sent[0].request_id}"]]
    (purse,) = service.lending.escrow
    assert [lease.spent_micro for lease in (*purse.leases, *purse.closing)] == [100 * CREDIT]


async def test_a_further_stage_that_is_paid_for_moves_the_whole_request_to_the_larger_lease() -> None:
    service = Service()
    expecting_later(service)
    call = asyncio.create_task(service.call())
    service.answer(await service.asked(), 100 * CREDIT)
    further = await service.asked(1)
    service.answer(further, further.needed_micro)
    assert (await call).status_code == 200
    assert [event["leases"] for event in service.meter.events] == [[f"0-{further.request_id}"]]
    (purse,) = service.lending.escrow
    held = {lease.lease_id: lease for lease in (*purse.leases, *purse.closing)}
    assert {name: (one.spent_micro, one.running) for name, one in held.items()} == {
        f"0-{service.sent[0].request_id}": (0, 0),
        f"0-{further.request_id}": (100 * CREDIT, 0),
    }
