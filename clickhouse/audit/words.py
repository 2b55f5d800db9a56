"""What a difference is called: sentences, advice and a table, for people."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from sluicegate_schemas.alerts import DriftPair
from sluicegate_schemas.money import credits_text

from .differences import DAY_S, HOUR_S, Difference, Place

SIDES: Final[dict[DriftPair, tuple[str, str]]] = {
    "ledger_cells": ("the ledger", "the rollups"),
    "cells_minute": ("the state", "usage_minute"),
    "minute_hour": ("usage_minute", "usage_hour"),
    "hour_day": ("usage_hour", "usage_day"),
}
"""Which two sides a pair has, as the sentences name them."""

_ROLLED: Final = (
    "Unless another alert says that its minutes are wrong, run `python -m clickhouse.audit --repair`: it rolls "
    "{} anew. If this comes back, look at the log of the sink, which keeps them."
)
ADVICE: Final[dict[DriftPair, str]] = {
    "ledger_cells": (
        "Balances and decisions follow the ledger. If rows of ClickHouse were changed or removed, restore the minutes "
        "of this month from a backup. Else stop the sink, so that nothing more is evicted from the state, keep the "
        "usage and state topics, and look for the cause."
    ),
    "cells_minute": (
        "Balances and decisions are right, queries are wrong here. Run `python -m clickhouse.audit --repair`: it "
        "writes the rows anew that the state still holds, and says which it does not; restore those from a backup. "
        "Then find who else writes to usage_minute."
    ),
    "minute_hour": _ROLLED.format("hours and days"),
    "hour_day": _ROLLED.format("days"),
}
"""What to do about a drift of each pair."""
_UNSHOWN: Final = re.compile(r"[^\x20-\x7e]")
_NAME_MAX: Final = 128
_SENTENCE_MAX: Final = 500


def safe(name: str) -> str:
    """``name`` as it may be shown: what is damaged may hold anything."""
    return _UNSHOWN.sub("?", name)[:_NAME_MAX]


def sentence(text: str) -> str:
    """``text`` within the bounds of the contract's sentences."""
    shown = _UNSHOWN.sub("?", text)
    return shown if len(shown) <= _SENTENCE_MAX else shown[: _SENTENCE_MAX - 3] + "..."


def place_words(place: Place) -> str:
    """Where a difference is: the month, day, hour or minute, and as many names as are known."""
    if place.length_s:
        start = datetime.fromtimestamp(place.start_s, UTC)
        when = {
            DAY_S: f"on {start:%Y-%m-%d}",
            HOUR_S: f"in the hour from {start:%Y-%m-%dT%H:%MZ}",
        }.get(place.length_s, f"in the minute {start:%Y-%m-%dT%H:%MZ}")
    else:
        when = f"in {place.month}" if place.month else "since counting began"
    names = [f"organization {safe(place.organization_id)}"] if place.organization_id is not None else []
    if place.api_key_id is not None:
        names.append(f"key {safe(place.api_key_id) or '(none)'}")
    if place.operation is not None:
        names.append(f"operation {safe(place.operation)}")
    if place.category:
        names.append(f"category {safe(place.category)}")
    if place.chunk is not None:
        names.append(f"chunk {place.chunk}")
    if place.source is not None:
        names.append(f"from {safe(place.source)}")
    return f"{when}, {', '.join(names)}" if names else when


def difference_words(difference: Difference) -> str:
    """One difference as a clause: where, what each side says, by how much they differ."""
    expected, found = SIDES[difference.place.pair]
    amounts = []
    for name in difference.expected._fields:
        wanted, seen = getattr(difference.expected, name), getattr(difference.found, name)
        if wanted == seen:
            continue
        if name == "credits_micro":
            delta = credits_text(seen - wanted)
            signed = delta if delta.startswith("-") else f"+{delta}"
            amounts.append(f"{credits_text(wanted)} and {credits_text(seen)} credits ({signed})")
        else:
            amounts.append(f"{wanted} and {seen} {name} ({seen - wanted:+d})")
    said = f"{place_words(difference.place)}: {expected} and {found} say {', '.join(amounts)}"
    return f"{said}; {difference.why}" if difference.why else said


def table(differences: Sequence[Difference]) -> str:
    """The differences, one a line, for a terminal."""
    lines = []
    for one in differences:
        expected, found = SIDES[one.place.pair]
        lines.append(f"{expected} / {found}  {difference_words(one)}")
    return "\n".join(lines)
