"""What a new owner publishes again, held back until it has caught up with what its predecessor had read."""

from collections.abc import Iterable, Sequence

from sluicegate_schemas.state import OutboxRecord

from .machine import ForeignRecord


class Standing:
    """The early outputs of a recovery, and what others said: due once usage and accounts are applied to their ends as
    of the claim.

    Until then a newer output under the same key takes the place of either: the predecessor may have published it before
    it died, and an older verdict behind it in a compacted topic would stand for whoever starts cold.
    """

    def __init__(self, records: Iterable[OutboxRecord] = (), usage_end: int = 0, accounts_end: int = 0) -> None:
        self._held = {(record.topic, record.key): record for record in records}
        self._foreign: dict[tuple[str, bytes | None], ForeignRecord] = {}
        self._usage_end = usage_end
        self._accounts_end = accounts_end

    def hear(self, records: Iterable[ForeignRecord]) -> None:
        """Somebody else wrote these."""
        self._foreign.update(((topic, key), (topic, key, value)) for topic, key, value in records)

    @property
    def has_foreign(self) -> bool:
        """What somebody else wrote was not compared yet."""
        return bool(self._foreign)

    def ahead_of(self, new: Sequence[OutboxRecord], usage_next: int, accounts_next: int) -> list[OutboxRecord]:
        """``new``, with what stood before it where it may go out now; each held record once.

        ``usage_next`` and ``accounts_next``: the offsets below them are applied.
        """
        if not self._held and not self._foreign:
            return list(new)
        for record in new:
            self._held.pop((record.topic, record.key), None)
            self._foreign.pop((record.topic, record.key), None)
        if not self._has_caught_up(usage_next, accounts_next):
            return list(new)
        held, self._held = self._held, {}
        for place in held:
            self._foreign.pop(place, None)
        return [*held.values(), *new]

    def take_foreign(self, usage_next: int, accounts_next: int) -> list[ForeignRecord]:
        """What others said and this owner did not say anything newer of, where that may be judged now; each once."""
        if not self._foreign or not self._has_caught_up(usage_next, accounts_next):
            return []
        foreign, self._foreign = self._foreign, {}
        return list(foreign.values())

    def _has_caught_up(self, usage_next: int, accounts_next: int) -> bool:
        return usage_next >= self._usage_end and accounts_next >= self._accounts_end
