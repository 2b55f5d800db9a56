"""Organizations as operators see and change them. Pure."""

from typing import Any, Final, NamedTuple

from sluicegate_schemas.accounts import OrganizationPut
from sluicegate_schemas.bounds import Record
from sluicegate_schemas.outputs import KeyEntitlement, OrganizationEntitlement, Position

from ..errors import ConfigurationError
from .commands import Fields

OWN: Final = ("credits_micro_per_month", "rates", "shares", "concurrency", "quotas", "objects_per_batch", "features",
        "credits_mode", "failure_modes")  # fmt: skip
"""The limits that an organization may have of its own."""


class Put(NamedTuple):
    """An ``organization.put`` where it stands in the log. ``acted`` is what the trail says: True; None where it says
    nothing, and the command may still act; else False."""

    command: OrganizationPut
    position: Position
    logged_at_ms: int
    acted: bool | None


class ShownOrganization(Record):
    """An organization as gates know it, its keys, and what an operator last gave it (null: not on the trail).

    ``revision``: what a put says with ``based_on`` that is to act only where this one is still in force.
    """

    organization: OrganizationEntitlement
    keys: tuple[KeyEntitlement, ...]
    put: OrganizationPut | None
    revision: int | None = None


def shown_organization(
    organization: OrganizationEntitlement, keys: tuple[KeyEntitlement, ...], standing: Put | None
) -> ShownOrganization:
    """Of what gates know and of the put that acted last."""
    if standing is None:
        return ShownOrganization(organization=organization, keys=keys, put=None)
    revision = standing.position.offset
    return ShownOrganization(organization=organization, keys=keys, put=standing.command, revision=revision)


def put_fields(organization: str, account: str, standing: Put | None, given: dict[str, Any]) -> Fields:
    """The fields of an ``organization.put`` that changes ``standing``, and acts only where that is in force, by what is
    given; of one that sets all where ``standing`` is None."""
    kept: dict[str, Any] = {}
    if standing is not None:
        kept = standing.command.model_dump(mode="json", include={"tier", "pool", *OWN}, exclude_none=True)
        kept["based_on"] = standing.position.offset
    return {
        "kind": "organization.put",
        "organization_id": organization,
        "account_id": account,
        **kept,
        **{name: value for name, value in given.items() if value is not None},
    }


def home_of(known: OrganizationEntitlement | None, organization: str, account: str | None) -> str:
    """The account of an organization: where it is known its own, which never changes."""
    if known is None:
        return account or organization
    if account not in (None, known.account_id):
        raise ConfigurationError(f"the account of {organization} is {known.account_id}, and never changes")
    return known.account_id
