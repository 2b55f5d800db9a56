"""The current numbers: balances as the workers publish them, of this month and the last (requirements, section 4).

``BalanceTable`` is the fold, without I/O; ``stream.py`` feeds it from the compacted topic. Only a higher sequence of a
record key replaces what is there.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import msgspec

from sluicegate_schemas.bounds import from_epoch_ms

BALANCES_MAX: Final = 400_000
"""Balances that are held: at four a month for an organization with two keys, of 50,000 organizations and two months."""
BALANCE_BYTES_MAX: Final = 64 * 1024
_DAY_MS: Final = 86_400_000


class Rank(msgspec.Struct, frozen=True, gc=False):
    """A balance's sequence."""

    epoch: int
    counter: int


class Service(msgspec.Struct, frozen=True, gc=False):
    """How an organization's requests were served; see ``sluicegate_schemas.outputs.Service``."""

    requests: int
    failures: int
    p50_ms: int
    p99_ms: int


class Balance(msgspec.Struct, frozen=True, gc=False):
    """``sluicegate_schemas.outputs.Balance``, as far as it is shown. There are many, so the garbage collector does
    not look through them (a pause of 0.1 s for 200,000); none can be part of a cycle."""

    kind: str
    id: str
    account_id: str
    organization_id: str | None
    month: str
    total_micro: int | None
    used_micro: int
    breakdown_micro: dict[str, int]
    requests: int
    as_of: datetime
    sequence: Rank
    label: str | None = None
    overage_micro: int = 0
    granted_micro: int = 0
    lent_micro: int = 0
    corrections_micro: dict[str, int] = {}
    final: bool = False
    served: Service | None = None


class Held(msgspec.Struct, frozen=True, gc=False):
    """A balance, and when it came (UTC epoch ms)."""

    balance: Balance
    taken_ms: int

    @property
    def lag_ms(self) -> int:
        """From the log's time that it counts up to until it was here; never below 0."""
        return max(0, self.taken_ms - int(self.balance.as_of.timestamp() * 1000))


_DECODE: Final = msgspec.json.Decoder(Balance).decode
OnBalance = Callable[[Held, Balance | None], None]
"""Called with what is new and what was there before."""


def month_of(now_ms: int) -> str:
    """The month of an instant, as ``2026-03``."""
    return _month_of_day(now_ms // _DAY_MS)


@lru_cache(maxsize=64)
def _month_of_day(day: int) -> str:
    return f"{from_epoch_ms(day * _DAY_MS):%Y-%m}"


@lru_cache(maxsize=64)
def month_before(month: str) -> str:
    """The month before ``month``."""
    year, number = int(month[:4]), int(month[5:])
    return f"{year - (number == 1)}-{number - 1 or 12:02d}"


@lru_cache(maxsize=64)
def month_end(month: str) -> datetime:
    """The first instant of the next month: when its credits reset."""
    year, number = int(month[:4]), int(month[5:])
    return datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)


class BalanceTable:
    """All balances of this month and the last; an older one is let go when the month changes.

    Beyond ``balances_max`` a new one is not kept, and ``is_complete`` says so of its month: then a missing balance may
    be no zero. The table is whole again once those months are let go.
    """

    def __init__(self, balances_max: int = BALANCES_MAX) -> None:
        self.full_month = ""
        """The newest month of which a balance found no room."""
        self.malformed = 0
        self._max = balances_max
        self._held: dict[str, Held] = {}
        self._labels: dict[tuple[str, str], dict[str, Held]] = {}
        """Those of labels again, by organization and month."""
        self._floor = ""
        self._listeners: list[OnBalance] = []

    def __len__(self) -> int:
        return len(self._held)

    @property
    def complete(self) -> bool:
        """Whether no balance is missing of any month that is held."""
        return self.is_complete(self._floor)

    def is_complete(self, month: str) -> bool:
        """Whether no balance is missing of ``month`` and of those after it."""
        return not self.full_month or month > self.full_month

    def listen(self, on_balance: OnBalance) -> None:
        """Calls ``on_balance`` with every balance from now on; it must be quick and not raise."""
        self._listeners.append(on_balance)

    def get(self, kind: str, identifier: str, month: str) -> Held | None:
        """The newest balance under this key; None: nothing was used, unless its month is not complete."""
        return self._held.get(f"{kind}:{identifier}:{month}")

    def of_month(self, kind: str, month: str) -> Iterator[Balance]:
        """All balances of a kind and month."""
        return (
            held.balance for held in self._held.values() if held.balance.kind == kind and held.balance.month == month
        )

    def labels(self, organization_id: str, month: str) -> Iterable[Held]:
        """The balances of an organization's labels in a month."""
        return self._labels.get((organization_id, month), {}).values()

    def keeps(self, month: str, now_ms: int) -> bool:
        """Whether ``month`` is one of those that are held."""
        return month_before(month_of(now_ms)) <= month

    def apply(self, key: bytes | None, value: bytes | None, now_ms: int) -> None:
        """Takes in one record of the topic that came at ``now_ms``. Never raises for what it holds."""
        floor = month_before(month_of(now_ms))
        if floor > self._floor:
            self._floor = floor
            self._held = {name: held for name, held in self._held.items() if held.balance.month >= floor}
            self._labels = {place: found for place, found in self._labels.items() if place[1] >= floor}
        try:
            name = "" if key is None else key.decode()  # the label of what found no room is "…"
        except UnicodeDecodeError:
            name = ""
        if not name:
            self.malformed += 1
            return
        if value is None:
            gone = self._held.pop(name, None)
            if gone is not None and gone.balance.label is not None:
                self._of_labels(gone.balance).pop(name, None)
            return
        try:
            balance = _DECODE(value) if len(value) <= BALANCE_BYTES_MAX else None
        except (msgspec.MsgspecError, RecursionError):
            balance = None
        if balance is None or balance.as_of.tzinfo is None:
            self.malformed += 1
            return
        if balance.month < self._floor:
            return
        before = self._held.get(name)
        if before is not None and _rank(before.balance) >= _rank(balance):
            return
        if before is None and len(self._held) >= self._max:
            self.full_month = max(self.full_month, balance.month)
            return
        held = self._held[name] = Held(balance, now_ms)
        if balance.label is not None:
            self._of_labels(balance)[name] = held
        for on_balance in self._listeners:
            on_balance(held, None if before is None else before.balance)

    def _of_labels(self, balance: Balance) -> dict[str, Held]:
        return self._labels.setdefault((balance.id, balance.month), {})


def _rank(balance: Balance) -> tuple[int, int]:
    return balance.sequence.epoch, balance.sequence.counter
