"""The sums that a replay tells: usage by organization, and blocks by organization and limit."""

from collections.abc import Callable
from typing import NamedTuple

from sluicegate_schemas.bounds import from_epoch_ms, to_epoch_ms
from sluicegate_schemas.limits import LimitName
from sluicegate_schemas.replay import BLOCKS_MAX, ReplayedBlock, ReplayedLimit
from sluicegate_schemas.state import RollupCell

from .blocks import Block


class Used(NamedTuple):
    """What an organization used while it was told."""

    requests: int = 0
    throttled: int = 0
    credits_micro: int = 0


_NOTHING = RollupCell("")


class UsageTally:
    """Adds up by how much cells grew; cells that are open are remembered, as many as the machine keeps open."""

    def __init__(self) -> None:
        self._cells: dict[bytes, RollupCell] = {}
        self._used: dict[str, Used] = {}
        self.events = 0

    def put(self, key: bytes, organization_id: str, cell: RollupCell | None, *, is_told: bool) -> None:
        """A cell is ``cell`` now; None: it takes no more."""
        before = self._cells.pop(key, _NOTHING)
        if cell is None:
            return
        self._cells[key] = cell
        if not is_told:
            return
        used = self._used.get(organization_id, Used())
        self._used[organization_id] = Used(
            used.requests + cell.requests - before.requests,
            used.throttled + cell.throttled - before.throttled,
            used.credits_micro + cell.credits_micro - before.credits_micro,
        )
        self.events += cell.events - before.events

    def organizations(self) -> set[str]:
        """Those that used something."""
        return set(self._used)

    def of(self, organization_id: str) -> Used:
        """What it used."""
        return self._used.get(organization_id, Used())


class BlockTally:
    """Counts blocks, and keeps the first ones whole. ``organization_of`` knows whose key a scope's id is."""

    def __init__(self, organization_of: Callable[[str], str]) -> None:
        self._organization_of = organization_of
        self._limits: dict[tuple[str, LimitName], tuple[int, int, int]] = {}
        self.told: list[ReplayedBlock] = []
        self.left_out = 0

    def add(self, block: Block, begins_ms: int, ends_ms: int | None) -> None:
        """Counts the part of ``block`` from ``begins_ms`` on; one that stands is counted until ``ends_ms``."""
        first, ended_at = block
        began_ms = max(to_epoch_ms(first.decided_at), begins_ms)
        ended_ms = ends_ms if ended_at is None else to_epoch_ms(ended_at)
        if ended_ms is None or ended_ms <= begins_ms:
            return
        organization_id = self._organization_of(first.scope.id)
        key = organization_id, first.limit_name
        count, blocked_ms, first_ms = self._limits.get(key, (0, 0, began_ms))
        self._limits[key] = count + 1, blocked_ms + max(0, ended_ms - began_ms), min(first_ms, began_ms)
        if len(self.told) >= BLOCKS_MAX:
            self.left_out += 1
            return
        self.told.append(
            ReplayedBlock(
                organization_id=organization_id,
                scope=first.scope,
                limit_name=first.limit_name,
                limit=first.limit,
                observed=first.observed,
                began_at=from_epoch_ms(began_ms),
                ended_at=ended_at,
                decision_id=first.decision_id,
            )
        )

    def organizations(self) -> set[str]:
        """Those that were blocked."""
        return {organization_id for organization_id, _ in self._limits}

    def limits_of(self, organization_id: str) -> tuple[ReplayedLimit, ...]:
        """Its blocks by limit."""
        return tuple(
            ReplayedLimit(limit_name=name, blocks=count, blocked_ms=blocked_ms, first_at=from_epoch_ms(first_ms))
            for (whose, name), (count, blocked_ms, first_ms) in sorted(self._limits.items())
            if whose == organization_id
        )
