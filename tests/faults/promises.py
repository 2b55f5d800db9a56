"""What publishers promise, held against the usage log. Pure; knows nothing of workers.

- With a durable spool: an event that was handed over stands in the log once for each time that it was handed over, with
  its content. SIGTERM loses nothing. kill -9 loses at most what the process had for less than ``spool_after_ms``, one
  look at the spool (a quarter of it) and the time that the machine takes to write: ``YOUNG_MS_MAX`` together. Time in
  which the process was stopped is no part of that.
- Without one (an API node by default): kill -9 loses what Kafka has not acknowledged. Of the envelopes that had got
  their sequence that is one for each partition at most, the last; so the log has no hole. SIGTERM loses nothing while
  Kafka answers.
- With both, nothing is in the log that was not handed over, or otherwise than it was.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from zlib import crc32

from sluicegate import PublisherSettings
from sluicegate_schemas.envelope import ENCODE, WireEnvelope
from sluicegate_schemas.partitioning import partition_of
from stack.node_log import Line as NodeLine
from stack.node_log import Published
from tests.faults.differences import Difference
from tests.faults.journal import SERIAL, Handed, Line, Stand, Turned, crc_of

SPOOL_AFTER_MS: Final = PublisherSettings(node="any").spool_after_ms
MACHINE_MS: Final = 2_500
"""For the event loop, the disk and the clock of a busy machine."""
YOUNG_MS_MAX: Final = SPOOL_AFTER_MS * 5 // 4 + MACHINE_MS

Sealed = tuple[str, int, int, int]
"""(producer, epoch, partition, sequence)."""
Contents = Mapping[Sealed, tuple[int, int]]


@dataclass(slots=True)
class Run:
    """One life of a publishing process. Times are in ms of ``time.monotonic``."""

    path: Path
    """Its journal."""
    killed_at_ms: int | None = None
    """When it got kill -9."""
    pauses_ms: list[tuple[int, int]] = field(default_factory=list)
    """From when to when it was stopped."""

    def age_ms(self, handed_at_ms: int) -> int:
        """How long an event had been with the process when that was killed."""
        assert self.killed_at_ms is not None
        end = self.killed_at_ms
        stopped = sum(max(0, min(until, end) - max(since, handed_at_ms)) for since, until in self.pauses_ms)
        return end - handed_at_ms - stopped


@dataclass(slots=True)
class Logged:
    """What the usage log holds of publishers, each envelope once."""

    envelopes: dict[Sealed, tuple[int, int]] = field(default_factory=dict)
    """Of API nodes: number of events, and the XOR of their checksums with their places."""
    serials: Counter[tuple[str, int]] = field(default_factory=Counter)
    """How often each event of a publishing process is there: by serial and checksum."""
    _seen: set[Sealed] = field(default_factory=set)

    def add(self, envelope: WireEnvelope, partition: int) -> None:
        """Takes in an envelope; a repeated one changes nothing."""
        place = (envelope.producer_id, envelope.producer_epoch, partition, envelope.sequence)
        if place in self._seen:
            return
        self._seen.add(place)
        checksum = 0
        for index, event in enumerate(envelope.events):
            if event.labels and SERIAL in event.labels:
                self.serials[event.labels[SERIAL], crc_of(event)] += 1
            else:
                checksum ^= crc32(ENCODE(event), index)
                self.envelopes[place] = (index + 1, checksum)


@dataclass(slots=True)
class Losses:
    """What kills took, within what is promised."""

    durable_events: int = 0
    durable_age_ms_max: int = 0
    node_envelopes: int = 0
    node_events: int = 0
    """At least so many: calls that were answered and are not in the log."""


def durable_differences(
    runs: Iterable[tuple[Run, Iterable[Line]]], logged: Logged, losses: Losses
) -> Iterator[Difference]:
    """Where the durable publishers' promise is broken; ``losses`` gets what they may lose, and did."""
    left = dict(logged.serials)
    for run, lines in runs:
        handed_ms: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
        closed = False
        for line in lines:
            match line:
                case Handed():
                    handed_ms[line.serial, line.crc].append(line.at_ms)
                case Turned():
                    yield Difference("event turned away", line.serial, "", 0, 1)
                case Stand():
                    closed = line.closed
                    if line.lost:
                        yield Difference("events given up", run.path.name, "", 0, line.lost)
        if run.killed_at_ms is None and not closed:
            yield Difference("end of a publisher", run.path.name, "", "closed", "otherwise")
        for event, times_ms in handed_ms.items():
            found = left.pop(event, 0)
            lost = len(times_ms) - found
            if lost == 0:
                continue
            age_ms = run.age_ms(times_ms[found]) if lost > 0 and run.killed_at_ms is not None else None
            if age_ms is not None and age_ms <= YOUNG_MS_MAX:
                losses.durable_events += lost
                losses.durable_age_ms_max = max(losses.durable_age_ms_max, age_ms)
            else:
                age = "" if age_ms is None else f", {age_ms} ms old at kill -9"
                yield Difference(f"event in the log{age}", event[0], "", len(times_ms), found)
    for (serial, _), count in left.items():
        yield Difference("event in the log that was not handed over so", serial, "", 0, count)


def node_differences(
    runs: Iterable[tuple[bool, Iterable[NodeLine]]], logged: Logged, partitions: int, losses: Losses
) -> Iterator[Difference]:
    """Where the API nodes' promise is broken.

    :param runs: whether it was killed, and its log, for each life of a node.
    """
    known: set[Sealed] = set()
    for was_killed, lines in runs:
        sealed: dict[Sealed, tuple[int, int]] = {}
        for line in lines:
            if isinstance(line, Published):
                home = partition_of(line.event.account_id or line.event.org_id, partitions)
                place = (line.producer_id, line.producer_epoch, home, line.sequence)
                count, checksum = sealed.get(place, (0, 0))
                sealed[place] = (count + 1, checksum ^ crc32(ENCODE(line.event), line.index))
        known |= sealed.keys()
        yield from _sealed_differences(was_killed, sealed, logged.envelopes, losses)
    for place in logged.envelopes.keys() - known:
        yield Difference("envelope of no node", str(place), "", 0, 1)


def _sealed_differences(
    was_killed: bool, sealed: Contents, envelopes: Contents, losses: Losses
) -> Iterator[Difference]:
    last: dict[tuple[str, int, int], int] = {}
    for producer, epoch, partition, sequence in sealed:
        last[producer, epoch, partition] = max(sequence, last.get((producer, epoch, partition), 0))
    for place, content in sealed.items():
        found = envelopes.get(place)
        if found == content:
            continue
        if was_killed and last[place[:3]] == place[3] and found is None:
            losses.node_envelopes += 1
        else:
            yield Difference("envelope of an API node (events, checksum)", str(place), "", content, found)
