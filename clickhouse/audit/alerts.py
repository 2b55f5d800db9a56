"""Which drifts are open: an alert fires once per crossing and clears once. Pure.

What is open is on the alerts topic itself: a new process reads it first, so a restart fires nothing twice.
"""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from pydantic import ValidationError

from sluicegate_schemas.alerts import DRIFT_BUCKETS_MAX, AuditDrift, DriftBucket, DriftPair
from sluicegate_schemas.bounds import from_epoch_ms

from .differences import Amounts, Difference, month_start_s
from .words import ADVICE, SIDES, difference_words, safe, sentence

logger = logging.getLogger(__name__)

ALERTS_OPEN_MAX: Final = 1_000
"""Further crossings are in metrics and log alone."""
_ID_PREFIX: Final = "audit_drift/"
_AMOUNT_MIN: Final = -(2**63)
_AMOUNT_MAX: Final = 2**64 - 1


class DriftScope(NamedTuple):
    """What one alert is about; None: all organizations, or no month."""

    pair: DriftPair
    organization_id: str | None
    month: str | None

    def alert_id(self, crossing: int) -> str:
        """The id of the alert of its ``crossing``-th crossing (from 1 on)."""
        text = "|".join([self.pair, self.organization_id or "", self.month or ""])
        return f"{_ID_PREFIX}{self.pair}/{hashlib.sha256(text.encode()).hexdigest()[:16]}/{crossing}"


def scope_of(difference: Difference) -> DriftScope:
    """The scope whose alert a difference belongs to."""
    organization_id, month = difference.place.organization_id, difference.place.month
    return DriftScope(difference.place.pair, None if organization_id is None else safe(organization_id), month)


def read_alert(value: bytes | None) -> AuditDrift | None:
    """A record of the alerts topic; None where it is no alert of the audit's."""
    if value is None or b'"audit_drift"' not in value:
        return None
    try:
        return AuditDrift.model_validate_json(value)
    except ValidationError:
        logger.warning("a record of the alerts topic looks like an audit's and cannot be read; it is passed over")
        return None


class AlertBook:
    """The open alerts, and how often each scope has crossed before."""

    def __init__(self) -> None:
        self._open: dict[DriftScope, AuditDrift] = {}
        self._crossings: dict[DriftScope, int] = {}
        self._full = False

    @property
    def open(self) -> Sequence[AuditDrift]:
        """What fired and has not cleared."""
        return tuple(self._open.values())

    def restore(self, record: AuditDrift) -> None:
        """Takes in a record that was sent before, in the topic's order."""
        scope = DriftScope(record.pair, record.organization_id, record.month)
        crossing = record.alert_id.rpartition("/")[2]
        self._crossings[scope] = max(self._crossings.get(scope, 0), int(crossing) if crossing.isdecimal() else 0)
        if record.state == "fired":
            self._open[scope] = record
        elif (held := self._open.get(scope)) is not None and held.alert_id == record.alert_id:
            del self._open[scope]

    def changes(self, differences: Iterable[Difference], *, all_looked: bool, now_ms: int) -> list[AuditDrift]:
        """The records to send, since ``differences`` is what stands now; they count as sent once ``restore`` has them.

        Nothing clears before ``all_looked`` at: what was not looked at yet may still be as it was.
        """
        now = from_epoch_ms(now_ms)
        by_scope: dict[DriftScope, list[Difference]] = {}
        for difference in differences:
            by_scope.setdefault(scope_of(difference), []).append(difference)
        records: list[AuditDrift] = []
        room = ALERTS_OPEN_MAX - len(self._open)
        for scope, found in by_scope.items():
            if scope in self._open:
                continue
            if len(records) >= room:
                if not self._full:
                    logger.error("more than %d alerts are open; further drift is in the metrics alone", ALERTS_OPEN_MAX)
                self._full = True
                break
            records.append(self._fired(scope, found, now))
        else:
            self._full = False
        if all_looked:
            records += [self._cleared(record, now) for scope, record in self._open.items() if scope not in by_scope]
        return records

    def _fired(self, scope: DriftScope, found: Sequence[Difference], now: datetime) -> AuditDrift:
        drift = Amounts.total(one.drift for one in found)
        more = f"; and {len(found) - 1} more" if len(found) > 1 else ""
        return AuditDrift(
            alert_id=scope.alert_id(self._crossings.get(scope, 0) + 1),
            state="fired",
            sentence=sentence(f"{_capital(difference_words(found[0]))}{more}."),
            advice=ADVICE[scope.pair],
            fired_at=now,
            at=now,
            pair=scope.pair,
            organization_id=scope.organization_id,
            month=scope.month,
            credits_micro=drift.credits_micro,
            events=drift.events,
            buckets_differing=len(found),
            buckets=tuple(_bucket(one, now) for one in found[:DRIFT_BUCKETS_MAX]),
        )

    @staticmethod
    def _cleared(fired: AuditDrift, now: datetime) -> AuditDrift:
        expected, found = SIDES[fired.pair]
        whose = "" if fired.organization_id is None else f" for organization {fired.organization_id}"
        when = "" if fired.month is None else f" in {fired.month}"
        return fired.model_copy(
            update={
                "state": "cleared",
                "sentence": sentence(_capital(f"{expected} and {found} agree again{whose}{when}.")),
                "advice": "",
                "at": now,
                "credits_micro": 0,
                "events": 0,
                "buckets_differing": 0,
                "buckets": (),
            }
        )


def _bucket(difference: Difference, now: datetime) -> DriftBucket:
    place, expected, found, _ = difference
    if place.length_s:
        start = from_epoch_ms(place.start_s * 1000)
    else:
        start = now if place.month is None else from_epoch_ms(month_start_s(place.month) * 1000)
    return DriftBucket(
        start=start,
        seconds=place.length_s,
        api_key_id=_name(place.api_key_id),
        operation=_name(place.operation),
        category=_name(place.category),
        source=_name(place.source),
        chunk=place.chunk,
        credits_micro_expected=_amount(expected.credits_micro),
        credits_micro_found=_amount(found.credits_micro),
        events_expected=_amount(expected.events),
        events_found=_amount(found.events),
    )


def _name(name: str | None) -> str | None:
    return None if name is None else safe(name)


def _amount(amount: int) -> int:
    return min(max(amount, _AMOUNT_MIN), _AMOUNT_MAX)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
