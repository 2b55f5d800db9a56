"""What a new owner publishes again, held back until it has caught up with what its predecessor had read."""

from collections.abc import Iterable, Sequence

from sluicegate_schemas.state import OutboxRecord


class Standing:
    """The early outputs of a recovery: published once usage and accounts are applied to their ends as of the claim.

    Until then a newer output under the same key takes the place of the held one: the predecessor may have published it
    before it died, and an older verdict behind it in a compacted topic would stand for whoever starts cold.
    """

    def __init__(self, records: Iterable[OutboxRecord] = (), usage_end: int = 0, accounts_end: int = 0) -> None:
        self._held = {(record.topic, record.key): record for record in records}
        self._usage_end = usage_end
        self._accounts_end = accounts_end

    def ahead_of(self, new: Sequence[OutboxRecord], usage_next: int, accounts_next: int) -> list[OutboxRecord]:
        """``new``, with what stood before it where it may go out now; each held record once.

        ``usage_next`` and ``accounts_next``: the offsets below them are applied.
        """
        if not self._held:
            return list(new)
        for record in new:
            self._held.pop((record.topic, record.key), None)
        if usage_next < self._usage_end or accounts_next < self._accounts_end:
            return list(new)
        held, self._held = list(self._held.values()), {}
        return held + list(new)
