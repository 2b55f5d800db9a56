"""Hard limits at the gate while time passes: a request holds what it was admitted by, and nothing stays held."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import httpx
import pytest

from sluicegate.gate import Gate, Hold, Spend
from sluicegate.gate.soft import SoftReserve
from sluicegate.metering import current
from sluicegate_schemas.catalogue import CatalogueRecord, StartedPrice
from tests.borrowing import CREDIT, Service, hard
from tests.gating import (
    CATALOGUE,
    NOW,
    NOW_MS,
    SECRET,
    TopicRecord,
    heron,
)


async def test_a_lease_that_expires_while_the_gate_answers_still_pays_for_the_request() -> None:
    service = Service()
    call = asyncio.create_task(service.call())
    service.answer(await service.asked(), 200 * CREDIT)
    assert (await call).status_code == 200
    (purse,) = service.lending.escrow
    expires_at_ms = purse.leases[0].expires_at_ms
    times = iter([expires_at_ms - 1])
    service.lending.reserve._now_ms = lambda: next(times, expires_at_ms)  # type: ignore[misc]  # the clock ticks
    assert (await service.call()).status_code == 200
    assert [len(event["leases"] or ()) for event in service.meter.events] == [1, 1]
    assert len(service.gate.in_flight) == 0


async def test_a_request_that_waited_is_held_at_the_prices_it_was_admitted_by() -> None:
    service = Service(heron(hard(), halved_price(NOW - timedelta(milliseconds=59_900))))
    now_ms = NOW_MS
    service.gate._clock = service.app._clock = lambda: now_ms
    call = asyncio.create_task(service.call())
    request = await service.asked()
    assert request.needed_micro == 100 * CREDIT
    now_ms += 150
    service.answer(request, 60 * CREDIT)
    assert (await call).status_code == 200
    assert [event["leases"] for event in service.meter.events] == [[f"0-{request.request_id}"]]


def halved_price(effective_at: datetime) -> TopicRecord:
    """A further version of the catalogue: a model's answer costs 50 credits at most."""
    inference = CATALOGUE.operations["inference.llm"]
    assert isinstance(inference.price, StartedPrice)
    price = inference.price.model_copy(update={"credits_micro_max": 50 * CREDIT})
    operations = {**CATALOGUE.operations, "inference.llm": inference.model_copy(update={"price": price})}
    catalogue = CATALOGUE.model_copy(
        update={"version": CATALOGUE.version + 1, "effective_at": effective_at, "operations": operations}
    )
    record = CatalogueRecord(catalogue=catalogue, published_at=NOW, published_by="test")
    return "catalog", str(catalogue.version).encode(), record.model_dump_json().encode()


async def test_several_checks_before_their_beginnings_are_each_held_back() -> None:
    service = Service()
    call = asyncio.create_task(service.call())
    service.answer(await service.asked(), 210 * CREDIT)
    await call
    answers = [service.gate.check(SECRET, "inference.llm") for _ in range(2)]
    for running in [service.gate.begin(answer) for answer in answers]:
        assert running is not None
        assert len(running.leases) == 1
    (purse,) = service.lending.escrow
    assert [lease.reserved_micro for lease in purse.leases] == [200 * CREDIT]


class Failing(SoftReserve):
    """A reserve that breaks when it has to hold."""

    def hold(self, spend: Spend, now_ms: int) -> Hold:
        raise OSError("it breaks")


def test_a_request_that_cannot_begin_holds_nothing() -> None:
    gate = Gate(heron(), reserves=[Failing()], clock=lambda: NOW_MS)
    answer = gate.check(SECRET, "inference.llm")
    with pytest.raises(OSError, match="it breaks"):
        gate.begin(answer)
    assert (len(gate.in_flight), gate.soft.reserved_micro) == (0, 0)
    assert all(line.holds == 0 for line in gate.soft.lines.values())


@pytest.mark.parametrize("first_ms", [None, 300_000])
async def test_a_lease_that_a_running_request_took_ends_it_in_time(first_ms: int | None) -> None:
    """``first_ms``: how long the lease that it began on lets it run; None: it began on none."""

    async def application(scope: object, receive: object, send: object) -> None:
        await current().expect(charges=["inference.llm"])
        await asyncio.sleep(60)

    service = Service()
    service.app._app = application  # type: ignore[assignment]  # ASGI
    call = asyncio.create_task(service.call("retriever.execute" if first_ms is None else "inference.llm"))
    if first_ms is not None:
        service.answer(await service.asked(), 100 * CREDIT, request_ms_max=first_ms)
    further = await service.asked(0 if first_ms is None else 1)
    service.answer(further, further.needed_micro, request_ms_max=50)
    await asyncio.wait([call], timeout=10)
    assert call.done()
    assert isinstance(call.exception(), TimeoutError)
    assert [event["leases"] for event in service.meter.events] == [[f"0-{further.request_id}"]]
    (purse,) = service.lending.escrow
    assert [lease.running for lease in (*purse.leases, *purse.closing)] in ([0], [0, 0])


async def test_a_further_lease_does_not_put_off_the_end_of_a_request() -> None:
    async def application(scope: object, receive: object, send: object) -> None:
        await current().expect(charges=["inference.llm"])
        await asyncio.sleep(60)

    service = Service()
    service.app._app = application  # type: ignore[assignment]  # ASGI
    call = asyncio.create_task(service.call())
    service.answer(await service.asked(), 100 * CREDIT, request_ms_max=100)
    further = await service.asked(1)
    service.answer(further, further.needed_micro, request_ms_max=300_000)
    await asyncio.wait([call], timeout=10)
    assert call.done()
    assert isinstance(call.exception(), TimeoutError)


async def crowd(service: Service, calls: int) -> list[asyncio.Task[httpx.Response]]:
    """So many calls that wait: each of the first four with a lease request of its own, later ones without."""
    tasks = []
    for number in range(calls):
        tasks.append(asyncio.create_task(service.call()))
        await (service.asked(number) if number < 4 else asyncio.sleep(0.01))
    assert len(service.sent) == 4
    return tasks


async def test_a_lease_is_there_for_those_who_waited_for_it_though_others_wait_by_then() -> None:
    service = Service()
    tasks = await crowd(service, 6)
    service.answer(service.sent[0], 100 * CREDIT)
    service.lending._ask_soon()  # as the follower's news does
    assert (await tasks[0]).status_code == 200
    assert not [request.returned for request in service.sent if request.returned]
    await asyncio.gather(*tasks)


async def test_what_a_lease_has_left_serves_who_has_not_asked_yet() -> None:
    service = Service()
    tasks = await crowd(service, 6)
    service.answer(service.sent[0], 300 * CREDIT)
    service.lending._ask_soon()
    assert [(await tasks[number]).status_code for number in (0, 4, 5)] == [200, 200, 200]
    assert len(service.sent) == 4, "nobody had to ask again"
    await asyncio.gather(*tasks)
