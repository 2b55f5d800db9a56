"""What is lent: the leases of a partition, and how much of each limit they hold (escrow: O'Neil, 1986)."""

from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

from .deadlines import Deadlines
from .tables import ChangedRows, LeaseRow, row_key


class Purse(NamedTuple):
    """A limit that is lent of: its name, and the text of its scope."""

    limit_name: str
    scope: str


class LeaseBook:
    """Leases by id, each with a row; ``lent`` is their sum. A lease of which nothing is left is over."""

    def __init__(self, changed: ChangedRows) -> None:
        self._changed: Final = changed.rows
        self._leases: dict[str, LeaseRow] = {}
        self._lent: Counter[tuple[Purse, int]] = Counter()
        self._of_node: Counter[tuple[Purse, str]] = Counter()
        self._by_request: dict[tuple[str, str], str] = {}
        self.deadlines: Final = Deadlines()
        """When leases are freed, in lease time."""

    def __len__(self) -> int:
        return len(self._leases)

    def get(self, lease_id: str) -> LeaseRow | None:
        """The lease, while anything of it is left."""
        return self._leases.get(lease_id)

    def answer_to(self, node: str, request_id: str) -> str | None:
        """The lease that this request of the node was answered with, while anything of it is left."""
        return self._by_request.get((node, request_id))

    def lent_micro(self, purse: Purse, window: int) -> int:
        """All that is lent and may be used in ``window``."""
        return self._lent[purse, window]

    def leases_of(self, purse: Purse, node: str) -> int:
        """How many leases a node has of one limit."""
        return self._of_node[purse, node]

    def held(self) -> set[tuple[Purse, str, int]]:
        """The limits, with their accounts and windows, that something is lent of."""
        return {
            (Purse(row.limit_name, row.scope), row.account_id, window)
            for row in self._leases.values()
            for window in row.windows
        }

    def lend(self, lease_id: str, row: LeaseRow) -> None:
        """Keeps a new lease."""
        self._insert(lease_id, row)
        self._changed[_key(lease_id)] = row

    def use(self, lease_id: str, cost_micro: int) -> int:
        """Moves ``cost_micro`` from lent to used, as far as the lease still holds so much; returns what it did not."""
        row = self._leases[lease_id]
        taken = min(cost_micro, row.left_micro)
        if taken:
            row.left_micro -= taken
            self._add(row, -taken)
            self._changed[_key(lease_id)] = row
            if not row.left_micro:
                self.free(lease_id)
        return cost_micro - taken

    def free(self, lease_id: str) -> LeaseRow:
        """Ends a lease: what is left of it can be lent again. Returns it as it was."""
        row = self._leases.pop(lease_id)
        purse = Purse(row.limit_name, row.scope)
        self._add(row, -row.left_micro)
        self._of_node[purse, row.node] -= 1
        if not self._of_node[purse, row.node]:
            del self._of_node[purse, row.node]
        self._by_request.pop((row.node, row.request_id), None)
        self.deadlines.drop(lease_id)
        self._changed[_key(lease_id)] = None
        return row

    def due(self, lease_time_ms: int, at_most: int) -> Iterable[str]:
        """The leases that are to be freed, ``at_most`` so many; the others stay due."""
        due = self.deadlines.take(lease_time_ms)
        for lease_id in due[at_most:]:
            self.deadlines.set(lease_id, self._leases[lease_id].frees_at_ms)
        return due[:at_most]

    def restore(self, lease_id: str, row: LeaseRow) -> None:
        """Takes in a recovered row."""
        self._insert(lease_id, row)

    def _insert(self, lease_id: str, row: LeaseRow) -> None:
        self._leases[lease_id] = row
        self._add(row, row.left_micro)
        self._of_node[Purse(row.limit_name, row.scope), row.node] += 1
        self._by_request[row.node, row.request_id] = lease_id
        self.deadlines.set(lease_id, row.frees_at_ms)

    def _add(self, row: LeaseRow, amount_micro: int) -> None:
        for window in row.windows:
            place = Purse(row.limit_name, row.scope), window
            self._lent[place] += amount_micro
            if not self._lent[place]:
                del self._lent[place]


def _key(lease_id: str) -> bytes:
    return row_key("e", lease_id)
