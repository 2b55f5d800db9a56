"""Callers keep their schedule, their bound and their counts, whatever the API answers."""

import asyncio
import itertools

import httpx
import pytest

from stack.callers import FREE_CALL
from stack.traffic import CONCURRENT_MAX, Callers, Counts, steady


async def send(handler: httpx.MockTransport, per_s: float, for_s: float | None, calls: int | None = None) -> Counts:
    counts = Counts()
    async with httpx.AsyncClient(transport=handler) as client:
        callers = Callers(client, ["http://one", "http://two"], counts)
        await callers.run([itertools.islice(steady("secret", itertools.repeat(FREE_CALL), per_s), calls)], for_s)
    return counts


async def test_every_call_is_counted_by_its_answer_and_nodes_take_turns(capsys: pytest.CaptureFixture[str]) -> None:
    hosts: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        hosts.append(request.url.host)
        assert request.headers["authorization"] == "Bearer secret"
        if len(hosts) % 5 == 0:
            raise httpx.ConnectError("away")
        return httpx.Response(200 if len(hosts) % 2 else 429)

    counts = await send(httpx.MockTransport(answer), 200, None, calls=50)
    assert counts.sent == 50
    assert counts.answers == {"200": 20, "429": 20}
    assert counts.unreachable == 10
    assert hosts == ["one", "two"] * 25
    assert capsys.readouterr().out.splitlines()[-1] == counts.to_json()


async def test_no_more_calls_wait_for_an_answer_than_allowed() -> None:
    waiting = most = 0

    async def answer(_: httpx.Request) -> httpx.Response:
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        await asyncio.sleep(0.05)
        waiting -= 1
        return httpx.Response(200)

    counts = await send(httpx.MockTransport(answer), 100_000, 0.2)
    assert most == CONCURRENT_MAX
    assert counts.sent == counts.answers["200"] >= CONCURRENT_MAX
