"""Work on many names at once, done a part at a time: as much as one flush has room for."""

from collections.abc import Iterable, Iterator
from typing import Final

from .deadlines import NEVER_MS
from .settings import DomainSettings
from .tables import ChangedRows

_SHARE_OF_FLUSH: Final = 4
"""It may fill this part of a flush, so that metering goes on."""
_NAMES_AT_ONCE: Final = 1_000


class Paced:
    """Names that wait for their turn, each once, in the order in which they came."""

    def __init__(self, settings: DomainSettings, changed: ChangedRows) -> None:
        self._rows_max = settings.changed_rows_max // _SHARE_OF_FLUSH
        self._changed = changed.rows
        self._names: dict[str, None] = {}

    def __bool__(self) -> bool:
        return bool(self._names)

    @property
    def next_ms(self) -> int:
        """When ``take`` is due: at once, while names wait."""
        return 0 if self._names else NEVER_MS

    def add(self, names: Iterable[str]) -> None:
        """They wait, too."""
        self._names.update(dict.fromkeys(names))

    def take(self) -> Iterator[str]:
        """Names whose turn it is now: at least one, then as long as the flush has room."""
        for taken in range(_NAMES_AT_ONCE):
            if not self._names or (taken and len(self._changed) >= self._rows_max):
                return
            name = next(iter(self._names))
            del self._names[name]
            yield name
