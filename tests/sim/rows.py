"""The rows of a partition's state, read by their keys and places alone: no code of the workers."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

GROUPS: Final = ("documents", "inference", "search", "compute", "storage", "upload")
_DECODE: Final = msgspec.msgpack.Decoder().decode
_ENCODE: Final = msgspec.msgpack.Encoder().encode


class LedgerPlace(NamedTuple):
    """Whose ledger of which month."""

    kind: str
    name: str
    month: str


class LedgerRow(NamedTuple):
    """``l|kind|id|month``."""

    account_id: str
    organization_id: str | None
    total_micro: int | None
    used_micro: int
    breakdown_micro: list[int]
    requests: int
    corrections_micro: dict[str, int]
    plan_micro: int | None
    plan_burned_micro: int
    granted_micro: int
    granted_burned_micro: int


class GrantRow(NamedTuple):
    """``j|kind|account|id``, as far as it is looked at."""

    credits_micro: int
    priority: int
    effective_ms: int
    expires_ms: int | None
    burned_micro: int


class CellPlace(NamedTuple):
    """Which rollup cell; ``chunk`` is the usage offset that made it."""

    organization: str
    key: str
    operation: str
    minute: int
    chunk: int


class CellRow(NamedTuple):
    """``c|organization|key|operation|minute|chunk``."""

    category: str
    requests: int
    errors: int
    throttled: int
    units: int
    credits_micro: int
    events: int
    rated_version: int

    @property
    def amounts(self) -> list[int]:
        """[requests, errors, throttled, units, micro-credits, events]."""
        return list(self[1:7])


class TotalsRow(NamedTuple):
    """``t|totals``."""

    usage_offset: int
    counted: int
    duplicate: int
    rejected: int
    forwarded: int
    commands: int
    commands_repeated: int


class BucketsRow(NamedTuple):
    """``b|key``; arrivals are milliseconds times the rate."""

    requests_per_second: int
    burst: int
    requests_per_minute: int
    second_arrival: str
    minute_arrival: str
    category_rates: list[int]
    category_arrivals: list[str]
    exempt: int
    as_of_ms: int
    is_said: bool


class StandingRow(NamedTuple):
    """``d|limit:scope``, as far as it is looked at."""

    decision_id: str
    scope_kind: str
    scope_id: str
    verdict: str
    limit_name: str
    limit: int
    observed: int
    until_ms: int | None
    tier: str
    plan_version: int
    decided_at_ms: int


def ledger_place(key: bytes) -> LedgerPlace:
    """Of the key of a ledger's row."""
    return LedgerPlace(*key.decode().split("|")[1:])


def cell_place(key: bytes) -> CellPlace:
    """Of the key of a rollup cell's row."""
    _, organization, api_key, operation, minute, chunk = key.decode().split("|")
    return CellPlace(organization, api_key, operation, int(minute), int(chunk))


def ledger_row(payload: bytes) -> LedgerRow:
    """A ledger."""
    return LedgerRow(*_DECODE(payload)[:11])


def grant_row(payload: bytes) -> GrantRow:
    """A grant."""
    return GrantRow(*_DECODE(payload)[:5])


def cell_row(payload: bytes) -> CellRow:
    """A rollup cell."""
    return CellRow(*_DECODE(payload))


def totals_row(payload: bytes | None) -> TotalsRow:
    """The totals; of a partition that never had any, too."""
    return TotalsRow(-1, 0, 0, 0, 0, 0, 0) if payload is None else TotalsRow(*_DECODE(payload))


def buckets_row(payload: bytes) -> BucketsRow:
    """A key's buckets."""
    return BucketsRow(*_DECODE(payload))


def operation_bucket(payload: bytes) -> tuple[int, int]:
    """(limit, arrival time in milliseconds times the limit) of ``r|organization|operation|quantity``."""
    limit, arrival = _DECODE(payload)[:2]
    return int(limit), int(arrival)


def standing_row(payload: bytes) -> StandingRow:
    """A standing decision."""
    return StandingRow(*_DECODE(payload)[:11])


class LeaseRow(NamedTuple):
    """``e|lease``: ``windows`` are months, or days, since 1970; ``frees_at_ms`` is in lease time."""

    account_id: str
    limit_name: str
    scope: str
    node: str
    request_id: str
    credits_micro: int
    left_micro: int
    windows: list[int]
    window: int
    lent_at_ms: int
    frees_at_ms: int


class BudgetRow(NamedTuple):
    """``u|organization|period|kind|target``."""

    credits_micro: int
    blocks: bool
    mode: str
    thresholds_percent: list[int]
    window: int
    used_micro: int
    ahead_micro: int


class LeaseTimeRow(NamedTuple):
    """``et|leases``."""

    now_ms: int
    log_time_ms: int
    excess_micro: int
    late_micro: int
    astray_micro: int


def lease_row(payload: bytes) -> LeaseRow:
    """A lease."""
    return LeaseRow(*_DECODE(payload))


def budget_row(payload: bytes) -> BudgetRow:
    """A budget."""
    return BudgetRow(*_DECODE(payload))


def lease_time_row(payload: bytes | None) -> LeaseTimeRow:
    """Lease time, also where nothing was ever lent."""
    return LeaseTimeRow(0, 0, 0, 0, 0) if payload is None else LeaseTimeRow(*_DECODE(payload))


def alert_id(payload: bytes) -> str:
    """The id of an alert that stands."""
    name: str = _DECODE(payload)[0]
    return name


def entitled_part(payload: bytes) -> bytes:
    """What of an organization's or key's row its entitlements repeat as it is: account, tier and own credits, or
    organization, hash and mode."""
    return _ENCODE(_DECODE(payload)[:3])
