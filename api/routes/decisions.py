"""``GET /v1/organizations/decisions/{decision_id}``: why something was blocked, down to the event that caused it."""

import asyncio
from typing import Annotated, Final

from aiokafka.errors import KafkaError
from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from clickhouse.queries import decision_row
from sluicegate.errors import SluicegateError
from sluicegate.operator.decisions import from_row
from sluicegate.operator.events import SeenEvent as FoundEvent
from sluicegate.operator.events import background, concerns
from sluicegate_schemas.bounds import EVENT_ID_PATTERN, from_epoch_ms
from sluicegate_schemas.wire_decision import WireDecision

from ..answers import answer, shown_as
from ..auth import Caller, ReadsLimits
from ..models import SeenEvent, Why
from ..parts import Parts
from ..problems import away, not_found
from ..verdicts import decision_of

router = APIRouter(tags=["limits"])

READS_MAX: Final = asyncio.Semaphore(4)
"""Looks into the usage log at a time: each opens a consumer of its own."""
READ_LIMIT_S: Final = 10.0


@router.get("/v1/organizations/decisions/{decision_id:path}", **shown_as(Why))
async def why(
    request: Request,
    caller: ReadsLimits,
    decision_id: Annotated[str, Path(pattern=EVENT_ID_PATTERN, description="As answers and alerts name it")],
    last: Annotated[int, Query(ge=0, le=100, description="How many events before it")] = 10,
) -> Response:
    """Why a decision on the organization, or on one of its keys, was made."""
    parts: Parts = request.app.state.parts
    with parts.shares.taken(caller.organization_id):
        decision = parts.directory.decision(decision_id)
        if decision is None or not parts.directory.concerns(decision, caller.organization_id, caller.account_id):
            # Of another's decision as of one that never was: the same question, which takes as long.
            decision = await _from_history(parts, caller, decision_id)
        if decision is None or not parts.directory.concerns(decision, caller.organization_id, caller.account_id):
            raise not_found("decision")
        event, before, notes = await _led(parts, caller, decision, last)
    now_ms, stale_ms = parts.clock(), parts.knowledge_stale_ms
    return answer(
        Why.model_construct(
            as_of=from_epoch_ms(now_ms - stale_ms),
            lag_ms=stale_ms,
            final=False,
            decision=decision_of(decision, caller.organization_id),
            stands=_stands(parts, decision) and (decision.until_ms is None or decision.until_ms > now_ms),
            event=event,
            events=before,
            notes=notes,
        )
    )


def _stands(parts: Parts, decision: WireDecision) -> bool:
    verdict = (parts.knowledge.view.verdicts_on(decision.scope.text()) or {}).get(decision.limit_name)
    return verdict is not None and verdict.blocks and verdict.decision_id == decision.decision_id


async def _from_history(parts: Parts, caller: Caller, decision_id: str) -> WireDecision | None:
    owners = [caller.organization_id, caller.account_id, caller.api_key_id]
    owners += [key.api_key_id for key in parts.directory.keys_of(caller.organization_id)]
    row = await parts.history.ask(decision_row, decision_id, owners)
    try:
        return None if row is None else from_row(row)
    except SluicegateError:
        return None


async def _led(
    parts: Parts, caller: Caller, decision: WireDecision, last: int
) -> tuple[SeenEvent | None, list[SeenEvent], list[str]]:
    """The event, those before it, and what is no longer there; of a pool's account only what the caller did itself."""
    if decision.cause is None:
        return None, [], ["no event caused it: a command, a plan, the time or a takeover did"]
    catalogue = parts.knowledge.view.catalogue_at(parts.clock())
    operations = {} if catalogue is None else catalogue.operations
    is_about = concerns(decision.scope, lambda name: operations[name].category if name in operations else None)
    own = caller.organization_id
    try:
        async with asyncio.timeout(READ_LIMIT_S), READS_MAX:
            led = await background(
                parts.system,
                decision.cause.position,
                lambda event: event.org_id == own and is_about(event),
                count=last,
            )
    except (KafkaError, OSError, SluicegateError, TimeoutError):
        raise away("The events before it cannot be read") from None
    if led.event is not None and led.event.event.org_id != own:
        return None, [_seen(one) for one in led.before], [*led.notes, "another member of the pool caused it"]
    return None if led.event is None else _seen(led.event), [_seen(one) for one in led.before], led.notes


def _seen(found: FoundEvent) -> SeenEvent:
    event = found.event
    return SeenEvent.model_construct(
        id=event.id,
        ts=event.ts,
        operation=event.operation,
        status=event.status,
        api_key_id=event.api_key_id,
        cached=event.cached,
        quantities=event.quantities.model_dump(exclude_none=True),
    )
