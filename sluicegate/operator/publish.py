"""Publishes a catalogue and accounts; doing it again changes nothing."""

import contextlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import msgspec
from pydantic import ValidationError

from sluicegate_schemas.accounts import AnyCommand, KeyPut
from sluicegate_schemas.bounds import Record
from sluicegate_schemas.catalogue import Catalogue, CatalogueRecord
from sluicegate_schemas.partitioning import partition_of
from sluicegate_schemas.topics import ACCOUNTS, CATALOG

from ..brokers import Brokers
from ..errors import PublishRefusedError, TopicsMissingError
from .known import OwnedKey, check_key_is_free, read_known
from .plans import LEAD_MIN, catalogue_to_publish, commands_to_publish
from .system import System
from .topic_io import appender, read_to_end

FLUSH_EVERY: Final = 1_000
"""Commands on their way at once."""


class Published(NamedTuple):
    """What a publication wrote."""

    catalogue_version: int | None
    """None: nothing new."""
    commands: int
    commands_known: int
    """Left out, since they were published before."""


class PublishedAccounts(Record):
    """How many commands of a file were published, and how many had been before."""

    commands: int
    commands_known: int


async def publish(
    brokers: Brokers,
    *,
    topic_prefix: str,
    catalogue: Catalogue | None,
    commands: Sequence[AnyCommand],
    now: datetime,
    by: str,
    lead: timedelta = LEAD_MIN,
) -> Published:
    """Appends what is new of ``catalogue`` to the catalog topic and of ``commands`` to the accounts topic, in the
    partition that the account lives in. ``now`` and ``lead``: see ``catalogue_to_publish``; the catalogue is appended
    first, since its lead runs from ``now``.

    Raises PublishRefusedError (nothing is written, or no command where a key is another organization's),
    TopicsMissingError, and KafkaError where the broker fails: then
    run it again; what is written already is left out.
    """
    catalog_topic, accounts_topic = topic_prefix + CATALOG.name, topic_prefix + ACCOUNTS.name
    record = None
    if catalogue is not None:
        known = await _catalogues(brokers, catalog_topic)
        record = catalogue_to_publish(known, catalogue, now=now, lead=lead, by=by)
    async with appender(brokers) as out:
        if record is not None:
            key = str(record.catalogue.version).encode()
            await out.append(catalog_topic, 0, key, record.model_dump_json().encode())
            await out.flush()
        new = commands_to_publish(await _command_ids(brokers, accounts_topic), commands) if commands else []
        await _check_keys(System(brokers, topic_prefix), new)
        partitions = await out.partitions(accounts_topic) if new else 0
        for number, command in enumerate(new, start=1):
            partition = partition_of(command.account_id, partitions)
            value = command.model_dump_json(exclude_none=True).encode()
            await out.append(accounts_topic, partition, command.account_id.encode(), value)
            if number % FLUSH_EVERY == 0:
                await out.flush()
        await out.flush()
    version = record.catalogue.version if record is not None else None
    return Published(version, len(new), len(commands) - len(new))


async def _check_keys(system: System, commands: Sequence[AnyCommand]) -> None:
    """Whether the keys among ``commands`` are no other organization's. Raises PublishRefusedError."""
    puts = [command for command in commands if isinstance(command, KeyPut)]
    if not puts:
        return
    by_id: dict[str, OwnedKey] = {}
    by_hash: dict[str, OwnedKey] = {}
    with contextlib.suppress(TopicsMissingError):  # no worker has run yet: nobody has a key
        known, _ = await read_known(system)
        by_id.update(known.keys)
        by_hash.update((key.key_sha256, key) for key in known.keys.values())
    for put in puts:
        check_key_is_free(put.organization_id, put.api_key_id, by_id.get(put.api_key_id), by_hash.get(put.key_sha256))
        by_id[put.api_key_id] = by_hash[put.key_sha256] = put


async def _catalogues(brokers: Brokers, topic: str) -> dict[int, Catalogue]:
    """The published versions; the first record of a version counts."""
    found: dict[int, Catalogue] = {}
    async for record in read_to_end(brokers, topic):
        if record.value is None:
            continue
        try:
            catalogue = CatalogueRecord.model_validate_json(record.value).catalogue
        except ValidationError:
            raise PublishRefusedError(
                f"{topic}, offset {record.offset} holds a catalogue that this version of the command cannot read: "
                "use the newest"
            ) from None
        found.setdefault(catalogue.version, catalogue)
    return found


class _CommandId(msgspec.Struct):
    command_id: str


async def _command_ids(brokers: Brokers, topic: str) -> set[str]:
    """The ids of the published commands; what is no command has none."""
    decode = msgspec.json.Decoder(_CommandId).decode
    found: set[str] = set()
    async for record in read_to_end(brokers, topic):
        try:
            found.add(decode(record.value or b"").command_id)
        except msgspec.MsgspecError:
            continue
    return found
