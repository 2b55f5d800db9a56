"""What a partition's ledgers and rollups must be: the contract in plain fractions, sharing no code with the machine."""

from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import ceil, floor
from typing import Any

from sluicegate_schemas.catalogue import Catalogue
from sluicegate_schemas.envelope import WireEvent

DAY_MS = 86_400_000


class MissingError(Exception):
    """The rate card needs a quantity that is not there."""


def month_of(ms: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)).strftime("%Y-%m")


def month_start(month: str) -> int:
    return int(datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC).timestamp()) * 1000


def month_after(month: str) -> str:
    return month_of(month_start(month) + 32 * DAY_MS)


def half_up(amount: Fraction) -> int:
    return floor(amount + Fraction(1, 2))


def amount(quantities: dict[str, int], name: str) -> int:
    if name == "requests":
        return quantities.get(name, 1)
    if name not in quantities:
        raise MissingError(name)
    return quantities[name]


def cost_and_units(price: Any, quantities: dict[str, int], model: str | None) -> tuple[int, int]:
    if price.kind == "free":
        return 0, amount(quantities, "requests")
    if price.kind == "per_model":
        each = price.models.get(model, price.credits_micro_default) if model else price.credits_micro_default
        return each * amount(quantities, "requests"), amount(quantities, "requests")
    units = amount(quantities, price.quantity)
    if price.kind == "held_month":
        return 0, units
    if price.kind == "per_unit":
        return half_up(Fraction(units, price.per) * price.credits_micro), units
    if price.kind == "per_started":
        raw = ceil(Fraction(units, price.per)) * price.credits_micro
        return sorted((price.credits_micro_min, raw, price.credits_micro_max))[1], units
    for step in price.steps:
        if units <= step.up_to:
            return step.credits_micro, units
    return price.credits_micro_above, units


class Reference:
    """Adds events up; each is handed in once, in log order, with its organization's account and its log time."""

    def __init__(self, catalogues: list[Catalogue], test_keys: set[str], grace_ms: int = DAY_MS) -> None:
        self.catalogues = sorted(catalogues, key=lambda one: one.effective_at)
        self.test_keys = test_keys
        self.grace_ms = grace_ms
        self.now = 0
        self.used: Counter[tuple[str, str, str]] = Counter()
        self.groups: Counter[tuple[str, str, str, str]] = Counter()
        self.corrections: Counter[tuple[str, str, str, str]] = Counter()
        self.requests: Counter[tuple[str, str, str]] = Counter()
        self.cells: dict[tuple[str, str, str, int], Counter[str]] = defaultdict(Counter)
        self.samples: dict[str, tuple[int, int]] = {}
        self.held: dict[tuple[str, str], Fraction] = defaultdict(Fraction)
        self.counted = 0

    def version_at(self, ms: int) -> Catalogue:
        """The version in force; the first one also before it."""
        started = [one for one in self.catalogues if one.effective_at.timestamp() * 1000 <= ms]
        return (started or self.catalogues)[len(started) - 1 if started else 0]

    def add(self, event: WireEvent, account: str, log_time_ms: int) -> None:
        self.now = max(self.now, log_time_ms)
        paid = 200 <= event.status < 300
        parts = [(event.operation, event.quantities or {}, event.model, event.cached)]
        parts += [(one.operation, one.quantities or {}, one.model, one.cached) for one in event.charges or []]
        rated = []
        card = self.version_at(event.ts_ms).operations
        for operation, quantities, model, cached in parts:
            entry = card.get(operation)
            if entry is None:
                rated.append((operation, None, 0, quantities.get("requests", 1)))
                continue
            try:
                micro, units = cost_and_units(entry.price, quantities, model)
            except MissingError:
                if paid:
                    return
                micro = units = 0
            free = not paid or cached or event.api_key_id in self.test_keys
            rated.append((operation, entry.breakdown, 0 if free else micro, units))
        self.counted += 1
        requests = 0 if event.operation == "storage" else (event.quantities or {}).get("requests", 1)
        for at, (operation, group, micro, units) in enumerate(rated):
            cell = self.cells[event.org_id, event.api_key_id or "", operation, event.ts_ms // 60_000]
            cell["units"] += units
            if at == 0:
                cell["events"] += 1
                cell["requests"] += requests
                if event.operation != "storage" and event.status >= 400:
                    cell["throttled" if event.status == 429 else "errors"] += 1
            self.book(event, account, operation, group, micro, event.ts_ms)
        for ledger in self.ledgers(event, account, event.ts_ms):
            self.requests[ledger] += requests
        if event.operation == "storage" and paid:
            self.sample(event, account)

    def sample(self, event: WireEvent, account: str) -> None:
        if event.api_key_id in self.test_keys:
            return
        before = self.samples.get(event.org_id)
        assert event.quantities is not None
        if before is None or event.ts_ms >= before[0]:
            self.samples[event.org_id] = event.ts_ms, event.quantities["bytes"]
        if before is None or event.ts_ms <= before[0]:
            return
        since, held = before
        starts = [int(one.effective_at.timestamp() * 1000) for one in self.catalogues]
        while since < event.ts_ms:
            month = month_of(since)
            start, end = month_start(month), month_start(month_after(month))
            cut = min([end, *(one for one in starts if one > since)])
            until = min(cut, event.ts_ms)
            price: Any = self.version_at(since).operations["storage"].price
            key = event.org_id, month
            charged = floor(self.held[key])
            self.held[key] += Fraction(held, price.per) * price.credits_micro * Fraction(until - since, end - start)
            at = until - 1 if until == cut else until
            self.book(event, account, "storage", "storage", floor(self.held[key]) - charged, at)
            since = until

    def ledgers(self, event: WireEvent, account: str, ts: int) -> list[tuple[str, str, str]]:
        month = month_of(ts)
        if month < month_of(self.now) and self.now >= month_start(month_after(month)) + self.grace_ms:
            month = month_of(self.now)
        ledgers = [("account", account, month), ("organization", event.org_id, month)]
        return ledgers + ([("key", event.api_key_id, month)] if event.api_key_id else [])

    def book(self, event: WireEvent, account: str, operation: str, group: str | None, micro: int, ts: int) -> None:
        if not micro:
            return
        assert group is not None
        self.cells[event.org_id, event.api_key_id or "", operation, ts // 60_000]["credits"] += micro
        for ledger in self.ledgers(event, account, ts):
            self.used[ledger] += micro
            self.groups[*ledger, group] += micro
            if ledger[2] != month_of(ts):
                self.corrections[*ledger, month_of(ts)] += micro
