"""Verdicts: when a limit fires, when it clears, and what of it is published (requirements, section 3).

The newest decision of each scope and limit is a row of the state, so that a new owner can publish again what stands.
A rate block clears by itself at ``until``; a credit block at the month's reset, or by an upgrade.
"""

from typing import Final, NamedTuple

from sluicegate_schemas.bounds import EPOCH_MS_MAX

from .ledger import NEVER, Ledger, Ledgers
from .limits import Buckets
from .outputs import Outbox
from .period import month_start_ms
from .settings import DomainSettings
from .tables import COUNT_MAX, ChangedRows, StandingRow, row_key

PER_SECOND: Final = "requests_per_second"
PER_MINUTE: Final = "requests_per_minute"
CREDITS: Final = "credits"
_SHORT: Final = {PER_SECOND: "rps", PER_MINUTE: "rpm", CREDITS: "credits"}


class EventCause(NamedTuple):
    """The event that a decision came from: its place in the partition's usage log, names and times."""

    offset: int
    event_index: int
    event_id: str
    organization_id: str
    ts_ms: int
    logged_at_ms: int


class Moment(NamedTuple):
    """When something is decided: log time, the month it lies in, the catalogue version in force, and what for: a
    word that a replay repeats."""

    now_ms: int
    month: int
    version: int
    word: str


class Policy:
    """Keeps the standing decisions and publishes what changes."""

    def __init__(self, settings: DomainSettings, changed: ChangedRows, outbox: Outbox) -> None:
        self._settings = settings
        self._changed = changed.rows
        self._outbox = outbox
        self._standing: dict[str, StandingRow] = {}

    def _decide(self, moment: Moment, scope_kind: str, scope_id: str, verdict: str, limit_name: str, limit: int,
                observed: int, until_ms: int | None, tier: str, cause: EventCause | None) -> None:  # fmt: skip
        row = StandingRow(
            decision_id=f"{verdict}/{_SHORT[limit_name]}/{scope_id}/{moment.word}",
            scope_kind=scope_kind,
            scope_id=scope_id,
            verdict=verdict,
            limit_name=limit_name,
            limit=limit,
            observed=min(observed, COUNT_MAX),
            until_ms=None if until_ms is None else min(until_ms, EPOCH_MS_MAX - 1),
            tier=tier,
            plan_version=moment.version,
            decided_at_ms=moment.now_ms,
            cause=cause,
        )
        record_key = f"{limit_name}:{scope_kind}:{scope_id}"
        if verdict == "block":
            self._standing[record_key] = row
            self._changed[row_key("d", record_key)] = row
        else:
            self._forget(record_key)
        self._outbox.decision(row)

    def _forget(self, record_key: str) -> None:
        if self._standing.pop(record_key, None) is not None:
            self._changed[row_key("d", record_key)] = None

    def rate_debt(self, moment: Moment, buckets: Buckets, tier: str, cause: EventCause) -> None:
        """A key's bucket is in debt: blocks the key until the debt is paid, unless that is known already."""
        second, minute = buckets.in_debt(moment.now_ms)
        held_second, held_minute = buckets.held(moment.now_ms)
        if second:
            until_ms = buckets.second_until_ms()
            self._block_key(moment, buckets, PER_SECOND, buckets.burst, held_second, until_ms, tier, cause)
        if minute:
            until_ms = buckets.minute_until_ms()
            limit = buckets.requests_per_minute
            self._block_key(moment, buckets, PER_MINUTE, limit, held_minute, until_ms, tier, cause)

    def _block_key(self, moment: Moment, buckets: Buckets, limit_name: str, limit: int, observed: int, until_ms: int,
                   tier: str, cause: EventCause) -> None:  # fmt: skip
        standing = self._standing.get(f"{limit_name}:key:{buckets.api_key_id}")
        if standing is not None and standing.until_ms is not None:
            settings, now_ms = self._settings, moment.now_ms
            if now_ms - standing.decided_at_ms < settings.block_interval_ms:
                return
            left_ms = standing.until_ms - now_ms
            step_ms = max(settings.block_step_ms, left_ms * settings.block_step_percent // 100)
            if left_ms > 0 and until_ms - standing.until_ms < step_ms:
                return
        self._decide(moment, "key", buckets.api_key_id, "block", limit_name, limit, observed, until_ms, tier, cause)

    def rates_changed(self, moment: Moment, buckets: Buckets, tier: str) -> None:
        """A key has other limits now: blocks that the new ones would not make are taken back.

        Said even where no block stands: a former owner may have published one that its flush did not keep.
        """
        second, minute = buckets.in_debt(moment.now_ms)
        held_second, held_minute = buckets.held(moment.now_ms)
        for limit_name, in_debt, limit, observed in (
            (PER_SECOND, second, buckets.burst, held_second),
            (PER_MINUTE, minute, buckets.requests_per_minute, held_minute),
        ):
            if not in_debt:
                self._decide(moment, "key", buckets.api_key_id, "allow", limit_name, limit, observed, None, tier, None)

    def rates_lifted(self, moment: Moment, buckets: Buckets, tier: str) -> None:
        """A key has no limits any more."""
        for limit_name, limit in ((PER_SECOND, buckets.burst), (PER_MINUTE, buckets.requests_per_minute)):
            self._decide(moment, "key", buckets.api_key_id, "allow", limit_name, limit, 0, None, tier, None)

    def watch(self, ledger: Ledger, month: int) -> None:
        """Sets the amount of an account's ledger that would change its verdict; only the current month has one."""
        ledger.watch_micro = NEVER
        if ledger.month == month and ledger.total_micro is not None:
            standing = self._standing.get(f"{CREDITS}:account:{ledger.identifier}")
            if standing is None or standing.until_ms != month_start_ms(month + 1):
                ledger.watch_micro = ledger.total_micro

    def credits_reached(self, moment: Moment, ledger: Ledger, tier: str, cause: EventCause | None) -> None:
        """An account's used credits passed its watch: blocks the account until the month's reset."""
        total = ledger.total_micro
        if total is not None and ledger.month == moment.month and ledger.used_micro >= total:
            until_ms = month_start_ms(ledger.month + 1)
            self._decide(
                moment, "account", ledger.identifier, "block", CREDITS, total, ledger.used_micro, until_ms, tier, cause
            )
        self.watch(ledger, moment.month)

    def total_changed(self, moment: Moment, ledger: Ledger, tier: str) -> None:
        """An account's total of the current month changed: opens the gate where it may be.

        Said even where no block stands: a former owner may have published one that its flush did not keep.
        """
        if ledger.month != moment.month:
            return
        total = ledger.total_micro
        if total is None or ledger.used_micro < total:
            limit = ledger.used_micro if total is None else total
            self._decide(
                moment, "account", ledger.identifier, "allow", CREDITS, limit, ledger.used_micro, None, tier, None
            )
        self.watch(ledger, moment.month)

    def expire(self, now_ms: int) -> None:
        """Forgets the blocks that time has cleared: readers know from ``until``."""
        settled_ms = now_ms - self._settings.block_interval_ms
        for record_key, row in list(self._standing.items()):
            if row.until_ms is not None and row.until_ms <= now_ms and row.decided_at_ms <= settled_ms:
                self._forget(record_key)

    def restore(self, record_key: str, row: StandingRow) -> None:
        """Takes in a recovered row."""
        self._standing[record_key] = row

    def resume(self, moment: Moment, ledgers: Ledgers) -> None:
        """A new owner: publishes what stands, and takes back a credit block that its ledger does not bear out."""
        self.expire(moment.now_ms)
        for row in list(self._standing.values()):
            if row.until_ms is not None and row.until_ms <= moment.now_ms:
                continue
            ledger = ledgers.get("account", row.scope_id, moment.month) if row.limit_name == CREDITS else None
            if ledger is not None and (ledger.total_micro is None or ledger.used_micro < ledger.total_micro):
                self.total_changed(moment, ledger, row.tier)
            else:
                self._outbox.decision(row)
