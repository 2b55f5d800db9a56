"""One record of each kind, beside the bytes that a first version wrote of it.

``python -m tests.contract.golden_records`` writes the files that are missing and never touches one that is there: a
file that no longer decodes to its record means that older records are no longer readable.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import TypeAdapter

from sluicegate_schemas import accounts, alerts, catalogue, deliveries, envelope, outputs, state, usage

FOLDER: Final = Path(__file__).parent / "golden"
NOON: Final = datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC)
NOON_MS: Final = 1_769_860_800_250


class Golden(NamedTuple):
    """``file``, the record that it holds, and how it is written and read."""

    file: str
    record: Any
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def _json(name: str, record: Any, kind: Any) -> Golden:
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    return Golden(
        f"{name}.json", record, lambda value: adapter.dump_json(value, indent=2) + b"\n", adapter.validate_json
    )


SEQUENCE: Final = outputs.Sequence(epoch=(7 << 32) | 99, counter=12)
KEY: Final = outputs.KeyEntitlement(
    key_sha256="ab" * 32,
    api_key_id="key_acme_1",
    organization_id="org_acme",
    account_id="org_root",
    mode="test",
    revoked=False,
    sequence=SEQUENCE,
)
KEY_PUT: Final = accounts.KeyPut(
    command_id="file-2",
    issued_at=NOON,
    issued_by="platform",
    account_id="org_root",
    kind="key.put",
    api_key_id="key_acme_1",
    organization_id="org_acme",
    key_sha256="ab" * 32,
)
ORGANIZATION_PUT: Final = accounts.OrganizationPut(
    command_id="file-1",
    issued_at=NOON,
    issued_by="platform",
    reason="upgrade",
    account_id="org_root",
    kind="organization.put",
    organization_id="org_acme",
    tier="team",
    credits_micro_per_month=1,
)
WIRE_EVENT: Final = envelope.WireEvent(
    id=None,
    org_id="org_acme",
    api_key_id="key_acme_1",
    operation="retriever.execute",
    started_at_ms=NOON_MS - 420,
    ts_ms=NOON_MS,
    duration_ms=420,
    status=200,
    quantities={"tokens": 1200, "milliseconds": 90_000},
    model="text-large",
    cached=False,
    charges=[
        envelope.WireCharge("search.knn"),
        envelope.WireCharge("inference.llm", {"tokens": 1200}, "chat-small", True),
    ],
    labels={"pipeline": "nightly"},
    resource_delta={"documents": -3, "collections": 1},
    subject="batch_7",
    account_id="org_root",
    node="api-1",
)
POSITION: Final = outputs.Position(topic="sluicegate.usage", partition=3, offset=12_345, index=7)

RECORDS: Final = (
    Golden(
        "usage_envelope_v1.bin",
        envelope.WireEnvelope(1, "3f2b9c", 2, 41, NOON_MS, "api-1", [WIRE_EVENT]),
        envelope.ENCODE,
        envelope.DECODE_ENVELOPE,
    ),
    Golden(
        "usage_forward_v2.bin",
        envelope.WireForward(2, "sluicegate.usage", 3, 12_345, 0, NOON_MS, WIRE_EVENT),
        envelope.ENCODE,
        envelope.DECODE_FORWARD,
    ),
    Golden(
        "state_header.bin",
        state.Header(
            17, 12_345, 40, NOON_MS, 1, 3, 0xDEADBEEF, [state.OutboxRecord("rejects", -1, b"key", b'{"value":1}')]
        ),
        state.ENCODE,
        state.DECODE_HEADER,
    ),
    Golden(
        "state_header_2.bin",
        state.Header(17, 12_345, 40, NOON_MS, 1, 3, 0xDEADBEEF, [], [1_200, 90]),
        state.ENCODE,
        state.DECODE_HEADER,
    ),
    Golden("state_claim.bin", state.Claim("worker-1", 9, NOON_MS), state.ENCODE, state.DECODE_CLAIM),
    Golden(
        "state_rollup_cell.bin",
        state.RollupCell("search", 10, 1, 2, 12, 1_200_000, 9, 1),
        state.ENCODE,
        state.DECODE_ROLLUP_CELL,
    ),
    _json(
        "usage_event",
        usage.UsageEvent(
            id="evt-1",
            started_at=NOON,
            ts=NOON,
            duration_ms=0,
            org_id="org_acme",
            account_id="org_root",
            api_key_id="key_acme_1",
            operation="retriever.execute",
            status=200,
            quantities=usage.Quantities(tokens=1200, seconds=90),
            charges=(usage.Charge(operation="search.knn"),),
            model="text-large",
            labels={"pipeline": "nightly"},
            resource_delta={"documents": -3},
            subject="batch_7",
            node="api-1",
        ),
        usage.UsageEvent,
    ),
    _json(
        "decision",
        outputs.Decision(
            decision_id="d-3-12345-7",
            scope=outputs.Scope(kind="key", id="key_acme_1"),
            verdict="block",
            limit_name="requests_per_minute",
            limit=600,
            observed=601,
            until=NOON,
            tier="pro",
            plan_version=1,
            cause=outputs.Cause(
                position=POSITION, event_id="evt-1", organization_id="org_acme", ts=NOON, logged_at=NOON
            ),
            decided_at=NOON,
            sequence=SEQUENCE,
        ),
        outputs.Decision,
    ),
    _json(
        "balance",
        outputs.Balance(
            kind="organization",
            id="org_acme",
            account_id="org_root",
            organization_id="org_acme",
            month="2026-01",
            total_micro=100_000_000_000,
            used_micro=45_230_100_000,
            breakdown_micro={"inference": 45_230_000_000, "search": 100_000},
            requests=99,
            as_of=NOON,
            source=POSITION,
            sequence=SEQUENCE,
        ),
        outputs.Balance,
    ),
    _json("entitlement_key", KEY, outputs.Entitlement),
    _json("entitlement_key_scopes", KEY.model_copy(update={"mode": "live", "scopes": ()}), outputs.Entitlement),
    _json(
        "entitlement_organization",
        outputs.OrganizationEntitlement(
            organization_id="org_acme",
            account_id="org_root",
            tier="enterprise",
            credits_micro_per_month=5_000_000_000,
            rates=catalogue.RateLimits(requests_per_second=7, burst=9, requests_per_minute=300),
            sequence=SEQUENCE,
        ),
        outputs.Entitlement,
    ),
    _json(
        "reject",
        outputs.Reject(
            id="usage/3/12345/7",
            reason="missing_quantity",
            field="quantities.tokens",
            detail="The rate card needs tokens for inference.llm.",
            source=POSITION,
            event_id="evt-1",
            organization_id="org_acme",
            producer_id="3f2b9c",
            size_bytes=321,
            sha256="cd" * 32,
            rejected_at=NOON,
        ),
        outputs.Reject,
    ),
    _json(
        "alert_audit_drift",
        alerts.AuditDrift(
            alert_id="audit_drift/cells_minute/0123456789abcdef/2",
            state="fired",
            sentence="In the minute 2026-01-31T12:00Z, organization org_acme: the state and usage_minute differ.",
            advice="Run the repair.",
            fired_at=NOON,
            at=NOON,
            pair="cells_minute",
            organization_id="org_acme",
            month="2026-01",
            credits_micro=-1,
            events=1,
            buckets_differing=1,
            buckets=(
                alerts.DriftBucket(
                    start=NOON.replace(microsecond=0),
                    seconds=60,
                    api_key_id="key_acme_1",
                    operation="search.knn",
                    category="search",
                    source="sluicegate.state/3",
                    chunk=12_345,
                    credits_micro_expected=100_000,
                    credits_micro_found=99_999,
                    events_expected=1,
                    events_found=2,
                ),
            ),
        ),
        alerts.AuditDrift,
    ),
    _json(
        "delivery",
        deliveries.Delivery(
            endpoint="pager",
            webhook_id="audit_drift/cells_minute/0123456789abcdef/2:fired",
            state="pending",
            alert='{"alert_id":"audit_drift/cells_minute/0123456789abcdef/2"}',
            taken_at=NOON,
            attempts=2,
            next_attempt_at=NOON,
            failure="status",
            status=503,
            at=NOON,
        ),
        deliveries.DeliveryRecord,
    ),
    _json("delivery_position", deliveries.AlertsPosition(partition=3, next_offset=41), deliveries.DeliveryRecord),
    _json(
        "delivery_claim",
        deliveries.DispatcherClaim(dispatcher="node-1/41/9f", claimed_at=NOON),
        deliveries.DeliveryRecord,
    ),
    _json("command_organization_put", ORGANIZATION_PUT, accounts.AccountCommand),
    _json(
        "command_organization_put_based_on",
        ORGANIZATION_PUT.model_copy(update={"based_on": 7}),
        accounts.AccountCommand,
    ),
    _json("command_key_put", KEY_PUT, accounts.AccountCommand),
    _json(
        "command_key_put_scopes",
        KEY_PUT.model_copy(update={"command_id": "file-4", "scopes": ("usage:read", "alerts:read")}),
        accounts.AccountCommand,
    ),
    _json(
        "command_key_revoke",
        accounts.KeyRevoke(
            command_id="file-3",
            issued_at=NOON,
            issued_by="platform",
            account_id="org_root",
            kind="key.revoke",
            api_key_id="key_acme_1",
            organization_id="org_acme",
        ),
        accounts.AccountCommand,
    ),
    _json(
        "catalogue_record",
        catalogue.CatalogueRecord(
            catalogue=catalogue.Catalogue(
                version=3,
                effective_at=NOON,
                plans={
                    "free": catalogue.Plan(
                        credits_micro_per_month=1_000_000_000,
                        rates=catalogue.RateLimits(requests_per_second=10, burst=20, requests_per_minute=60),
                    ),
                    "pro": catalogue.Plan(credits_micro_per_month=1, rates=None),
                    "team": catalogue.Plan(credits_micro_per_month=1, rates=None),
                    "enterprise": catalogue.Plan(credits_micro_per_month=None, rates=None),
                },
                operations={
                    "collections.list": catalogue.RateCardEntry(category="metadata"),
                    "documents.create": catalogue.RateCardEntry(
                        category="data",
                        breakdown="documents",
                        price=catalogue.UnitPrice(kind="per_unit", quantity="documents", credits_micro=1_000_000),
                    ),
                    "inference.embedding": catalogue.RateCardEntry(
                        category="compute",
                        breakdown="inference",
                        price=catalogue.ModelPrice(
                            kind="per_model", models={"text-small": 1_000_000}, credits_micro_default=1_000_000
                        ),
                    ),
                    "inference.llm": catalogue.RateCardEntry(
                        category="compute",
                        breakdown="inference",
                        price=catalogue.StartedPrice(
                            kind="per_started",
                            quantity="tokens",
                            per=1000,
                            credits_micro=10_000_000,
                            credits_micro_min=10_000_000,
                            credits_micro_max=100_000_000,
                        ),
                    ),
                    "cluster.execute": catalogue.RateCardEntry(
                        category="compute",
                        breakdown="compute",
                        price=catalogue.StepPrice(
                            kind="steps",
                            quantity="dataset_size",
                            steps=(catalogue.Step(up_to=1000, credits_micro=50_000_000),),
                            credits_micro_above=500_000_000,
                        ),
                    ),
                    "storage": catalogue.RateCardEntry(
                        category=None,
                        breakdown="storage",
                        price=catalogue.HeldPrice(
                            kind="held_month", quantity="bytes", per=10**9, credits_micro=100_000_000
                        ),
                    ),
                },
            ),
            published_at=NOON,
            published_by="platform",
        ),
        catalogue.CatalogueRecord,
    ),
)


def cloud_event_text() -> bytes:
    """A CloudEvent as a foreign client sends it (``golden/cloud_event.json``)."""
    data = usage.UsageEvent.model_validate_json((FOLDER / "usage_event.json").read_bytes()).model_dump(
        mode="json", exclude={"id", "ts"}, exclude_none=True
    )
    content = {
        "specversion": "1.0",
        "id": "evt-1",
        "source": "/gateway/eu-1",
        "type": "sluicegate.usage.v1",
        "time": "2026-01-31T12:00:00.250Z",
        "data": data,
    }
    return json.dumps(content, indent=2).encode() + b"\n"


def write_missing() -> list[str]:
    """Writes the golden files that are missing; returns their names."""
    written = []
    contents = [*((golden.file, golden.encode(golden.record)) for golden in RECORDS), ("cloud_event.json", None)]
    for name, content in contents:
        if not (FOLDER / name).exists():
            (FOLDER / name).write_bytes(cloud_event_text() if content is None else content)
            written.append(name)
    return written


if __name__ == "__main__":
    print("\n".join(write_missing()) or "nothing is missing")
