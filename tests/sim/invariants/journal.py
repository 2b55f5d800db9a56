"""What the owners of a partition took in, in which order, and that each record was taken in exactly once.

``WatchedPartition`` is the real machine, seen through its own verbs. What lies between two of its flushes counts once
the later one stands in the state log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sluicegate_schemas.state import OutboxRecord
from streams.domain.partition import Partition
from streams.domain.settings import DomainSettings

from ..log import LogRecord
from .state_log import StateWatch

Taken = list[tuple[bool | None, Sequence[Any]]]
"""(whether it is usage, records) in the order of application; (None, arguments) where balances were made: making
one brings the grants of its account up to the log time, and what burns lazily (ADR 17) is then written earlier."""


class Journal:
    """Of one partition: by (epoch, flush), what the flush took in."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.taken: dict[tuple[int, int], Taken] = {}

    def standing(self, watch: StateWatch) -> Iterable[Taken]:
        """What each flush that stands took in, in their order."""
        for cut in watch.cuts:
            yield self.taken.get((cut.epoch, cut.flush), [])


class WatchedPartition(Partition):
    """The machine of a partition that tells a journal what it takes in, and whose tables are held to their bounds."""

    def __init__(
        self, partition: int, partitions: int, journal: Journal, note: Callable[[str], None], settings: DomainSettings
    ) -> None:
        super().__init__(partition, partitions, settings)
        self._journal = journal
        self._note_fault = note
        self._taken: Taken = []
        self._epoch = self._flush = 0

    def resume(self, epoch: int, flush: int, log_time_ms: int) -> None:
        self._epoch, self._flush = epoch, flush
        super().resume(epoch, flush, log_time_ms)

    def apply_usage(self, records: Sequence[Any], *, accounts_current: bool = False) -> int:
        consumed = super().apply_usage(records, accounts_current=accounts_current)
        if consumed:
            self._taken.append((True, records[:consumed]))
        return consumed

    def apply_accounts(self, records: Sequence[Any]) -> None:
        super().apply_accounts(records)
        self._taken.append((False, list(records)))

    def take_current(self, at_most: int, clock_ms: int) -> list[OutboxRecord]:
        told = super().take_current(at_most, clock_ms)
        if told:
            self._taken.append((None, (at_most, clock_ms)))
        return told

    def take_changes(self) -> list[tuple[bytes, bytes | None]]:
        changes = super().take_changes()
        self._flush += 1
        self._journal.taken[self._epoch, self._flush] = self._taken
        self._taken = []
        self._check_bounds()
        return changes

    def _check_bounds(self) -> None:
        settings = self.settings
        for what, size, most in (
            ("producers", len(self.producers), settings.producers_max),
            ("event ids", len(self.event_ids), settings.dedup_ids_max),
            ("keys", len(self.accounts.keys), settings.keys_max),
            ("buckets", len(self.buckets), settings.keys_max),
        ):
            if size > most:
                self._note_fault(f"{size} {what} are held, more than {most}")


def each_once(
    journal: Journal, watch: StateWatch, usage: Sequence[LogRecord], accounts: Sequence[LogRecord]
) -> Iterable[str]:
    """That the flushes that stand took in each record of the logs once, in order, and up to their headers' offsets."""
    for is_usage, records in ((True, usage), (False, accounts)):
        name = "usage" if is_usage else "accounts"
        offsets = [record.offset for record in records]
        taken: list[int] = []
        for cut, content in zip(watch.cuts, journal.standing(watch), strict=True):
            taken += [record[0] for kind, run in content if kind is is_usage for record in run]
            said = cut.usage_offset if is_usage else cut.accounts_offset
            last = taken[-1] if taken else -1
            if last != said:
                where = f"partition {watch.partition}, flush {cut.flush}"
                yield f"{where}: {name} was taken in up to {last}, the header says {said}"
                return
        if taken != offsets[: len(taken)]:
            place = next(at for at, pair in enumerate(zip(taken, offsets, strict=False)) if pair[0] != pair[1])
            yield (
                f"partition {watch.partition}: {name} was taken in as {taken[max(0, place - 3) : place + 4]}, the log "
                f"holds {offsets[max(0, place - 3) : place + 4]}"
            )
        elif len(taken) < len(offsets):
            yield f"partition {watch.partition}: {name} from offset {offsets[len(taken)]} on was never taken in"
