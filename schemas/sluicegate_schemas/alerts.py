"""Alerts, as JSON: what somebody has to look at (requirements, section 5).

An alert fires once per crossing and says when it clears: both records carry the same ``alert_id``, which a replay
repeats, so a subscriber keeps one of each and drops the rest. The record key is the alert id. Later kinds of alerts
share the fields of ``AlertBase``; ``kind`` tells them apart.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, TypeAdapter

from .alert_rules import Severity
from .bounds import AccountId, Count, EventId, LabelName, Month, OrganizationId, Record, Sentence, Time
from .outputs import Cause, Scope

DriftPair = Literal["ledger_cells", "cells_minute", "minute_hour", "hour_day"]
"""Which two were compared: the ledger and the rollups of the state, the latter and ClickHouse's minutes, minutes and
hours, hours and days."""
DRIFT_BUCKETS_MAX = 5

FoundName = Annotated[str, StringConstraints(max_length=128, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""A name as it was found: what is damaged may break the bounds that names have."""
Amount = Annotated[int, Field(ge=-(2**63), lt=2**64)]


class AlertBase(Record):
    """What every alert says."""

    schema_version: Literal[1] = 1
    alert_id: EventId
    state: Literal["fired", "cleared"]
    sentence: Sentence
    """What is the case, for people."""
    advice: Sentence
    """What to do; empty when it cleared."""
    fired_at: Time
    at: Time
    """When this record was made; ``fired_at`` where it fired."""


class DriftBucket(Record):
    """A bucket whose two sides differ; null names were not narrowed down to. ``seconds`` is 0 for a whole month."""

    start: Time
    seconds: Annotated[int, Field(ge=0, le=31 * 86_400)]
    api_key_id: FoundName | None
    """Empty for storage, which has no key."""
    operation: FoundName | None
    category: FoundName | None
    source: Annotated[str, StringConstraints(max_length=270, pattern=r"^[^\x00-\x1f\x7f]*$")] | None
    """The state partition that the bucket comes from, as ``topic/partition``."""
    chunk: Count | None
    credits_micro_expected: Amount
    credits_micro_found: Amount
    events_expected: Amount
    events_found: Amount


class AuditDrift(AlertBase):
    """Two books that must agree do not, for an organization's month; null: for all organizations together.

    ``credits_micro`` and ``events`` are found less expected, over all buckets that differ; ``buckets`` names the first.
    """

    kind: Literal["audit_drift"] = "audit_drift"
    pair: DriftPair
    organization_id: FoundName | None
    month: Month | None
    credits_micro: int
    events: int
    buckets_differing: Count
    buckets: Annotated[tuple[DriftBucket, ...], Field(max_length=DRIFT_BUCKETS_MAX)]


AlertUnit = Literal["credits_micro", "requests", "resources", "events"]


class UsageAlert(AlertBase):
    """A rule of the catalogue found its threshold reached (requirements, section 5).

    ``observed`` and ``limit`` are in ``unit``; ``limit`` is null where the rule counts only. ``reset_at`` is when the
    limit begins anew. ``costliest`` names the operations (or keys) that cost most, the costliest first.
    """

    kind: Literal["usage"] = "usage"
    rule: LabelName
    severity: Severity
    account_id: AccountId
    organization_id: OrganizationId | None
    scope: Scope
    threshold: Count
    observed: Count
    limit: Count | None
    unit: AlertUnit
    reset_at: Time | None = None
    costliest: Annotated[tuple[FoundName, ...], Field(max_length=5)] = ()
    plan_version: Annotated[int, Field(ge=0, le=2**31 - 1)]
    cause: Cause | None


Alert = Annotated[AuditDrift | UsageAlert, Field(discriminator="kind")]
ALERT: TypeAdapter[AuditDrift | UsageAlert] = TypeAdapter(Alert)
