"""Everything that the check compares, read once, when all is at rest: topics, nodes' logs, ClickHouse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from zlib import crc32

from clickhouse_connect.driver.client import Client
from pydantic import ValidationError

from sluicegate_schemas import topics
from sluicegate_schemas.accounts import ACCOUNT_COMMAND, AnyCommand
from sluicegate_schemas.catalogue import Catalogue, CatalogueRecord
from sluicegate_schemas.envelope import ENCODE, WireEnvelope, WireEvent
from sluicegate_schemas.outputs import Balance, Decision, Reject, is_lease_key
from sluicegate_schemas.partitioning import partition_of
from stack.errors import StackError
from stack.expected import Expectation, Origin, Place, Totals, tenants_of
from stack.expected_corrections import book_corrections
from stack.node_log import Applied, Published, Started, read_node_logs
from stack.state_rows import TOTALS_KEY, WorkerTotals, worker_totals
from stack.topic_log import partitions_of, read_topic
from stack.usage_log import parse_usage
from streams.engine.fold import Fold

Envelopes = dict[tuple[str, int, int, int], tuple[int, int]]
"""(producer, epoch, partition, sequence) → (events, XOR of the events' checksums with their places)."""

_USAGE_QUERY: Final = """
SELECT org_id, sum(requests), sum(errors), sum(throttled), sum(credits_micro), sum(events)
FROM usage_minute FINAL GROUP BY org_id ORDER BY org_id
"""
_DECISIONS_QUERY: Final = "SELECT uniqExact(decision_id) FROM decision"


@dataclass(slots=True)
class NodeEvidence:
    """What the API nodes wrote down. ``applied`` are decisions that reached a gate while it ran."""

    events: int = 0
    envelopes: Envelopes = field(default_factory=dict)
    applied: list[Applied] = field(default_factory=list)


@dataclass(slots=True)
class LogEvidence:
    """What the topics hold."""

    totals: Totals
    envelopes: Envelopes
    events_in_envelopes: int
    rejects: Counter[str]
    balances: dict[tuple[str, str, str], Balance]
    """(kind, id, month) → the newest balance."""
    decisions: dict[str, Decision]
    workers: WorkerTotals
    """What the workers say themselves, over all partitions."""
    state_damage: list[str]
    forwards_wrong: list[Origin] = field(default_factory=list)
    """Where events stand that were not brought home as they are."""


@dataclass(frozen=True, slots=True)
class ClickHouseUsage:
    """One organization's sums over all minutes."""

    requests: int
    errors: int
    throttled: int
    credits_micro: int
    events: int


@dataclass(frozen=True, slots=True)
class ClickHouseEvidence:
    """What ClickHouse answers."""

    usage: Mapping[str, ClickHouseUsage]
    decisions: int

    def total(self, name: str) -> int:
        """The sum of one figure over all organizations."""
        return sum(getattr(usage, name) for usage in self.usage.values())


@dataclass(frozen=True, slots=True)
class Evidence:
    """All of it."""

    nodes: NodeEvidence
    log: LogEvidence
    clickhouse: ClickHouseEvidence


def read_nodes(folder: Path, partitions: int) -> NodeEvidence:
    """The nodes' logs in ``folder``, for a usage topic with so many ``partitions``.

    A decision that a node learned while catching up after its start is left out of ``applied`` if its cause is older
    than the start: it did not wait for the node.

    :raises StackError: a log cannot be read.
    """
    evidence = NodeEvidence()
    started_at_ms = 0
    for line in read_node_logs(folder):
        if isinstance(line, Published):
            home = partition_of(line.event.account_id or line.event.org_id, partitions)
            place = (line.producer_id, line.producer_epoch, home, line.sequence)
            count, checksum = evidence.envelopes.get(place, (0, 0))
            evidence.envelopes[place] = (count + 1, checksum ^ _checksum(line.index, line.event))
            evidence.events += 1
        elif isinstance(line, Started):
            started_at_ms = line.at_ms
        elif line.cause_ts_ms is not None and line.cause_ts_ms >= started_at_ms:
            evidence.applied.append(line)
    return evidence


async def read_log(bootstrap: str, prefix: str) -> LogEvidence:
    """The topics of ``prefix``, from their first record to their end.

    :raises StackError: a topic is missing or cannot be read.
    """
    commands = await _commands(bootstrap, prefix + topics.ACCOUNTS.name)
    tenants = tenants_of(command for command, _ in commands)
    partitions = len(await partitions_of(bootstrap, [prefix + topics.USAGE.name]))
    expectation = Expectation(await _catalogues(bootstrap, prefix + topics.CATALOG.name), tenants, partitions)
    envelopes, events = await _fold_usage(bootstrap, prefix + topics.USAGE.name, expectation)
    book_corrections(expectation.totals, tenants, commands)
    workers, damage = await _state(bootstrap, prefix + topics.STATE.name)
    return LogEvidence(
        totals=expectation.totals,
        envelopes=envelopes,
        events_in_envelopes=events,
        rejects=await _rejects(bootstrap, prefix),
        balances=await _balances(bootstrap, prefix + topics.BALANCES.name),
        decisions=await _decisions(bootstrap, prefix + topics.DECISIONS.name),
        workers=workers,
        state_damage=damage,
        forwards_wrong=expectation.forwards_wrong(),
    )


def read_clickhouse(client: Client) -> ClickHouseEvidence:
    """The tables' sums. Raises clickhouse_connect's errors."""
    usage = {str(row[0]): ClickHouseUsage(*(int(value) for value in row[1:])) for row in _rows(client, _USAGE_QUERY)}
    (row,) = _rows(client, _DECISIONS_QUERY)
    return ClickHouseEvidence(usage, int(row[0]))


def _rows(client: Client, query: str) -> Sequence[Sequence[Any]]:
    return client.query(query).result_rows


def _checksum(index: int, event: WireEvent) -> int:
    return crc32(ENCODE(event), index)


async def _fold_usage(bootstrap: str, topic: str, expectation: Expectation) -> tuple[Envelopes, int]:
    envelopes: Envelopes = {}
    events = 0
    async for record in read_topic(bootstrap, topic):
        place = Place(record.partition, record.offset, record.timestamp)
        usage = parse_usage(record.value)
        if isinstance(usage, WireEnvelope):
            checksum = 0
            for index, event in enumerate(usage.events):
                checksum ^= _checksum(index, event)
            identity = (usage.producer_id, usage.producer_epoch, record.partition, usage.sequence)
            if identity not in envelopes:
                events += len(usage.events)
            envelopes[identity] = (len(usage.events), checksum)
        expectation.add(usage, place)
    return envelopes, events


async def _catalogues(bootstrap: str, topic: str) -> list[Catalogue]:
    versions: dict[int, Catalogue] = {}
    async for record in read_topic(bootstrap, topic):
        if record.value is not None:
            catalogue = CatalogueRecord.model_validate_json(record.value).catalogue
            versions[catalogue.version] = catalogue
    if not versions:
        raise StackError("No catalogue was published, so nothing can be checked")
    return list(versions.values())


async def _commands(bootstrap: str, topic: str) -> list[tuple[AnyCommand, int]]:
    """Each command and when the broker appended it."""
    commands = []
    async for record in read_topic(bootstrap, topic):
        try:
            commands.append((ACCOUNT_COMMAND.validate_json(record.value or b""), record.timestamp))
        except ValidationError:
            continue  # the workers reject it; it makes no tenant
    return commands


async def _rejects(bootstrap: str, prefix: str) -> Counter[str]:
    """Rejected usage by reason; a repeated reject (same id) counts once."""
    reasons: dict[str, str] = {}
    async for record in read_topic(bootstrap, prefix + topics.REJECTS.name):
        reject = Reject.model_validate_json(record.value or b"")
        if reject.source.topic.removeprefix(prefix) == topics.USAGE.name:
            reasons[reject.id] = reject.reason
    return Counter(reasons.values())


async def _balances(bootstrap: str, topic: str) -> dict[tuple[str, str, str], Balance]:
    balances: dict[tuple[str, str, str], Balance] = {}
    async for record in read_topic(bootstrap, topic):
        if record.value is not None:
            balance = Balance.model_validate_json(record.value)
            place = (balance.kind, balance.id, balance.month)
            held = balances.get(place)
            if held is None or _rank(balance) > _rank(held):
                balances[place] = balance
    return balances


def _rank(balance: Balance) -> tuple[int, int]:
    return balance.sequence.epoch, balance.sequence.counter


async def _decisions(bootstrap: str, topic: str) -> dict[str, Decision]:
    decisions: dict[str, Decision] = {}
    async for record in read_topic(bootstrap, topic):
        if record.value is not None and not is_lease_key(record.key):
            decision = Decision.model_validate_json(record.value)
            decisions[decision.decision_id] = decision
    return decisions


async def _state(bootstrap: str, topic: str) -> tuple[WorkerTotals, list[str]]:
    """What the workers counted, and what is wrong with the state's own checksums, as sentences."""
    folds: dict[int, Fold] = {}
    async for record in read_topic(bootstrap, topic):
        folds.setdefault(record.partition, Fold()).feed(record.key, record.value, record.headers)
    rows = [fold.rows[TOTALS_KEY] for fold in folds.values() if TOTALS_KEY in fold.rows]
    found = [(partition, fold.check()) for partition, fold in sorted(folds.items())]
    damage = [f"partition {partition}: {words}" for partition, words in found if words is not None]
    return sum(map(worker_totals, rows), WorkerTotals()), damage
