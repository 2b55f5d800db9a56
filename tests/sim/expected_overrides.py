"""Boosts and exemptions by the log's time: which limits they raise, and which they take off."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sluicegate_schemas.accounts import BoostPut, ExemptionPut
from sluicegate_schemas.bounds import to_epoch_ms
from sluicegate_schemas.limits import RateLimits

Override = BoostPut | ExemptionPut


class ExpectedOverrides:
    """Of one partition: what was put and has not ended, by (organization, whether it is a boost, id)."""

    def __init__(self) -> None:
        self.now_ms = 0
        self._puts: dict[tuple[str, bool, str], Override] = {}
        self._begun: set[tuple[str, bool, str]] = set()

    def advance(self, now_ms: int) -> set[str]:
        """Time passes; returns the organizations for which something began or ended."""
        self.now_ms = now_ms
        touched = set()
        for place, put in list(self._puts.items()):
            if to_epoch_ms(put.until) <= now_ms:
                del self._puts[place]
                if place in self._begun:
                    self._begun.remove(place)
                    touched.add(place[0])
            elif place not in self._begun and to_epoch_ms(put.effective_at) <= now_ms:
                self._begun.add(place)
                touched.add(place[0])
        return touched

    def put(self, identifier: str, command: Override) -> bool:
        """Takes one in, in the place of one of that id; returns whether it has not ended before it began."""
        if to_epoch_ms(command.until) <= self.now_ms:
            return False
        place = command.organization_id, isinstance(command, BoostPut), identifier
        self._puts[place] = command
        self._begun.discard(place)
        self.advance(self.now_ms)
        return True

    def end(self, organization_id: str, *, is_boost: bool, identifier: str) -> Override | None:
        """Ends one now; returns it, None where there is none."""
        place = organization_id, is_boost, identifier
        self._begun.discard(place)
        return self._puts.pop(place, None)

    def standing(self, organization_id: str, *, is_boost: bool, identifier: str) -> Override | None:
        """One that has not ended."""
        return self._puts.get((organization_id, is_boost, identifier))

    def boosts(self, organization_id: str) -> Iterable[BoostPut]:
        """Those in force."""
        for place in self._begun:
            put = self._puts[place]
            if place[0] == organization_id and isinstance(put, BoostPut):
                yield put

    def exempt(self, organization_id: str, api_key_id: str | None) -> list[str]:
        """The limits that are off for the organization (None), or for this key alone."""
        puts = (self._puts[place] for place in self._begun if place[0] == organization_id)
        return sorted(
            {str(put.limit_name) for put in puts if isinstance(put, ExemptionPut) and put.api_key_id == api_key_id}
        )

    def raised_rates(self, organization_id: str, rates: RateLimits | None) -> RateLimits | None:
        """``rates`` as boosts raise them; what has no limit has none with a boost either."""
        fields: dict[str, Any] = {} if rates is None else rates.model_dump()
        for boost in self.boosts(organization_id):
            if fields and boost.rates is not None:
                fields = {name: max(value, getattr(boost.rates, name)) for name, value in fields.items()}
        return RateLimits(**fields) if fields else None
