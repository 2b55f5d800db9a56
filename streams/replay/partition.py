"""One partition's past, replayed: the workers' own state machine, fed with the log; what it says is summed up. Pure."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from sluicegate_schemas.bounds import from_epoch_ms
from sluicegate_schemas.catalogue import Catalogue
from sluicegate_schemas.outputs import Decision, is_lease_key
from sluicegate_schemas.replay import ReplayedOrganization
from sluicegate_schemas.state import DECODE_ROLLUP_CELL, ROLLUP_TABLE, OutboxRecord, RollupCell, parse_rollup_key
from sluicegate_schemas.topics import DECISIONS

from ..domain.partition import Partition
from ..domain.period import month_index
from ..domain.settings import DomainSettings
from .blocks import Blocks
from .tally import BlockTally, UsageTally

_EPOCH: Final = 1 << 32
_CELL_PREFIX: Final = ROLLUP_TABLE + b"|"
InputTuple = tuple[int, int, bytes | None, bytes | None]
"""(offset, log time in ms, key, value) of a record."""


class PartitionReplay:
    """Feeds one partition. What happened before ``begins_ms`` (log time) is counted, but not told.

    Commands take effect at their log time, before the usage that was appended from then on. ``on_decision`` hears each
    decision of the time that is told.
    """

    def __init__(
        self,
        partition: int,
        partitions: int,
        catalogue: Catalogue,
        commands: Iterable[InputTuple],
        *,
        begins_ms: int,
        on_decision: Callable[[Decision], None] | None = None,
        settings: DomainSettings | None = None,
    ) -> None:
        self._machine = machine = Partition(partition, partitions, settings)
        machine.use_catalogues([catalogue])
        machine.resume(_EPOCH, 0, 0)
        self._commands = deque(commands)
        self._begins_ms = begins_ms
        self._on_decision = on_decision
        self._state_end = 0
        self._is_told = False
        self._rejected_before = 0
        self._blocks = Blocks()
        self._usage = UsageTally()
        self.known_since_ms: int | None = None
        """The log time of the first usage record."""
        self.blocks = BlockTally(self._organization_of)

    @property
    def events(self) -> int:
        """Events counted between the two times."""
        return self._usage.events

    @property
    def rejected(self) -> int:
        """Events and records that could not be used, between the two times."""
        return self._machine.totals.rejected - self._rejected_before if self._is_told else 0

    def feed(self, records: Sequence[InputTuple]) -> None:
        """Takes in the next usage records, in offset order."""
        start = 0
        while start < len(records):
            log_time_ms = records[start][1]
            if self.known_since_ms is None:
                self.known_since_ms = log_time_ms
            self._obey(log_time_ms)
            self._tell(log_time_ms)
            end = self._end_of_run(records, start)
            consumed = self._machine.apply_usage(records[start:end], accounts_current=True)
            self._take()
            start += consumed

    def _end_of_run(self, records: Sequence[InputTuple], start: int) -> int:
        """How far records may go together: up to the next command, and to where the telling begins."""
        border = self._commands[0][1] if self._commands else None
        if not self._is_told:
            border = self._begins_ms if border is None else min(border, self._begins_ms)
        if border is None:
            return len(records)
        end = start + 1
        while end < len(records) and records[end][1] < border:
            end += 1
        return end

    def _obey(self, log_time_ms: int) -> None:
        while self._commands and self._commands[0][1] <= log_time_ms:
            command = self._commands.popleft()
            self._tell(command[1])
            self._machine.apply_accounts([command])
            self._take()

    def _tell(self, log_time_ms: int) -> None:
        """From ``log_time_ms`` on what happens is told, if that lies in the time asked for."""
        if not self._is_told and log_time_ms >= self._begins_ms:
            self._is_told = True
            self._rejected_before = self._machine.totals.rejected

    def finish(self, ends_ms: int) -> None:
        """Time passes until ``ends_ms``; what stands then is told as such."""
        self._obey(ends_ms)
        self._tell(ends_ms)
        self._machine.advance(ends_ms)
        self._take()
        for block in self._blocks.rest(from_epoch_ms(ends_ms)):
            self.blocks.add(block, self._begins_ms, ends_ms)

    def _take(self) -> None:
        """What changed and what goes out; nothing is kept of it but sums."""
        machine = self._machine
        for key, payload in machine.take_changes():
            self._state_end += 1
            if key.startswith(_CELL_PREFIX):
                self._count(key, payload)
        machine.flushed(1, self._state_end)
        machine.cells_durable_until(self._state_end)
        outputs = machine.take_outputs()
        for record in (*outputs.early, *outputs.durable):
            self._hear(record)

    def _count(self, key: bytes, payload: bytes | None) -> None:
        cell: RollupCell | None = None if payload is None else DECODE_ROLLUP_CELL(payload)
        self._usage.put(key, parse_rollup_key(key)[0], cell, is_told=self._is_told)

    def _hear(self, record: OutboxRecord) -> None:
        if record.topic != DECISIONS.name or is_lease_key(record.key):
            return
        decision = Decision.model_validate_json(record.value)
        if self._is_told and self._on_decision is not None:
            self._on_decision(decision)
        block = self._blocks.take(decision)
        if block is not None:
            self.blocks.add(block, self._begins_ms, None)

    def _organization_of(self, scope_id: str) -> str:
        key = self._machine.accounts.keys.get(scope_id)
        return scope_id if key is None else key.organization_id

    def organizations(self, ends_ms: int) -> list[ReplayedOrganization]:
        """Those with requests or blocks, in order of their names."""
        month, machine = month_index(ends_ms - 1), self._machine
        found = []
        for organization_id in sorted(self._usage.organizations() | self.blocks.organizations()):
            row = machine.accounts.organizations[organization_id]
            ledger = machine.ledgers.get("account", row.account_id, month)
            used = self._usage.of(organization_id)
            fields = {
                "organization_id": organization_id,
                "account_id": row.account_id,
                "tier": row.tier,
                "requests": used.requests,
                "throttled": used.throttled,
                "credits_micro": used.credits_micro,
                "used_micro": 0 if ledger is None else ledger.used_micro,
                "total_micro": machine.plans.credits_of(row.account_id) if ledger is None else ledger.total_micro,
                "beyond_micro": 0 if ledger is None else ledger.overage_micro,
                "blocked": self.blocks.limits_of(organization_id),
            }
            found.append(ReplayedOrganization.model_validate(fields))
        return found
