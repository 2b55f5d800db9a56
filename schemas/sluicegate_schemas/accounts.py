"""Operator commands on the accounts topic, one JSON object a record, keyed by account (requirements, section 1)."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from .bounds import AccountId, ApiKeyId, CreditsMicro, EventId, Name, OrganizationId, Record, Sentence, Sha256, Time
from .catalogue import RateLimits, Tier

KeyMode = Literal["live", "test"]


class Command(Record):
    """Who asked for what, when and why; a ``command_id`` acts once for its account."""

    command_id: EventId
    issued_at: Time
    issued_by: Name
    reason: Sentence = ""
    account_id: AccountId


class OrganizationPut(Command):
    """Creates an organization or sets its tier and own limits. An upgrade raises the month's credits at once; a
    downgrade of credits waits for the next month (requirements, section 9)."""

    kind: Literal["organization.put"]
    organization_id: OrganizationId
    tier: Tier
    credits_micro_per_month: CreditsMicro | None = None
    rates: RateLimits | None = None


class KeyPut(Command):
    """Makes an API key known. Only the SHA-256 of the secret is ever sent."""

    kind: Literal["key.put"]
    api_key_id: ApiKeyId
    organization_id: OrganizationId
    key_sha256: Sha256
    mode: KeyMode = "live"


class KeyRevoke(Command):
    """Ends a key: gates refuse it; usage that it still reports is counted."""

    kind: Literal["key.revoke"]
    api_key_id: ApiKeyId
    organization_id: OrganizationId


AccountCommand = Annotated[OrganizationPut | KeyPut | KeyRevoke, Field(discriminator="kind")]
ACCOUNT_COMMAND: TypeAdapter[OrganizationPut | KeyPut | KeyRevoke] = TypeAdapter(AccountCommand)
