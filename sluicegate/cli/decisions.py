"""Finds a decision by its id: on the decisions topic, else in ClickHouse's history of them."""

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from sluicegate_schemas.outputs import Decision
from sluicegate_schemas.topics import DECISIONS, USAGE

from .clickhouse import ClickHouse, ClickHouseError
from .exits import CommandError, Exit
from .logs import read_all
from .records import read_decision
from .session import Session

_QUERY: Final = "SELECT * FROM decision FINAL WHERE decision_id = {id:String} ORDER BY version DESC LIMIT 1"
_COUNTER_BITS: Final = 64
_AS_THEY_ARE: Final = ("decision_id", "verdict", "limit_name", "observed", "tier", "plan_version")


class Found(NamedTuple):
    """A decision, where it was found, and whether a newer one of its scope and limit is known."""

    decision: Decision
    where: str
    superseded: bool
    notes: list[str]


async def find_decision(session: Session, decision_id: str) -> Found:
    """The decision with that id. Raises CommandError where neither place holds it."""
    if (found := await _on_topic(session, decision_id)) is not None:
        return found
    missing = ["it is no longer on the decisions topic, where only the newest of each scope and limit stays"]
    try:
        rows = await ClickHouse.from_environment(session.environment).rows(_QUERY, {"id": decision_id})
    except ClickHouseError as error:
        raise CommandError(
            f"decision {decision_id}: {missing[0]}; ClickHouse, which keeps all of them, {error}", Exit.NOT_FOUND
        ) from None
    if not rows:
        raise CommandError(
            f"there is no decision {decision_id}: neither on the decisions topic nor in ClickHouse, which "
            "keeps them for 25 months",
            Exit.NOT_FOUND,
        )
    return Found(from_row(rows[0]), "clickhouse", True, missing)


async def _on_topic(session: Session, decision_id: str) -> Found | None:
    needle = json.dumps(decision_id).encode()
    found: Decision | None = None
    key: bytes | None = None
    superseded = False
    async for record in read_all(session.brokers, session.topic(DECISIONS)):
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


def from_row(row: Mapping[str, Any]) -> Decision:
    """A row of ClickHouse's table ``decision`` as the decision that it was. Raises CommandError where it is none."""
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
        }
        return Decision.model_validate_json(json.dumps(fields))
    except (KeyError, TypeError, ValueError):
        raise CommandError(
            "ClickHouse holds a decision that this version of the command cannot read", Exit.USAGE
        ) from None


def _time(text: object) -> str:
    """ClickHouse's ``2026-01-31 12:00:00.000`` (UTC) as RFC 3339."""
    return f"{str(text).replace(' ', 'T')}Z"
