"""What the core of a partition asks its adapter to do. Each is carried out in the order given; none is optional.

The adapter answers with the call on ``PartitionCore`` that the docstring names. Offsets are Kafka's; an ``end`` is one
past the last record.
"""

from typing import Literal, NamedTuple

from sluicegate_schemas.state import OutboxRecord


class StateRecord(NamedTuple):
    """A record to append to the partition of the state topic; ``value`` None is a tombstone."""

    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class ReadState(NamedTuple):
    """Read the state partition from ``start`` (None: its first record) up to ``end`` (None: its end as of now), hand
    its records to ``state_records``, then call ``state_read``."""

    start: int | None
    end: int | None


class Append(NamedTuple):
    """Append the records to the state partition as one record batch, then call ``appended`` or ``append_failed``.

    If they do not fit into one batch nothing may be sent: call ``append_impossible``.
    """

    records: list[StateRecord]


class LookAtStateEnd(NamedTuple):
    """Ask for the end of the state partition, then call ``state_end``."""


class LookAtSources(NamedTuple):
    """Ask for the first offset and the end of the partition in both input topics, then call ``sources``."""


class Ready(NamedTuple):
    """Recovered and claimed: read usage from ``core.usage_next`` and accounts from ``core.accounts_next``."""

    rows: int
    void_records: int


class SeekUsage(NamedTuple):
    """The records fetched do not follow the ones applied: seek there, then call ``sought``."""

    offset: int


class LookAtUsageStart(NamedTuple):
    """The log seems to have a hole: ask for the first offset of the usage partition, then call ``usage_starts``."""


class RefreshAccounts(NamedTuple):
    """Read the accounts partition to its end as of now (``accounts_fetched``), then call ``accounts_current``."""


class Publish(NamedTuple):
    """Send the record (topic without prefix), then call ``published(token)``, or ``publish_failed``."""

    token: int
    record: OutboxRecord


class AppendTick(NamedTuple):
    """Append ``TICK`` to the partition of the usage topic; nothing is lost if it fails."""


class Acknowledge(NamedTuple):
    """All usage records up to and with ``offset`` are in the durable state: the group may commit them."""

    offset: int


DropCause = Literal["claimed", "append", "publish", "log", "broker"]
"""claimed: another worker has the partition. append, publish: the fate of something sent is not known. log: the state
log is shorter than it was. broker: a question to Kafka failed."""


class Drop(NamedTuple):
    """This worker is not, or no longer surely, the partition's only owner: forget the core and rejoin the group.

    Everything sent with this producer may still arrive: go on with a new one.
    """

    reason: str
    cause: DropCause = "claimed"


class Stop(NamedTuple):
    """Going on would count wrongly: stop the worker and show ``reason``, which says what to do."""

    reason: str


Action = (
    ReadState
    | Append
    | LookAtStateEnd
    | LookAtSources
    | Ready
    | SeekUsage
    | LookAtUsageStart
    | RefreshAccounts
    | Publish
    | AppendTick
    | Acknowledge
    | Drop
    | Stop
)
