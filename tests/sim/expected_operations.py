"""Limits of single operations: once per subject in an interval, and a quantity a minute per organization (requirements,
sections 3 and 9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sluicegate_schemas.envelope import WireEvent
from sluicegate_schemas.limits import ConcurrentPerSubject, OncePerSubject, QuantityPerMinute

from .expected_accounts import Bucket
from .plan import MINUTE_MS

if TYPE_CHECKING:
    from .expected import Cards

_REFUSED = (403, 429)


class ExpectedOperations:
    """Of one partition."""

    def __init__(self, cards: Cards) -> None:
        self.closed: dict[tuple[str, str, str], int] = {}
        """Until when by (organization, operation, subject)."""
        self.buckets: dict[tuple[str, str, str], Bucket] = {}
        """By (organization, operation, quantity)."""
        self._cards = cards

    def count(self, event: WireEvent, now_ms: int) -> None:
        """A request that was counted."""
        if event.status in _REFUSED:
            return
        start_ms = min(max(event.started_at_ms, now_ms - MINUTE_MS + 1), now_ms)
        uses: list[tuple[str, Mapping[str, int] | None]] = [] if event.cached else [(event.operation, event.quantities)]
        uses += [(one.operation, one.quantities) for one in event.charges or () if not one.cached]
        for rule in self._cards.at(now_ms).operation_limits:
            match rule:
                case OncePerSubject(operation=event.operation) if event.subject is not None and event.status < 500:
                    place = event.org_id, event.operation, event.subject
                    self.closed[place] = max(self.closed.get(place, 0), start_ms + rule.seconds * 1_000)
                case QuantityPerMinute():
                    for quantities in (of for operation, of in uses if operation == rule.operation):
                        default = 1 if rule.quantity == "requests" else 0
                        self._take(event.org_id, rule, start_ms, (quantities or {}).get(rule.quantity, default))

    def _take(self, organization_id: str, rule: QuantityPerMinute, start_ms: int, amount: int) -> None:
        if not amount:
            return
        place = organization_id, rule.operation, rule.quantity
        bucket = self.buckets.setdefault(place, Bucket(rule.limit, MINUTE_MS, rule.limit))
        bucket.take(start_ms, amount)

    def at_a_time(self, operation: str, now_ms: int) -> int | None:
        """How many requests may be about one subject at a time."""
        rules = self._cards.at(now_ms).operation_limits
        found = (one.limit for one in rules if isinstance(one, ConcurrentPerSubject) and one.operation == operation)
        return min(found, default=None)
