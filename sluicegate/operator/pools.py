"""Pools: organizations that share the credits of one account. Pure."""

from collections.abc import Iterable, Mapping

from sluicegate_schemas.bounds import Record
from sluicegate_schemas.outputs import OrganizationEntitlement

from ..errors import NotFoundError
from .organizations import Put


class Member(Record):
    """A member of a pool. ``cap_micro`` null: as much as the pool leaves."""

    organization_id: str
    account_id: str
    cap_micro: int | None
    reserved_micro: int


def members_of(account: str, organizations: Iterable[OrganizationEntitlement], puts: Mapping[str, Put]) -> list[Member]:
    """Its members by id, with what ``puts`` gave them. Raises NotFoundError where there is none."""
    members = [one for one in organizations if one.account_id == account]
    if not members:
        raise NotFoundError(f"the workers know no organization whose account is {account}")
    shown = []
    for one in sorted(members, key=lambda member: member.organization_id):
        pool = puts[one.organization_id].command.pool if one.organization_id in puts else None
        shown.append(
            Member(
                organization_id=one.organization_id,
                account_id=account,
                cap_micro=None if pool is None else pool.cap_micro,
                reserved_micro=0 if pool is None else pool.reserved_micro,
            )
        )
    return shown
