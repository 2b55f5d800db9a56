"""Tells the balances of ledgers that changed: paced by the log's time, and a few with the flush that holds the change.

The balance of an organization that shares its account's credits is another one, too, when a sibling spends, and there
is one before it has a ledger: those are told in turns, and only where they changed.
"""

from typing import Final

from sluicegate_schemas.bounds import from_epoch_ms
from sluicegate_schemas.outputs import balance_key

from .ledger import Ledger, Ledgers
from .outputs import Outbox
from .period import LogTime, month_text
from .pools import ORGANIZATION, Pools
from .route_table import RouteTable
from .settings import DomainSettings

_PAUSE_MS_MIN: Final = 50


class Balances:
    """Publishes them. ``usage_offset`` is the last applied usage record, as of which they are."""

    def __init__(
        self,
        settings: DomainSettings,
        time: LogTime,
        ledgers: Ledgers,
        outbox: Outbox,
        routes: RouteTable,
        pools: Pools,
    ) -> None:
        self._settings: Final = settings
        self._time: Final = time
        self._ledgers: Final = ledgers
        self._outbox: Final = outbox
        self._routes: Final = routes
        self._pools: Final = pools
        self._due_ms = 0
        self._told: dict[str, tuple[int, int | None, bool]] = {}
        """(month, total, whether it is final) that was told last of each organization that shares its account."""

    def publish(self, usage_offset: int) -> None:
        """What changed since it was told last, once it is time for it again."""
        if self._time.now_ms >= self._due_ms:
            self._routes.fold()
            self._pause(self._publish_changed(usage_offset) + self._publish_shares(usage_offset))

    def publish_with_flush(self, usage_offset: int) -> None:
        """What changed is told at once, where it is little."""
        if len(self._ledgers.unpublished) <= self._settings.balances_at_flush_max:
            self._pause(self._publish_changed(usage_offset))

    def _pause(self, told: int) -> None:
        if told:
            pause_ms = max(self._settings.balance_pause_ms * told, _PAUSE_MS_MIN)
            self._due_ms = self._time.now_ms + min(self._settings.balance_interval_ms, pause_ms)

    def _publish_changed(self, usage_offset: int) -> int:
        waiting = self._ledgers.unpublished
        told = len(waiting)
        for ledger in waiting:
            if ledger.kind == "account":
                self._pools.shares_changed(ledger.account_id, ledger.month)
            self._publish(ledger, self._pools.total_of(ledger), usage_offset)
        waiting.clear()
        return told

    def _publish_shares(self, usage_offset: int) -> int:
        told = 0
        for ledger, total in self._pools.take_changed_shares(self._settings.pool_balances_max):
            if self._told.get(ledger.identifier) != (ledger.month, total, self._is_final(ledger)):
                self._publish(ledger, total, usage_offset)
                told += 1
        return told

    def _publish(self, ledger: Ledger, total_micro: int | None, usage_offset: int) -> None:
        is_final = self._is_final(ledger)
        if self._pools.is_share(ledger):
            self._told[ledger.identifier] = ledger.month, total_micro, is_final
        self._outbox.balance(ledger, from_epoch_ms(self._time.now_ms), usage_offset, total_micro, is_final=is_final)

    def _is_final(self, ledger: Ledger) -> bool:
        return ledger.month <= self._time.closed_month(self._settings.grace_ms)

    def say_again(self, record_keys: set[str]) -> None:
        """The balances under these record keys are to be told again."""
        for ledger in self._ledgers:
            if balance_key(ledger.kind, ledger.identifier, month_text(ledger.month)) in record_keys:
                self._ledgers.unpublished[ledger] = None
        for organization_id in [name for name, told in self._told.items() if _record_key(name, told[0]) in record_keys]:
            month, _, _ = self._told.pop(organization_id)
            self._pools.share_changed(organization_id, month)


def _record_key(organization_id: str, month: int) -> str:
    return balance_key(ORGANIZATION, organization_id, month_text(month))
