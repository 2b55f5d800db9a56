"""What one owner of one partition does, without I/O, clock or randomness (design: state that survives kill -9 exactly).

``PartitionCore`` is told what happens and returns what to do (``actions``). It reads the state log, claims the
partition, folds the log to rows, lets a machine apply usage from the header's position on, and appends each cut as one
batch. Between two appends it holds the log to its promise: one legitimate writer, so each append starts where the last
one ended. Where it does not, the core finds out who wrote, and repairs or gives way.
"""

from collections.abc import Iterable, Sequence

from sluicegate_schemas.catalogue import Catalogue

from .accounts_intake import AccountsIntake
from .actions import (
    Acknowledge,
    Action,
    Append,
    AppendTick,
    Drop,
    LookAtStateEnd,
    LookAtUsageStart,
    Ready,
    RefreshAccounts,
    SeekUsage,
    Stop,
)
from .fence import Fence, QuietCheck
from .flush import FlushWriter, batch_bytes
from .flushes import Flush, Flushes
from .fold import LogRecord, StateFormatError
from .intake import UsageIntake
from .limits import Limits
from .machine import ForeignRecord, InputRecord, Machine
from .outbox import Outbox
from .phase import Phase
from .publishing import Publishing
from .recovery import Recovered, Recovery
from .refusals import batch_too_large, counted_wrongly, source_lost, state_damaged


class PartitionCore:
    """One owner of one partition, from its assignment until it gives the partition back.

    ``now`` is a monotonic clock in seconds that the adapter reads; all else that is random or timed is handed in.
    """

    def __init__(self, partition: int, machine: Machine, limits: Limits, *, accept_lost_source: bool = False) -> None:
        self.partition = partition
        self.machine = machine
        self.limits = limits
        self.phase = Phase.RECOVERING
        self.draining = False
        self.usage = UsageIntake(0)
        self.accounts = AccountsIntake(0)
        self.outbox = Outbox()
        self.publishing = Publishing(self.outbox)
        self.stats = {"flushes": 0, "rows": 0, "repairs": 0, "seeks": 0, "held": 0}
        self._accept_lost_source = accept_lost_source
        self._recovery: Recovery | None = None
        self._fence = Fence(0, -1)
        self._writer = FlushWriter(0, b"", {})
        self._flushes = Flushes()
        self._quiet_check = QuietCheck(limits.quiet_check_s)
        self._tick_at = float("-inf")
        self._lease_until = float("-inf")
        self._catalogue_seen_at: float | None = None

    @property
    def epoch(self) -> int:
        """The epoch of this owner's claim; 0 before it stands."""
        return self._fence.epoch

    @property
    def state_end_known(self) -> int:
        """The end of the state log as far as this owner has looked."""
        return self._fence.next_offset

    # Recovery.

    def assigned(self, *, owner: str, generation: int, nonce: int, wall_ms: int) -> list[Action]:
        """The group gave us the partition; see ``Recovery``."""
        self._recovery = Recovery(
            self.partition,
            owner=owner,
            generation=generation,
            nonce=nonce,
            wall_ms=wall_ms,
            accept_lost_source=self._accept_lost_source,
        )
        return self._recovery.begin()

    def sources(self, *, usage: tuple[int, int], accounts: tuple[int, int]) -> list[Action]:
        """(first offset, end) of the partition in both input topics, as ``LookAtSources`` asked."""
        recovery, self._recovery = self._recovery, None
        if recovery is None or self.phase is not Phase.RECOVERING:
            return []
        recovered = recovery.sources(usage=usage, accounts=accounts)
        if not isinstance(recovered, Recovered):
            return self._over(recovered)
        return self._resume(recovered, usage[1], accounts[1])

    def _resume(self, recovered: Recovered, usage_end: int, accounts_end: int) -> list[Action]:
        fold = recovered.fold
        if refusal := recovered.restore(self.partition, self.machine):
            return self._over(refusal)
        self._writer = recovered.writer
        self._fence = Fence(recovered.writer.epoch, recovered.state_next)
        self.usage = UsageIntake(recovered.usage_next)
        self.accounts = AccountsIntake(recovered.accounts_next)
        self._flushes.resume(recovered.flush_number, self.usage.applied, self.accounts.applied)
        self.stats["repairs"] += len(fold.void_keys)
        self.phase = Phase.RUNNING
        resent = self.publishing.resume(self.machine, fold.header, usage_end, accounts_end)
        return [Ready(fold.row_count, fold.void_records), *resent, *self._collect()]

    # The state log: what was asked of it, and what its replies say about who else writes.

    def state_records(self, records: Iterable[LogRecord]) -> None:
        """The next records of the range that ``ReadState`` asked for, in order. Raises StateFormatError."""
        (self._recovery or self._fence).state_records(records)

    def state_read(self, end: int) -> list[Action]:
        """The range is read; ``end`` is where it ended."""
        if self.phase is Phase.OVER:
            return []
        if self._recovery is not None:
            return self._over(self._recovery.state_read(end))
        actions = self._over(self._fence.state_read())
        if self.phase is Phase.RUNNING and not self._fence.is_reading:
            repairs = self._fence.take_repairs()
            self._writer.repairs.update(repairs)
            self.stats["repairs"] += len(repairs)
            self._flushes.at_once = True
        return actions + self._settle()

    def state_unreadable(self, error: StateFormatError) -> list[Action]:
        """A record of the range is none that a worker writes."""
        return self._over([Stop(state_damaged(self.partition, str(error)))])

    def state_end(self, end: int) -> list[Action]:
        """The end of the state partition, as ``LookAtStateEnd`` asked."""
        nothing_appended_meanwhile = self._quiet_check.looked(self._flushes.number)
        if self.phase is not Phase.RUNNING or not nothing_appended_meanwhile or self._fence.is_reading:
            return []
        return self._over(self._fence.end_seen(end))

    def look_failed(self) -> None:
        """The end of the state partition could not be asked: it is asked again soon."""
        self._quiet_check.failed()

    def appended(self, base_offset: int | None, now: float) -> list[Action]:
        """The batch stands in the log from ``base_offset`` on; None where the broker can no longer tell."""
        if self.phase is Phase.OVER:
            return []
        self._quiet_check.appended(now)
        if self._recovery is not None:
            if base_offset is None:
                return self.append_failed("the claim's offset is not known")
            return self._over(self._recovery.claimed(base_offset))
        flush = self._flushes.appended()
        if flush is None:
            return []
        return self._over(self._fence.appended(base_offset, flush.records)) + self._settle()

    def append_failed(self, reason: str) -> list[Action]:
        """The batch may be in the log or may come to stand in it later: only a new claim makes sure."""
        return self._over([Drop(f"an append to the state topic failed: {reason}", "append")])

    def append_impossible(self, size_bytes: int) -> list[Action]:
        """The batch is larger than the broker takes; nothing was sent."""
        return self._over([Stop(batch_too_large(self.partition, size_bytes, self.limits.batch_bytes_max))])

    def _settle(self) -> list[Action]:
        """Where the flush whose reply came is true, nobody with a higher epoch wrote before it: it takes effect."""
        if self.phase is not Phase.RUNNING or self._fence.is_judging or (flush := self._flushes.take_true()) is None:
            return []
        self.machine.flushed(flush.number, self._fence.next_offset)
        actions: list[Action] = [Acknowledge(flush.usage_offset)]
        actions += self.outbox.flushed()
        return actions + self._collect()

    # Input.

    @property
    def usage_next(self) -> int:
        """The next usage offset to fetch."""
        return self.usage.next_offset

    @property
    def accounts_next(self) -> int:
        """The next offset to fetch of the accounts topic."""
        return self.accounts.applied + 1

    def sought(self) -> None:
        """The seek that ``SeekUsage`` asked for is done."""
        self.usage.sought()

    def fetched(self, records: Sequence[InputRecord], follows_seek_to: int | None) -> list[Action]:
        """A batch of the partition's usage, in offset order, not empty; ``step`` applies it.

        ``follows_seek_to``: it is the first that was read since a seek to that offset.
        """
        if self.phase is not Phase.RUNNING or self.draining:
            return []
        match self.usage.fetched(records, follows_seek_to):
            case "seek":
                self.stats["seeks"] += 1
                return [SeekUsage(self.usage.next_offset)]
            case "look":
                return [LookAtUsageStart()]
        return []

    def usage_starts(self, start: int) -> list[Action]:
        """The first offset of the partition's usage, as ``LookAtUsageStart`` asked."""
        wanted = self.usage.next_offset
        if self.phase is Phase.RUNNING and not self.usage.log_starts(start):
            return self._over([Stop(source_lost("usage", self.partition, wanted, start, start))])
        return []

    def has_work(self, now: float) -> bool:
        """Whether ``step`` would apply something."""
        return not self.usage.is_empty and not self.accounts.is_needed and self.accepts_input(now)

    def accepts_input(self, now: float) -> bool:
        """Whether input may be applied now; operator commands are handed in only then."""
        return (
            self.phase is Phase.RUNNING
            and not self.draining
            and now <= self._lease_until
            and self._catalogue_seen_at is not None
            and now - self._catalogue_seen_at <= self.limits.catalogue_age_max_s
            and self.machine.changed_rows < self.limits.rows_max
            and self.outbox.durable_bytes < self.limits.outbox_bytes_max
            and self.outbox.unacknowledged < self.limits.unacknowledged_max
        )

    def step(self, now: float) -> list[Action]:
        """Applies one chunk of what was fetched: a few milliseconds of work."""
        if not self.has_work(now):
            return []
        before = self.usage.applied
        result = self.usage.apply(self.machine)
        actions = self._collect()
        if result == "needs accounts":
            self.accounts.is_needed = True
        elif result == "full":
            if self.usage.applied == before and not self.machine.changed_rows:
                return self._over([Stop(counted_wrongly(self.partition, "the machine takes no record and no flush"))])
            self._flushes.at_once = True
        return actions + self._timely(now)

    def accounts_fetched(self, records: Sequence[InputRecord]) -> list[Action]:
        """Operator commands of the partition in offset order, at most a few hundred."""
        if self.phase is not Phase.RUNNING or self.draining:
            return []
        return self._collect() if self.accounts.apply(self.machine, records) else []

    def accounts_current(self) -> list[Action]:
        """The accounts topic was read to its end as of ``RefreshAccounts``, and all of it handed in."""
        if not self.draining and (mark := self.accounts.refreshed()) is not None:  # what came then was not taken in
            self.usage.accounts_current(mark)
        return []

    def catalogues(self, versions: Sequence[Catalogue]) -> None:
        """All catalogue versions known so far, rising; at least one."""
        self.machine.use_catalogues(versions)

    def catalogue_seen(self, now: float) -> None:
        """The catalogue topic was read to its end at ``now``, and holds at least one version."""
        self._catalogue_seen_at = now

    def cells_durable_until(self, state_offset: int) -> None:
        """The sink's committed position in the partition of the state topic."""
        if self.phase is Phase.RUNNING:
            self.machine.cells_durable_until(state_offset)

    def _collect(self) -> list[Action]:
        return list[Action](self.publishing.collect(self.machine, self.usage.applied + 1, self.accounts_next))

    def said_by_others(self, records: Sequence[ForeignRecord]) -> list[Action]:
        """A former owner's records stand in compacted outputs; see ``Machine.say_again``."""
        self.publishing.hear(records)
        return self._collect()

    def published(self, token: int) -> None:
        """The broker has the output."""
        self.outbox.published(token)

    def publish_failed(self, reason: str) -> list[Action]:
        """An output may be lost; the next owner sends again what must not be."""
        return self._over([Drop(f"an output could not be sent: {reason}", "publish")])

    def tick(self, now: float, lease_until: float) -> list[Action]:
        """Time passes. ``lease_until``: before that, by the last accepted heartbeat, nobody else has the partition."""
        self._lease_until = lease_until
        return self._timely(now)

    def _timely(self, now: float) -> list[Action]:
        if self.phase is not Phase.RUNNING:
            return []
        if not self._flushes.is_in_flight and not self._fence.is_reading:
            if self._flush_due(now):
                return self._flush(now)
            if self._quiet_check.due(now):
                self._quiet_check.look(now, self._flushes.number)
                return [LookAtStateEnd()]
        if not self.draining and self.accounts.refresh_due(now, self.limits.accounts_refresh_s):
            self.accounts.refresh(now, self.usage.accounts_current_as_of_now())
            return [RefreshAccounts()]
        if now - self._tick_at >= self.limits.tick_interval_s and not self.draining:
            self._tick_at = now
            return [AppendTick()]
        return []

    @property
    def dirty(self) -> bool:
        """Something waits for a flush."""
        return bool(
            self.machine.changed_rows
            or self._writer.repairs
            or self.outbox.waits_for_flush
            or not self._flushes.covers(self.usage.applied, self.accounts.applied)
        )

    @property
    def clean(self) -> bool:
        """All that was applied is durable and true, as far as the log has told."""
        return not self._flushes.is_in_flight and not self._fence.is_reading and not self.dirty

    def _flush_due(self, now: float) -> bool:
        if now > self._lease_until:
            self.stats["held"] += 1
            return False
        if not self.publishing.may_flush:
            return False
        waited = self._flushes.waited(now, self.limits.flush_interval_s)
        if not self.dirty:
            return waited and self.outbox.header_is_stale
        return (
            waited
            or self._flushes.at_once
            or self.draining
            or self.machine.changed_rows >= self.limits.rows_max
            or self.outbox.durable_bytes >= self.limits.outbox_bytes_max
        )

    def _flush(self, now: float) -> list[Action]:
        machine = self.machine
        changes, number = machine.take_changes(), self._flushes.number + 1
        outputs = self._collect()
        records = self._writer.build(
            changes,
            flush=number,
            usage_offset=self.usage.applied,
            accounts_offset=self.accounts.applied,
            log_time_ms=machine.log_time_ms,
            catalogue_version=machine.catalogue_version,
            outbox=self.outbox.begin_flush(),
            outputs_next=self.publishing.begin_flush(),
        )
        if (size_bytes := batch_bytes(records)) > self.limits.batch_bytes_max:
            return self.append_impossible(size_bytes)
        self._flushes.begin(Flush(number, self.usage.applied, self.accounts.applied, len(records)), now)
        self.stats.update(flushes=self.stats["flushes"] + 1, rows=self.stats["rows"] + len(changes))
        return [*outputs, Append(records)]

    # The end.

    def drain(self) -> None:
        """The partition will be given back: apply nothing more, flush what is applied."""
        self.draining = True

    def park(self) -> bool:
        """The partition is given back. True if the core may wait for it to return: see ``returned``."""
        self.usage.clear()
        self.accounts.clear()
        if self.phase is not Phase.RUNNING or not self.clean:
            self.phase = Phase.OVER
            return False
        self.phase = Phase.PARKED
        return True

    def returned(self, state_end: int) -> bool:
        """The partition came back to a parked core. True if nobody wrote meanwhile: its claim still stands."""
        if self.phase is not Phase.PARKED or state_end != self._fence.next_offset:
            self.phase = Phase.OVER
            return False
        self.draining = False
        self.phase = Phase.RUNNING
        return True

    def _over(self, actions: list[Action]) -> list[Action]:
        """``actions``, after which nothing more happens if one of them gives the partition up."""
        if self.phase is Phase.OVER:
            return []
        if any(isinstance(action, Drop | Stop) for action in actions):
            self.phase = Phase.OVER
        return actions
