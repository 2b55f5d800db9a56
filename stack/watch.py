"""Watches the pipeline from its topics: what was published, what is applied, what was decided.

A reader like any other, in a thread of its own: it joins no group, commits nothing, and nobody waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import KafkaError
from pydantic import ValidationError

from sluicegate.consumers import stop_consumer
from sluicegate_schemas import topics
from sluicegate_schemas.bounds import to_epoch_ms
from sluicegate_schemas.outputs import Balance, Decision
from sluicegate_schemas.state import DECODE_HEADER, EPOCH_BYTES, HEADER_KEY
from stack.errors import StackError
from stack.freshness import Freshness
from stack.state_rows import LEDGER_TABLE, ledger_amounts, ledger_place
from stack.topic_log import partitions_of
from stack.usage_log import events_in, parse_usage
from streams.engine.fold import Epochs

WATCHED: Final = (topics.USAGE, topics.STATE, topics.BALANCES, topics.DECISIONS, topics.REJECTS)
RECENT_DECISIONS: Final = 200
BALANCES_MAX: Final = 100_000
LEDGERS_MAX: Final = 1_000_000
"""Above it the ledgers that come last are not followed: ``published`` then waits until nothing moves."""
BALANCES_REST_S: Final = 10.0
"""A worker publishes changed balances once a second of the log's time, which ticks move on every 5 s."""
RECORDS_PER_TURN: Final = 500
FETCH_WAIT_MS: Final = 50


@dataclass(frozen=True, slots=True)
class SeenDecision:
    """A decision and how long after the end of its causing event it was seen here (None: no event caused it)."""

    decision: Decision
    seen_after_ms: int | None


@dataclass(slots=True)
class Partition:
    """One usage partition: records (but ticks) that the state does not hold yet, as (offset, events).

    ``unsent`` counts the outputs of applied records that their worker has not sent yet, as far as the state knows.
    """

    waiting: deque[tuple[int, int]] = field(default_factory=deque)
    seen_offset: int = -1
    applied_offset: int = -1
    unsent: int = 0
    epochs: Epochs = field(default_factory=Epochs)

    def settle(self) -> int:
        """Forget what is applied; returns how many events that were."""
        applied = 0
        while self.waiting and self.waiting[0][0] <= self.applied_offset:
            applied += self.waiting.popleft()[1]
        return applied


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen at one moment. ``balances`` are the newest of each organization, of its newest month."""

    events_logged: int
    events_applied: int
    decisions: int
    rejects: int
    recent_decisions: tuple[SeenDecision, ...]
    balances: tuple[Balance, ...]

    @property
    def lag_events(self) -> int:
        """Events in the log that no flush holds yet."""
        return self.events_logged - self.events_applied


class Watcher:
    """Follows the topics of ``prefix`` from ``start`` to ``stop``; ``sight`` may be asked from any thread."""

    def __init__(
        self, bootstrap: str, prefix: str, freshness: Freshness, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bootstrap = bootstrap
        self._prefix = prefix
        self._freshness = freshness
        self._clock = clock
        self._lock = threading.Lock()
        self._partitions: dict[int, Partition] = {}
        self._organizations: dict[str, Balance] = {}
        self._ledgers: dict[tuple[str, str, str], tuple[int, int]] = {}
        self._balances: dict[tuple[str, str, str], tuple[int, int]] = {}
        self._ranks: dict[tuple[str, str, str], tuple[int, int]] = {}
        self._ledgers_moved_at = self._clock()
        self._recent: deque[SeenDecision] = deque(maxlen=RECENT_DECISIONS)
        self._events_logged = self._events_applied = self._decisions = self._rejects = 0
        self._failure: Exception | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stack-watcher", daemon=True)

    def start(self) -> None:
        """Begin to follow, in the background."""
        self._thread.start()

    def stop(self) -> None:
        """End following; what was seen stays."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def check(self) -> None:
        """Raise StackError where following ended in an error."""
        if self._failure is not None:
            raise StackError(f"The topics can no longer be watched: {self._failure!r}") from self._failure

    def sight(self) -> Sight:
        """What is seen now."""
        with self._lock:
            return Sight(
                self._events_logged,
                self._events_applied,
                self._decisions,
                self._rejects,
                tuple(self._recent),
                tuple(self._organizations.values()),
            )

    def applied(self, usage_ends: dict[int, int]) -> bool:
        """Whether the workers' flushed state holds every record below ``usage_ends`` (one past the last offsets), and
        all that follows from them (rejects, forwards) was sent."""
        with self._lock:
            return all(
                end == 0
                or (
                    (part := self._partitions.get(number)) is not None
                    and part.seen_offset >= end - 1
                    and not part.waiting
                    and not part.unsent
                )
                for number, end in usage_ends.items()
            )

    def published(self) -> bool:
        """Whether the balances say what the ledgers in the state do, or nothing has moved there for so long that
        nothing more will come: then the check says what differs. For when all is ``applied``."""
        with self._lock:
            return self._agree() or self._clock() - self._ledgers_moved_at > BALANCES_REST_S

    def _agree(self) -> bool:
        """A ledger without a balance was never charged; a balance without a ledger is of a month long gone."""
        nothing = (0, 0)
        return all(self._balances.get(place, nothing) == amounts for place, amounts in self._ledgers.items())

    def _run(self) -> None:
        try:
            asyncio.run(self._follow())
        except (KafkaError, OSError, StackError, ValueError) as error:
            self._failure = error

    async def _follow(self) -> None:
        consumer: AIOKafkaConsumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=FETCH_WAIT_MS,
        )
        try:
            await consumer.start()
            consumer.assign(await partitions_of(self._bootstrap, [self._prefix + topic.name for topic in WATCHED]))
            while not self._stopping.is_set():
                batches = await consumer.getmany(timeout_ms=FETCH_WAIT_MS, max_records=RECORDS_PER_TURN)
                now_ms = time.time_ns() // 1_000_000
                for partition, records in batches.items():
                    topic = partition.topic.removeprefix(self._prefix)
                    with self._lock:
                        for record in records:
                            self.take(topic, partition.partition, record, now_ms)
        finally:
            with contextlib.suppress(KafkaError, OSError):
                await stop_consumer(consumer)

    def take(self, topic: str, partition: int, record: ConsumerRecord[bytes, bytes], now_ms: int) -> None:
        """Take in the next record of a partition of ``topic`` (without prefix), seen at ``now_ms``."""
        if topic == topics.USAGE.name:
            self._take_usage(self._partition(partition), record)
        elif topic == topics.STATE.name:
            self._take_state(self._partition(partition), record)
        elif record.value is None:
            return
        elif topic == topics.REJECTS.name:
            self._rejects += 1
        else:
            with contextlib.suppress(ValidationError):  # a viewer shows what it can read; the check judges
                self._take_output(topic, record.value, now_ms)

    def _partition(self, number: int) -> Partition:
        return self._partitions.setdefault(number, Partition())

    def _take_usage(self, partition: Partition, record: ConsumerRecord[bytes, bytes]) -> None:
        partition.seen_offset = record.offset
        usage = parse_usage(record.value)
        if usage is None:
            return
        events = events_in(usage)
        self._events_logged += len(events)
        partition.waiting.append((record.offset, len(events)))
        self._events_applied += partition.settle()
        for event in events:
            self._freshness.logged(event.org_id, event.ts_ms)

    def _take_state(self, partition: Partition, record: ConsumerRecord[bytes, bytes]) -> None:
        key, value = record.key, record.value
        if key is None or not partition.epochs.feed(key, value, record.headers).valid:
            return
        if key == HEADER_KEY and value is not None:
            header = DECODE_HEADER(value[EPOCH_BYTES:])
            partition.applied_offset, partition.unsent = header.usage_offset, len(header.outbox)
            self._events_applied += partition.settle()
        elif key.startswith(LEDGER_TABLE):
            place = ledger_place(key)
            self._ledgers_moved_at = self._clock()
            if value is None:
                self._ledgers.pop(place, None)
            elif len(self._ledgers) < LEDGERS_MAX or place in self._ledgers:
                amounts = ledger_amounts(value[EPOCH_BYTES:])
                self._ledgers[place] = (amounts.used_micro, amounts.requests)

    def _take_output(self, topic: str, value: bytes, now_ms: int) -> None:
        if topic == topics.DECISIONS.name:
            decision = Decision.model_validate_json(value)
            self._decisions += 1
            after = None if decision.cause is None else now_ms - to_epoch_ms(decision.cause.ts)
            self._recent.append(SeenDecision(decision, after))
        else:
            self._keep(Balance.model_validate_json(value))

    def _keep(self, balance: Balance) -> None:
        place = (balance.kind, balance.id, balance.month)
        rank = (balance.sequence.epoch, balance.sequence.counter)
        if rank > self._ranks.get(place, (-1, 0)) and (len(self._ranks) < LEDGERS_MAX or place in self._ranks):
            self._ranks[place] = rank
            self._balances[place] = (balance.used_micro, balance.requests)
            self._ledgers_moved_at = self._clock()
        if balance.kind != "organization":
            return
        held = self._organizations.get(balance.id)
        if held is None and len(self._organizations) >= BALANCES_MAX:
            return
        if held is None or _rank(balance) > _rank(held):
            self._organizations[balance.id] = balance


def _rank(balance: Balance) -> tuple[str, int, int]:
    return balance.month, balance.sequence.epoch, balance.sequence.counter
