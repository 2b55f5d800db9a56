"""Ledgers: credits used in a month by an account, its organizations and their keys (requirements, section 9)."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from sluicegate_schemas.bounds import CREDITS_MICRO_MAX

from .period import month_text, parse_month
from .tables import COUNT_MAX, GROUPS, ChangedRows, LedgerRow, row_key

NEVER: Final = CREDITS_MICRO_MAX + 1
"""A watch that only an amount above the contract's largest can reach."""


class Ledger:
    """One ledger of one month. ``used_micro`` is the sum of the rated events booked here, and of its breakdown.

    ``watch_micro`` (accounts) is the amount at which someone has to look: the total, while it is not reached.
    """

    __slots__ = (
        "account_id", "breakdown_micro", "corrections_micro", "identifier", "key", "kind", "month", "organization_id",
        "requests", "total_micro", "used_micro", "watch_micro",
    )  # fmt: skip

    def __init__(self, kind: str, identifier: str, month: int, account_id: str, organization_id: str | None) -> None:
        self.key = row_key("l", kind, identifier, month_text(month))
        self.kind = kind
        self.identifier = identifier
        self.month = month
        self.account_id = account_id
        self.organization_id = organization_id
        self.total_micro: int | None = None
        self.used_micro = 0
        self.breakdown_micro = [0] * len(GROUPS)
        self.requests = 0
        self.corrections_micro: dict[str, int] = {}
        self.watch_micro = NEVER

    def encode(self) -> bytes:
        """The payload of its row."""
        return LedgerRow(
            self.account_id,
            self.organization_id,
            self.total_micro,
            self.used_micro,
            self.breakdown_micro,
            min(self.requests, COUNT_MAX),
            self.corrections_micro,
        ).encode()


class Ledgers:
    """All ledgers of a partition. ``credits_of`` says what an account's month holds by its tier as it is now."""

    def __init__(self, changed: ChangedRows, credits_of: Callable[[str], int | None]) -> None:
        self._changed = changed.rows
        self._credits_of = credits_of
        self._ledgers: dict[tuple[str, str, int], Ledger] = {}
        self.unpublished: dict[Ledger, None] = {}
        """Whose balance changed since it was published last, oldest change first."""
        self.touched: dict[str, None] = {}
        """The accounts of which a ledger changed; whoever looks at them takes them out."""

    def __iter__(self) -> Iterator[Ledger]:
        return iter(self._ledgers.values())

    def __len__(self) -> int:
        return len(self._ledgers)

    def get(self, kind: str, identifier: str, month: int) -> Ledger | None:
        """The ledger, if the month has one."""
        return self._ledgers.get((kind, identifier, month))

    def find(self, kind: str, identifier: str, month: int, account_id: str, organization_id: str | None) -> Ledger:
        """The ledger, made with the total of today's plan where the month has none yet."""
        ledger = self._ledgers.get((kind, identifier, month))
        if ledger is None:
            ledger = Ledger(kind, identifier, month, account_id, organization_id)
            if kind != "key" and identifier == account_id:
                ledger.total_micro = self._credits_of(account_id)
            self._ledgers[kind, identifier, month] = ledger
            self._changed[ledger.key] = ledger  # at once: its total is of this moment
        return ledger

    def open(self, account_id: str, month: int, total_micro: int | None) -> None:
        """Gives the account's month its ledgers with this total, unless it has them."""
        for kind, organization_id in (("account", None), ("organization", account_id)):
            if (kind, account_id, month) not in self._ledgers:
                self.find(kind, account_id, month, account_id, organization_id).total_micro = total_micro

    def mark(self, ledger: Ledger) -> None:
        """Something in ``ledger`` changed."""
        self._changed[ledger.key] = ledger
        self.unpublished[ledger] = None
        if ledger.kind == "account":
            self.touched[ledger.account_id] = None

    def change_total(self, account_id: str, month_now: int) -> list[Ledger]:
        """Brings the account's totals to its plan: this month's only upwards, a later month's either way.

        Returns the account's ledgers whose total changed.
        """
        total = self._credits_of(account_id)
        changed = []
        for kind in ("account", "organization"):
            for month in (month_now, month_now + 1):
                ledger = self._ledgers.get((kind, account_id, month))
                if ledger is None or ledger.total_micro == total:
                    continue
                is_upgrade = total is None or (ledger.total_micro is not None and total > ledger.total_micro)
                if month > month_now or is_upgrade:
                    ledger.total_micro = total
                    self.mark(ledger)
                    if kind == "account":
                        changed.append(ledger)
        return changed

    def evict(self, month_floor: int, at_most: int) -> bool:
        """Removes the ledgers of the months before ``month_floor``, ``at_most`` so many.

        Returns whether some are left.
        """
        over = ((identity, ledger) for identity, ledger in self._ledgers.items() if identity[2] < month_floor)
        for identity, ledger in list(islice(over, max(0, at_most))):
            del self._ledgers[identity]
            self.unpublished.pop(ledger, None)
            self._changed[ledger.key] = None
        return any(month < month_floor for _, _, month in self._ledgers)

    def restore(self, kind: str, identifier: str, month: str, row: LedgerRow) -> None:
        """Takes in a recovered row."""
        ledger = Ledger(kind, identifier, parse_month(month), row.account_id, row.organization_id)
        ledger.total_micro = row.total_micro
        ledger.used_micro = row.used_micro
        ledger.breakdown_micro = row.breakdown_micro + [0] * (len(GROUPS) - len(row.breakdown_micro))
        ledger.requests = row.requests
        ledger.corrections_micro = row.corrections_micro
        self._ledgers[kind, identifier, ledger.month] = ledger
