"""What the verifier holds side by side, and how the two sides differ. Pure; knows nothing of workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NamedTuple

from rich.table import Table

from sluicegate_schemas.catalogue import Catalogue
from sluicegate_schemas.envelope import WireEvent
from stack.expected import Charge, Expectation, Place, Tenants

HOUR_MS: Final = 3_600_000
ROWS_SHOWN: Final = 40

Named = Mapping[tuple[str, str, str], int]
Hourly = dict[tuple[str, int], "Amounts"]
"""By organization, and by the hour of the events' times (the epoch milliseconds at which it begins)."""


class Difference(NamedTuple):
    """Two sides that should be equal. ``where`` is an organization, or what else the figure is about."""

    figure: str
    where: str
    hour: str
    """The hour of the events' times; empty for figures that are kept otherwise."""
    expected: object
    found: object


@dataclass(slots=True)
class Amounts:
    """What one organization used in one hour."""

    events: int = 0
    requests: int = 0
    credits_micro: int = 0


@dataclass(slots=True)
class Found:
    """What the outputs and ClickHouse show."""

    hourly: Hourly = field(default_factory=dict)
    used_micro: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """Credits by (kind, id, month)."""
    groups_micro: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """Credits by (account, month, group)."""
    requests: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """By (organization, month, "")."""
    rejects: dict[str, int] = field(default_factory=dict)
    """Rejected events by reason."""
    decisions: Set[str] = frozenset()
    """The ids that were published."""
    decisions_shown: Set[str] = frozenset()
    """The ids in ClickHouse."""


class HourlyExpectation(Expectation):
    """The expectation by hours too. It is for events whose charges are all of the event's own hour: no samples."""

    def __init__(self, catalogues: Sequence[Catalogue], tenants: Tenants, partitions: int) -> None:
        super().__init__(catalogues, tenants, partitions)
        self.hourly: Hourly = {}

    def _book(self, event: WireEvent, charges: Iterable[Charge], place: Place) -> None:
        charges = list(charges)
        requests_before = self.totals.requests
        super()._book(event, charges, place)
        amounts = self.hourly.setdefault((event.org_id, event.ts_ms // HOUR_MS * HOUR_MS), Amounts())
        amounts.events += 1
        amounts.requests += self.totals.requests - requests_before
        amounts.credits_micro += sum(charge.credits_micro for charge in charges)


def differences(expected: HourlyExpectation, found: Found) -> list[Difference]:
    """Where ``found`` is not what the usage log comes to; empty where all is exact."""
    totals = expected.totals
    ledgers = {"account": totals.by_account, "organization": totals.by_organization, "key": totals.by_key}
    ledgers["label"] = totals.by_label
    used = {(kind, *name): micro for kind, amounts in ledgers.items() for name, micro in amounts.items()}
    requests = {(name, month, ""): count for (name, month), count in totals.requests_by_organization.items()}
    fates = totals.events_counted + totals.events_duplicate + totals.events_rejected
    return [
        *_hourly(expected.hourly, found.hourly),
        *_unequal("credits in the ledger (micro)", used, found.used_micro),
        *_unequal("credits by group in the ledger (micro)", totals.by_breakdown, found.groups_micro),
        *_unequal("requests in the ledger", requests, found.requests),
        *_unequal("events rejected", _named(totals.rejected_by_reason), _named(found.rejects)),
        *_unequal("decisions in ClickHouse", _counted(found.decisions), _counted(found.decisions_shown)),
        *_equal("events with a fate", totals.events_logged, fates),
        *(
            Difference("forward", f"partition {partition}, offset {offset}", "", "home as it was", "not")
            for partition, offset, _ in expected.forwards_wrong()
        ),
    ]


def _hourly(expected: Hourly, found: Hourly) -> Iterator[Difference]:
    nothing = Amounts()
    for organization, hour_ms in sorted(expected.keys() | found.keys()):
        place = organization, hour_ms
        wanted, seen = expected.get(place, nothing), found.get(place, nothing)
        hour = f"{datetime.fromtimestamp(hour_ms / 1000, UTC):%Y-%m-%d %H:00}"
        yield from _equal("events", wanted.events, seen.events, organization, hour)
        yield from _equal("requests", wanted.requests, seen.requests, organization, hour)
        yield from _equal("credits (micro)", wanted.credits_micro, seen.credits_micro, organization, hour)


def _equal(figure: str, expected: object, found: object, where: str = "", hour: str = "") -> Iterator[Difference]:
    if expected != found:
        yield Difference(figure, where, hour, expected, found)


def _unequal(figure: str, expected: Named, found: Named) -> Iterator[Difference]:
    for name in sorted(expected.keys() | found.keys()):
        where = " ".join(part for part in name if part)
        yield from _equal(figure, expected.get(name, 0), found.get(name, 0), where)


def _named(amounts: Mapping[str, int]) -> Named:
    return {(name, "", ""): amount for name, amount in amounts.items()}


def _counted(names: Set[str]) -> Named:
    return {(name, "", ""): 1 for name in names}


def table(rows: list[Difference]) -> Table:
    """The differences for a person to read."""
    shown = Table("figure", "organization or name", "hour", "expected", "found", "difference", title="Differences")
    for row in rows[:ROWS_SHOWN]:
        is_amount = isinstance(row.expected, int) and isinstance(row.found, int)
        gap = f"{row.found - row.expected:+d}" if is_amount else ""
        shown.add_row(row.figure, row.where, row.hour, str(row.expected), str(row.found), gap)
    if len(rows) > ROWS_SHOWN:
        shown.caption = f"and {len(rows) - ROWS_SHOWN} more"
    return shown
