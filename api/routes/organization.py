"""``GET /v1/organizations``: what the organization's plan gives it, boosts and custom limits included."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from sluicegate.follower.entries import Organization as Entitlement
from sluicegate_schemas.bounds import from_epoch_ms
from sluicegate_schemas.catalogue import Catalogue
from sluicegate_schemas.limits import CATEGORIES, category_limit, quota_limit

from ..answers import answer, shown_as, some_credits
from ..auth import Caller, ReadsLimits
from ..models import CategoryLimits, Organization, Quota, RequestLimits
from ..parts import Parts
from ..problems import away

router = APIRouter(tags=["organization"])


@router.get("/v1/organizations", **shown_as(Organization))
async def organization(request: Request, caller: ReadsLimits) -> Response:
    """The organization's tier, credits a month, limits by category, quotas and features."""
    parts: Parts = request.app.state.parts
    entitlement, payer, catalogue = known(parts, caller)
    plan = catalogue.plans[entitlement.tier]
    stale_ms = parts.knowledge_stale_ms
    return answer(
        Organization.model_construct(
            as_of=from_epoch_ms(parts.clock() - stale_ms),
            lag_ms=stale_ms,
            final=False,
            id=caller.organization_id,
            tier=entitlement.tier,
            account_id=caller.account_id,
            credits_per_month=some_credits(
                catalogue.credits_micro_per_month(payer.tier, payer.credits_micro_per_month)
            ),
            limits=_requests(entitlement, catalogue),
            concurrency=None if "concurrency" in entitlement.exempt else entitlement.concurrency or plan.concurrency,
            objects_per_batch=entitlement.objects_per_batch or plan.objects_per_batch,
            quotas=_quotas(parts, entitlement, catalogue),
            features=dict(plan.features if entitlement.features is None else entitlement.features),
            plan_version=catalogue.version,
        )
    )


def known(parts: Parts, caller: Caller) -> tuple[Entitlement, Entitlement, Catalogue]:
    """The caller's organization, the one that pays for it, and the plans. Raises ProblemError: 503."""
    view = parts.knowledge.view
    found, payer = view.organization(caller.organization_id), view.organization(caller.account_id)
    catalogue = view.catalogue_at(parts.clock())
    if found is None or payer is None or catalogue is None:
        raise away("The plan is not known yet")
    return found, payer, catalogue


def _requests(entitlement: Entitlement, catalogue: Catalogue) -> RequestLimits:
    rates = catalogue.rates(entitlement.tier, entitlement.rates)
    shares = entitlement.shares or catalogue.plans[entitlement.tier].shares

    def unless_exempt(limit_name: str, limit: int) -> int | None:
        return None if limit_name in entitlement.exempt else limit

    by_category: dict[str, Any] = {
        category: None
        if rates is None
        else unless_exempt(category_limit(category), shares.per_minute(category, rates.requests_per_minute))
        for category in CATEGORIES
    }
    return RequestLimits.model_construct(
        per_second=None if rates is None else unless_exempt("requests_per_second", rates.requests_per_second),
        burst=None if rates is None else unless_exempt("requests_per_second", rates.burst),
        per_minute=None if rates is None else unless_exempt("requests_per_minute", rates.requests_per_minute),
        by_category=CategoryLimits.model_construct(**by_category),
    )


def _quotas(parts: Parts, entitlement: Entitlement, catalogue: Catalogue) -> dict[str, Quota]:
    """How much is used is told from 80 % of a quota on, with each change; below that it is not known here. Keys are
    counted here."""
    limits = {**catalogue.plans[entitlement.tier].quotas, **(entitlement.quotas or {})}
    told = parts.knowledge.view.verdicts_on(f"organization:{entitlement.organization_id}") or {}
    live = sum(not key.revoked for key in parts.directory.keys_of(entitlement.organization_id))
    quotas = {}
    for resource, limit in limits.items():
        name = quota_limit(resource)
        verdict = told.get(name)
        used = live if resource == "api_keys" else None if verdict is None else verdict.observed
        quotas[str(resource)] = Quota.model_construct(used=used, limit=None if name in entitlement.exempt else limit)
    return quotas
