"""Ledgers: credits used in a month by an account, its organizations and their keys (requirements, section 9)."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from sluicegate_schemas.bounds import CREDITS_MICRO_MAX

from .period import month_text, parse_month
from .tables import COUNT_MAX, GROUPS, PLAN_IS_TOTAL, ChangedRows, LedgerRow, row_key

NEVER: Final = CREDITS_MICRO_MAX + 1
"""A watch that only an amount above the contract's largest can reach."""
UNTOLD: Final = -1


class Ledger:
    """One ledger of one month. ``used_micro`` is the sum of the rated events booked here, and of its breakdown.

    Of an account: ``total_micro`` is ``plan_micro``, what its plan gives the month, and ``granted_micro``: what grants
    have paid of the month (``granted_burned_micro``) or still hold for it; None is unlimited. ``plan_burned_micro`` is
    what the plan has paid. ``watch_micro`` is the amount at which someone has to look.

    Of ``used_micro``, ``corrections_micro`` belongs to closed months by the time of its events, ``charges_micro`` by
    what the operators said who charged it.

    Of an organization: ``failures`` and ``durations`` say how it was served (``service_levels``).
    """

    __slots__ = (
        "account_id", "breakdown_micro", "charges_micro", "corrections_micro", "durations", "failures",
        "granted_burned_micro", "granted_micro", "identifier", "key", "kind", "lent_micro", "month",
        "organization_id", "plan_burned_micro", "plan_micro", "requests", "rested_ms", "told_used_micro", "total_micro",
        "used_micro", "watch_micro",
    )  # fmt: skip

    def __init__(self, kind: str, identifier: str, month: int, account_id: str, organization_id: str | None) -> None:
        self.key = row_key("l", kind, identifier, month_text(month))
        self.kind = kind
        self.identifier = identifier
        self.month = month
        self.account_id = account_id
        self.organization_id = organization_id
        self.total_micro: int | None = None
        self.plan_micro: int | None = None
        self.plan_burned_micro = 0
        self.granted_micro = 0
        self.granted_burned_micro = 0
        self.used_micro = 0
        self.breakdown_micro = [0] * len(GROUPS)
        self.requests = 0
        self.corrections_micro: dict[str, int] = {}
        self.charges_micro: dict[str, int] = {}
        self.failures = 0
        self.durations: dict[int, int] = {}
        self.watch_micro = NEVER
        self.lent_micro = 0
        """What is lent of it to gateway nodes, as the escrow says: it has no place in the row."""
        self.rested_ms = 0
        """When its pace has made up for each time that its balance was told, by the clock of who told it: no more in
        the row."""
        self.told_used_micro = UNTOLD
        """What its balance said last that was used; UNTOLD: more than counts of requests has changed since."""

    @property
    def unpaid_micro(self) -> int:
        """What was used and is not burned from any source (yet)."""
        return self.used_micro - self.plan_burned_micro - self.granted_burned_micro

    @property
    def overage_micro(self) -> int:
        """What was used beyond the total."""
        return 0 if self.total_micro is None else max(0, self.used_micro - self.total_micro)

    def of_closed_months(self) -> dict[str, int]:
        """How much of ``used_micro`` belongs to months that were closed when it came."""
        if not self.charges_micro:
            return self.corrections_micro
        months = sorted(self.corrections_micro.keys() | self.charges_micro.keys())
        return {name: self.corrections_micro.get(name, 0) + self.charges_micro.get(name, 0) for name in months}

    def give(self, plan_micro: int | None, granted_micro: int) -> None:
        """Sets what its sources hold for the month, what they have paid of it included."""
        self.told_used_micro = UNTOLD
        self.plan_micro = plan_micro
        self.granted_micro = min(granted_micro, CREDITS_MICRO_MAX)
        self.total_micro = None if plan_micro is None else min(plan_micro + granted_micro, CREDITS_MICRO_MAX)

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
            self.plan_micro,
            self.plan_burned_micro,
            self.granted_micro,
            self.granted_burned_micro,
            self.charges_micro,
            self.failures,
            dict(sorted(self.durations.items())),  # by their order a replay, which folds elsewhere, would differ
        ).encode()


class Ledgers:
    """All ledgers of a partition. ``credits_of`` says what an account's month holds by its tier as it is now."""

    def __init__(self, changed: ChangedRows, credits_of: Callable[[str], int | None]) -> None:
        self._changed = changed.rows
        self._credits_of = credits_of
        self._ledgers: dict[tuple[str, str, int], Ledger] = {}
        self.unpublished: dict[Ledger, None] = {}
        self.unpublished_keys: dict[Ledger, None] = {}
        """Whose balance changed since it was published last, oldest change first: of accounts, organizations and
        labels, and of keys."""
        self.touched: dict[str, None] = {}
        """The accounts of which a ledger changed; whoever looks at them takes them out."""
        self.bring_up: Callable[[str], None] = lambda _: None
        """Brings an account's grants and total up to the log time; who keeps the grants sets this and the next two."""
        self.settle: Callable[[str], None] = lambda _: None
        """Burns what an account has used so far, since what it burns from is about to change."""
        self.granted_of: Callable[[str, int], int] = lambda account_id, month: 0
        """What grants hold for an account's month that has no ledger yet."""

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
            ledger = self._ledgers[kind, identifier, month] = self.blank(
                kind, identifier, month, account_id, organization_id
            )
            self._changed[ledger.key] = ledger  # at once: its total is of this moment
        return ledger

    def blank(self, kind: str, identifier: str, month: int, account_id: str, organization_id: str | None) -> Ledger:
        """The ledger that ``find`` would make now, which is not kept."""
        ledger = Ledger(kind, identifier, month, account_id, organization_id)
        if kind != "key" and identifier == account_id:
            ledger.give(self._credits_of(account_id), self.granted_of(account_id, month))
        return ledger

    def open(self, account_id: str, month: int, plan_micro: int | None) -> None:
        """Gives the account's month its ledgers with these credits of its plan, unless it has them."""
        for kind, organization_id in (("account", None), ("organization", account_id)):
            if (kind, account_id, month) not in self._ledgers:
                ledger = self.find(kind, account_id, month, account_id, organization_id)
                ledger.give(plan_micro, ledger.granted_micro)

    def mark(self, ledger: Ledger) -> None:
        """Something in ``ledger`` changed."""
        self._changed[ledger.key] = ledger
        if ledger.kind == "key":
            self.unpublished_keys[ledger] = None
            return
        self.unpublished[ledger] = None
        if ledger.kind == "account":
            self.touched[ledger.account_id] = None

    def tell(self, ledger: Ledger) -> None:
        """Its balance is another one, though its row is not."""
        ledger.told_used_micro = UNTOLD
        (self.unpublished_keys if ledger.kind == "key" else self.unpublished)[ledger] = None

    def is_untold(self, ledger: Ledger) -> bool:
        """Its balance changed since it was told."""
        return ledger in self.unpublished or ledger in self.unpublished_keys

    def of_account(self, account_id: str, month: int) -> list[Ledger]:
        """The account's ledger of the month, and that of its own organization, which has the same total."""
        found = (self._ledgers.get((kind, account_id, month)) for kind in ("account", "organization"))
        return [ledger for ledger in found if ledger is not None]

    def grant(self, account_id: str, month: int, granted_micro: int) -> Ledger | None:
        """Sets what grants hold for the account's month; returns its ledger if that changed."""
        changed = None
        for ledger in self.of_account(account_id, month):
            if ledger.granted_micro != min(granted_micro, CREDITS_MICRO_MAX):
                ledger.give(ledger.plan_micro, granted_micro)
                self.mark(ledger)
                if ledger.kind == "account":
                    changed = ledger
        return changed

    def change_plan(self, account_id: str, month_now: int) -> list[Ledger]:
        """Brings the account's credits to its plan: this month's only upwards, a later month's either way.

        Returns the account's ledgers whose total changed.
        """
        plan = self._credits_of(account_id)
        changed = []
        for month in (month_now, month_now + 1):
            for ledger in self.of_account(account_id, month):
                if ledger.plan_micro == plan:
                    continue
                is_upgrade = plan is None or (ledger.plan_micro is not None and plan > ledger.plan_micro)
                if month > month_now or is_upgrade:
                    self.settle(account_id)
                    ledger.give(plan, ledger.granted_micro)
                    self.mark(ledger)
                    if ledger.kind == "account":
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
            self.unpublished_keys.pop(ledger, None)
            self._changed[ledger.key] = None
        return any(month < month_floor for _, _, month in self._ledgers)

    def restore(self, kind: str, identifier: str, month: str, row: LedgerRow) -> None:
        """Takes in a recovered row."""
        ledger = Ledger(kind, identifier, parse_month(month), row.account_id, row.organization_id)
        ledger.total_micro = row.total_micro
        ledger.plan_micro = row.total_micro if row.plan_micro == PLAN_IS_TOTAL else row.plan_micro
        ledger.plan_burned_micro = row.plan_burned_micro
        ledger.granted_micro = row.granted_micro
        ledger.granted_burned_micro = row.granted_burned_micro
        ledger.used_micro = row.used_micro
        ledger.breakdown_micro = row.breakdown_micro + [0] * (len(GROUPS) - len(row.breakdown_micro))
        ledger.requests = row.requests
        ledger.corrections_micro = row.corrections_micro
        ledger.charges_micro = row.charges_micro
        ledger.failures = row.failures
        ledger.durations = row.durations
        self._ledgers[kind, identifier, ledger.month] = ledger
