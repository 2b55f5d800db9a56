"""Operations and models that the rate card lacks: metered all the same, counted by name (requirements, section 2)."""

from .tables import ChangedRows, NoticeRow, row_key

OPERATION = "operation"
MODEL = "model"
_OTHERS = "…"


class Notices:
    """How often each unknown name came; when ``names_max`` names are known, the rest share one row a kind."""

    def __init__(self, changed: ChangedRows, names_max: int) -> None:
        self._changed = changed.rows
        self._names_max = names_max
        self._rows: dict[tuple[str, str], NoticeRow] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, kind: str, name: str) -> int:
        """How often ``name`` was counted."""
        row = self._rows.get((kind, name))
        return 0 if row is None else row.count

    def count(self, kind: str, name: str, times: int = 1) -> None:
        """Counts an unknown ``name`` of a ``kind``."""
        row = self._rows.get((kind, name))
        if row is None:
            if len(self._rows) >= self._names_max:
                name = _OTHERS
            row = self._rows.setdefault((kind, name), NoticeRow(0))
        row.count += times
        self._changed[row_key("n", kind, name)] = row

    def restore(self, kind: str, name: str, row: NoticeRow) -> None:
        """Takes in a recovered row."""
        self._rows[kind, name] = row
