"""A process that publishes usage durably, for the rotation of faults: ``python -m tests.faults.publishing``.

It sends to all example tenants until SIGTERM. Each event's label names it, and a journal knows of it before the
publisher does. Some events are not to be counted: a repeated id, an id with another content, an unknown key. The
brokers and the topics' prefix come from the environment.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import secrets
import signal
import time
from pathlib import Path
from typing import Final

from sluicegate import Brokers, Publisher, PublisherSettings
from sluicegate.publisher import EventFields
from sluicegate_schemas.accounts import KeyPut
from sluicegate_schemas.envelope import WireEvent
from sluicegate_schemas.files import load_accounts
from tests.faults.journal import SERIAL, Handed, Journal, Stand, Turned, crc_of, now_ms

ACCOUNTS: Final = Path(__file__).parents[2] / "examples/accounts.toml"
CLOSE_LIMIT_S: Final = 60.0
STAND_EVERY_S: Final = 0.25
HOUR_MS: Final = 3_600_000
OPERATIONS: Final = (
    ("search.knn", None),
    ("inference.llm", "tokens"),
    ("documents.create", "documents"),
    ("upload.file", "bytes"),
    ("collections.list", None),
)


class Load:
    """Draws events of the example accounts; ``run`` names this process in their serials."""

    def __init__(self, draw: random.Random, run: str) -> None:
        commands = load_accounts(ACCOUNTS.read_text("utf-8"))
        self._keys = [(one.api_key_id, one.organization_id) for one in commands if isinstance(one, KeyPut)]
        self._draw = draw
        self._run = run
        self._number = 0
        self._named: list[tuple[str, EventFields]] = []

    def next(self) -> tuple[str, EventFields]:
        """An event's serial and fields; one in fifty is an earlier one once more."""
        draw = self._draw
        if self._named and draw.random() < 0.02:
            return draw.choice(self._named)
        self._number += 1
        serial = f"{self._run}-{self._number}"
        fields = self._fields(serial)
        if draw.random() < 0.05:
            fields["id"] = serial
            self._named = [*self._named[-50:], (serial, fields)]
            if draw.random() < 0.2:
                fields["id"] = f"{self._run}-contested"
        return serial, fields

    def _fields(self, serial: str) -> EventFields:
        draw = self._draw
        key, organization = draw.choice(self._keys)
        operation, quantity = draw.choice(OPERATIONS)
        late_ms = draw.choices((0, draw.randrange(3 * HOUR_MS)), (20, 1))[0]
        ts_ms = time.time_ns() // 1_000_000 - late_ms
        return {
            "org_id": organization,
            "api_key_id": "key_nobody" if draw.random() < 0.01 else key,
            "operation": operation,
            "started_at_ms": ts_ms - 30,
            "ts_ms": ts_ms,
            "duration_ms": 30,
            "status": draw.choices((200, 429, 500), (20, 1, 1))[0],
            "quantities": None if quantity is None else {quantity: draw.randrange(1, 20_000)},
            "labels": {SERIAL: serial},
        }


def stand(publisher: Publisher, *, closed: bool = False) -> Stand:
    """Where its events are."""
    stats = publisher.stats()
    lost = sum(stats.lost.values())
    return Stand(now_ms(), stats.published, stats.buffered + stats.in_flight, stats.spooled, lost, closed)


async def publish(settings: PublisherSettings, journal: Journal, load: Load, per_second: float) -> None:
    """Publishes until SIGTERM, and closes the publisher."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    publisher = Publisher(settings)
    await publisher.start()
    said_at_s = 0.0
    while not stopping.is_set():
        serial, fields = load.next()
        journal.write(Handed(serial, now_ms(), crc_of(WireEvent(**{"id": None, **fields}))))
        if not publisher.publish(**fields):
            journal.write(Turned(serial))
        if time.monotonic() - said_at_s > STAND_EVERY_S:
            said_at_s = time.monotonic()
            journal.write(stand(publisher))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), 1 / per_second)
    await publisher.close(CLOSE_LIMIT_S)
    journal.write(stand(publisher, closed=True))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.publishing")
    parser.add_argument("--node", required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--spool", type=Path, required=True)
    parser.add_argument("--per-second", type=float, required=True)
    options = parser.parse_args()
    settings = PublisherSettings(
        brokers=Brokers.from_environment(),
        node=options.node,
        topic_prefix=os.environ["SLUICEGATE_TOPIC_PREFIX"],
        overflow="spool",
        spool_directory=options.spool,
    )
    journal = Journal(options.journal)
    run = f"{options.node}-{secrets.token_hex(4)}"
    asyncio.run(publish(settings, journal, Load(random.Random(), run), options.per_second))
    journal.close()


if __name__ == "__main__":
    main()
