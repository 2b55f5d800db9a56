"""The balances of ledgers that changed, whenever there is time to tell some.

One that changes now and then is told at once, one that changes all the time at a pace (GCRA, as for the rate limits),
one where nothing was used but requests counted seldom; the oldest change comes first.

The balance of an organization that shares its account's credits is another one, too, when a sibling spends, and there
is one before it has a ledger: those are told in turns, and only where they changed. A balance that will not change any
more (``final``) is told once a flush holds it.
"""

from itertools import islice
from typing import Final

from sluicegate_schemas.bounds import from_epoch_ms
from sluicegate_schemas.outputs import balance_key
from sluicegate_schemas.state import OutboxRecord

from .ledger import Ledger, Ledgers
from .outputs import Outbox
from .period import LogTime, month_text
from .pools import ORGANIZATION, Pools
from .route_table import RouteTable
from .settings import DomainSettings
from .tables import ChangedRows

_LOOKED_AT_MAX: Final = 20_000
"""Behind so many that have just been told, one waits though it was at rest."""


class Balances:
    """Makes them. ``usage_offset`` is the last applied usage record, as of which they are."""

    def __init__(
        self,
        settings: DomainSettings,
        time: LogTime,
        changed: ChangedRows,
        ledgers: Ledgers,
        outbox: Outbox,
        routes: RouteTable,
        pools: Pools,
    ) -> None:
        self._settings: Final = settings
        self._time: Final = time
        self._changed: Final = changed.rows
        self._ledgers: Final = ledgers
        self._outbox: Final = outbox
        self._routes: Final = routes
        self._pools: Final = pools
        self._is_flushing = False
        self._closed_month = 0
        self._again: dict[Ledger, None] = {}
        self._told: dict[str, tuple[int, int | None, bool]] = {}
        """(month, total, whether it is final) that was told last of each organization that shares its account."""

    def resume(self) -> None:
        """All rows are back: each balance is told again, behind those that change."""
        self._again = dict.fromkeys(self._ledgers)

    def flush_begins(self) -> None:
        """All that changed until now is on its way to the log."""
        self._is_flushing = True

    def flushed(self) -> None:
        """It stands there."""
        self._is_flushing = False

    def take(self, usage_offset: int, at_most: int, clock_ms: int) -> list[OutboxRecord]:
        """What is to be told at ``clock_ms`` of a clock that only rises, at most so much of it."""
        self._routes.fold()
        held = self._ledgers
        if not (held.unpublished or held.unpublished_keys or self._again or self._pools.has_untold):
            return []
        self._closed_month = self._time.closed_month(self._settings.grace_ms)
        told = [
            self._told_of(ledger, self._pools.total_of(ledger), usage_offset)
            for ledger in self._next(at_most, clock_ms)
        ]
        shares = self._pools.take_changed_shares(min(self._settings.pool_balances_max, at_most - len(told)))
        for ledger, total in shares:
            if not self._may_be_told(ledger):
                self._pools.share_changed(ledger.identifier, ledger.month)
            elif self._told.get(ledger.identifier) != (ledger.month, total, self._is_final(ledger)):
                told.append(self._told_of(ledger, total, usage_offset))
        return told

    def _next(self, at_most: int, clock_ms: int) -> list[Ledger]:
        settings, held = self._settings, self._ledgers
        ledgers = self._rested(held.unpublished, at_most, clock_ms, settings.balance_rest_ms)
        ledgers += self._rested(held.unpublished_keys, at_most - len(ledgers), clock_ms, settings.key_balance_rest_ms)
        ledgers += self._next_again(at_most - len(ledgers))
        for ledger in ledgers:
            rest_ms = settings.key_balance_rest_ms if ledger.kind == "key" else settings.balance_rest_ms
            ledger.rested_ms = max(ledger.rested_ms, clock_ms) + rest_ms
            if ledger.kind == "account":
                self._pools.shares_changed(ledger.account_id, ledger.month)
        return ledgers

    def _rested(self, waiting: dict[Ledger, None], at_most: int, clock_ms: int, rest_ms: int) -> list[Ledger]:
        latest_ms = clock_ms + (self._settings.balance_burst - 1) * rest_ms
        quiet_ms = clock_ms + rest_ms - self._settings.quiet_balance_rest_ms
        looked_at = islice(waiting, _LOOKED_AT_MAX)
        rested = (
            one
            for one in looked_at
            if one.rested_ms <= (quiet_ms if one.used_micro == one.told_used_micro else latest_ms)
            and self._may_be_told(one)
        )
        ledgers = list(islice(rested, at_most))
        for ledger in ledgers:
            del waiting[ledger]
            self._again.pop(ledger, None)
        return ledgers

    def _next_again(self, at_most: int) -> list[Ledger]:
        """Of those that a recovery brought back, without those that wait as changed ones or are kept no more."""
        found = []
        for ledger in list(islice(self._again, at_most)):
            del self._again[ledger]
            if not self._may_be_told(ledger):
                self._again[ledger] = None
            elif not self._ledgers.is_untold(ledger) and self._is_kept(ledger):
                found.append(ledger)
        return found

    def _is_kept(self, ledger: Ledger) -> bool:
        return self._ledgers.get(ledger.kind, ledger.identifier, ledger.month) is ledger

    def _may_be_told(self, ledger: Ledger) -> bool:
        return not self._is_final(ledger) or not (self._is_flushing or ledger.key in self._changed)

    def _told_of(self, ledger: Ledger, total_micro: int | None, usage_offset: int) -> OutboxRecord:
        is_final = self._is_final(ledger)
        ledger.told_used_micro = ledger.used_micro
        if self._pools.is_share(ledger):
            self._told[ledger.identifier] = ledger.month, total_micro, is_final
        as_of = from_epoch_ms(self._time.now_ms)
        return self._outbox.balance(ledger, as_of, usage_offset, total_micro, is_final=is_final)

    def _is_final(self, ledger: Ledger) -> bool:
        return ledger.month <= self._closed_month

    def say_again(self, record_keys: set[str]) -> None:
        """The balances under these record keys are to be told again."""
        for ledger in self._ledgers:
            if balance_key(ledger.kind, ledger.identifier, month_text(ledger.month)) in record_keys:
                self._ledgers.tell(ledger)
        for organization_id in [name for name, told in self._told.items() if _record_key(name, told[0]) in record_keys]:
            month, _, _ = self._told.pop(organization_id)
            self._pools.share_changed(organization_id, month)


def _record_key(organization_id: str, month: int) -> str:
    return balance_key(ORGANIZATION, organization_id, month_text(month))
