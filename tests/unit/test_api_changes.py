"""Changes of what an organization was put as last: none is lost, and a repeat is known again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from sluicegate import Brokers
from sluicegate.operator import own_values
from sluicegate.operator.own_values import UNANSWERED, PendingError, Put, standing_put
from sluicegate.operator.send import Sent
from sluicegate.operator.system import System
from sluicegate_schemas.accounts import OrganizationPut
from sluicegate_schemas.bounds import to_epoch_ms
from sluicegate_schemas.outputs import Position
from tests.api_app import WRITER, ApiApp
from tests.gating import NOW

ORGANIZATION = "/v1/operator/organizations/org_heron"
SYSTEM = System(Brokers("127.0.0.1:1"), "sluicegate.")


def named(command_id: str) -> dict[str, str]:
    return {"Idempotency-Key": command_id}


@pytest.fixture
def api() -> ApiApp:
    return ApiApp()


@pytest.fixture
async def writer(api: ApiApp) -> AsyncIterator[httpx.AsyncClient]:
    async with api.client(WRITER) as client:
        put = await client.put(ORGANIZATION, json={"tier": "pro"}, headers=named("c1"))
        assert put.status_code == 200
        yield client


def last_put(api: ApiApp) -> OrganizationPut:
    last = api.desk.log[-1]
    assert isinstance(last, OrganizationPut)
    return last


async def test_no_change_is_made_of_what_may_change_yet(api: ApiApp, writer: httpx.AsyncClient) -> None:
    api.desk.is_silent = True
    sent = await writer.patch(ORGANIZATION, json={"concurrency": 7}, headers=named("c2"))
    assert sent.status_code == 202
    for path, body in ((ORGANIZATION, {"tier": "team"}), (f"{ORGANIZATION}/pool", {"cap_micro": 9})):
        method = "PUT" if path.endswith("pool") else "PATCH"
        other = await writer.request(method, path, json=body, headers=named("c3"))
        assert (other.status_code, other.headers["Retry-After"]) == (503, "1")
    assert len(api.desk.log) == 2
    api.desk.is_silent = False
    assert (await writer.patch(ORGANIZATION, json={"tier": "team"}, headers=named("c3"))).status_code == 200
    assert (last_put(api).tier, last_put(api).concurrency) == ("team", 7)


async def test_changes_at_the_same_moment_all_stay(api: ApiApp, writer: httpx.AsyncClient) -> None:
    changes: list[dict[str, Any]] = [{"concurrency": 7}, {"objects_per_batch": 3}, {"tier": "team"}]
    answers = await asyncio.gather(
        *(writer.patch(ORGANIZATION, json=change, headers=named(f"d{number}")) for number, change in enumerate(changes))
    )
    assert {answer.status_code for answer in answers} == {200}
    last = last_put(api)
    assert (last.concurrency, last.objects_per_batch, last.tier) == (7, 3, "team")


async def test_a_repeat_is_known_again_though_another_change_acted_before_it(
    api: ApiApp, writer: httpx.AsyncClient
) -> None:
    change = {"objects_per_batch": 3}
    first = await writer.patch(ORGANIZATION, json=change, headers=named("c3"))
    other = last_put(api).model_copy(update={"command_id": "c2", "concurrency": 7, "objects_per_batch": None})
    api.desk.log.insert(1, other)  # another process sent it before, and it had no answer when c3 was made
    again = await writer.patch(ORGANIZATION, json=change, headers=named("c3"))
    assert (first.status_code, again.status_code) == (200, 200)
    assert (await writer.patch(ORGANIZATION, json={"concurrency": 8}, headers=named("c3"))).status_code == 409
    assert len(api.desk.log) == 3


# ---- what stands, of what the log holds ----


def put(number: int, acted: bool | None, *, age: timedelta = timedelta(0)) -> Put:
    command = OrganizationPut(
        kind="organization.put",
        command_id=f"c{number}",
        issued_at=NOW,
        issued_by="ada",
        account_id="org_heron",
        organization_id="org_heron",
        tier="pro",
    )
    where = Position(topic="accounts", partition=0, offset=number)
    return Put(command, where, to_epoch_ms(NOW - age), acted)


async def standing(monkeypatch: pytest.MonkeyPatch, log: list[Put], outcome: str) -> str | None:
    """The id of what stands, where a command without an answer gets ``outcome``."""

    async def read(*_: object) -> list[Put]:
        return log

    async def answer(_: object, command: object, position: Position, *__: object, wait_s: float) -> Sent:
        return Sent(outcome, position)  # type: ignore[arg-type]  # one of its four

    monkeypatch.setattr(own_values, "read_puts", read)
    monkeypatch.setattr(own_values, "answer_of", answer)
    found = await standing_put(SYSTEM, "org_heron", "org_heron", now=NOW, wait_s=1)
    return None if found is None else found.command_id


async def test_what_stands_is_the_last_that_acted(monkeypatch: pytest.MonkeyPatch) -> None:
    log = [put(1, True), put(2, True), put(3, False)]
    assert await standing(monkeypatch, log, "refused") == "c2"
    assert await standing(monkeypatch, [], "refused") is None


async def test_what_has_no_answer_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    log = [put(1, True), put(2, None)]
    assert await standing(monkeypatch, log, "applied") == "c2"
    assert await standing(monkeypatch, log, "refused") == "c1"
    with pytest.raises(PendingError):
        await standing(monkeypatch, log, "unconfirmed")


async def test_what_had_no_answer_for_days_was_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    log = [put(1, True), put(2, None, age=UNANSWERED)]
    assert await standing(monkeypatch, log, "unconfirmed") == "c1"
