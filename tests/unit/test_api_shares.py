"""One organization that asks much leaves room for the others."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from api.shares import OF_ORGANIZATION_MAX, Shares
from tests.api_app import FINCH, HERON, ApiApp

LIMIT_S = 20.0
HELD = ["usage/series", "usage?month=2025-01", "usage/api-keys/key_heron_1?month=2025-01", "decisions/d-older"]


class Slow:
    """A ClickHouse that answers when it is let go."""

    def __init__(self, api: ApiApp) -> None:
        self._history = api.history
        self.waiting = 0
        self.came = asyncio.Event()
        self.go_on = asyncio.Event()

    async def ask(self, *arguments: Any, **options: Any) -> Any:
        self.waiting += 1
        self.came.set()
        await self.go_on.wait()
        return await self._history.ask(*arguments, **options)


async def _until_waiting(slow: Slow, count: int) -> None:
    async with asyncio.timeout(LIMIT_S):
        while slow.waiting < count:
            slow.came.clear()
            await slow.came.wait()


def _get(client: httpx.AsyncClient, path: str) -> asyncio.Task[httpx.Response]:
    return asyncio.create_task(client.get(f"/v1/organizations/{path}"))


@pytest.mark.parametrize("path", HELD)
async def test_an_organization_has_a_share_of_the_questions_about_the_past(path: str) -> None:
    api = ApiApp()
    slow = api.parts.history = Slow(api)
    async with api.client(HERON) as heron, api.client(FINCH) as finch:
        held = [_get(heron, "usage/series") for _ in range(OF_ORGANIZATION_MAX)]
        await _until_waiting(slow, OF_ORGANIZATION_MAX)
        refused = await _get(heron, path)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert refused.headers["content-type"] == "application/problem+json"
        assert (await _get(heron, "usage")).status_code == 200, "what is current goes on"
        other = _get(finch, "usage/series")
        await _until_waiting(slow, OF_ORGANIZATION_MAX + 1)
        slow.go_on.set()
        assert {(await one).status_code for one in (*held, other)} == {200}
        assert (await _get(heron, "usage/series")).status_code == 200
    assert len(api.parts.shares) == 0


def test_a_share_is_given_back_whatever_happens() -> None:
    shares = Shares()
    with pytest.raises(KeyError), shares.taken("org_heron"):
        raise KeyError
    assert len(shares) == 0


async def test_the_document_is_made_once_for_all_who_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    api = ApiApp()
    async with api.client() as anybody:
        first = await anybody.get("/openapi.json")
        monkeypatch.setattr(api.app, "openapi", None)
        again = await anybody.get("/openapi.json")
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["content-type"] == "application/json"
