"""``sluicegate pool``: organizations that share the credits of one account."""

from sluicegate_schemas.bounds import Record
from sluicegate_schemas.money import credits_text

from .change import Fields, change
from .command import command, group
from .exits import CommandError, Exit
from .known import organization_id, read_known
from .organizations import Cap, Organization, Reserved, last_put, pool, put_fields
from .own_values import own_values
from .session import Session

app = group("pool", "Credits that several organizations share.")


class Member(Record):
    """A member of a pool. ``cap_micro`` null: as much as the pool leaves."""

    organization_id: str
    account_id: str
    cap_micro: int | None
    reserved_micro: int


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
    return put_fields(organization, standing.account_id, standing, {}) | {"pool": pool(cap, reserved)}


@command(app, "show", prints=Member)
async def show(session: Session, account: Organization) -> None:
    """Show the organizations that share an account's credits."""
    known = await read_known(session)
    members = [one for one in known.organizations.values() if one.account_id == organization_id(account)]
    if not members:
        raise CommandError(f"the workers know no organization whose account is {account}", Exit.NOT_FOUND)
    puts = await own_values(session, account)
    shown = []
    for one in sorted(members, key=lambda member: member.organization_id):
        pool = puts[one.organization_id].pool if one.organization_id in puts else None
        shown.append(
            Member(
                organization_id=one.organization_id,
                account_id=account,
                cap_micro=None if pool is None else pool.cap_micro,
                reserved_micro=0 if pool is None else pool.reserved_micro,
            )
        )
    rows = [
        (
            one.organization_id,
            "-" if one.cap_micro is None else credits_text(one.cap_micro),
            credits_text(one.reserved_micro),
        )
        for one in shown
    ]
    session.screen.records(shown, ("organization", "cap", "reserved"), rows)
