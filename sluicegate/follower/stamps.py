"""How often what is known about somebody changed, for whoever keeps what was put together from it."""

from typing import Final

from sluicegate_schemas.outputs import KeyEntitlement, OrganizationEntitlement
from sluicegate_schemas.wire_decision import WireDecision

STAMPS_MAX: Final = 400_000
"""Names whose changes are counted; beyond it all count anew, as if everything had changed."""


class Stamp:
    """Counts the changes that concern one name."""

    __slots__ = ("changes",)

    def __init__(self) -> None:
        self.changes = 0


class Stamps:
    """By the hash of a key's secret, a key's id, an organization's or account's id: those somebody asked for.

    ``changes`` counts what may concern everybody. It and the stamps' own only grow, so that where their sum is the
    same, nothing changed.
    """

    def __init__(self) -> None:
        self.changes = 0
        self._stamps: dict[str, Stamp] = {}

    def of(self, name: str) -> Stamp:
        """The stamp of ``name``."""
        stamp = self._stamps.get(name)
        if stamp is None:
            if len(self._stamps) >= STAMPS_MAX:
                self._stamps = {}
                self.changes += 1  # nobody counts for the stamps that were given out before
            stamp = self._stamps[name] = Stamp()
        return stamp

    def changed(self, record: object) -> None:
        """A record took effect; anything but an entitlement or a decision concerns everybody."""
        match record:
            case WireDecision():
                name = record.scope.id
            case KeyEntitlement():
                name = record.key_sha256
            case OrganizationEntitlement():
                name = record.organization_id
            case _:
                self.changes += 1
                return
        stamp = self._stamps.get(name)
        if stamp is not None:
            stamp.changes += 1
