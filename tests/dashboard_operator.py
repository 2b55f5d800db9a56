"""What the operator's routes answer in the dashboard's tests, in the routes' own forms."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

Json = dict[str, Any]


def iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _ago(**length: float) -> str:
    return iso(datetime.now(UTC) - timedelta(**length))


def blocks() -> Json:
    rows = [
        ("org_wren", "organization:org_wren", "credits", 500_000_000, 500_000_000, 240, None),
        ("org_magpie", "key:key_magpie_burst", "requests_per_minute", 60, 61, 2, _ago(seconds=-14)),
        ("org_heron", "operation:org_heron:search.web", "operation_quantity", 10, 10, 21, _ago(seconds=-39)),
        ("org_finch", "organization:org_finch", "quota_collections", 5, 5, 7_200, None),
    ]
    names = ("organization_id", "scope", "limit_name", "limit", "observed")
    found = [
        {
            "decision_id": f"dec_{number}",
            **dict(zip(names, row, strict=False)),
            "decided_at": _ago(seconds=row[5]),
            "until": row[6],
        }
        for number, row in enumerate(rows)
    ]
    return {
        "total": len(found),
        "by_limit": {row[2]: 1 for row in rows},
        "blocks": found,
        "as_of": iso(datetime.now(UTC)),
    }


def topology() -> Json:
    def group(name: str, topic: str, owners: tuple[str, ...], behind: tuple[int, ...]) -> Json:
        partitions = [
            {
                "partition": number,
                "owner": owners[number % len(owners)],
                "end": 48_211_902 + 911 * number,
                "committed": 48_211_902 + 911 * number - lag,
                "lag_records": lag,
            }
            for number, lag in enumerate(behind)
        ]
        lag_records = sum(behind)
        return {
            "group": name,
            "topic": topic,
            "state": "Stable",
            "members": len(owners),
            "lag_records": lag_records,
            "partitions": partitions,
        }

    workers = ("worker-1@10.0.4.11", "worker-2@10.0.4.12")
    return {
        "workers": group("sluicegate-workers", "sluicegate.usage", workers, (12, 0, 4, 31, 0, 9, 2, 0, 18, 5, 0, 7)),
        "sink": group(
            "sluicegate-sink", "sluicegate.state", ("sink-1@10.0.4.21",), (3, 0, 1, 0, 0, 2, 0, 0, 4, 0, 0, 0)
        ),
    }


def freshness() -> Json:
    return {
        "as_of": iso(datetime.now(UTC)),
        "decision_lag": {"decisions": 412, "median_ms": 18, "p99_ms": 64, "worst_ms": 131},
        "balances_staleness_ms": 9,
        "sink": {"inserts": 1_180, "p50_ms": 610, "p99_ms": 1_420, "max_ms": 2_208},
    }


def drifts() -> Json:
    return {
        "drifts": [
            {
                "schema_version": 1,
                "alert_id": "audit_drift/minute_hour/org_osprey/2026-10",
                "state": "fired",
                "sentence": "Minutes and hours do not agree.",
                "advice": "Repair the hours from the minutes",
                "fired_at": _ago(minutes=26),
                "at": _ago(minutes=26),
                "kind": "audit_drift",
                "pair": "minute_hour",
                "organization_id": "org_osprey",
                "month": "2026-10",
                "credits_micro": -1_300_000,
                "events": -2,
                "buckets_differing": 1,
                "buckets": [],
            }
        ]
    }


def top_consumers() -> Json:
    rows = [
        ("org_osprey", 812_340, 188_420_500_000, 3_104, 88),
        ("org_heron", 204_331, 61_842_300_000, 811, 402),
        ("org_kestrel", 98_120, 44_010_000_000, 90, 12),
        ("org_wren", 8_423, 500_000_000, 1_022, 3),
        ("org_finch", 6_110, 412_800_000, 44, 0),
        ("org_magpie", 40_118, 96_400_000, 31_207, 9),
    ]
    now = datetime.now(UTC)
    names = ("organization_id", "requests", "credits_micro", "throttled", "errors")
    return {
        "start": iso(now.replace(hour=0, minute=0)),
        "end": iso(now),
        "consumers": [dict(zip(names, row, strict=True)) for row in rows],
    }


def trail() -> Json:
    rows = [
        ("maria", "grant.put", "grant_2041", "org_wren", "Goodwill after the incident of the 21st", 0.4),
        ("billing", "organization.put", "org_osprey", "org_osprey", "Upgrade to team", 5.2),
        ("maria", "key.put", "key_heron_test", "org_heron", "Revoked: found in a public repository", 26),
        ("deploy", "budget.put", "budget_nightly", "org_heron", "Nightly pipeline is capped", 74),
    ]
    return {
        "entries": [
            {
                "schema_version": 1,
                "command_id": f"cmd_{number}",
                "command": command,
                "account_id": organization,
                "organization_id": organization,
                "subject": subject,
                "issued_by": who,
                "issued_at": _ago(hours=hours),
                "reason": reason,
                "before": None,
                "after": {},
                "applied_at": _ago(hours=hours),
                "source": {"topic": "sluicegate.accounts", "partition": 0, "offset": number, "index": 0},
            }
            for number, (who, command, subject, organization, reason, hours) in enumerate(rows)
        ],
        "next": None,
    }


def catalogues() -> Json:
    published = {"published_by": "priya", "published_at": _ago(hours=50)}
    known = {"version": 2, "effective_at": _ago(hours=49), "in_force": True}
    return {"catalogues": [known | published]}


OPERATOR_ANSWERS: dict[str, Callable[[], Json]] = {
    "blocks": blocks,
    "topology": topology,
    "freshness": freshness,
    "drifts": drifts,
    "top-consumers": top_consumers,
    "trail": trail,
    "catalogues": catalogues,
}
