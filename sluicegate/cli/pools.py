"""``sluicegate pool``: organizations that share the credits of one account."""

from sluicegate_schemas.money import credits_text

from ..operator.commands import Fields
from ..operator.known import organization_id
from ..operator.organizations import put_fields
from ..operator.own_values import own_values
from ..operator.pools import Member, members_of
from .change import change
from .command import command, group
from .known import read_known
from .organizations import Cap, Organization, Reserved, last_put, pool
from .session import Session

app = group("pool", "Credits that several organizations share.")


@change(app, "put")
async def put(
    session: Session,
    organization: Organization,
    cap: Cap = None,
    reserved: Reserved = None,
) -> Fields:
    """Set a member's cap and reserved share, none of what is not given; all else stays.

    A new member is made by `org put --account`.
    """
    standing = await last_put(session, organization)
    return put_fields(organization, standing.command.account_id, standing, {}) | {"pool": pool(cap, reserved)}


@command(app, "show", prints=Member)
async def show(session: Session, account: Organization) -> None:
    """Show the organizations that share an account's credits."""
    known = await read_known(session)
    puts = await own_values(session, organization_id(account))
    shown = members_of(account, known.organizations.values(), puts)
    rows = [
        (
            one.organization_id,
            "-" if one.cap_micro is None else credits_text(one.cap_micro),
            credits_text(one.reserved_micro),
        )
        for one in shown
    ]
    session.screen.records(shown, ("organization", "cap", "reserved"), rows)
