"""The rows of the workers' state that the stack reads, by their keys and positions alone (no code of the workers).

Payloads are MessagePack arrays that only ever grow at the end, so what follows the fields named here is passed over.
"""

from __future__ import annotations

from typing import Final

import msgspec

from stack.errors import StackError

TOTALS_KEY: Final = b"t|totals"
LEDGER_TABLE: Final = b"l|"


class WorkerTotals(msgspec.Struct, array_like=True, frozen=True):
    """``t|totals``: what one partition's events became, as the workers counted them themselves."""

    usage_offset: int = -1
    counted: int = 0
    duplicate: int = 0
    rejected: int = 0
    forwarded: int = 0

    def __add__(self, other: WorkerTotals) -> WorkerTotals:
        return WorkerTotals(
            -1,
            self.counted + other.counted,
            self.duplicate + other.duplicate,
            self.rejected + other.rejected,
            self.forwarded + other.forwarded,
        )


class LedgerAmounts(msgspec.Struct, array_like=True, frozen=True):
    """``l|kind|id|month``: the credits of one month."""

    account_id: str
    organization_id: str | None
    total_micro: int | None
    used_micro: int
    breakdown_micro: list[int]
    requests: int


_DECODE_TOTALS: Final = msgspec.msgpack.Decoder(WorkerTotals).decode
_DECODE_LEDGER: Final = msgspec.msgpack.Decoder(LedgerAmounts).decode


def worker_totals(payload: bytes) -> WorkerTotals:
    """The totals in a row's ``payload``.

    :raises StackError: it holds something else.
    """
    try:
        return _DECODE_TOTALS(payload)
    except msgspec.MsgspecError as error:
        raise StackError(f"The workers' own totals cannot be read from their state: {error}") from error


def ledger_place(key: bytes) -> tuple[str, str, str]:
    """(kind, id, month) of a ledger's row ``key``."""
    _, kind, name, month = key.decode().split("|")
    return kind, name, month


def ledger_amounts(payload: bytes) -> LedgerAmounts:
    """The amounts in a ledger row's ``payload``.

    :raises StackError: it holds something else.
    """
    try:
        return _DECODE_LEDGER(payload)
    except msgspec.MsgspecError as error:
        raise StackError(f"A ledger cannot be read from the workers' state: {error}") from error
