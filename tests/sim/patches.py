"""What the real code takes from its modules' names, replaced by the world's: clocks, randomness, Kafka's clients."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import streams.engine.broker
import streams.engine.engine
import streams.engine.followers
from sluicegate_schemas.catalogue import CatalogueRecord

from . import faust_twin, kafka_twin
from .loop import PROCESS

if TYPE_CHECKING:
    from .world import World

TICK_S: Final = 0.15
POLL_MS: Final = 200
REQUEST_TIMEOUT_MS: Final = 3_000
_LOGGERS: Final = ("streams.engine", "clickhouse")


class _Secrets:
    """Twin of ``secrets``: random bits of the process's stream."""

    @staticmethod
    def randbits(count: int) -> int:
        process = PROCESS.get()
        assert process is not None
        return int(process.connection.draw.getrandbits(count))


class _Steps(logging.Handler):
    """Keeps what the code logs among the world's steps."""

    def __init__(self, world: "World") -> None:
        super().__init__(logging.INFO)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        process = PROCESS.get()
        what = record.getMessage()
        self._world.note("world" if process is None else process.name, what)


def _clocks(monotonic_s: Callable[[], float], wall_s: Callable[[], float]) -> list[tuple[Any, str, Any]]:
    """Both clocks, wherever a module of the worker has taken them by name."""
    twins = {time.monotonic: monotonic_s, time.time: wall_s}
    return [
        (module, name, twin)
        for path, module in list(sys.modules.items())
        if path.startswith("streams.")
        for name in ("monotonic", "time")
        if (twin := twins.get(getattr(module, name, None))) is not None
    ]


@contextmanager
def patched(world: "World") -> Iterator[None]:
    """For its time, the engine runs in ``world``."""

    def wall_s() -> float:
        process = PROCESS.get()
        ahead_ms = 0 if process is None else process.clock_ahead_ms
        return (world.broker.wall_start_ms + ahead_ms) / 1000 + world.loop.time()

    read_once = cache(CatalogueRecord.model_validate_json)  # all processes of a world read the same few records
    engine, followers = streams.engine.engine, streams.engine.followers
    new: list[tuple[Any, str, Any]] = [
        *_clocks(world.loop.time, wall_s),
        (engine, "secrets", _Secrets),
        (CatalogueRecord, "model_validate_json", read_once),
        (engine, "TICK_S", TICK_S),
        (engine, "BatchConsumer", faust_twin.GroupConsumer),
        (followers, "_POLL_MS", POLL_MS),
        (followers, "AIOKafkaAdminClient", kafka_twin.Admin),
        (streams.engine.broker, "REQUEST_TIMEOUT_MS", REQUEST_TIMEOUT_MS),
        (streams.engine.broker, "AIOKafkaProducer", kafka_twin.Producer),
        (streams.engine.broker, "AIOKafkaConsumer", kafka_twin.Consumer),
        (streams.engine.broker, "PlainConsumer", kafka_twin.PlainConsumer),
    ]
    old = [(place, name, getattr(place, name)) for place, name, _ in new]
    steps = _Steps(world)
    loggers = [(logger := logging.getLogger(name), logger.level, logger.propagate) for name in _LOGGERS]
    try:
        for place, name, value in new:
            setattr(place, name, value)
        for logger, _, _ in loggers:
            logger.setLevel(logging.INFO)
            logger.propagate = False
            logger.addHandler(steps)
        yield
    finally:
        for place, name, value in old:
            setattr(place, name, value)
        for logger, level, propagate in loggers:
            logger.removeHandler(steps)
            logger.setLevel(level)
            logger.propagate = propagate
