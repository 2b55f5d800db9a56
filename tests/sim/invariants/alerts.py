"""Alerts: each id fires once and clears once at most, and what was told and not cleared stands in the state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import msgspec

from ..log import LogRecord
from ..rows import alert_id
from .state_log import StateWatch

_JSON = msgspec.json.Decoder().decode


class AlertWatch:
    """All alerts of all partitions."""

    def __init__(self, states: Sequence[StateWatch], note: Callable[[str], None], seen: Counter[str]) -> None:
        self.told: dict[tuple[str, str], bytes] = {}
        """By (alert id, state)."""
        self._states = states
        self._note = note
        self._seen = seen

    def alerted(self, records: Sequence[LogRecord]) -> None:
        """Alerts were appended."""
        for record in records:
            value = record.value or b""
            body = _JSON(value)
            name = body["alert_id"], body["state"]
            if body["state"] == "cleared" and (body["alert_id"], "fired") not in self.told:
                self._note(f"the alert {body['alert_id']} cleared, and had not fired")
            is_shared = body["rule"] == "unrated"  # one id for what every partition may find
            if self.told.setdefault(name, value) != value and not is_shared:
                self._note(f"the alert {name} was told again with other content: {value!r}")
            self._seen[f"alerts: {body['rule']} {body['state']}"] += 1

    def at_rest(self) -> Iterable[str]:
        """Where the alerts that were told and the rows that remember them differ."""
        stand = {alert_id(one) for watch in self._states for key, one in watch.rows.items() if key[:2] == b"a|"}
        fired = {name for name, state in self.told if state == "fired"}
        cleared = {name for name, state in self.told if state == "cleared"}
        if stand != fired - cleared:
            yield f"alerts: {sorted(stand ^ (fired - cleared))[:4]} stand and were not told, or the other way round"

    def of_partition(self, number: int) -> set[tuple[str, str]]:
        """(id, state) of what this partition told and no other may tell."""
        places = tuple(f"/{word}{number}-" for word in ("w", "wa", "wt"))
        return {name for name in self.told if any(place in name[0] for place in places)}
