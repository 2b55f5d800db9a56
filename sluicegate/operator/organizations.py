"""Organizations as operators see and change them. Pure."""

from typing import Any, Final

from sluicegate_schemas.accounts import OrganizationPut
from sluicegate_schemas.bounds import Record
from sluicegate_schemas.outputs import KeyEntitlement, OrganizationEntitlement

from ..errors import ConfigurationError
from .commands import Fields

OWN: Final = ("credits_micro_per_month", "rates", "shares", "concurrency", "quotas", "objects_per_batch", "features",
        "credits_mode", "failure_modes")  # fmt: skip
"""The limits that an organization may have of its own."""


class ShownOrganization(Record):
    """An organization as gates know it, its keys, and what an operator last gave it (null: not on the trail)."""

    organization: OrganizationEntitlement
    keys: tuple[KeyEntitlement, ...]
    put: OrganizationPut | None


def put_fields(organization: str, account: str, standing: OrganizationPut | None, given: dict[str, Any]) -> Fields:
    """The fields of an ``organization.put`` that changes ``standing`` by what is given."""
    kept: dict[str, Any] = {}
    if standing is not None:
        kept = standing.model_dump(mode="json", include={"tier", "pool", *OWN}, exclude_none=True)
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
