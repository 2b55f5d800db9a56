"""The sink: a Faust app of its own that keeps ClickHouse equal to the topics of state, decisions, alerts and balances.

Run it with ``faust -A clickhouse.sink worker -l info``; several share the partitions. ClickHouse being away stops only
this process. It may be killed at any moment: it keeps nothing but what ClickHouse holds (see ``intake``).
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final, NoReturn

from aiokafka.errors import KafkaError
from faust.types import TP

from streams.attendant import Attendant
from streams.engine.batching import Batch, BatchApp, BatchSchema, batch_app
from streams.settings import Settings
from streams.topics import wait_for_topics

from .connection import ClickHouse
from .intake import SUNK, Intake
from .metrics import SinkMetrics
from .patience import Patience
from .projection import Learner
from .roll import roll
from .sight import SinkSight
from .tables import Tables

logger = logging.getLogger(__name__)

ROLL_INTERVAL_S: Final = 60.0
WAIT_FOR_CLICKHOUSE_S_MAX: Final = 86_400.0
"""How long reading may pause in an outage before the group gives the partitions to another sink."""


def make_app() -> BatchApp:
    """The sink as the environment describes it (``streams.settings``, ``connection``).

    The offsets that its group commits on the state topic say what ClickHouse holds. Raises ValueError for settings that
    cannot be.
    """
    settings = Settings.from_environment()
    tables, patience = Tables(ClickHouse.from_environment()), Patience()
    intake = Intake(tables, patience, topic_prefix=settings.topic_prefix)

    reading: list[tuple[str, int]] | None = None
    sight = SinkSight(settings.brokers, intake, patience, lambda: reading, delay_max_s=settings.ready_lag_max_s)
    attendant = Attendant(settings, sight, [SinkMetrics(sight, tables)])

    async def log_ranges(assigned: frozenset[TP]) -> dict[tuple[str, int], tuple[int, int]]:
        while True:
            try:
                firsts = await app.consumer.earliest_offsets(*assigned)
                ends = await app.consumer.highwaters(*assigned)
            except KafkaError as error:
                logger.warning("the log's ends cannot be read (%s), trying again", error)
                await asyncio.sleep(1.0)
            else:
                return {(tp.topic, tp.partition): (firsts[tp] or 0, ends[tp] or 0) for tp in assigned}

    async def positions(assigned: frozenset[TP]) -> Mapping[TP, int]:
        nonlocal reading
        reading = sorted((tp.topic, tp.partition) for tp in assigned)
        if not assigned:
            return {}
        try:
            starts = await intake.positions(partial(log_ranges, assigned))
        except Exception as error:
            stop(error)
        logger.info("reading from %s", ", ".join(f"{name[0]}/{name[1]}@{at}" for name, at in sorted(starts.items())))
        return {TP(*name): offset for name, offset in starts.items()}

    app = batch_app(
        settings.sink_group,
        brokers=settings.brokers,
        positions=positions,
        prepare=partial(wait_for_topics, settings, SUNK, create=False),
        health=attendant.health,
        attend=attendant.start,
        session_s=settings.session_s,
        datadir=settings.data_dir,
        fetch_wait_ms=settings.fetch_wait_ms,
        topic_partitions=settings.partitions,
        broker_max_poll_interval=WAIT_FOR_CLICKHOUSE_S_MAX,
    )

    async def read(stream: Any) -> AsyncIterator[None]:
        async for event in stream.noack().events():
            batch: Batch = event.value
            if batch.generation != app.consumer_generation_id:
                continue
            try:
                seek = await intake.take(batch, partial(acknowledge, event, batch))
                if seek is not None:
                    await read_again(TP(batch.topic, batch.partition), seek.offset)
            except Exception as error:
                stop(error)
            yield

    async def read_again(tp: TP, offset: int) -> None:
        try:
            await app.consumer.seek(tp, offset)
        except KafkaError as error:
            # The partition has just moved; its next assignment begins with a seek.
            logger.info("%s/%d was not sought: %s", tp.topic, tp.partition, error)

    def acknowledge(event: Any, batch: Batch) -> None:
        if batch.generation == app.consumer_generation_id:
            event.ack()

    async def write() -> None:
        try:
            await intake.write_forever()
        except Exception as error:
            stop(error)

    learner = Learner()

    def roll_up(since: datetime | None) -> datetime:
        rolled = roll(tables.client, since)
        learner.step(tables.client, rolled)
        return rolled

    async def keep_rolled() -> None:
        since: datetime | None = None
        try:
            while not app.should_stop:
                since = await patience(partial(roll_up, since))
                await app.sleep(ROLL_INTERVAL_S)
        except Exception as error:
            stop(error)

    for topic in SUNK:
        name = settings.topic(topic.name)
        app.agent(app.topic(name, schema=BatchSchema()), name=f"sink.{name}")(read)
    app.task(write)
    app.task(keep_rolled)
    return app


def stop(error: Exception) -> NoReturn:
    """Ends the process at once: Faust would acknowledge what an agent failed on, and go on behind it."""
    logger.critical(
        "The sink stops, since it cannot go on without losing or mixing up usage: %s", error, exc_info=error
    )
    logging.shutdown()
    os._exit(1)


app = make_app()
