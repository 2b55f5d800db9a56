"""What an organization's plan means for one operation, put together once and kept while both stay as they are."""

from typing import Final, NamedTuple

from sluicegate_schemas.catalogue import Catalogue, Tier
from sluicegate_schemas.limits import FailureMode, LimitName, category_limit, quota_limit

from ..follower.entries import Key, Organization, Verdict
from .asked import Asked
from .card import Card, Priced
from .headers import policy_of
from .limiter import MINUTE_MS, Bucket, buckets_of

TERMS_MAX: Final = 50_000
"""Terms that are kept; beyond it they are put together anew."""
CARDS_MAX: Final = 16


class Quota(NamedTuple):
    """The quota that an operation's creations count against."""

    resource: str
    limit_name: LimitName
    limit: int | None


class Terms(NamedTuple):
    """The limits of one organization and operation, without those that are off."""

    organization: Organization
    payer: Organization
    """Whose account pays: itself, or the root of its pool."""
    catalogue: Catalogue
    plain: Asked
    """A request of which nothing but the operation is known."""
    card: Card
    priced: Priced
    tier: Tier
    buckets: tuple[Bucket, ...]
    """The second, the minute and the category's bucket of each key; a bucket that another implies is left out."""
    policy: str
    """What ``RateLimit-Policy`` says of them."""
    scopes: tuple[str, ...]
    """The organization, account, operation and category, as verdicts name them."""
    exempt: frozenset[LimitName]
    concurrency: int | None
    quota: Quota | None
    objects_per_batch: int | None
    failure: FailureMode | None
    credits_of_plan: Verdict | None
    """What is known of soft credits before the workers say anything of them: the plan's amount for the month. None:
    there is no such amount, or it is another account's."""
    lent: frozenset[str]
    """The record keys of its hard limits on money: a cost needs a lease of each that covers it."""
    is_hard: bool
    """Whether credits or a budget are held hard: a cost needs a lease."""
    throttled_takes_token: bool
    test_keys_spend: bool


class TermsTable:
    """Terms by organization and operation."""

    def __init__(self) -> None:
        self._terms: dict[tuple[str, str, tuple[LimitName, ...]], Terms] = {}
        self._cards: dict[int, Card] = {}

    def of(
        self, key: Key, organization: Organization, payer: Organization, catalogue: Catalogue, operation: str
    ) -> Terms:
        """The terms of a request."""
        identity = key.organization_id, operation, key.exempt
        found = self._terms.get(identity)
        if (
            found is None
            or found.organization is not organization
            or found.payer is not payer
            or found.catalogue is not catalogue
        ):
            if len(self._terms) >= TERMS_MAX:
                self._terms.clear()
            found = self._terms[identity] = _terms(key, organization, payer, self._card(catalogue), operation)
        return found

    def _card(self, catalogue: Catalogue) -> Card:
        card = self._cards.get(catalogue.version)
        if card is None or card.catalogue is not catalogue:
            if len(self._cards) >= CARDS_MAX:
                self._cards.clear()
            card = self._cards[catalogue.version] = Card(catalogue)
        return card


def _terms(key: Key, organization: Organization, payer: Organization, card: Card, operation: str) -> Terms:
    plan = card.catalogue.plans[organization.tier]
    priced = card.priced(operation)
    exempt = frozenset(key.exempt + organization.exempt)
    failure_modes = {**plan.failure_modes, **(organization.failure_modes or {})}
    name = organization.organization_id
    buckets = _buckets(organization, card.catalogue, priced, exempt)
    scopes = [f"organization:{name}", f"account:{key.account_id}", f"operation:{name}:{operation}"]
    if priced.category is not None:
        scopes.append(f"category:{name}:{priced.category}")
    budgets = zip(organization.hard_budgets, organization.hard_budget_limits, strict=False)
    lent = frozenset(f"{limit_name}:{scope.text()}" for scope, limit_name in budgets)
    credits_hard = (payer.credits_mode or card.catalogue.plans[payer.tier].credits_mode) == "hard"
    if credits_hard:
        lent |= {f"credits:account:{key.account_id}"}
    return Terms(
        organization=organization,
        payer=payer,
        catalogue=card.catalogue,
        plain=Asked(operation),
        card=card,
        priced=priced,
        tier=organization.tier,
        buckets=buckets,
        policy=policy_of(buckets),
        scopes=tuple(scopes),
        exempt=exempt,
        concurrency=None if "concurrency" in exempt else organization.concurrency or plan.concurrency,
        quota=_quota(organization, card.catalogue, priced, exempt),
        objects_per_batch=(
            None if "objects_per_batch" in exempt else organization.objects_per_batch or plan.objects_per_batch
        ),
        failure=None if priced.category is None else failure_modes.get(priced.category),
        credits_of_plan=None if credits_hard else _credits_of_plan(key, organization, card.catalogue, exempt),
        lent=lent,
        is_hard=bool(lent),
        throttled_takes_token=plan.throttled_takes_token,
        test_keys_spend=plan.test_keys_spend,
    )


def _credits_of_plan(
    key: Key, organization: Organization, catalogue: Catalogue, exempt: frozenset[LimitName]
) -> Verdict | None:
    total_micro = catalogue.credits_micro_per_month(organization.tier, organization.credits_micro_per_month)
    if total_micro is None or key.account_id != key.organization_id or "credits" in exempt:
        return None
    return Verdict("", f"account:{key.account_id}", "credits", total_micro, 0, None, 0, blocks=False)


def _buckets(
    organization: Organization, catalogue: Catalogue, priced: Priced, exempt: frozenset[LimitName]
) -> tuple[Bucket, ...]:
    rates = catalogue.rates(organization.tier, organization.rates)
    if rates is None:
        return ()
    buckets = [bucket for bucket in buckets_of(rates) if bucket.name not in exempt]
    if priced.category is not None and (name := category_limit(priced.category)) not in exempt:
        shares = organization.shares or catalogue.plans[organization.tier].shares
        limit = shares.per_minute(priced.category, rates.requests_per_minute)
        if limit < rates.requests_per_minute or "requests_per_minute" in exempt:
            buckets.append(Bucket(name, limit, MINUTE_MS, limit))
    return tuple(buckets)


def _quota(
    organization: Organization, catalogue: Catalogue, priced: Priced, exempt: frozenset[LimitName]
) -> Quota | None:
    if priced.creates is None or (name := quota_limit(priced.creates)) in exempt:
        return None
    quotas = {**catalogue.plans[organization.tier].quotas, **(organization.quotas or {})}
    return Quota(priced.creates, name, quotas.get(priced.creates))
