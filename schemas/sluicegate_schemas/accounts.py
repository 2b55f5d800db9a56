"""Operator commands on the accounts topic, one JSON object a record, keyed by account (requirements, section 1)."""

from typing import Annotated, Final, Literal, Self, get_args

from pydantic import AfterValidator, Field, TypeAdapter, model_validator

from .bounds import (
    AccountId,
    ApiKeyId,
    Count,
    CreditsMicro,
    EventId,
    LabelName,
    Month,
    Name,
    OrganizationId,
    Record,
    Sentence,
    Sha256,
    Time,
)
from .catalogue import Breakdown, Tier
from .limits import Category, CategoryShares, FailureModes, Features, LimitMode, LimitName, Quotas, RateLimits
from .usage import ResourceName

KeyMode = Literal["live", "test"]
KeyScope = Literal["usage:read", "limits:read", "alerts:read"]
KEY_SCOPES: Final[tuple[KeyScope, ...]] = get_args(KeyScope)
BudgetPeriod = Literal["day", "month"]
_Concurrency = Annotated[int, Field(ge=1, le=1_000_000)]
_PositiveMicro = Annotated[int, Field(ge=1, le=10**18)]
PRIORITY_DEFAULT = 100


def _each_once(scopes: tuple[KeyScope, ...]) -> tuple[KeyScope, ...]:
    if len(set(scopes)) != len(scopes):
        raise ValueError("must name each scope once")
    return scopes


KeyScopes = Annotated[tuple[KeyScope, ...], Field(max_length=len(KEY_SCOPES)), AfterValidator(_each_once)]
"""What a key may read of its own organization in the usage API; what a service does with it, the gate, asks for none of
them."""


class Command(Record):
    """Who asked for what, when and why; a ``command_id`` acts once for its account."""

    command_id: EventId
    issued_at: Time
    issued_by: Name
    reason: Sentence = ""
    account_id: AccountId

    @property
    def about(self) -> OrganizationId:
        """The organization that it is about; the account's own where it is about the account."""
        about: OrganizationId = getattr(self, "organization_id", self.account_id)
        return about


class Pool(Record):
    """What an organization has of the credits of the account that it shares with others (enterprise).

    ``cap_micro``: it may use so much in a month. ``reserved_micro``: so much only it may use.
    """

    cap_micro: CreditsMicro | None = None
    reserved_micro: CreditsMicro = 0

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.cap_micro is not None and self.reserved_micro > self.cap_micro:
            raise ValueError("reserved_micro must not pass cap_micro")
        return self


class OrganizationPut(Command):
    """Creates an organization or sets its tier and own limits, all of them: what is not given is the plan's.

    An upgrade raises the month's credits at once; a downgrade of credits waits for the next month (requirements,
    section 9). ``pool`` is for an organization whose account is another; the account never changes.

    ``based_on``: what it was made from, the offset in the accounts topic of the put in force. Where another one is in
    force by then, it is refused (``conflict``) and nothing changes. Not given: it acts whatever is in force.
    """

    kind: Literal["organization.put"]
    organization_id: OrganizationId
    tier: Tier
    credits_micro_per_month: CreditsMicro | None = None
    rates: RateLimits | None = None
    shares: CategoryShares | None = None
    concurrency: _Concurrency | None = None
    quotas: Quotas | None = None
    objects_per_batch: Annotated[int, Field(ge=1, le=10**12)] | None = None
    features: Features | None = None
    credits_mode: LimitMode | None = None
    failure_modes: FailureModes | None = None
    pool: Pool | None = None
    based_on: Count | None = None


class KeyPut(Command):
    """Makes an API key known. Only the SHA-256 of the secret is ever sent.

    ``scopes``: what it may read in the usage API; none of it where they are empty, all of it where they are not given.
    A gate lets it do the same whatever they are.
    """

    kind: Literal["key.put"]
    api_key_id: ApiKeyId
    organization_id: OrganizationId
    key_sha256: Sha256
    mode: KeyMode = "live"
    scopes: KeyScopes | None = None


class KeyRevoke(Command):
    """Ends a key: gates refuse it; usage that it still reports is counted."""

    kind: Literal["key.revoke"]
    api_key_id: ApiKeyId
    organization_id: OrganizationId


class GrantPut(Command):
    """Gives an account credits from ``effective_at`` until ``expires_at`` (None: until used).

    Of the credits at hand those of the lowest ``priority`` burn first, then those that expire first, then the oldest;
    the plan's own credits of the month have the priority 100.
    """

    kind: Literal["grant.put"]
    grant_id: Name
    credits_micro: _PositiveMicro
    priority: Annotated[int, Field(ge=0, le=1000)] = PRIORITY_DEFAULT
    effective_at: Time
    expires_at: Time | None = None

    @model_validator(mode="after")
    def _some_time(self) -> Self:
        if self.expires_at is not None and self.expires_at <= self.effective_at:
            raise ValueError("expires_at must lie after effective_at")
        return self


class GrantRevoke(Command):
    """Takes back what is left of a grant."""

    kind: Literal["grant.revoke"]
    grant_id: Name


class BoostPut(Command):
    """Raises limits of an organization from ``effective_at`` until ``until``; what is not given stays.

    Credits of a boost are a grant of that time. A boost never lowers a limit: the higher value counts.
    """

    kind: Literal["boost.put"]
    boost_id: Name
    organization_id: OrganizationId
    effective_at: Time
    until: Time
    credits_micro: _PositiveMicro | None = None
    rates: RateLimits | None = None
    concurrency: _Concurrency | None = None
    quotas: Quotas | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.until <= self.effective_at:
            raise ValueError("until must lie after effective_at")
        if self.credits_micro is None and self.rates is None and self.concurrency is None and self.quotas is None:
            raise ValueError("a boost needs credits_micro, rates, concurrency or quotas")
        return self


class BoostEnd(Command):
    """Ends a boost now."""

    kind: Literal["boost.end"]
    boost_id: Name
    organization_id: OrganizationId


class ExemptionPut(Command):
    """Takes a limit off an organization, or one key of it, from ``effective_at`` until ``until``."""

    kind: Literal["exemption.put"]
    exemption_id: Name
    organization_id: OrganizationId
    api_key_id: ApiKeyId | None = None
    limit_name: LimitName
    effective_at: Time
    until: Time

    @model_validator(mode="after")
    def _some_time(self) -> Self:
        if self.until <= self.effective_at:
            raise ValueError("until must lie after effective_at")
        return self


class ExemptionEnd(Command):
    """Ends an exemption now."""

    kind: Literal["exemption.end"]
    exemption_id: Name
    organization_id: OrganizationId


class BudgetLabel(Record):
    """The label whose usage a budget is about (a pipeline, a retriever)."""

    name: LabelName
    value: Name


class BudgetPut(Command):
    """Credits per day or month (UTC) for an organization, or a key or label of it; one of each scope and period.

    ``thresholds_percent`` alert; ``blocks`` closes the scope when the budget is used up, ``mode`` says how exactly.
    """

    kind: Literal["budget.put"]
    organization_id: OrganizationId
    api_key_id: ApiKeyId | None = None
    label: BudgetLabel | None = None
    period: BudgetPeriod
    credits_micro: _PositiveMicro
    thresholds_percent: Annotated[tuple[Annotated[int, Field(ge=1, le=1000)], ...], Field(max_length=8)] = ()
    blocks: bool = False
    mode: LimitMode = "soft"

    @model_validator(mode="after")
    def _one_scope(self) -> Self:
        if self.api_key_id is not None and self.label is not None:
            raise ValueError("api_key_id and label exclude each other")
        return self


class BudgetRemove(Command):
    """Ends a budget."""

    kind: Literal["budget.remove"]
    organization_id: OrganizationId
    api_key_id: ApiKeyId | None = None
    label: BudgetLabel | None = None
    period: BudgetPeriod


class CapacityReserve(Command):
    """Keeps a part of an organization's credits of each month for one category; 0 ends it."""

    kind: Literal["capacity.reserve"]
    organization_id: OrganizationId
    category: Category
    credits_micro: CreditsMicro


class CorrectionPut(Command):
    """Books usage of ``month`` that was not metered (a backfill), or credits back what was metered too much.

    A charge goes into its month while that is open, later into the current month, naming its own. A credit is a grant
    of the current month, so that what was rated stays as it is. ``credits_micro`` is positive either way.
    """

    kind: Literal["correction.put"]
    organization_id: OrganizationId
    api_key_id: ApiKeyId | None = None
    month: Month
    direction: Literal["charge", "credit"]
    credits_micro: _PositiveMicro
    breakdown: Breakdown = "compute"


class QuotaRecount(Command):
    """Sets how much of each resource an organization holds, counted in full: corrects what deltas drifted by."""

    kind: Literal["quota.recount"]
    organization_id: OrganizationId
    counts: Annotated[dict[ResourceName, Count], Field(min_length=1, max_length=8)]


AnyCommand = (
    OrganizationPut
    | KeyPut
    | KeyRevoke
    | GrantPut
    | GrantRevoke
    | BoostPut
    | BoostEnd
    | ExemptionPut
    | ExemptionEnd
    | BudgetPut
    | BudgetRemove
    | CapacityReserve
    | CorrectionPut
    | QuotaRecount
)
AccountCommand = Annotated[AnyCommand, Field(discriminator="kind")]
ACCOUNT_COMMAND: TypeAdapter[AnyCommand] = TypeAdapter(AccountCommand)
