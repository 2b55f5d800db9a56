"""Notices that somebody else wrote to a compacted output of the partition.

Decisions, balances and entitlements of a partition have one legitimate writer, its owner, so each record must stand
right behind the last one. One that does not has a former owner's records before it: sent before it lost the partition,
taken in by the broker after. Readers drop them by their sequence, but compaction would keep them.
"""

from collections.abc import Iterable

Range = tuple[int, int]
"""Offsets from, up to and without the second."""


class OutputFence:
    """Watches the ends of one partition's output topics. Without I/O; acknowledgements come in the order of the log."""

    def __init__(self, ends: dict[str, int]) -> None:
        """``ends``: where each topic ended before this owner sent anything."""
        self._next = ends
        self._sent = dict.fromkeys(ends, 0)
        self._looked_after = dict.fromkeys(ends, 0)
        self._in_flight = dict.fromkeys(ends, 0)

    def sent(self, topic: str) -> None:
        """A record is on its way."""
        if topic in self._next:
            self._sent[topic] += 1
            self._in_flight[topic] += 1

    def acknowledged(self, topic: str, offset: int) -> Range | None:
        """The record stands at ``offset``, negative where the broker no longer knows; returns what others wrote."""
        if topic not in self._next:
            return None
        self._in_flight[topic] -= 1
        return None if offset < 0 else self._moved(topic, offset, offset + 1)

    def next_offset(self, topic: str) -> int:
        """What stands before this offset is this owner's, or was returned as foreign."""
        return self._next[topic]

    def quiet(self) -> Iterable[str]:
        """The topics to which nothing is under way: ask for their ends now, then tell ``end_seen``."""
        topics = [topic for topic, count in self._in_flight.items() if count == 0]
        for topic in topics:
            self._looked_after[topic] = self._sent[topic]
        return topics

    def end_seen(self, topic: str, end: int) -> Range | None:
        """The end that was asked for; returns what others wrote. It tells nothing if something was sent meanwhile."""
        return self._moved(topic, end, end) if self._looked_after[topic] == self._sent[topic] else None

    def _moved(self, topic: str, up_to: int, following: int) -> Range | None:
        start, self._next[topic] = self._next[topic], max(self._next[topic], following)
        return (start, up_to) if up_to > start else None
