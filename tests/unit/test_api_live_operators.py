"""The operators' live stream: blocks of all organizations, and nothing that customers hear."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api.live import OF_ORGANIZATION_MAX
from tests.api_app import FINCH, READER, REVOKED, ApiApp
from tests.gating import TopicRecord, credit_block, decision_record
from tests.unit.test_api_live import Stream, streaming

LIVE = "/v1/operator/live"


def of_finch(rank: int, **fields: Any) -> TopicRecord:
    return decision_record(
        kind="organization", name="org_finch", limit_name="credits", decision_id=f"d-{rank}", rank=(2, rank), **fields
    )


async def told(stream: Stream, count: int) -> list[tuple[str, str | None]]:
    found = await stream.until(count)
    return [(one["event"], json.loads(one["data"])["organization_id"]) for one in found]


async def test_operators_hear_of_blocks_of_every_organization_and_of_their_end() -> None:
    api = ApiApp()
    async with streaming(api, READER, path=LIVE) as stream:
        api.learn(credit_block(), of_finch(7))
        assert await told(stream, 2) == [("block", "org_heron"), ("block", "org_finch")]
        api.learn(of_finch(8, verdict="allow"))
        assert (await told(stream, 3))[2] == ("clear", "org_finch")


async def test_who_comes_again_misses_nothing() -> None:
    api = ApiApp()
    async with streaming(api, READER, path=LIVE) as stream:
        api.learn(credit_block())
        (first,) = await stream.until(1)
    api.learn(of_finch(7))
    async with streaming(api, READER, first["id"], path=LIVE) as stream:
        assert await told(stream, 1) == [("block", "org_finch")]


async def test_a_credential_that_was_taken_back_hears_no_more() -> None:
    api = ApiApp()
    async with streaming(api, READER, path=LIVE) as stream:
        api.parts.operators = api.parts.operators[1:]
        api.learn(credit_block())
        await stream.ended()
        assert stream.events == []


@pytest.mark.parametrize("secret", [FINCH, REVOKED, "nobody"])
async def test_no_key_opens_the_operators_stream(secret: str) -> None:
    async with streaming(ApiApp(), secret, path=LIVE) as stream:
        assert stream.status == 401


async def test_operators_streams_take_no_customers_place_and_have_a_bound() -> None:
    api = ApiApp()
    async with streaming(api, FINCH) as customer:
        assert customer.status == 200
        contexts = [streaming(api, READER, path=LIVE) for _ in range(OF_ORGANIZATION_MAX + 1)]
        streams = [await one.__aenter__() for one in contexts]
        assert [one.status for one in streams] == [200] * OF_ORGANIZATION_MAX + [429]
        assert len(api.app.state.hub) == 1
        for one in contexts:
            await one.__aexit__(None, None, None)
