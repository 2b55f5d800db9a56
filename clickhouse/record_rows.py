"""Records of a topic to rows of a table, one by one: pure, one object a partition of the topic."""

from collections.abc import Iterable
from typing import ClassVar, Generic, TypeVar

from .cursor import LogRecord

RowT = TypeVar("RowT", bound=tuple[object, ...])


class RecordFormatError(ValueError):
    """A record on a topic that this release cannot read."""


class RecordRows(Generic[RowT]):
    """Turns one partition's records, in log order, into rows. ``source`` is ``topic/partition``."""

    expires: ClassVar[bool] = False
    """Whether the broker lets go of the topic's records by their age, also of those that were not taken in."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._rows: list[RowT] = []

    def __len__(self) -> int:
        """How many rows wait to be taken."""
        return len(self._rows)

    def row_of(self, record: LogRecord) -> RowT | None:
        """The row of a record; None: it has none. Raises ValueError for a record that is none of its topic."""
        raise NotImplementedError

    def feed(self, records: Iterable[LogRecord]) -> None:
        """Takes in the next records. Raises RecordFormatError, naming the offset, for one that cannot be read."""
        for record in records:
            try:
                row = self.row_of(record)
            except ValueError as error:
                raise RecordFormatError(f"{self._source}, offset {record.offset}: {error}") from error
            if row is not None:
                self._rows.append(row)

    def take(self) -> list[RowT]:
        """What came since the last call."""
        rows, self._rows = self._rows, []
        return rows
