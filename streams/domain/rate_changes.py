"""Key buckets brought to changed limits: in memory at once, their verdicts as many at a time as a flush has room for.

The limits of a catalogue version hold from the instant on at which it takes effect, whenever a bucket's row is written
again: a row says since when its limits are in force, so a new owner repeats what was not written. Limits of one
organization hold from the record on that changed them; the rows of its keys are written at once.
"""

from collections import deque
from typing import Final

from .accounts import Accounts
from .limits import KeyBuckets, KeyLimits
from .plans import Plans
from .policy import Moment, Policy
from .routes import RateCards
from .settings import DomainSettings
from .tables import ChangedRows

_SHARE_OF_FLUSH: Final = 4
"""Verdicts on changed limits may fill this part of a flush, so that metering goes on."""
_Place = tuple[int | str, ...]
"""(when, organization, limits that are off for the key alone …)."""


class RateChanges:
    """Keeps the buckets of a partition's keys at the limits in force."""

    def __init__(
        self,
        settings: DomainSettings,
        changed: ChangedRows,
        accounts: Accounts,
        plans: Plans,
        cards: RateCards,
        buckets: KeyBuckets,
        policy: Policy,
    ) -> None:
        self._rows_max = settings.changed_rows_max // _SHARE_OF_FLUSH
        self._changed = changed.rows
        self._accounts = accounts
        self._plans = plans
        self._cards = cards
        self._buckets = buckets
        self._policy = policy
        self.waiting: deque[str] = deque()
        """Keys whose verdicts are to be said again: then ``settle`` is due."""

    def organization(self, moment: Moment, organization_id: str) -> None:
        """The limits of an organization, or of keys of it, may be others from this moment on."""
        for api_key_id in self._accounts.keys_of(organization_id):
            buckets = self._buckets.get(api_key_id)
            if buckets is not None:
                if buckets.change(self._plans.key_limits_of(api_key_id), moment.now_ms):
                    self.waiting.append(api_key_id)
                buckets.as_of_ms = moment.now_ms
                self._buckets.mark(buckets)
        self.settle(moment)

    def catalogue(self, moment: Moment) -> None:
        """Another catalogue version took effect."""
        self._catch_up(moment)

    def resume(self, moment: Moment) -> None:
        """All rows are back, written before or after the newest versions took effect."""
        for buckets in self._buckets:
            if not buckets.as_of_ms:  # a row of before that was kept, of the limits that were in force
                is_said = buckets.is_said
                buckets.change(self._plans.key_limits_of(buckets.api_key_id), moment.now_ms)
                buckets.as_of_ms, buckets.is_said = moment.now_ms, is_said
        self._catch_up(moment)

    def _catch_up(self, moment: Moment) -> None:
        """Takes all buckets through the versions that took effect since their limits are in force."""
        known: dict[_Place, KeyLimits | None] = {}
        blocked = {row.scope_id for row in self._policy if row.scope_kind == "key" and row.verdict == "block"}
        for buckets in self._buckets:
            for start_ms in self._cards.starts_between(buckets.as_of_ms, moment.now_ms):
                buckets.change(self._limits_at(start_ms, buckets.api_key_id, known), start_ms)
            if not buckets.is_said:
                if buckets.api_key_id in blocked:
                    self.waiting.appendleft(buckets.api_key_id)
                else:
                    self.waiting.append(buckets.api_key_id)
        self.settle(moment)

    def _limits_at(self, start_ms: int, api_key_id: str, known: dict[_Place, KeyLimits | None]) -> KeyLimits | None:
        """The limits of a key as of a version's start; those of an organization's other keys are the same, but for
        exemptions of single keys."""
        organization_id = self._accounts.keys[api_key_id].organization_id
        place: _Place = start_ms, organization_id, *self._plans.in_force.exempt(organization_id, api_key_id)
        if place not in known:
            known[place] = self._plans.as_of(start_ms).key_limits_of(api_key_id)
        return known[place]

    def settle(self, moment: Moment) -> bool:
        """Says what changed limits make of the requests in the keys' buckets, key by key while the flush has room: at
        least one, blocked keys first. Returns whether buckets are gone that routes may still hold."""
        is_gone, is_first = False, True
        while self.waiting and (is_first or len(self._changed) < self._rows_max):
            is_first = False
            buckets = self._buckets.get(self.waiting.popleft())
            if buckets is None or buckets.is_said:
                continue
            buckets.is_said = True
            organization_id = self._accounts.keys[buckets.api_key_id].organization_id
            tier = self._accounts.organizations[organization_id].tier
            if self._plans.key_limits_of(buckets.api_key_id) is None:
                self._policy.rates_lifted(moment, buckets, tier)
                self._buckets.forget(buckets)
                is_gone = True
            else:
                self._policy.rates_changed(moment, buckets, tier)
                self._buckets.mark(buckets)
        return is_gone
