"""Operations and models that the rate card lacks: metered all the same, counted by name (requirements, section 2)."""

from .tables import ChangedRows, NoticeRow, row_key

OPERATION = "operation"
MODEL = "model"
QUOTA = "quota"
"""A resource of an organization that was removed more often than it was made: ``organization:resource``."""
SUBJECT = "subject"
"""Operations with more subjects under way than are remembered."""
_OTHERS = "…"


class Notices:
    """How often each unknown name came; when ``names_max`` names are known, the rest share one row a kind."""

    def __init__(self, changed: ChangedRows, names_max: int) -> None:
        self._changed = changed.rows
        self._names_max = names_max
        self._rows: dict[tuple[str, str], NoticeRow] = {}
        self.fresh: dict[tuple[str, str], None] = {}
        """The names that are new since somebody looked, who takes them out."""

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, kind: str, name: str) -> int:
        """How often ``name`` was counted."""
        row = self._rows.get((kind, name))
        return 0 if row is None else row.count

    def count(self, kind: str, name: str, times: int = 1, organization_id: str = "") -> None:
        """Counts an unknown ``name`` of a ``kind``; ``organization_id`` used it."""
        row = self._rows.get((kind, name))
        if row is None:
            if len(self._rows) >= self._names_max:
                name, organization_id = _OTHERS, ""
            row = self._rows.setdefault((kind, name), NoticeRow(0, organization_id))
            self.fresh[kind, name] = None
        row.count += times
        self._changed[row_key("n", kind, name)] = row

    def user(self, kind: str, name: str) -> str:
        """The organization that used the name first; empty where that is not known."""
        row = self._rows.get((kind, name))
        return "" if row is None else row.organization_id

    def look_again(self) -> None:
        """All names are as good as new: prices changed, or a new owner came."""
        self.fresh.update((names, None) for names in self._rows)

    def restore(self, kind: str, name: str, row: NoticeRow) -> None:
        """Takes in a recovered row."""
        self._rows[kind, name] = row
