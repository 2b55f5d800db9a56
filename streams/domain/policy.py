"""Verdicts: when a limit fires, when it clears, and what of it is published (requirements, section 3).

The newest decision of each scope and limit is a row of the state, so that a new owner can publish again what stands.
A rate block clears by itself at ``until``; a credit block at the month's reset, or by an upgrade.
"""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple
from zlib import crc32

from sluicegate_schemas.bounds import EPOCH_MS_MAX
from sluicegate_schemas.envelope import WireEvent
from sluicegate_schemas.limits import CATEGORIES, category_limit
from sluicegate_schemas.outputs import decision_key
from sluicegate_schemas.wire_decision import WireDecision

from .deadlines import Deadlines
from .ledger import NEVER, Ledger, Ledgers
from .limits import PER_MINUTE, PER_SECOND, Bucket, Buckets, KeyBuckets
from .outputs import Outbox
from .period import month_start_ms
from .record_context import RecordContext
from .scopes import ScopeNames
from .settings import DomainSettings
from .tables import COUNT_MAX, ChangedRows, StandingRow, row_key

CREDITS: Final = "credits"
BANDS_PERCENT: Final = (1, *range(5, 90, 5), *range(90, 100, 2), 99)
"""When so much of an account's credits or of a budget is used, gates are told: they size reservations by it. What is
left at a word is what each gate may pass on its own, so words come from the first percent on, and more often near the
end (ADR 19)."""
_SHORT: Final[dict[str, str]] = {
    PER_SECOND: "rps",
    PER_MINUTE: "rpm",
    **{category_limit(one): one for one in CATEGORIES},
}


class EventCause(NamedTuple):
    """The event that a decision came from: its place in the partition's usage log, names and times."""

    offset: int
    event_index: int
    event_id: str
    organization_id: str
    ts_ms: int
    logged_at_ms: int

    @classmethod
    def of(cls, event: WireEvent, record: RecordContext, index: int) -> "EventCause":
        """The event ``index`` of a record."""
        event_id = event.id if event.id is not None else record.name(index)
        return cls(record.offset, index, event_id, event.org_id, event.ts_ms, record.logged_at_ms)


class Moment(NamedTuple):
    """When something is decided: log time, the month it lies in, the catalogue version in force, and what for: a
    word that a replay repeats; for a command also its offset."""

    now_ms: int
    month: int
    version: int
    word: str
    offset: int = 0


class Policy:
    """Keeps the standing decisions and publishes what changes."""

    def __init__(self, settings: DomainSettings, changed: ChangedRows, outbox: Outbox, buckets: KeyBuckets) -> None:
        self._settings = settings
        self._buckets = buckets
        self._changed = changed.rows
        self._outbox = outbox
        self._standing: dict[str, StandingRow] = {}
        self.behind = Deadlines()
        """Blocks that end too early by now, and when that is to be said: then ``catch_up`` is due."""
        self.bucket_finders: dict[str, Callable[[StandingRow], Bucket | None]] = {}
        """By limit: who knows the bucket of a block of ``rate_debt``; those of the keys are known."""
        self.use_tellers: dict[str, Callable[[StandingRow], bool]] = {}
        """By limit: who knows whether gates count with the use that an allow told: then it stands until they are told
        otherwise, however long that takes."""

    def __len__(self) -> int:
        return len(self._standing)

    def __iter__(self) -> Iterator[StandingRow]:
        return iter(list(self._standing.values()))

    def standing(self, scope: ScopeNames, limit_name: str) -> StandingRow | None:
        """The newest decision of the scope and limit that still stands."""
        return self._standing.get(f"{limit_name}:{scope.text()}")

    def decide(self, moment: Moment, scope: ScopeNames, verdict: str, limit_name: str, limit: int, observed: int,
               until_ms: int | None, tier: str, cause: EventCause | None) -> None:  # fmt: skip
        """Publishes a verdict at once, and keeps it as the one that stands."""
        row = _row(moment, scope, verdict, limit_name, limit, observed, until_ms, tier, cause)
        record_key = f"{limit_name}:{scope.text()}"
        self._standing[record_key] = row
        self.behind.drop(record_key)
        self._changed[row_key("d", record_key)] = row
        self._outbox.decision(row)

    def forget(self, scope: ScopeNames, limit_name: str) -> None:
        """Remembers a decision no longer; readers that have it keep it until it clears by itself."""
        record_key = f"{limit_name}:{scope.text()}"
        if self._standing.pop(record_key, None) is not None:
            self.behind.drop(record_key)
            self._changed[row_key("d", record_key)] = None

    def rate_debt(self, moment: Moment, scope: ScopeNames, bucket: Bucket, tier: str, cause: EventCause) -> None:
        """A bucket is in debt: blocks its scope until the debt is paid, unless that is known already.

        What need not or can't be said yet is noted: ``catch_up`` says it.
        """
        limit, observed, until_ms = _measured(bucket, moment.now_ms)
        record_key = f"{bucket.name}:{scope.text()}"
        standing = self._standing.get(record_key)
        if standing is not None and standing.verdict == "block":
            due_ms = self._due_ms(standing, until_ms)
            if moment.now_ms < due_ms:
                if standing.behind is None:
                    standing.behind = cause
                    self._changed[row_key("d", record_key)] = standing
                self.behind.set(record_key, due_ms)
                return
        self.decide(moment, scope, "block", bucket.name, limit, observed, until_ms, tier, cause)

    def _due_ms(self, standing: StandingRow, until_ms: int) -> int:
        """When a block whose debt is paid at ``until_ms`` is to be published again: once its own end is materially too
        early, at the latest at that end."""
        settings = self._settings
        end_ms = until_ms if standing.until_ms is None else standing.until_ms
        late_ms, percent = until_ms - end_ms, settings.block_step_percent
        if late_ms >= settings.block_step_ms:
            end_ms = end_ms - late_ms * 100 // percent if percent else 0
        return max(end_ms, standing.decided_at_ms + settings.block_interval_ms)

    def catch_up(self, moment: Moment) -> None:
        """Publishes the blocks again that ended too early and for which it is time."""
        now_ms = moment.now_ms
        for record_key in self.behind.take(now_ms):
            row = self._standing[record_key]
            bucket = self._bucket_of(row)
            limit, observed, until_ms = (0, 0, 0) if bucket is None else _measured(bucket, now_ms)
            due_ms = self._due_ms(row, until_ms)
            if now_ms < due_ms:
                self.behind.set(record_key, due_ms)
            elif until_ms <= now_ms:  # the debt was paid meanwhile
                row.behind = None
                self._changed[row_key("d", record_key)] = row
            else:
                cause = None if row.behind is None else EventCause(*row.behind)
                self.decide(moment, row.scope(), "block", row.limit_name, limit, observed, until_ms, row.tier, cause)

    def _bucket_of(self, row: StandingRow) -> Bucket | None:
        finder = self.bucket_finders.get(row.limit_name)
        if finder is not None:
            return finder(row)
        buckets = self._buckets.get(row.scope_id)
        return None if buckets is None else buckets.named(row.limit_name)

    def rates_changed(self, moment: Moment, buckets: Buckets, tier: str) -> None:
        """A key has other limits now: says what they make of the requests in its buckets.

        Said even where no block stands: a former owner may have published one that its flush did not keep.
        """
        for bucket in self._concerned(buckets):
            limit, observed, until_ms = _measured(bucket, moment.now_ms)
            verdict, until = ("block", until_ms) if bucket.is_in_debt(moment.now_ms) else ("allow", None)
            scope = ScopeNames("key", buckets.api_key_id)
            self.decide(moment, scope, verdict, bucket.name, limit, observed, until, tier, None)

    def rates_lifted(self, moment: Moment, buckets: Buckets, tier: str) -> None:
        """A key has no limits any more."""
        for bucket in self._concerned(buckets):
            scope = ScopeNames("key", buckets.api_key_id)
            self.decide(moment, scope, "allow", bucket.name, bucket.limit, 0, None, tier, None)

    def _concerned(self, buckets: Buckets) -> list[Bucket]:
        """The buckets of a key that a verdict may have been published of; a category's only if it was used."""
        return [
            bucket
            for bucket in buckets.all
            if bucket.arrival
            or bucket.name in (PER_SECOND, PER_MINUTE)
            or f"{bucket.name}:key:{buckets.api_key_id}" in self._standing
        ]

    def watch(self, ledger: Ledger, month: int) -> None:
        """Sets the amount of an account's ledger that would change its verdict; only the current month has one."""
        ledger.watch_micro = NEVER
        if ledger.month == month and ledger.total_micro is not None and not self._is_blocked(ledger):
            ledger.watch_micro = next_band_micro(ledger.used_micro, ledger.total_micro)

    def credits_reached(self, moment: Moment, ledger: Ledger, tier: str, cause: EventCause | None) -> None:
        """An account's used credits passed its watch: blocks the account until the month's reset, or says how much of
        its credits are used."""
        total = ledger.total_micro
        if total is not None and ledger.month == moment.month:
            verdict = "block" if ledger.used_micro >= total else "allow"
            until_ms = month_start_ms(ledger.month + 1)
            account = ScopeNames("account", ledger.identifier)
            self.decide(moment, account, verdict, CREDITS, total, ledger.used_micro, until_ms, tier, cause)
        self.watch(ledger, moment.month)

    def total_changed(self, moment: Moment, ledger: Ledger, tier: str) -> None:
        """An account's total of the current month changed: opens the gate where it may be, closes it where it must.

        An allow is said even where no block stands: a former owner may have published one that its flush did not keep.
        Without a total it has no end: there is nothing to reckon with.
        """
        if ledger.month != moment.month:
            return
        total, used = ledger.total_micro, ledger.used_micro
        if total is None or used < total:
            account = ScopeNames("account", ledger.identifier)
            limit, until_ms = (used, None) if total is None else (total, month_start_ms(ledger.month + 1))
            self.decide(moment, account, "allow", CREDITS, limit, used, until_ms, tier, None)
        elif not self._is_blocked(ledger):
            self.credits_reached(moment, ledger, tier, None)
        self.watch(ledger, moment.month)

    def _is_blocked(self, ledger: Ledger) -> bool:
        standing = self._standing.get(f"{CREDITS}:account:{ledger.identifier}")
        until_ms = month_start_ms(ledger.month + 1)
        return standing is not None and standing.verdict == "block" and standing.until_ms == until_ms

    def expire(self, now_ms: int, at_most: int) -> bool:
        """Forgets the blocks that time has cleared, since readers know from ``until``, and allows of long ago
        that tell of no use, ``at_most`` so many. Returns whether some are left."""
        settled_ms = now_ms - self._settings.block_interval_ms
        allowed_ms = now_ms - self._settings.allows_kept_ms
        for record_key, row in list(self._standing.items()):
            if row.verdict == "allow":
                tells_use = self.use_tellers.get(row.limit_name)
                is_over = row.decided_at_ms <= allowed_ms and not (tells_use is not None and tells_use(row))
            else:
                is_cleared = row.until_ms is not None and row.until_ms <= now_ms and row.behind is None
                is_over = is_cleared and row.decided_at_ms <= settled_ms
            if is_over:
                if at_most <= 0:
                    return True
                at_most -= 1
                del self._standing[record_key]
                self._changed[row_key("d", record_key)] = None
        return False

    def restore(self, record_key: str, row: StandingRow) -> None:
        """Takes in a recovered row."""
        self._standing[record_key] = row
        if row.behind is not None:
            self.behind.set(record_key, 0)  # its buckets may not be back yet

    def resume(self, moment: Moment, ledgers: Ledgers) -> None:
        """A new owner: publishes what stands, and takes back a credit block that its ledger does not bear out.

        Allows too: an owner that lost the partition may have written an older block behind one, and compaction would
        leave that block alone on the topic.
        """
        self.expire(moment.now_ms, self._settings.changed_rows_max)
        for row in list(self._standing.values()):
            if row.until_ms is not None and row.until_ms <= moment.now_ms:
                continue
            is_credit_block = (row.limit_name, row.scope_kind, row.verdict) == (CREDITS, "account", "block")
            ledger = ledgers.get("account", row.scope_id, moment.month) if is_credit_block else None
            if ledger is not None and (ledger.total_micro is None or ledger.used_micro < ledger.total_micro):
                self.total_changed(moment, ledger, row.tier)
            else:
                self._outbox.decision(row)

    def say_again(self, record_key: str, stranger: WireDecision, moment: Moment) -> None:
        """A verdict under this key that this owner did not write hides its own: publishes what stands, and where
        nothing does, that nothing stands."""
        standing = self._standing.get(record_key)
        if standing is not None:
            self._outbox.decision(standing)
        elif stranger.verdict == "block" and decision_key(stranger.scope.text(), stranger.limit_name) == record_key:
            about = stranger.scope
            scope = ScopeNames(about.kind, about.id, about.operation, about.subject, about.label, about.category)
            self._outbox.decision(
                _row(moment, scope, "allow", stranger.limit_name, stranger.limit, 0, None, stranger.tier, None)
            )


def next_band_micro(used_micro: int, total_micro: int) -> int:
    """The least amount above ``used_micro`` at which something is to be said: a band's begin, or the total."""
    bands = (-(-total_micro * percent // 100) for percent in BANDS_PERCENT)
    return min((band for band in bands if band > used_micro), default=total_micro)


def _row(moment: Moment, scope: ScopeNames, verdict: str, limit_name: str, limit: int, observed: int,
         until_ms: int | None, tier: str, cause: EventCause | None) -> StandingRow:  # fmt: skip
    name = scope.id if scope.is_plain else f"{scope.id[:40]}~{crc32(scope.text().encode()):08x}"
    return StandingRow(
        decision_id=f"{verdict}/{_SHORT.get(limit_name, limit_name)}/{name}/{moment.word}",
        scope_kind=scope.kind,
        scope_id=scope.id,
        verdict=verdict,
        limit_name=limit_name,
        limit=limit,
        observed=min(observed, COUNT_MAX),
        until_ms=None if until_ms is None else min(until_ms, EPOCH_MS_MAX - 1),
        tier=tier,
        plan_version=moment.version,
        decided_at_ms=moment.now_ms,
        cause=cause,
        operation=scope.operation,
        subject=scope.subject,
        label=scope.label,
        category=scope.category,
    )


def _measured(bucket: Bucket, now_ms: int) -> tuple[int, int, int]:
    """(limit, units that the bucket holds, when one more fits)."""
    return bucket.limit, bucket.held(now_ms), bucket.until_ms()
