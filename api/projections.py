"""Projections of all organizations, asked of ClickHouse together and kept for a minute: one question serves all."""

import asyncio
from datetime import datetime
from typing import Final, NamedTuple

from clickhouse.projection import Projection, project
from sluicegate_schemas.bounds import from_epoch_ms

from .balances import Balance, month_of
from .parts import Parts
from .problems import away

KEPT_MS: Final = 60_000


class Projected(NamedTuple):
    """When the projections were made, and each by its organization."""

    made_at: datetime
    by_organization: dict[str, Projection]


class Projections:
    """Asks again when what it has is older than a minute; while it asks, everybody waits for the same answer."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._kept = Projected(from_epoch_ms(0), {})
        self._kept_ms = 0
        self._asking = asyncio.Lock()

    async def of(self, organization_id: str) -> tuple[datetime, Projection | None]:
        """When it was made, and the organization's projection; None without usage in eight weeks. Raises
        ProblemError: 503."""
        async with self._asking:
            now_ms = self._parts.clock()
            if now_ms - self._kept_ms >= KEPT_MS:
                now = from_epoch_ms(now_ms)
                found = await self._parts.history.ask(project, now, self._left_micro(now_ms))
                self._kept, self._kept_ms = Projected(now, {one.org_id: one for one in found}), now_ms
        return self._kept.made_at, self._kept.by_organization.get(organization_id)

    def _left_micro(self, now_ms: int) -> dict[str, int]:
        """What is left to each organization with a limit. Raises ProblemError: 503 until balances are known."""
        if not self._parts.balances_from.ready:
            raise away("Balances are not known yet")
        month = month_of(now_ms)
        balances = {one.id: one for one in self._parts.balances.of_month("organization", month)}
        left = {name: micro for name, one in balances.items() if (micro := _left(one)) is not None}
        catalogue = self._parts.knowledge.view.catalogue_at(now_ms)
        if catalogue is not None and self._parts.balances.is_complete(month):
            for name, one in self._parts.roster.known.organizations.items():
                if name in balances or one.account_id != name:
                    continue
                shared = self._parts.balances.get("account", name, month)  # others of its pool used something
                total_micro = catalogue.credits_micro_per_month(one.tier, one.credits_micro_per_month)
                micro = total_micro if shared is None else _left(shared.balance)
                if micro is not None:
                    left[name] = micro
        return left


def _left(balance: Balance) -> int | None:
    return None if balance.total_micro is None else max(0, balance.total_micro - balance.used_micro)
