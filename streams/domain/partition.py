"""One partition's metering state machine: the steps put together, seen through ``streams.engine.machine.Machine``."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from sluicegate_schemas import topics
from sluicegate_schemas.bounds import from_epoch_ms
from sluicegate_schemas.catalogue import Catalogue, RateLimits, Tier
from sluicegate_schemas.decode import Malformed, decode_usage
from sluicegate_schemas.envelope import WireEnvelope, WireEvent, WireForward
from sluicegate_schemas.outputs import RejectReason
from sluicegate_schemas.state import RollupCell

from . import tables
from .accounts import Accounts, RefusedError, decode_command
from .admit import TICK, Admission, Admitter
from .dedup import EventIds, Horizon, Producers, digest_of
from .ledger import Ledgers
from .limits import KeyBuckets, Rates
from .meter import Meter, RecordContext
from .outputs import Outbox, Outputs, RecordOrigin
from .period import MINUTE_MS, month_index, month_start_ms
from .policy import Moment, Policy
from .recovery import Recovery, by_names
from .rollup import Cells
from .routes import RateCards
from .settings import DomainSettings
from .storage import StorageMeter
from .tables import ChangedRows, TotalsRow, row_key

_DURABLE_RECORDS_MAX: Final = 1_000
_BUCKETS_EVICTED_EVERY_MS: Final = 10 * MINUTE_MS
_TOTALS_KEY: Final = row_key("t", "totals")


class InputRecord(NamedTuple):
    """One record of an input topic; the same as ``streams.engine.machine.InputRecord``."""

    offset: int
    log_time_ms: int
    key: bytes | None
    value: bytes | None


InputTuple = tuple[int, int, bytes | None, bytes | None]


class Partition:
    """The machine of partition ``partition`` of ``partitions``; see ``Machine`` for what its verbs promise."""

    def __init__(self, partition: int, partitions: int, settings: DomainSettings | None = None) -> None:
        self._partition = partition
        self.settings = settings = settings or DomainSettings()
        self.changed = changed = ChangedRows()
        self.outbox = Outbox(partition)
        self.accounts = Accounts(partition, partitions, settings, changed, self.outbox)
        self.cards = RateCards()
        self.ledgers = Ledgers(changed, self._credits_of)
        self.buckets = KeyBuckets(changed, self._rates_of)
        self.cells = Cells(changed)
        self.storage = StorageMeter(changed)
        self.policy = Policy(settings, changed, self.outbox)
        self.horizon = Horizon(changed)
        self.producers = Producers(settings, changed, self.horizon)
        self.event_ids = EventIds(settings, changed, self.horizon)
        self.totals = TotalsRow()
        organizations, keys = self.accounts.organizations, self.accounts.keys
        self.meter = Meter(
            partition, settings, changed, organizations, keys, self.buckets, self.cards, self.cells, self.ledgers,
            self.storage, self.policy,
        )  # fmt: skip
        self._admitter = Admitter(partition, partitions, organizations, keys, self.meter)
        self._recovery = self._make_recovery()
        self._boundary_ms = 0
        self._minute = 0
        self._buckets_evicted_ms = 0
        self._balances_ms = 0
        self._needs_accounts = False

    def _make_recovery(self) -> Recovery:
        recovery, accounts, named = Recovery(), self.accounts, by_names
        recovery.add("b", tables.BucketsRow, named(self.buckets.restore))
        recovery.add("c", RollupCell, self.cells.restore)
        recovery.add("d", tables.StandingRow, named(self.policy.restore))
        recovery.add("f", tables.EventIdRow, self.event_ids.restore)
        recovery.add("h", tables.HeldRow, named(self.storage.restore_held))
        recovery.add("k", tables.KeyRow, named(accounts.restore_key))
        recovery.add("l", tables.LedgerRow, named(self.ledgers.restore))
        recovery.add("m", tables.CommandRow, accounts.restore_command)
        recovery.add("o", tables.OrganizationRow, named(accounts.restore_organization))
        recovery.add("p", tables.ProducerRow, named(self.producers.restore))
        recovery.add("s", tables.SampleRow, named(self.storage.restore_sample))
        recovery.add("t", tables.TotalsRow, self._restore_totals)
        recovery.add("z", tables.HorizonRow, self.horizon.restore)
        return recovery

    def _restore_totals(self, key: bytes, row: tables.TotalsRow) -> None:
        self.totals = row

    # ---- what a plan gives ----

    def _credits_of(self, account_id: str) -> int | None:
        row = self.accounts.organizations[account_id]
        catalogue = self.cards.at(self.meter.now_ms)
        if catalogue is None:
            return row.credits_micro_own
        return catalogue.credits_micro_per_month(_tier(row.tier), row.credits_micro_own)

    def _rates_of(self, api_key_id: str) -> Rates | None:
        key = self.accounts.keys.get(api_key_id)
        if key is None:
            return None
        row = self.accounts.organizations[key.organization_id]
        if row.rates_own is not None:
            return Rates(*row.rates_own)
        catalogue = self.cards.at(self.meter.now_ms)
        rates: RateLimits | None = None if catalogue is None else catalogue.rates(_tier(row.tier), None)
        return None if rates is None else Rates(rates.requests_per_second, rates.burst, rates.requests_per_minute)

    # ---- the machine ----

    @property
    def log_time_ms(self) -> int:
        """The running maximum of the inputs' log time; 0 before the first."""
        return self.meter.now_ms

    @property
    def catalogue_version(self) -> int:
        """The version in force at ``log_time_ms``; 0 while there is none."""
        catalogue = self.cards.at(self.meter.now_ms)
        return 0 if catalogue is None else catalogue.version

    @property
    def changed_rows(self) -> int:
        """How many rows ``take_changes`` would return."""
        return len(self.changed.rows)

    @property
    def needs_accounts(self) -> bool:
        """Whether ``apply_usage`` stopped at a record that names an organization or key that is not known."""
        return self._needs_accounts

    def use_catalogues(self, versions: Sequence[Catalogue]) -> None:
        """All catalogue versions known so far."""
        self.meter.forget_routes()
        self.cards.use(versions)
        self._boundary_ms = 0

    def restore(self, key: bytes, payload: bytes) -> None:
        """One live row of the recovered state. Raises ValueError for a row of an unknown table."""
        self._recovery.restore(key, payload)

    def resume(self, epoch: int, flush: int, log_time_ms: int) -> None:
        """All rows are back: from here on outputs are of ``epoch``; what stands is published again."""
        self.outbox.start_epoch(epoch)
        meter = self.meter
        meter.now_ms = max(meter.now_ms, log_time_ms)
        meter.month = month_index(meter.now_ms)
        meter.version = self.catalogue_version
        self._minute = meter.now_ms // MINUTE_MS
        self._buckets_evicted_ms = meter.now_ms
        self.accounts.resume()
        self.policy.resume(self._moment(f"r{self._partition}-{epoch}"), self.ledgers)
        for ledger in self.ledgers:
            self.policy.watch(ledger, meter.month)
            if ledger.month == meter.month:
                self.ledgers.unpublished[ledger] = None
        self._publish_balances()

    def apply_usage(self, records: Sequence[InputTuple], *, accounts_current: bool = False) -> int:
        """Takes in usage records in offset order; returns how many were consumed. Raises LookupError while no
        catalogue version is known."""
        self._needs_accounts = False
        consumed = 0
        try:
            for record in records:
                if not self._apply(record, accounts_current=accounts_current):
                    self._needs_accounts = True
                    break
                consumed += 1
                self.totals.usage_offset = record[0]
                if self._is_full():
                    break
        finally:
            self.meter.fold()
        if consumed:
            self.changed.rows[_TOTALS_KEY] = self.totals
        self._publish_balances()
        return consumed

    def _is_full(self) -> bool:
        rows = len(self.changed.rows) + 4 * self.meter.pending_routes
        return rows >= self.settings.changed_rows_max or self.outbox.durable_records >= _DURABLE_RECORDS_MAX

    def apply_accounts(self, records: Sequence[InputTuple]) -> None:
        """Takes in operator commands in offset order."""
        for offset, log_time_ms, _, value in records:
            self._advance_to(log_time_ms)
            word = f"a{self._partition}-{offset}"
            try:
                command = decode_command(value)
            except RefusedError as refused:
                self._refuse_command(offset, log_time_ms, value, refused, {})
                continue
            names = {"event_id": command.command_id, "organization_id": command.organization_id}
            plan_changed = self._plan_changed(word)
            try:
                if self.accounts.obey(command, offset, plan_changed, lambda _: self.meter.forget_routes()):
                    self.totals.commands += 1
                else:
                    self.totals.commands_repeated += 1
            except RefusedError as refused:
                self._refuse_command(offset, log_time_ms, value, refused, names)
            self.changed.rows[_TOTALS_KEY] = self.totals
        self._publish_balances()

    def advance(self, log_time_ms: int) -> None:
        """Time passes without input."""
        self._advance_to(log_time_ms)
        self._publish_balances()

    def cells_durable_until(self, state_offset: int) -> None:
        """The sink holds all of the partition's state records below this offset."""
        self.cells.durable_until(state_offset)

    def flushed(self, flush: int, state_offset_end: int) -> None:
        """The changes taken for ``flush`` are acknowledged; the next state record has ``state_offset_end``."""
        self.cells.flushed(state_offset_end)

    def take_changes(self) -> list[tuple[bytes, bytes | None]]:
        """(row key, payload or None for a removed row) of each row changed since the last call."""
        self.cells.taken()
        return self.changed.take()

    def take_outputs(self) -> Outputs:
        """What is to be sent since the last call."""
        return self.outbox.take()

    # ---- time ----

    def _moment(self, word: str) -> Moment:
        return Moment(self.meter.now_ms, self.meter.month, self.catalogue_version, word)

    def _advance_to(self, log_time_ms: int) -> bool:
        """Moves the log time on; returns whether routes that were looked up before are void."""
        meter = self.meter
        if log_time_ms > meter.now_ms:
            meter.now_ms = log_time_ms
        now_ms = meter.now_ms
        is_void = False
        if now_ms >= self._boundary_ms:
            self._cross_boundary()
            is_void = True
        if now_ms // MINUTE_MS != self._minute:
            self._minute = now_ms // MINUTE_MS
            self.policy.expire(now_ms)
            self.producers.expire(now_ms)
            self.event_ids.expire(now_ms)
            self.cells.evict((now_ms - self.settings.cells_kept_ms) // MINUTE_MS)
            if now_ms - self._buckets_evicted_ms >= _BUCKETS_EVICTED_EVERY_MS:
                self._buckets_evicted_ms = now_ms
                if self.buckets.evict(now_ms - self.settings.start_skew_ms):
                    meter.forget_routes()
                    is_void = True
        return is_void

    def _cross_boundary(self) -> None:
        """A month began, its grace ended, or another catalogue version took effect."""
        meter, now_ms = self.meter, self.meter.now_ms
        meter.forget_routes()
        month, version = month_index(now_ms), self.catalogue_version
        is_new_month, is_new_version = month != meter.month, version != meter.version
        meter.month, meter.version = month, version
        grace_end_ms = month_start_ms(month) + self.settings.grace_ms
        self._boundary_ms = min(
            month_start_ms(month + 1),
            self.cards.next_start_ms(now_ms),
            grace_end_ms if grace_end_ms > now_ms else month_start_ms(month + 1),
        )
        moment = self._moment(f"t{self._partition}-{now_ms}")
        if is_new_version:
            self._adapt_all(moment)
        if is_new_month:
            self.ledgers.evict(month - self.settings.months_kept + 1)
            self.storage.evict(month - self.settings.months_kept + 1)
            for ledger in [one for one in self.ledgers if one.kind == "account" and one.month == month]:
                self.policy.watch(ledger, month)
                if ledger.used_micro >= ledger.watch_micro:
                    tier = self.accounts.organizations[ledger.identifier].tier
                    self.policy.credits_reached(moment, ledger, tier, None)

    def _adapt_all(self, moment: Moment) -> None:
        for api_key_id in sorted(buckets.api_key_id for buckets in self.buckets):
            self._adapt_key(moment, api_key_id)
        for account_id in sorted(ledger.identifier for ledger in self.ledgers if ledger.kind == "account"):
            self._adapt_account(moment, account_id)

    def _adapt_key(self, moment: Moment, api_key_id: str) -> None:
        buckets = self.buckets.get(api_key_id)
        if buckets is not None and self.buckets.adapt(buckets, moment.now_ms):
            tier = self.accounts.organizations[self.accounts.keys[api_key_id].organization_id].tier
            if self.buckets.get(api_key_id) is None:
                self.policy.rates_lifted(moment, buckets, tier)
            else:
                self.policy.rates_changed(moment, buckets, tier)

    def _adapt_account(self, moment: Moment, account_id: str) -> None:
        tier = self.accounts.organizations[account_id].tier
        for ledger in self.ledgers.change_total(account_id, moment.month):
            self.policy.total_changed(moment, ledger, tier)

    def _plan_changed(self, word: str) -> Callable[[str], None]:
        def plan_changed(organization_id: str) -> None:
            self.meter.forget_routes()
            moment = self._moment(word)
            for api_key_id in self.accounts.keys_of(organization_id):
                self._adapt_key(moment, api_key_id)
            if self.accounts.organizations[organization_id].account_id == organization_id:
                self._adapt_account(moment, organization_id)

        return plan_changed

    def _publish_balances(self) -> None:
        now_ms, waiting = self.meter.now_ms, self.ledgers.unpublished
        if waiting and now_ms - self._balances_ms >= self.settings.balance_interval_ms:
            self._balances_ms = now_ms
            as_of = from_epoch_ms(now_ms)
            for ledger in waiting:
                self.outbox.balance(ledger, as_of, self.totals.usage_offset)
            waiting.clear()

    # ---- one usage record ----

    def _apply(self, record: InputTuple, *, accounts_current: bool) -> bool:
        """Applies a record, or changes nothing and returns False: it needs accounts that are not known yet."""
        offset, log_time_ms, _, value = record
        if value == TICK:
            self._advance_to(log_time_ms)
            return True
        try:
            content = decode_usage(value)
        except Malformed as malformed:
            self._advance_to(log_time_ms)
            origin = RecordOrigin(topics.USAGE.name, self._partition, offset, log_time_ms, value or b"")
            self._reject(origin, 0, malformed.reason, malformed.field, malformed.detail)
            return True
        if isinstance(content, WireEnvelope):
            if self.producers.is_repeated(content.producer_id, content.producer_epoch, content.sequence):
                self._advance_to(log_time_ms)
                self.totals.duplicate += len(content.events)
                return True
            events, is_forward = content.events, False
        else:
            is_forward = isinstance(content, WireForward)
            events = [content.event if isinstance(content, WireForward) else content]
        admission = self._admitter.admit(events, is_forward=is_forward)
        if admission.is_unknown and not accounts_current:
            return False
        if self._advance_to(log_time_ms):
            admission = self._admitter.admit(events, is_forward=is_forward)
        assert value is not None
        origin = RecordOrigin(topics.USAGE.name, self._partition, offset, log_time_ms, value)
        if isinstance(content, WireEnvelope):
            self._count_envelope(content, admission, origin)
        else:
            logged_at_ms = min(content.logged_at_ms, log_time_ms) if isinstance(content, WireForward) else log_time_ms
            self._count_foreign(events, admission, origin, logged_at_ms)
        return True

    def _reject(
        self,
        origin: RecordOrigin,
        index: int,
        reason: RejectReason,
        field: str | None,
        detail: str,
        event: WireEvent | None = None,
        producer_id: str | None = None,
    ) -> None:
        self.totals.rejected += 1
        now_ms = self.meter.now_ms
        self.outbox.reject(origin, index, reason, detail, now_ms, field=field, event=event, producer_id=producer_id)

    def _count_envelope(self, envelope: WireEnvelope, admission: Admission, origin: RecordOrigin) -> None:
        producer_id, events, routes = envelope.producer_id, envelope.events, admission.routes

        def name(index: int) -> str:
            return f"{producer_id}-{envelope.producer_epoch}-{envelope.sequence}-{index}"

        def refuse(index: int, reason: RejectReason, field: str | None, detail: str) -> None:
            self._reject(origin, index, reason, field, detail, events[index], producer_id)

        heard_from_ms = self.producers.heard_from_ms(producer_id)
        if heard_from_ms:
            for index, event in enumerate(events):
                if event.ts_ms < heard_from_ms and routes[index] is not None:
                    routes[index] = None
                    refuse(index, "older_than_dedup_horizon", "ts", "its producer may have been forgotten since")
            admission.forwarded = [one for one in admission.forwarded if events[one[0]].ts_ms >= heard_from_ms]
        for index, account_id, home in admission.forwarded:
            event = events[index]
            if event.id is None:
                event.id = name(index)
            self._forward(origin, index, event, account_id, home)
        for refused in admission.refused:
            refuse(*refused)
        record = RecordContext(origin.offset, origin.logged_at_ms, name, refuse)
        self.totals.counted += self.meter.count(events, routes, record)
        ts_ms_max = min(max(event.ts_ms for event in events), origin.logged_at_ms + self.settings.clock_ahead_ms)
        self.producers.mark(producer_id, envelope.producer_epoch, envelope.sequence, self.meter.now_ms, ts_ms_max)

    def _count_foreign(
        self, events: list[WireEvent], admission: Admission, origin: RecordOrigin, logged_at_ms: int
    ) -> None:
        event = events[0]

        def refuse(index: int, reason: RejectReason, field: str | None, detail: str) -> None:
            self._reject(origin, index, reason, field, detail, event)

        for index, account_id, home in admission.forwarded:
            self._forward(origin, index, event, account_id, home)
        for refused in admission.refused:
            refuse(*refused)
        if admission.routes[0] is None:
            return
        digest = digest_of(event)
        known = self.event_ids.find(event)
        if known is not None:
            if known.digest == digest:
                self.totals.duplicate += 1
            else:
                refuse(0, "id_conflict", "id", "was the id of another event before")
            return
        settings = self.settings
        is_in_time = event.started_at_ms >= logged_at_ms - settings.clock_behind_ms
        if is_in_time and self.event_ids.is_past_horizon(event.ts_ms, self.meter.now_ms):
            refuse(0, "older_than_dedup_horizon", "ts", "lies before the horizon within which repeats are known")
            return
        event_id = event.id or ""
        record = RecordContext(origin.offset, logged_at_ms, lambda _: event_id, refuse)
        if self.meter.count(events, admission.routes, record):
            self.totals.counted += 1
            self.event_ids.mark(event, digest)

    def _forward(self, origin: RecordOrigin, index: int, event: WireEvent, account_id: str, home: int) -> None:
        self.totals.forwarded += 1
        self.outbox.forward(origin, index, event, account_id, home)

    def _refuse_command(
        self, offset: int, log_time_ms: int, value: bytes | None, refused: RefusedError, names: dict[str, str]
    ) -> None:
        origin = RecordOrigin(topics.ACCOUNTS.name, self._partition, offset, log_time_ms, value or b"")
        now_ms = self.meter.now_ms
        self.outbox.reject(origin, 0, refused.reason, str(refused), now_ms, field=refused.field, names=names)


def _tier(tier: str) -> Tier:
    return tier  # type: ignore[return-value]  # checked when the command was decoded
