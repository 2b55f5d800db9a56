"""One simulated world: time, broker, network and processes, and the faults that may befall them."""

import contextvars
import logging
import random
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, NamedTuple, Self

from sluicegate_schemas.topics import TOPICS

from .log import LogRecord, NewRecord, SimBroker, TopicSettings
from .loop import NothingLeftError, Process, VirtualLoop
from .network import Connection, Network
from .patches import patched
from .strikes import Faults

STEPS_KEPT: Final = 400
PREFIX: Final = "sim."
_FOR_EVER_MS: Final = 2**62
WALL_START_MS: Final = 1_767_225_600_000
"""2026-01-01 UTC, at loop time 0 where nothing else is asked for."""


class Step(NamedTuple):
    """Something that happened."""

    at_ms: int
    who: str
    what: str
    detail: str = ""


class StuckError(AssertionError):
    """What was waited for did not come within the limit of virtual time."""


class World(Faults):
    """See the module. Use it as a context manager: inside, the engine's clock, randomness and Kafka are this world's.

    Times of faults are in ms of virtual time from now. ``seen`` counts what happened, ``steps`` holds the last of it.
    """

    def __init__(
        self,
        seed: int,
        *,
        partitions: int = 2,
        prefix: str = PREFIX,
        wall_start_ms: int = WALL_START_MS,
        state_compaction_lag_ms: int = 60_000,
    ) -> None:
        self.seed = seed
        self.partitions = partitions
        self.prefix = prefix
        self.seen: Counter[str] = Counter()
        self.steps: deque[Step] = deque(maxlen=STEPS_KEPT)
        self.loop = VirtualLoop(self.random("turns"))
        self.started_at_s = self.loop.time()
        self.broker = SimBroker(self.loop, wall_start_ms - int(self.started_at_s * 1000))
        self.network = Network(self.loop, self.broker, self.seen)
        self.network.note = self.note
        self.processes: list[Process] = []
        self._patched = patched(self)
        for topic in TOPICS:
            lag_ms = int(topic.settings.get("min.compaction.lag.ms", 0))
            if 0 < lag_ms < _FOR_EVER_MS:
                lag_ms = state_compaction_lag_ms
            self.broker.create_topic(
                prefix + topic.name,
                TopicSettings(
                    partitions=1 if topic.partitions == "one" else partitions,
                    is_compacted=topic.settings.get("cleanup.policy") == "compact",
                    compaction_lag_ms=lag_ms,
                    batch_bytes_max=int(topic.settings.get("max.message.bytes", 1_048_588)),
                ),
            )

    def __enter__(self) -> Self:
        self._patched.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._end()
        finally:
            self._patched.__exit__(kind, error, trace)

    def random(self, *purpose: object) -> random.Random:
        """A stream of random numbers of its own for each purpose."""
        return random.Random(":".join(map(str, (self.seed, *purpose))))

    def note(self, who: str, what: str, detail: str = "") -> None:
        """Keeps a step."""
        self.steps.append(Step(self.now_ms, who, what, detail))

    # Time.

    @property
    def now_ms(self) -> int:
        """Virtual ms since the beginning."""
        return int((self.loop.time() - self.started_at_s) * 1000)

    def at(self, at_ms: int, happens: Callable[[], object]) -> None:
        """``happens`` is called at that time since the beginning, outside of all processes."""
        self.loop.call_at(self.started_at_s + at_ms / 1000, happens, context=contextvars.Context())

    def run(self, for_ms: int) -> None:
        """Lets time pass."""
        timer = self.loop.call_later(for_ms / 1000, self.loop.stop, context=contextvars.Context())
        with suppress(NothingLeftError):
            self.loop.run_forever()
        timer.cancel()
        if self.loop.failures:
            raise AssertionError(self.loop.failures[0])

    def run_until(self, condition: Callable[[], bool], limit_ms: int, every_ms: int = 100) -> None:
        """Lets time pass until ``condition()``. Raises StuckError after ``limit_ms``."""
        deadline_ms = self.now_ms + limit_ms
        while not condition():
            if self.now_ms >= deadline_ms:
                raise StuckError(f"not within {limit_ms} ms of virtual time")
            self.run(every_ms)

    # Processes.

    def process(self, name: str) -> Process:
        """A new process."""
        process = Process(self.loop, name, len(self.processes) + 1)
        process.connection = Connection(self.network, process, self.random("network", name, process.number))
        self.processes.append(process)
        return process

    def _end(self) -> None:
        """Everything that is left ends, the dead too: cancelled, so that the collector finds nothing to close."""
        self.network.is_over = True
        logging.disable(logging.CRITICAL)
        try:
            for _ in range(20):
                if all(task.done() for process in self.processes for task in process.tasks):
                    break
                for process in self.processes:
                    process.end()
                self.run(1)
        finally:
            logging.disable(logging.NOTSET)
            self.loop.close()

    # The log, for traffic and checks.

    def append(self, topic: str, partition: int, *values: bytes, key: bytes | None = None) -> int:
        """Appends one batch to a topic (without prefix); returns its first offset."""
        return self.broker.append(self.prefix + topic, partition, [NewRecord(key, value) for value in values])

    def records(self, topic: str, partition: int, start: int = 0) -> list[LogRecord]:
        """What a reader sees now of a topic (without prefix)."""
        return self.broker.records(self.prefix + topic, partition, start)

    def end(self, topic: str, partition: int) -> int:
        """The end of a partition of a topic (without prefix)."""
        return self.broker.end(self.prefix + topic, partition)
