"""Routes: all that an event of one key and operation touches, found by one look-up.

A route is bound to a window of event time (a minute, cut where another catalogue version takes effect): its price, its
rollup cell and its ledgers. What its events add is gathered in the route and folded into cell and ledgers once a batch;
only the account's used credits are kept current with each event, since a verdict may hang on them.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from sluicegate_schemas.bounds import to_epoch_ms
from sluicegate_schemas.catalogue import Catalogue, FreePrice, HeldPrice, RateCardEntry
from sluicegate_schemas.rating import MissingQuantityError, Rater, rater

from .ledger import Ledger
from .limits import Bucket, Buckets
from .rollup import Cell
from .tables import GROUPS

UNRATED: Final = "unrated"
FOREVER_MS: Final = 2**62


class Tariff:
    """One operation of one catalogue version, ready to rate."""

    __slots__ = (
        "category", "counts_requests", "flat_micro", "group", "held", "is_unrated", "models", "rate", "version",
    )  # fmt: skip

    def __init__(self, version: int, entry: RateCardEntry | None) -> None:
        price = FreePrice() if entry is None else entry.price
        self.version = version
        self.category = UNRATED if entry is None else entry.category or ""
        self.is_unrated = entry is None
        self.counts_requests = entry is None or entry.category is not None
        self.group = -1 if entry is None or entry.breakdown is None else GROUPS.index(entry.breakdown)
        self.held = price if isinstance(price, HeldPrice) else None
        self.models = frozenset(price.models) if price.kind == "per_model" else None
        self.rate: Rater = rater(price)
        self.flat_micro: int | None = None
        """What one plain request costs; None where that hangs on a quantity or a model."""
        if self.held is None and self.models is None:
            try:
                self.flat_micro = self.rate({}, None)[1]
            except MissingQuantityError:
                self.flat_micro = None


class RateCards:
    """The catalogue versions by the event time from which they are in force."""

    def __init__(self) -> None:
        self._versions: list[Catalogue] = []
        self._starts_ms: list[int] = []
        self._tariffs: dict[tuple[int, str], Tariff] = {}

    def use(self, versions: Sequence[Catalogue]) -> None:
        """All versions known so far."""
        self._versions = sorted(versions, key=lambda one: (one.effective_at, one.version))
        self._starts_ms = [to_epoch_ms(one.effective_at) for one in self._versions]
        self._tariffs.clear()

    def at(self, time_ms: int) -> Catalogue | None:
        """The version in force at ``time_ms``."""
        position = bisect_right(self._starts_ms, time_ms)
        return self._versions[position - 1] if position else None

    def window(self, time_ms: int) -> tuple[Catalogue, int, int]:
        """The version in force at ``time_ms``, from when and until when it is.

        What happened before the first version is rated by the first. Raises LookupError where there is none at all:
        the worker must not rate yet.
        """
        if not self._versions:
            raise LookupError("no catalogue version is known, so nothing can be rated")
        position = bisect_right(self._starts_ms, time_ms)
        end_ms = self._starts_ms[position] if position < len(self._starts_ms) else FOREVER_MS
        if not position:
            return self._versions[0], 0, end_ms
        return self._versions[position - 1], self._starts_ms[position - 1], end_ms

    def next_start_ms(self, time_ms: int) -> int:
        """When the version after the one in force at ``time_ms`` takes effect."""
        position = bisect_right(self._starts_ms, time_ms)
        return self._starts_ms[position] if position < len(self._starts_ms) else FOREVER_MS

    def starts_between(self, after_ms: int, until_ms: int) -> list[int]:
        """When versions took effect after ``after_ms``, up to ``until_ms``."""
        return self._starts_ms[bisect_right(self._starts_ms, after_ms) : bisect_right(self._starts_ms, until_ms)]

    def tariff(self, catalogue: Catalogue, operation: str) -> Tariff:
        """The price and category of ``operation`` in ``catalogue``."""
        tariff = self._tariffs.get((catalogue.version, operation))
        if tariff is None:
            tariff = Tariff(catalogue.version, catalogue.operations.get(operation))
            if not tariff.is_unrated:
                self._tariffs[catalogue.version, operation] = tariff
        return tariff


class Route:
    """See the module. ``start_ms`` … ``end_ms`` is the window of ``ts`` that it is bound to; empty when unbound."""

    __slots__ = (
        "account", "account_id", "api_key_id", "buckets", "cell", "charges", "correction", "credits_micro",
        "durations", "end_ms", "errors", "events", "failures", "flat_micro", "is_costless", "is_observed",
        "is_pending", "key_ledger", "operation", "organization", "organization_id", "requests", "start_ms", "taken",
        "tariff", "throttled", "throttled_takes_token", "units",
    )  # fmt: skip

    account: Ledger
    organization: Ledger
    key_ledger: Ledger | None
    cell: Cell | None
    """None while the minute has none: the first event that is counted makes it."""
    tariff: Tariff
    buckets: Buckets | None

    def __init__(
        self, organization_id: str, account_id: str, api_key_id: str, operation: str, *, is_costless: bool
    ) -> None:
        self.organization_id = organization_id
        self.account_id = account_id
        self.api_key_id = api_key_id
        self.operation = operation
        self.is_costless = is_costless
        """Test keys: metered, at no cost."""
        self.flat_micro: int | None = None
        self.correction: str | None = None
        """The closed month that the window lies in, when its credits are booked into the current one."""
        self.taken: tuple[Bucket, ...] = ()
        """The buckets that a request takes a token of."""
        self.throttled_takes_token = False
        self.is_observed = False
        """Whether a participant wants to hear of each event."""
        self.start_ms = self.end_ms = 0
        self.is_pending = False
        self.clear()

    def clear(self) -> None:
        """Forgets what was gathered."""
        self.requests = self.errors = self.throttled = self.units = self.credits_micro = self.events = self.charges = 0
        self.failures = 0
        self.durations: dict[int, int] = {}
