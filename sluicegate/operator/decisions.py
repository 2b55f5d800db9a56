"""Decisions by their id: on the decisions topic, and as ClickHouse's history of them has them."""

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from pydantic import TypeAdapter, ValidationError

from sluicegate_schemas.outputs import Decision, Lease
from sluicegate_schemas.topics import DECISIONS, USAGE
from sluicegate_schemas.wire_decision import WireDecision, decode_decision

from ..errors import SluicegateError
from .logs import read_all
from .system import System

_COUNTER_BITS: Final = 64
_DECISION: Final[TypeAdapter[Decision | Lease]] = TypeAdapter(Decision | Lease)


class Found(NamedTuple):
    """A decision, where it was found, and whether a newer one of its scope and limit is known."""

    decision: Decision
    where: str
    superseded: bool
    notes: list[str]


def read_decision(value: bytes) -> Decision | Lease:
    """A record of the decisions topic. Raises ValidationError."""
    return _DECISION.validate_json(value)


async def find_on_topic(system: System, decision_id: str) -> Found | None:
    """The decision with that id, if its scope and limit have no newer one that was compacted over it."""
    needle = json.dumps(decision_id).encode()
    found: Decision | None = None
    key: bytes | None = None
    superseded = False
    async for record in read_all(system.brokers, system.topic(DECISIONS)):
        if found is not None and record.key == key:
            superseded = True
        if record.value is None or needle not in record.value:
            continue
        try:
            decision = read_decision(record.value)
        except ValidationError:
            continue
        if isinstance(decision, Decision) and decision.decision_id == decision_id:
            found, key, superseded = decision, record.key, False
    return None if found is None else Found(found, "topic", superseded, [])


def from_row(row: Mapping[str, Any]) -> WireDecision:
    """A row of ClickHouse's table ``decision`` as the decision that it was. Raises SluicegateError where it is none."""
    scope = {name: row.get(name) or None for name in ("operation", "subject", "label", "category")}
    try:
        version = int(row["version"])
        cause = None
        if row["cause_topic"]:
            place = {name: row[f"cause_{name}"] for name in ("partition", "offset", "index")}
            cause = {
                "position": {"topic": USAGE.name, **place},
                "event_id": row["cause_event_id"],
                "organization_id": row["cause_organization_id"],
                "ts": _time(row["cause_ts"]),
                "logged_at": _time(row["cause_logged_at"]),
            }
        fields = {
            **{
                name: row[name] for name in ("decision_id", "verdict", "limit_name", "observed", "tier", "plan_version")
            },
            "scope": {"kind": row["scope_kind"], "id": row["scope_id"], **scope},
            "limit": row["limit_value"],
            "until": _time(row["until"]) if row["until"] else None,
            "cause": cause,
            "decided_at": _time(row["decided_at"]),
            "sequence": {"epoch": version >> _COUNTER_BITS, "counter": version & (1 << _COUNTER_BITS) - 1},
            "organization_id": row.get("organization_id") or None,
        }
        return decode_decision(json.dumps(fields).encode())
    except (KeyError, TypeError, ValueError):
        raise SluicegateError("ClickHouse holds a decision that this version of the command cannot read") from None


def _time(text: object) -> str:
    """ClickHouse's ``2026-01-31 12:00:00.000`` (UTC) as RFC 3339."""
    return f"{str(text).replace(' ', 'T')}Z"
