"""A month on each plan, asked of ClickHouse for one organization and kept for a while: it reads every minute of the
month, which is more than any other answer does."""

import asyncio
from collections import OrderedDict
from typing import Final, NamedTuple

from clickhouse.plan_fit import month_fits
from sluicegate_schemas.catalogue import Catalogue
from sluicegate_schemas.plan_fit import PlanFits

from .auth import Caller
from .freshness import history_reached
from .parts import Parts
from .problems import away

KEPT_MS: Final = 300_000
KEPT_MAX: Final = 1_000
"""Months that are kept; the oldest go."""


class Compared(NamedTuple):
    """``fits``, which hold what was logged by ``as_of_ms`` (UTC epoch ms) and came ``lag_ms`` after that."""

    asked_at_ms: int
    as_of_ms: int
    lag_ms: int
    fits: PlanFits


_Wanted = tuple[str, str, int]
"""Organization, month, version of the catalogue."""


class Comparisons:
    """One question of an organization at a time: who asks the same waits for its answer, another month is 503."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._kept: OrderedDict[_Wanted, Compared] = OrderedDict()
        self._running: dict[str, tuple[_Wanted, asyncio.Task[Compared]]] = {}

    async def of(self, caller: Caller, catalogue: Catalogue, month: str) -> Compared:
        """The caller's own ``month`` on each plan of ``catalogue``, at most five minutes old. Raises ProblemError:
        503."""
        wanted = (caller.organization_id, month, catalogue.version)
        kept = self._kept.get(wanted)
        if kept is not None and self._parts.clock() - kept.asked_at_ms < KEPT_MS:
            return kept
        asked, task = self._running.get(caller.organization_id, (wanted, None))
        if asked != wanted:
            raise away("Another month of the organization is being compared", 1)
        if task is None:
            task = asyncio.create_task(self._ask(caller, catalogue, wanted))
            self._running[caller.organization_id] = wanted, task
            task.add_done_callback(_heard)
        return await asyncio.shield(task)

    async def _ask(self, caller: Caller, catalogue: Catalogue, wanted: _Wanted) -> Compared:
        organization_id, month, _ = wanted
        asked_at_ms = self._parts.clock()
        try:
            reached = await history_reached(self._parts, caller.account_id)  # before the figures, which may be newer
            fits = await self._parts.history.ask(month_fits, organization_id, catalogue, month)
        finally:
            del self._running[organization_id]
        made = self._kept[wanted] = Compared(asked_at_ms, *reached, fits)
        self._kept.move_to_end(wanted)
        while len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return made


def _heard(task: "asyncio.Task[Compared]") -> None:
    """Or an error that nobody waited for any more would be logged as lost."""
    if not task.cancelled():
        task.exception()
