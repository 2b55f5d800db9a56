"""``GET /v1/organizations/alerts``: what fired, the newest first, and whether it has cleared."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from sluicegate_schemas.alerts import UsageAlert
from sluicegate_schemas.bounds import from_epoch_ms, to_epoch_ms

from ..answers import answer, in_count, in_credits, shown_as
from ..auth import ReadsAlerts
from ..cursors import CURSOR_SIGNS_MAX, cursor, place
from ..models import Alert, Alerts
from ..parts import Parts
from ..problems import away
from ..verdicts import scope_of

router = APIRouter(tags=["alerts"])


@router.get("/v1/organizations/alerts", **shown_as(Alerts))
async def alerts(
    request: Request,
    caller: ReadsAlerts,
    after: Annotated[str | None, Query(alias="cursor", max_length=CURSOR_SIGNS_MAX)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Response:
    """The organization's alerts of the last 30 days, at most the newest 500."""
    parts: Parts = request.app.state.parts
    if not parts.alerts_from.ready:
        raise away("Alerts are not known yet")
    found = parts.alerts.of(caller.organization_id)
    if after is not None:
        behind = place(after)
        found = [one for one in found if (to_epoch_ms(one.fired_at), one.alert_id) < behind]
    page = found[:limit]
    stale_ms = parts.alerts_from.staleness_ms or 0
    last = page[-1] if len(found) > limit else None
    return answer(
        Alerts.model_construct(
            as_of=from_epoch_ms(parts.clock() - stale_ms),
            lag_ms=stale_ms,
            final=False,
            alerts=[shown(one) for one in page],
            next_cursor=None if last is None else cursor(to_epoch_ms(last.fired_at), last.alert_id),
        )
    )


def shown(alert: UsageAlert) -> Alert:
    """An alert as it is answered; amounts of money are credits."""

    amount = in_credits if alert.unit == "credits_micro" else in_count
    return Alert.model_construct(
        alert_id=alert.alert_id,
        state=alert.state,
        rule=alert.rule,
        severity=alert.severity,
        sentence=alert.sentence,
        advice=alert.advice,
        scope=scope_of(alert.scope),
        threshold=alert.threshold,
        observed=amount(alert.observed),
        limit=None if alert.limit is None else amount(alert.limit),
        unit="credits" if alert.unit == "credits_micro" else alert.unit,
        fired_at=alert.fired_at,
        at=alert.at,
        cleared_at=alert.at if alert.state == "cleared" else None,
        reset_at=alert.reset_at,
        costliest=list(alert.costliest),
    )
