"""Webhook deliveries, as JSON: what was sent where, what is to be sent again, what was given up (requirements, section
5; Standard Webhooks 1.0).

The topic is compacted and has one partition: its newest records are the whole memory of the dispatcher. Who asks for
a replay writes a ``Delivery`` under a key of its own, which the dispatcher takes over and removes.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, TypeAdapter

from .alerts import Alert, AuditDrift, UsageAlert
from .bounds import Count, LabelName, Name, Record, Time

ALERT_BYTES_MAX = 64 * 1024
"""Largest alert that is delivered."""

EndpointName = LabelName
"""An endpoint is named by its operator; its URL may be a secret and stands in no topic."""
WebhookId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_:/+=@#~-]{0,159}$")]
"""The same for every attempt at an alert, to every endpoint: a receiver keeps the first of each and drops the rest."""

Failure = Literal[
    "status",
    "gone",
    "redirect",
    "timeout",
    "unreachable",
    "unknown_host",
    "address_refused",
    "certificate",
    "protocol",
    "overflow",
    "endpoint_removed",
    "too_old",
]
"""Why an attempt failed, or no more are made: an answer that is not 2xx; 410; 3xx, which is not followed; no answer in
time; no connection; no such host; a host at an address that must not be called; a certificate that does not hold; an
answer that is not HTTP; more deliveries than an endpoint may have waiting; an endpoint that is configured no more; an
alert older than the time that deliveries are tried for."""


class Delivery(Record):
    """One alert on its way to one endpoint; record key ``delivery|<endpoint>|<webhook_id>``, for a replay that is asked
    for ``replay|…``.

    ``alert`` is the alert's JSON, null once it was delivered. ``next_attempt_at`` is given while it is pending.
    """

    kind: Literal["delivery"] = "delivery"
    endpoint: EndpointName
    webhook_id: WebhookId
    state: Literal["pending", "delivered", "dead"]
    alert: Annotated[str, StringConstraints(max_length=ALERT_BYTES_MAX)] | None
    taken_at: Time
    """When the dispatcher took the alert in, or it was replayed: attempts are made for a day from then."""
    attempts: Count
    next_attempt_at: Time | None
    failure: Failure | None = None
    """Of the newest attempt."""
    status: Annotated[int, Field(ge=100, le=999)] | None = None
    """The newest answer, if there was one."""
    at: Time
    """When this record was made."""


class AlertsPosition(Record):
    """How far a partition of the alerts topic has been taken in; record key ``position|<partition>``."""

    kind: Literal["position"] = "position"
    partition: Annotated[int, Field(ge=0, le=2**31 - 1)]
    next_offset: Count


class DispatcherClaim(Record):
    """Which dispatcher works: the one of the newest claim, others end; record key ``claim``."""

    kind: Literal["claim"] = "claim"
    dispatcher: Name
    claimed_at: Time


DeliveryRecord = Annotated[Delivery | AlertsPosition | DispatcherClaim, Field(discriminator="kind")]
DELIVERY_RECORD: TypeAdapter[Delivery | AlertsPosition | DispatcherClaim] = TypeAdapter(DeliveryRecord)

CLAIM_KEY = "claim"
REPLAY_PREFIX = "replay|"


def delivery_key(endpoint: str, webhook_id: str) -> str:
    """The record key of a delivery."""
    return f"delivery|{endpoint}|{webhook_id}"


def replay_key(endpoint: str, webhook_id: str) -> str:
    """The record key under which a replay is asked for."""
    return f"{REPLAY_PREFIX}{endpoint}|{webhook_id}"


def position_key(partition: int) -> str:
    """The record key of a partition's position."""
    return f"position|{partition}"


def webhook_id_of(alert: AuditDrift | UsageAlert) -> str:
    """The webhook id of an alert's record: the alert's id and state, so that a repeated record repeats it.

    It holds no full stop, which separates the signed parts (Standard Webhooks 1.0, signature scheme).
    """
    return f"{alert.alert_id}:{alert.state}".replace(".", "~")


class WebhookBody(Record):
    """What a receiver gets (Standard Webhooks 1.0, payload structure)."""

    type: Literal["alert.fired", "alert.cleared"]
    timestamp: Time
    """When the alert fired or cleared; the attempt's time is in the header ``webhook-timestamp``."""
    data: Alert
