"""``sluicegate grant``, ``correct`` and ``reserve``: credits beside those of the plan."""

from enum import StrEnum
from typing import Annotated

import typer

from sluicegate_schemas.accounts import PRIORITY_DEFAULT

from ..operator.commands import Fields
from ..operator.known import organization_id
from .change import change
from .command import group
from .known import read_known
from .organizations import Organization
from .session import Session
from .values import credits_micro, when

GrantId = Annotated[str, typer.Argument(metavar="GRANT")]
Credits = Annotated[str, typer.Option("--credits", help="How many; up to six places.")]

app = group("grant", "Credits given for a time.")


class Direction(StrEnum):
    """A charge adds usage; a credit gives credits back."""

    CHARGE = "charge"
    CREDIT = "credit"


@change(app, "put")
async def put(
    session: Session,
    organization: Organization,
    grant: GrantId,
    amount: Credits,
    effective: Annotated[str, typer.Option("--from", help="When it begins.")] = "now",
    until: Annotated[str | None, typer.Option(help="When what is left lapses; default never.")] = None,
    priority: Annotated[int, typer.Option(min=0, max=1_000, help="The lowest burns first.")] = PRIORITY_DEFAULT,
) -> Fields:
    """Give the account of an organization credits."""
    now = session.now
    return {
        "kind": "grant.put",
        "account_id": await account_of(session, organization),
        "grant_id": grant,
        "credits_micro": credits_micro("--credits", amount),
        "priority": priority,
        "effective_at": when("--from", effective, now),
        "expires_at": when("--until", until, now) if until is not None else None,
    }


@change(app, "revoke")
async def revoke(session: Session, organization: Organization, grant: GrantId) -> Fields:
    """Take back what is left of a grant."""
    return {"kind": "grant.revoke", "account_id": await account_of(session, organization), "grant_id": grant}


async def correct(
    session: Session,
    organization: Organization,
    direction: Direction,
    month: Annotated[str, typer.Option(help="Whose usage it is, YYYY-MM.")],
    amount: Credits,
    key: Annotated[str | None, typer.Option(metavar="key_…", help="Of this key.")] = None,
    breakdown: Annotated[str, typer.Option(help="The group that it is shown in.")] = "compute",
) -> Fields:
    """Book usage of a month that was not metered, or give back what was metered too much."""
    return {
        "kind": "correction.put",
        "account_id": await account_of(session, organization),
        "organization_id": organization,
        "api_key_id": key,
        "month": month,
        "direction": direction.value,
        "credits_micro": credits_micro("--credits", amount),
        "breakdown": breakdown,
    }


async def reserve(session: Session, organization: Organization, category: str, amount: Credits) -> Fields:
    """Keep a part of an organization's credits of each month for one category; 0 ends it."""
    return {
        "kind": "capacity.reserve",
        "account_id": await account_of(session, organization),
        "organization_id": organization,
        "category": category,
        "credits_micro": credits_micro("--credits", amount),
    }


async def account_of(session: Session, organization: str) -> str:
    """Who pays for the organization. Raises CommandError where it is not known."""
    return (await read_known(session)).organization(organization_id(organization)).account_id


def add_to(root: typer.Typer) -> None:
    """Makes the commands known."""
    root.add_typer(app)
    change(root, "correct")(correct)
    change(root, "reserve")(reserve)
