"""Balances of months that are over to rows of usage_month: what each was when it took no more late events."""

from datetime import datetime
from typing import Annotated, Final, NamedTuple

import msgspec
from clickhouse_connect.driver.client import Client

from sluicegate_schemas.bounds import EPOCH_MS_MAX, MONTH_PATTERN, to_epoch_ms

from .cursor import LogRecord
from .record_rows import RecordRows
from .usage_sql import ONE_THREAD

KINDS: Final = ("account", "organization", "key")
"""Of labels, ``usage_label`` has the months."""


_Micro = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Rank(msgspec.Struct, frozen=True):
    epoch: _Count
    counter: _Count


class _Served(msgspec.Struct, frozen=True):
    requests: _Count
    failures: _Count
    p50_ms: _Count
    p99_ms: _Count


class _Balance(msgspec.Struct, frozen=True):
    """``sluicegate_schemas.outputs.Balance``, as far as it is kept."""

    kind: str
    id: str
    account_id: str
    organization_id: str | None
    month: Annotated[str, msgspec.Meta(pattern=MONTH_PATTERN)]
    total_micro: _Micro | None
    used_micro: _Micro
    breakdown_micro: dict[str, _Micro]
    requests: _Count
    as_of: Annotated[datetime, msgspec.Meta(tz=True)]
    sequence: _Rank
    overage_micro: _Micro = 0
    granted_micro: _Micro = 0
    corrections_micro: dict[str, _Micro] = {}
    final: bool = False
    served: _Served | None = None


class MonthRow(NamedTuple):
    """A row of usage_month, in the order of its columns; times in milliseconds since the epoch."""

    org_id: str
    kind: str
    id: str
    month: str
    account_id: str
    total_micro: int | None
    used_micro: int
    breakdown_micro: dict[str, int]
    corrections_micro: dict[str, int]
    granted_micro: int
    overage_micro: int
    requests: int
    served_requests: int
    failures: int
    p50_ms: int
    p99_ms: int
    as_of: int
    told_at: int
    version: int


_DECODE: Final = msgspec.json.Decoder(_Balance).decode
_NOT_SERVED: Final = _Served(0, 0, 0, 0)


class MonthRows(RecordRows[MonthRow]):
    """The rows of one partition's balances: of those that are final, and of a key, an organization or an account."""

    def row_of(self, record: LogRecord) -> MonthRow | None:
        """None for a balance that may change yet."""
        if record.value is None:
            return None
        try:
            balance = _DECODE(record.value)
        except msgspec.MsgspecError as error:
            raise ValueError(str(error)) from error
        if not balance.final or balance.kind not in KINDS:
            return None
        served, as_of_ms = balance.served or _NOT_SERVED, to_epoch_ms(balance.as_of)
        if not 0 <= as_of_ms < EPOCH_MS_MAX:
            raise ValueError("as_of: is out of range")
        return MonthRow(
            balance.organization_id or balance.account_id,
            balance.kind,
            balance.id,
            balance.month,
            balance.account_id,
            balance.total_micro,
            balance.used_micro,
            balance.breakdown_micro,
            balance.corrections_micro,
            balance.granted_micro,
            balance.overage_micro,
            balance.requests,
            served.requests,
            served.failures,
            served.p50_ms,
            served.p99_ms,
            as_of_ms,
            record.timestamp,
            balance.sequence.epoch << 64 | balance.sequence.counter,
        )


_COLUMNS: Final = ", ".join(
    f"toUnixTimestamp64Milli({name}) AS {name}_ms" if name in ("as_of", "told_at") else name
    for name in MonthRow._fields
)
_FINAL: Final = f"""
    SELECT {_COLUMNS} FROM usage_month FINAL
    WHERE org_id = {{org:String}} AND kind = {{kind:String}} AND id = {{id:String}} AND month = {{month:String}}
"""  # noqa: S608 - made of the names of columns


def final_balance(client: Client, org_id: str, kind: str, identifier: str, month: str) -> MonthRow | None:
    """What the month (``2026-03``) of a key, organization or account came to; None: it is not over, nothing was used in
    it, or its end was not seen."""
    parameters = {"org": org_id, "kind": kind, "id": identifier, "month": month}
    rows = client.query(_FINAL, parameters=parameters, settings=ONE_THREAD).result_rows
    return MonthRow(*rows[0]) if rows else None
