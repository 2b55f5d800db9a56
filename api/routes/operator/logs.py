"""What the workers said, as the topics hold it: decisions, alerts and rejects, the newest first, and the balances of
all months that are kept. Bounded looks into the log; who wants to follow them has the command line."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from sluicegate.operator.balances import place_of
from sluicegate.operator.tailed import Tailed, TailedRecord
from sluicegate_schemas.bounds import Month, OrganizationId, Record
from sluicegate_schemas.outputs import Balance

from ...auth import OperatorReads
from .asking import PREFIX, as_problems, desk_of, known_of, known_organization, parts_of, record_answer, shows
from .commands import ORGANIZATION
from .log_cursors import Cursor, log_cursor, log_place, name_cursor, name_place

router = APIRouter(tags=["operator logs"])
RECORDS_MAX: Final = 200
BALANCES_MAX: Final = 500
Limit = Annotated[int, Query(ge=1, le=RECORDS_MAX)]


class TailedRecords(Record):
    """The newest first. ``next``: give it as ``cursor`` for older ones; null: there are none. A page looks through so
    much of the log: it may have fewer than asked for, or none, and still a next."""

    records: tuple[TailedRecord, ...]
    next: str | None


class KeptBalances(Record):
    """By month, kind, id and label. ``next``: give it as ``cursor`` for those behind; null: there are none."""

    balances: tuple[Balance, ...]
    next: str | None


@router.get(f"{PREFIX}/decisions", **shows(TailedRecords))
async def decisions(
    request: Request,
    _: OperatorReads,
    organization_id: OrganizationId | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """The newest decision of each scope and limit, and leases; on one organization and its keys if named."""
    return await _tail(request, "decisions", organization_id, cursor, limit)


@router.get(f"{PREFIX}/alerts", **shows(TailedRecords))
async def alerts(
    request: Request,
    _: OperatorReads,
    organization_id: OrganizationId | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """What fired and cleared, the audit's findings too; of one organization and its keys if named."""
    return await _tail(request, "alerts", organization_id, cursor, limit)


@router.get(f"{PREFIX}/rejects", **shows(TailedRecords))
async def rejects(
    request: Request,
    _: OperatorReads,
    organization_id: OrganizationId | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """What could not be used, why, and where it stands; of one organization if named."""
    return await _tail(request, "rejects", organization_id, cursor, limit)


@router.get(f"{ORGANIZATION}/usage", **shows(KeptBalances))
async def usage(
    request: Request,
    _: OperatorReads,
    organization_id: OrganizationId,
    month: Month | None = None,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=BALANCES_MAX)] = 100,
) -> Response:
    """The balances of the account, the organization, its labels and its keys, of all months that are kept or one. Reads
    the account's partition of the log: for this month and the last, ``balances`` is quicker."""
    known = known_of(parts_of(request))
    account_id = known_organization(known, organization_id).account_id
    about = {account_id, organization_id, *(key.api_key_id for key in known.keys_of(organization_id))}
    behind = name_place(cursor)
    with as_problems():
        found = await desk_of(request).kept_balances(about, account_id=account_id, month=month)
    left = [one for one in found if place_of(one) > behind and one.organization_id in (None, organization_id)]
    is_last = len(left) <= limit
    shown = KeptBalances(balances=tuple(left[:limit]), next=None if is_last else name_cursor(place_of(left[limit - 1])))
    return record_answer(shown)


async def _tail(
    request: Request, what: Tailed, organization_id: str | None, cursor: str | None, limit: int
) -> Response:
    before, about = log_place(cursor), None
    if organization_id is not None:
        known = known_of(parts_of(request))
        about = {organization_id, *(key.api_key_id for key in known.keys_of(organization_id))}
    with as_problems():
        page = await desk_of(request).tail(what, limit=limit, about=about, before=before)
    return record_answer(TailedRecords(records=tuple(page.entries), next=log_cursor(page.before)))
