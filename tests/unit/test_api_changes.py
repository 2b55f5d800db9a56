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
from sluicegate.operator.organizations import Put
from sluicegate.operator.own_values import UNANSWERED, PendingError, standing_put
from sluicegate.operator.send import Sent
from sluicegate.operator.submit import ATTEMPTS_MAX
from sluicegate.operator.system import System
from sluicegate_schemas.accounts import OrganizationPut
from sluicegate_schemas.bounds import to_epoch_ms
from sluicegate_schemas.outputs import Position
from tests.api_app import WRITER, ApiApp
from tests.command_line import applied
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
    api.desk.log[1] = last_put(api).model_copy(update={"based_on": None})  # as an older version sent it
    other = last_put(api).model_copy(update={"command_id": "c2", "concurrency": 7, "objects_per_batch": None})
    api.desk.log.insert(1, other)  # another process sent it before, and it had no answer when c3 was made
    again = await writer.patch(ORGANIZATION, json=change, headers=named("c3"))
    assert (first.status_code, again.status_code) == (200, 200)
    assert (await writer.patch(ORGANIZATION, json={"concurrency": 8}, headers=named("c3"))).status_code == 409
    assert len(api.desk.log) == 3


# ---- another process beside this one ----


class Other:
    """Another process, that changes the organization ``times`` times, each time just before this one sends."""

    def __init__(self, api: ApiApp, times: int) -> None:
        self.left, self._api = times, api
        api.desk.meanwhile = self._change

    def _change(self) -> None:
        if self.left == 0:
            return
        self.left -= 1
        last = [one for one in self._api.desk.log if isinstance(one, OrganizationPut) and one.issued_by == "other"]
        standing = last[-1] if last else self._api.desk.log[0]
        changed = {"command_id": f"other-{self.left}", "issued_by": "other", "objects_per_batch": 100 + self.left}
        self._api.desk.append(standing.model_copy(update=changed))


@pytest.mark.parametrize(
    ("method", "path", "change"),
    [("PATCH", "", {"concurrency": 7}), ("PUT", "/pool", {"cap_micro": 9})],
)
async def test_what_another_process_changed_meanwhile_stays_and_so_does_the_change(
    method: str, path: str, change: dict[str, int], api: ApiApp, writer: httpx.AsyncClient
) -> None:
    Other(api, times=3)
    answer = await writer.request(method, ORGANIZATION + path, json=change, headers=named("c2"))
    assert answer.status_code == 200, answer.text
    assert last_put(api).objects_per_batch == 100
    assert last_put(api).concurrency == 7 or last_put(api).pool is not None
    length = len(api.desk.log)
    again = await writer.request(method, ORGANIZATION + path, json=change, headers=named("c2"))
    assert (again.status_code, again.content, len(api.desk.log)) == (200, answer.content, length)
    other = await writer.request(method, ORGANIZATION + path, json={}, headers=named("c2"))
    assert (other.status_code, len(api.desk.log)) == (409, length)


async def test_who_is_always_overtaken_is_told_and_may_repeat_it_under_the_same_key(
    api: ApiApp, writer: httpx.AsyncClient
) -> None:
    other = Other(api, times=ATTEMPTS_MAX)
    refused = await writer.patch(ORGANIZATION, json={"concurrency": 7}, headers=named("c2"))
    assert (refused.status_code, refused.headers["retry-after"]) == (409, "1")
    assert refused.headers["content-type"] == "application/problem+json"
    assert "Send it again" in refused.json()["detail"]
    assert [one["field"] for one in refused.json()["fields"]] == ["based_on"]
    assert (other.left, len(api.desk.log)) == (0, 1 + 2 * ATTEMPTS_MAX)
    assert (await writer.get(ORGANIZATION)).json()["put"]["concurrency"] is None
    another = await writer.patch(ORGANIZATION, json={"concurrency": 8}, headers=named("c2"))
    assert another.status_code == 409
    assert len(api.desk.log) == 1 + 2 * ATTEMPTS_MAX
    again = await writer.patch(ORGANIZATION, json={"concurrency": 7}, headers=named("c2"))
    assert again.status_code == 200
    assert (last_put(api).concurrency, last_put(api).objects_per_batch) == (7, 100)


async def test_a_whole_put_acts_on_the_revision_that_it_names_alone(api: ApiApp, writer: httpx.AsyncClient) -> None:
    revision = (await writer.get(ORGANIZATION)).json()["revision"]
    body = {"tier": "team", "based_on": revision}
    assert (await writer.put(ORGANIZATION, json=body, headers=named("c2"))).status_code == 200
    assert (await writer.get(ORGANIZATION)).json()["revision"] == 1
    for _ in range(2):
        refused = await writer.put(ORGANIZATION, json=body | {"concurrency": 9}, headers=named("c3"))
        assert refused.status_code == 409
    assert len(api.desk.log) == 3, "what names its base is not made anew"
    assert (await writer.put(ORGANIZATION, json={"tier": "free"}, headers=named("c4"))).status_code == 200
    assert (await writer.patch(ORGANIZATION, json={"based_on": 3}, headers=named("c5"))).status_code == 422


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

    async def answer(_: object, command: OrganizationPut, position: Position, *__: object, wait_s: float) -> Sent:
        if outcome == "another":
            return applied(command)
        trail = applied(command).trail if outcome == "applied" else None
        where = None if trail is None else trail.model_copy(update={"source": position})
        return Sent(outcome, position, trail=where)  # type: ignore[arg-type]  # one of its four

    monkeypatch.setattr(own_values, "read_puts", read)
    monkeypatch.setattr(own_values, "answer_of", answer)
    found = await standing_put(SYSTEM, "org_heron", "org_heron", now=NOW, wait_s=1)
    return None if found is None else found.command.command_id


async def test_what_stands_is_the_last_that_acted(monkeypatch: pytest.MonkeyPatch) -> None:
    log = [put(1, True), put(2, True), put(3, False)]
    assert await standing(monkeypatch, log, "refused") == "c2"
    assert await standing(monkeypatch, [], "refused") is None


async def test_what_has_no_answer_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    log = [put(1, True), put(2, None)]
    assert await standing(monkeypatch, log, "applied") == "c2"
    assert await standing(monkeypatch, log, "refused") == "c1"
    assert await standing(monkeypatch, log, "another") == "c1", "what acted under its id stands elsewhere"
    with pytest.raises(PendingError):
        await standing(monkeypatch, log, "unconfirmed")


async def test_what_had_no_answer_for_days_was_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    log = [put(1, True), put(2, None, age=UNANSWERED)]
    assert await standing(monkeypatch, log, "unconfirmed") == "c1"
