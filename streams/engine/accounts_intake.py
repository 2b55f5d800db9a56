"""Operator commands on their way into the machine: each once, and asked for at once where usage waits for them."""

from collections.abc import Sequence

from .machine import InputRecord, Machine


class AccountsIntake:
    """How far a partition's accounts topic is applied, and the refresh that usage of an unknown name waits for.

    Usage that names what the machine does not know waits until the topic was read to its end: only then is it unknown.
    """

    def __init__(self, next_offset: int) -> None:
        self.applied = next_offset - 1
        """The last offset that the machine has taken in."""
        self.is_needed = False
        """Usage waits for a refresh."""
        self._mark: int | None = None
        self._refreshed_at = float("-inf")

    def apply(self, machine: Machine, records: Sequence[InputRecord]) -> bool:
        """Hands what is new to the machine; False if nothing is."""
        new = [record for record in records if record.offset > self.applied]
        if not new:
            return False
        machine.apply_accounts(new)
        self.applied = new[-1].offset
        return True

    def refresh_due(self, now: float, interval_s: float) -> bool:
        """Whether a refresh is needed, not under way, and the last one ``interval_s`` ago."""
        return self.is_needed and self._mark is None and now - self._refreshed_at >= interval_s

    def refresh(self, now: float, mark: int) -> None:
        """A refresh begins; ``mark`` is what ``refreshed`` returns."""
        self._refreshed_at = now
        self._mark = mark

    def refreshed(self) -> int | None:
        """The refresh is done: the mark that it began with. None where none was under way."""
        if self._mark is None:
            return None
        mark, self._mark, self.is_needed = self._mark, None, False
        return mark

    def clear(self) -> None:
        """Forgets what was asked for: the partition is taken away for now."""
        self.is_needed, self._mark = False, None
