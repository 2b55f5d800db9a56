"""What is wrong with the running system, and the remedy, as seen from this process."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from clickhouse_connect.driver.client import Client
from fastapi import APIRouter, Request
from starlette.responses import Response

from sluicegate.errors import ClickHouseError
from sluicegate.operator.doctor import Diagnosis

from ...auth import OperatorReads
from ...problems import ProblemError, away
from .asking import PREFIX, as_problems, desk_of, now_of, parts_of, record_answer, shows

router = APIRouter(tags=["operator system"])
DIAGNOSE_LIMIT_S: Final = 25.0
"""Below the time within which an answer begins; where all is well it takes as long as a record is waited for."""


def selected(client: Client, statement: str) -> Sequence[Mapping[str, Any]]:
    """The rows that a statement selects."""
    return list(client.query(statement).named_results())


@router.get(f"{PREFIX}/doctor", **shows(Diagnosis))
async def doctor(request: Request, _: OperatorReads) -> Response:
    """The checks of ``sluicegate doctor``: broker, topics, settings, catalogue, lags, ClickHouse, clock, versions.
    Takes some seconds, as it waits for a record to see the clock by; it changes nothing."""
    parts = parts_of(request)

    async def select(statement: str) -> Sequence[Mapping[str, Any]]:
        try:
            return await parts.history.ask(selected, statement)
        except ProblemError:
            raise ClickHouseError("does not answer") from None

    with as_problems():
        try:
            async with asyncio.timeout(DIAGNOSE_LIMIT_S):
                found = await desk_of(request).diagnose(
                    now=now_of(parts), partitions=parts.partitions, clickhouse_url=parts.clickhouse_url, select=select
                )
        except TimeoutError:
            raise away("The checks took too long: Kafka may be away") from None
    return record_answer(found)
