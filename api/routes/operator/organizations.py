"""Organizations, keys, effective plans and pools as operators see them."""

from heapq import nsmallest
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from sluicegate.operator.effective_plan import EffectivePlan, effective
from sluicegate.operator.organizations import ShownOrganization, shown_organization
from sluicegate.operator.pools import Member, members_of
from sluicegate_schemas.bounds import EventId, OrganizationId, Record
from sluicegate_schemas.outputs import OrganizationEntitlement

from ...auth import OperatorReads
from ...problems import away, not_found
from .asking import (
    PREFIX,
    CommandOutcome,
    as_problems,
    desk_of,
    known_of,
    known_organization,
    parts_of,
    record_answer,
    shown,
    shows,
)
from .commands import ORGANIZATION

router = APIRouter(tags=["operator organizations"])
PAGE_MAX = 500
Limit = Annotated[int, Query(ge=1, le=PAGE_MAX)]


class Organizations(Record):
    """By id. ``next``: give it as ``after`` for the next page; null: this is the last."""

    organizations: tuple[OrganizationEntitlement, ...]
    next: str | None


class Members(Record):
    """The organizations that share an account's credits, by id."""

    members: tuple[Member, ...]


@router.get(f"{PREFIX}/organizations", **shows(Organizations))
async def list_organizations(
    request: Request,
    _: OperatorReads,
    account_id: OrganizationId | None = None,
    after: OrganizationId | None = None,
    limit: Limit = 100,
) -> Response:
    """The organizations that the workers know, of one account if named."""
    known = known_of(parts_of(request)).organizations
    found = nsmallest(
        limit + 1,
        (
            one
            for one in known.values()
            if account_id in (None, one.account_id) and (after is None or one.organization_id > after)
        ),
        key=lambda one: one.organization_id,
    )
    page = found[:limit]
    goes_on = page[-1].organization_id if len(found) > limit else None
    return record_answer(Organizations(organizations=tuple(page), next=goes_on))


@router.get(ORGANIZATION, **shows(ShownOrganization))
async def show(request: Request, _: OperatorReads, organization_id: OrganizationId) -> Response:
    """An organization, its keys, and what an operator put last."""
    known = known_of(parts_of(request))
    found = known_organization(known, organization_id)
    with as_problems():
        standing = (await desk_of(request).own_values(found.account_id)).get(organization_id)
    return record_answer(shown_organization(found, tuple(known.keys_of(organization_id)), standing))


@router.get(f"{ORGANIZATION}/plan", **shows(EffectivePlan))
async def plan(request: Request, _: OperatorReads, organization_id: OrganizationId) -> Response:
    """The limits in force now: the plan, own values, boosts and exemptions together."""
    parts = parts_of(request)
    found = known_organization(known_of(parts), organization_id)
    catalogue = parts.knowledge.view.catalogue_at(parts.clock())
    if catalogue is None:
        raise away("No catalogue is in force")
    keys = {one.api_key_id: one.mode for one in known_of(parts).keys_of(organization_id) if not one.revoked}
    return record_answer(effective(found, catalogue, keys))


@router.get(f"{PREFIX}/accounts/{{account_id}}/members", **shows(Members))
async def members(request: Request, _: OperatorReads, account_id: OrganizationId) -> Response:
    """The organizations that share an account's credits."""
    known = known_of(parts_of(request)).organizations
    if not any(one.account_id == account_id for one in known.values()):
        raise not_found("account")
    with as_problems():
        puts = await desk_of(request).own_values(account_id)
        found = members_of(account_id, known.values(), puts)
    return record_answer(Members(members=tuple(found)))


@router.get(f"{PREFIX}/accounts/{{account_id}}/commands", **shows(CommandOutcome))
async def command(request: Request, _: OperatorReads, account_id: OrganizationId, command_id: EventId) -> Response:
    """What became of a command of the account that was sent under this id."""
    with as_problems():
        outcome = await desk_of(request).outcome(account_id, command_id)
    if outcome is None:
        raise not_found("command")
    return record_answer(shown(outcome))
