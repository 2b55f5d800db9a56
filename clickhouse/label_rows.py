"""Ledgers of labels in the state log to rows of usage_label: what a label had used at the last flush of an hour."""

from typing import Final, NamedTuple

from sluicegate_schemas.bounds import EPOCH_MS_MAX
from sluicegate_schemas.state import LabelLedger, parse_label_key, rollup_version

NOTHING_USED: Final = LabelLedger("", None, None, 0, [], 0)
_HOUR_MS: Final = 3_600_000


class LabelRow(NamedTuple):
    """A row of usage_label, in the order of its columns; ``hour`` in seconds since the epoch, ``month`` as 202603.
    ``requests`` and ``credits_micro`` are the month's so far."""

    org_id: str
    label: str
    month: int
    hour: int
    requests: int
    credits_micro: int
    version: int


def label_row(key: bytes, ledger: LabelLedger, epoch: int, offset: int, logged_at_ms: int) -> LabelRow:
    """The row of a state record at ``offset`` that the broker logged then. Raises ValueError for another key."""
    org_id, label, month = parse_label_key(key)
    hour = min(max(logged_at_ms, 0), EPOCH_MS_MAX - 1) // _HOUR_MS * 3600
    return LabelRow(org_id, label, month, hour, ledger.requests, ledger.used_micro, rollup_version(epoch, offset))
