"""Months that are over and no longer held: their final balances, asked of ClickHouse."""

from clickhouse.month_rows import MonthRow, final_balance
from sluicegate_schemas.bounds import from_epoch_ms

from .balances import Balance, Held, Rank, Service
from .parts import Parts


async def month_over(parts: Parts, organization_id: str, kind: str, identifier: str, month: str) -> Held | None:
    """The last balance of a month of ``organization_id`` or its key, as it was told; None: its end was not seen, or
    nothing was used. Raises ProblemError."""
    row = await parts.history.ask(final_balance, organization_id, kind, identifier, month)
    return None if row is None else Held(_balance(row), row.told_at)


def _balance(row: MonthRow) -> Balance:
    served = Service(row.served_requests, row.failures, row.p50_ms, row.p99_ms)
    return Balance(
        kind=row.kind,
        id=row.id,
        account_id=row.account_id,
        organization_id=row.org_id if row.kind != "account" else None,
        month=row.month,
        total_micro=row.total_micro,
        used_micro=row.used_micro,
        breakdown_micro=row.breakdown_micro,
        requests=row.requests,
        as_of=from_epoch_ms(row.as_of),
        sequence=Rank(row.version >> 64, row.version & (2**64 - 1)),
        overage_micro=row.overage_micro,
        granted_micro=row.granted_micro,
        corrections_micro=row.corrections_micro,
        final=True,
        served=served if row.served_requests else None,
    )
