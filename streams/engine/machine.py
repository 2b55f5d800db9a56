"""What the engine keeps exact: one partition's pure state machine, seen through its verbs.

The engine knows nothing of metering. It hands a machine its rows back after a recovery, feeds it input in log order,
and takes what changed and what is to be sent. A machine has no clock, no randomness and no I/O: the same rows and the
same inputs give the same changes and outputs.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from sluicegate_schemas.catalogue import Catalogue
from sluicegate_schemas.state import OutboxRecord


class InputRecord(NamedTuple):
    """One record of an input topic. ``log_time_ms`` is the broker's append time."""

    offset: int
    log_time_ms: int
    key: bytes | None
    value: bytes | None


class Outputs(NamedTuple):
    """What is to be sent, by the promise that goes with it (topics without prefix).

    ``early``: at once, before the flush (decisions); a new owner publishes again what stands.
    ``durable``: kept in the flush's header until acknowledged, sent after the flush, again after a recovery, with ids
    that repeat (rejects, forwards, entitlements).
    What is neither is ``current``: asked for with ``take_current``.
    """

    early: list[OutboxRecord]
    durable: list[OutboxRecord]


ForeignRecord = tuple[str, bytes, bytes]
"""(topic without prefix, key, value) of a record on a compacted output that the partition's owner did not write."""
Tally = tuple[Mapping[str, int], Mapping[str, int]]
"""Events by outcome (counted, duplicate, rejected, forwarded), rejects by reason: cumulative, only compared within one
machine's life."""
Sizes = tuple[Mapping[str, int], int | None, int | None]
"""Rows by table; events before this log time in ms are rejected, since repeats of them are no longer known; the time of
the oldest event whose own id is remembered. None where there is nothing to say."""


@runtime_checkable
class Measured(Protocol):
    """A machine that can say what it did and holds; for the metrics, never for the work.

    ``sizes`` may be asked from another thread, so it only reads lengths and single values.
    """

    def tally(self) -> Tally:
        """As of the last applied record."""

    def sizes(self) -> Sizes:
        """As of now."""


class Machine(Protocol):
    """One partition's state machine; see ``streams.domain.partition.Partition`` for the metering one."""

    @property
    def log_time_ms(self) -> int:
        """The running maximum of the inputs' log time; 0 before the first."""

    @property
    def catalogue_version(self) -> int:
        """The version in force at ``log_time_ms``; 0 while there is none."""

    @property
    def changed_rows(self) -> int:
        """How many rows ``take_changes`` would return."""

    @property
    def needs_accounts(self) -> bool:
        """Whether ``apply_usage`` stopped at a record that names an organization or key that it does not know."""

    def use_catalogues(self, versions: Sequence[Catalogue]) -> None:
        """All catalogue versions known so far, rising; called again whenever one is added."""

    def restore(self, key: bytes, payload: bytes) -> None:
        """One live row of the recovered state, before ``resume``.

        Raises ValueError for a row of an unknown table: a newer worker wrote it.
        """

    def resume(self, epoch: int, flush: int, log_time_ms: int) -> None:
        """All rows are back and the claim with ``epoch`` stands: build indexes, queue what must be published again."""

    def apply_usage(self, records: Sequence[InputRecord], *, accounts_current: bool = False) -> int:
        """Takes in usage records in offset order; returns how many were consumed.

        Stops early once about 10,000 rows are changed (then flush), or before a record of an unknown organization or
        key unless ``accounts_current``: then the accounts topic was just read to its end, and unknown is rejected.
        """

    def apply_accounts(self, records: Sequence[InputRecord]) -> None:
        """Takes in operator commands in offset order."""

    def advance(self, log_time_ms: int) -> None:
        """Time passes without input: expire, evict, publish what is due."""

    def cells_durable_until(self, state_offset: int) -> None:
        """The sink holds all of the partition's state records below this offset: their cells may be evicted."""

    def flushed(self, flush: int, state_offset_end: int) -> None:
        """The changes taken for ``flush`` are acknowledged; the next state record has ``state_offset_end``."""

    def say_again(self, records: Sequence[ForeignRecord]) -> None:
        """A former owner wrote these records late: queues what is true under their keys, so that it stands behind."""

    def take_changes(self) -> list[tuple[bytes, bytes | None]]:
        """(row key, payload or None for a removed row) of each row changed since the last call."""

    def take_outputs(self) -> tuple[list[OutboxRecord], list[OutboxRecord]]:
        """What is to be sent since the last call: the fields of ``Outputs``, in their order."""

    def take_current(self, at_most: int, clock_ms: int) -> list[OutboxRecord]:
        """What is true now, flushed or not, under keys of which something else was told last (balances): at most so
        many. Whoever asks sends them in this order, before he asks again; ``resume`` makes all of them to be told
        again. ``clock_ms``: his clock, which only rises; nothing but the pace may hang on it."""
