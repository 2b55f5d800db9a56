"""One partition's metering state machine: the steps put together, seen through ``streams.engine.machine.Machine``."""

from collections.abc import Sequence
from typing import Final

from sluicegate_schemas import topics
from sluicegate_schemas.catalogue import Catalogue
from sluicegate_schemas.envelope import WireGauge, WireLeaseRequest
from sluicegate_schemas.partitioning import partition_of
from sluicegate_schemas.state import OutboxRecord, RollupCell

from . import tables
from .accounts import Accounts
from .admit import Admitter
from .again import Again, ForeignRecord
from .balances import Balances
from .commands import Commands
from .dedup import EventIds, Horizon, Producers
from .entitlements import Entitlements
from .intake import InputTuple, Intake
from .ledger import Ledgers
from .limits import KeyBuckets
from .meter import Meter
from .notices import Notices
from .outputs import Outbox, Outputs, RecordOrigin
from .participant import Participant, PartitionContext
from .participants import Participants
from .period import MINUTE_MS, SECOND_MS, LogTime, month_index, month_start_ms
from .plan_changes import PlanChanges
from .plans import Plans
from .policy import Moment, Policy
from .pools import Pools
from .rate_changes import RateChanges
from .recovery import Recovery, by_names
from .rollup import Cells
from .route_table import RouteTable
from .routes import RateCards
from .settings import DomainSettings
from .storage import StorageMeter
from .tables import ChangedRows, TotalsRow, row_key

_DURABLE_RECORDS_MAX: Final = 1_000
_BUCKETS_EVICTED_EVERY_MINUTES: Final = 10
_TOTALS_KEY: Final = row_key("t", "totals")


class Partition:
    """The machine of partition ``partition`` of ``partitions``; see ``Machine`` for what its verbs promise."""

    def __init__(self, partition: int, partitions: int, settings: DomainSettings | None = None) -> None:
        self._partition = partition
        self._partitions = partitions
        self.settings = settings = settings or DomainSettings()
        self._changed = changed = ChangedRows()
        self._outbox = outbox = Outbox(partition)
        self.accounts = accounts = Accounts(settings, changed)
        outbox.organization_of_key = accounts.organization_of_key
        self._time = time = LogTime()
        self._cards = RateCards()
        self.plans = Plans(time, accounts, self._cards)
        self.ledgers = Ledgers(changed, self.plans.credits_of)
        self.buckets = KeyBuckets(changed, lambda key: (self.plans.key_limits_of(key), time.now_ms))
        self.cells = Cells(changed, settings.cells_max)
        self._storage = StorageMeter(changed, self._cards)
        self.notices = Notices(changed, settings.notices_max)
        self.policy = Policy(settings, changed, outbox, self.buckets)
        self.horizon = Horizon(changed)
        self.producers = Producers(settings, changed, self.horizon)
        self.event_ids = EventIds(settings, changed, self.horizon)
        self._entitlements = entitlements = Entitlements(accounts, self.plans, outbox)
        self._routes = routes = RouteTable(
            settings, time, accounts.organizations, accounts.keys, self.buckets, self._cards, self.cells, self.ledgers,
            self.notices, self.policy, self.plans,
        )  # fmt: skip
        self._rates = RateChanges(settings, changed, accounts, self.plans, self._cards, self.buckets, self.policy)
        self._changes = PlanChanges(accounts, self.plans, entitlements, routes, self._rates, self.ledgers, self.policy)
        meter = Meter(
            partition, settings, time, changed, accounts.organizations, routes, self._storage, self.notices, self.policy
        )
        admitter = Admitter(partition, partitions, accounts.organizations, accounts.keys, routes)
        self._intake = Intake(
            partition, settings, time, admitter, self.producers, self.event_ids, meter, outbox, self._advance_to,
            self._hear,
        )  # fmt: skip
        context = PartitionContext(
            partition, partitions, settings, time, changed, outbox, accounts, self.plans, entitlements,
            self._changes, self._cards, self.ledgers, self.buckets, self.policy, routes, self.notices,
            self._intake.refuse,
        )  # fmt: skip
        self.participants = Participants(context)
        self._balances = Balances(settings, time, changed, self.ledgers, outbox, routes, context.peer(Pools))
        self._again = Again(entitlements, self._balances, self.policy)
        self._commands = Commands(
            partition, partitions, settings, changed, outbox, accounts, routes, self._changes, self.participants
        )
        self._changes.listeners = self.participants.all
        routes.observers = self.participants.with_own(Participant.observes)
        routes.counters = self.participants.with_own(Participant.counted)
        routes.folders = self.participants.with_own(Participant.folded)
        self._recovery = self._make_recovery()
        self._boundary_ms = 0
        self._minute = 0
        self._needs_accounts = False
        self._months_to_evict = True
        self._buckets_to_evict = False
        self._decisions_to_expire = False
        self._has_evictable = False

    @property
    def totals(self) -> TotalsRow:
        """What became of all events of the partition's usage log."""
        return self._intake.totals

    def _make_recovery(self) -> Recovery:
        recovery, accounts, named = Recovery(), self.accounts, by_names
        recovery.add("b", tables.BucketsRow, named(self.buckets.restore))
        recovery.add("c", RollupCell, self.cells.restore)
        recovery.add("d", tables.StandingRow, named(self.policy.restore))
        recovery.add("f", tables.EventIdRow, self.event_ids.restore)
        recovery.add("h", tables.HeldRow, named(self._storage.restore_held))
        recovery.add("k", tables.KeyRow, named(accounts.restore_key))
        recovery.add("l", tables.LedgerRow, named(self.ledgers.restore))
        recovery.add("m", tables.CommandRow, self._commands.restore)
        recovery.add("n", tables.NoticeRow, named(self.notices.restore))
        recovery.add("o", tables.OrganizationRow, named(accounts.restore_organization))
        recovery.add("p", tables.ProducerRow, named(self.producers.restore))
        recovery.add("s", tables.SampleRow, named(self._storage.restore_sample))
        recovery.add("t", tables.TotalsRow, self._restore_totals)
        recovery.add("z", tables.HorizonRow, self.horizon.restore)
        self.participants.add_tables(recovery)
        return recovery

    def _restore_totals(self, key: bytes, row: tables.TotalsRow) -> None:
        self._intake.totals = row

    # ---- the machine ----

    @property
    def log_time_ms(self) -> int:
        """The running maximum of the inputs' log time; 0 before the first."""
        return self._time.now_ms

    @property
    def catalogue_version(self) -> int:
        """The version in force at ``log_time_ms``; 0 while there is none."""
        catalogue = self.plans.catalogue()
        return 0 if catalogue is None else catalogue.version

    @property
    def changed_rows(self) -> int:
        """About how many rows ``take_changes`` would return: what is gathered but not folded yet is estimated."""
        return len(self._changed.rows) + self._changed.weight + 2 * self._routes.pending

    @property
    def needs_accounts(self) -> bool:
        """Whether ``apply_usage`` stopped at a record that names an organization or key that is not known."""
        return self._needs_accounts

    def use_catalogues(self, versions: Sequence[Catalogue]) -> None:
        """All catalogue versions known so far."""
        self._routes.forget()
        self._cards.use(versions)
        self._boundary_ms = 0

    def restore(self, key: bytes, payload: bytes) -> None:
        """One live row of the recovered state. Raises ValueError for a row of an unknown table."""
        self._recovery.restore(key, payload)

    def resume(self, epoch: int, flush: int, log_time_ms: int) -> None:
        """All rows are back: from here on outputs are of ``epoch``; what stands is published again."""
        self._outbox.start_epoch(epoch)
        time = self._time
        time.now_ms = max(time.now_ms, log_time_ms)
        time.month = month_index(time.now_ms)
        time.version = self.catalogue_version
        self._minute = time.now_ms // MINUTE_MS
        self._commands.resume()
        self.policy.resume(self._moment(f"r{self._partition}-{epoch}"), self.ledgers)
        self._rates.resume(self._moment(f"r{self._partition}-{epoch}"))
        self.participants.resume(self._moment(f"r{self._partition}-{epoch}"))
        for ledger in self.ledgers:
            self.policy.watch(ledger, time.month)
        self._balances.resume()

    def apply_usage(self, records: Sequence[InputTuple], *, accounts_current: bool = False) -> int:
        """Takes in usage records in offset order; returns how many were consumed. Raises LookupError while no
        catalogue version is known."""
        self._needs_accounts = False
        consumed = 0
        apply, totals = self._intake.apply, self.totals
        for record in records:
            if not apply(record, accounts_current=accounts_current):
                self._needs_accounts = True
                break
            if self._is_due():
                self._catch_up(f"{self._partition}-{record[0]}")
            consumed += 1
            totals.usage_offset = record[0]
            if self._is_full():
                break
        if consumed:
            self._changed.rows[_TOTALS_KEY] = self.totals
        return consumed

    def _is_full(self) -> bool:
        return (
            self.changed_rows >= self.settings.changed_rows_max or self._outbox.durable_records >= _DURABLE_RECORDS_MAX
        )

    def apply_accounts(self, records: Sequence[InputTuple]) -> None:
        """Takes in operator commands in offset order."""
        for record in records:
            offset, log_time_ms, _, value = record
            self._advance_to(log_time_ms)
            word = f"a{self._partition}-{offset}"
            origin = RecordOrigin(topics.ACCOUNTS.name, self._partition, offset, log_time_ms, value or b"")
            acted = self._commands.take(origin, self._moment(word)._replace(offset=offset))
            self.totals.commands += acted is True
            self.totals.commands_repeated += acted is False
            self._catch_up(word)
            self._changed.rows[_TOTALS_KEY] = self.totals

    def advance(self, log_time_ms: int) -> None:
        """Time passes without input."""
        self._advance_to(log_time_ms)
        self._catch_up(f"t{self._partition}-{self._time.now_ms}")

    def cells_durable_until(self, state_offset: int) -> None:
        """The sink holds all of the partition's state records below this offset."""
        self.cells.durable_until(state_offset)

    def flushed(self, flush: int, state_offset_end: int) -> None:
        """The changes taken for ``flush`` are acknowledged; the next state record has ``state_offset_end``."""
        self.cells.flushed(state_offset_end)
        self._balances.flushed()

    def say_again(self, records: Sequence[ForeignRecord]) -> None:
        """Somebody else wrote these records to the partition's compacted outputs: what the state says goes behind."""
        self._again.say(records, self._moment(f"s{self._partition}-{self.log_time_ms}"))

    def take_changes(self) -> list[tuple[bytes, bytes | None]]:
        """(row key, payload or None for a removed row) of each row changed since the last call."""
        self._routes.fold()
        self._balances.flush_begins()
        self.cells.taken()
        return self._changed.take()

    def take_outputs(self) -> Outputs:
        """What is to be sent since the last call."""
        return self._outbox.take()

    def take_current(self, at_most: int, clock_ms: int) -> list[OutboxRecord]:
        """The balances that changed since they were told last."""
        return self._balances.take(self.totals.usage_offset, at_most, clock_ms)

    # ---- what it did and holds, see ``streams.engine.machine.Measured`` ----

    def tally(self) -> tuple[dict[str, int], dict[str, int]]:
        """Events by outcome, and rejects by reason."""
        totals = self.totals
        outcomes = {
            "counted": totals.counted,
            "duplicate": totals.duplicate,
            "rejected": totals.rejected,
            "forwarded": totals.forwarded,
        }
        return outcomes, dict(self._outbox.rejects)

    def sizes(self) -> tuple[dict[str, int], int | None, int | None]:
        """Rows by table, since when repeats are known, and the oldest event whose own id is remembered (ms)."""
        rows = {
            "organizations": len(self.accounts.organizations),
            "keys": len(self.accounts.keys),
            "commands": len(self._commands),
            "ledgers": len(self.ledgers),
            "buckets": len(self.buckets),
            "cells": len(self.cells),
            "decisions": len(self.policy),
            "producers": len(self.producers),
            "event_ids": len(self.event_ids),
            "storage": len(self._storage),
            "notices": len(self.notices),
        }
        rows.update(self.participants.sizes())
        return rows, self.event_ids.reach_ms(self._time.now_ms) or None, self.event_ids.oldest_ms

    # ---- time ----

    def _moment(self, word: str) -> Moment:
        return Moment(self._time.now_ms, self._time.month, self.catalogue_version, word)

    def _advance_to(self, log_time_ms: int) -> bool:
        """Moves the log time on; returns whether routes that were looked up before are void."""
        time = self._time
        if log_time_ms > time.now_ms:
            if log_time_ms // SECOND_MS != time.now_ms // SECOND_MS:
                self._routes.fold()  # what is told of a second is the same wherever flushes fall
            time.now_ms = log_time_ms
        now_ms = time.now_ms
        is_void = False
        if now_ms >= self._boundary_ms:
            self._cross_boundary()
            is_void = True
        is_void |= self.participants.cross(now_ms, self._moment, str(self._partition))
        minute, before = now_ms // MINUTE_MS, self._minute
        if minute != before:
            self._minute = minute
            self._decisions_to_expire = True
            self.producers.expire(now_ms)
            self.event_ids.expire(now_ms)
            is_due = minute // _BUCKETS_EVICTED_EVERY_MINUTES != before // _BUCKETS_EVICTED_EVERY_MINUTES
            self._buckets_to_evict |= is_due
            is_void |= self._evict()
        elif self._has_evictable and 2 * self.changed_rows < self.settings.changed_rows_max:
            is_void |= self._evict()
        return is_void

    def _evict(self) -> bool:
        """Removes the rows of what is over: as many as one flush has room for, the others later.

        Returns whether routes that were looked up before are void.
        """
        self._routes.fold()
        settings, time, rows = self.settings, self._time, self._changed.rows
        month_floor = time.month - settings.months_kept + 1
        minute_floor = (time.now_ms - settings.cells_kept_ms) // MINUTE_MS
        self._has_evictable = self.cells.evict(minute_floor, settings.changed_rows_max - len(rows))
        if self._months_to_evict:
            self._months_to_evict = self.ledgers.evict(month_floor, settings.changed_rows_max - len(rows))
            self._months_to_evict |= self._storage.evict(month_floor, settings.changed_rows_max - len(rows))
        if self._decisions_to_expire:
            self._decisions_to_expire = self.policy.expire(time.now_ms, settings.changed_rows_max - len(rows))
        evicted = False
        if self._buckets_to_evict:
            since_ms = time.now_ms - settings.start_skew_ms
            evicted, self._buckets_to_evict = self.buckets.evict(since_ms, settings.changed_rows_max - len(rows))
        self._has_evictable |= self._months_to_evict or self._buckets_to_evict or self._decisions_to_expire
        if evicted:
            self._routes.forget()
        return evicted

    def _hear(self, content: WireGauge | WireLeaseRequest, origin: RecordOrigin) -> None:
        if partition_of(content.account_id, self._partitions) != self._partition:
            detail = "came to a partition that is not its account's home"
            self._intake.refuse(origin, 0, "invalid", "account_id", detail)
            return
        self.participants.hear(self._moment(f"u{self._partition}-{origin.offset}"), content, origin)

    def _is_due(self) -> bool:
        """Whether ``_catch_up`` would find anything to do."""
        now_ms = self._time.now_ms
        return bool(self.participants.is_due(now_ms) or self._rates.waiting or now_ms >= self.policy.behind.next_ms)

    def _catch_up(self, place: str) -> None:
        """After the record at ``place``, so that what is published again holds all of it."""
        now_ms = self._time.now_ms
        self.participants.catch_up(now_ms, self._moment, place)
        if self._rates.waiting and self._rates.settle(self._moment(f"v{place}-{now_ms}")):
            self._routes.forget()
        if now_ms >= self.policy.behind.next_ms:
            self.policy.catch_up(self._moment(f"t{self._partition}-{now_ms}"))

    def _cross_boundary(self) -> None:
        """A month began, its grace ended, or another catalogue version took effect."""
        time, now_ms = self._time, self._time.now_ms
        self._routes.forget()
        month, version = month_index(now_ms), self.catalogue_version
        is_new_month, is_new_version = month != time.month, version != time.version
        time.month, time.version = month, version
        grace_end_ms = month_start_ms(month) + self.settings.grace_ms
        self._boundary_ms = min(
            month_start_ms(month + 1),
            self._cards.next_start_ms(now_ms),
            grace_end_ms if grace_end_ms > now_ms else month_start_ms(month + 1),
        )
        moment = self._moment(f"t{self._partition}-{now_ms}")
        if is_new_version:
            self._changes.catalogue(moment)
        if is_new_month:
            self._months_to_evict = True
            self._changes.month(moment)
            self.participants.month_began(moment)
