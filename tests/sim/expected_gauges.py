"""How many requests of each organization are in flight, as the nodes' gauges say; a node that falls silent counts no
more once its gauge's time to live is over."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from sluicegate_schemas.envelope import WireGauge


class _Said(NamedTuple):
    boot_id: str
    sequence: int
    until_ms: int
    in_flight: dict[str, int]
    subjects: Counter[tuple[str, str, str]]


class ExpectedGauges:
    """Of one partition, by (account, node)."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, str], _Said] = {}

    def hear(self, gauge: WireGauge, now_ms: int) -> None:
        """A newer gauge of a process, or one of another process, replaces what its node said before, and any gauge what
        is too old."""
        self.forget(now_ms)
        name = gauge.account_id, gauge.node
        before = self._said.get(name)
        if before is None or before.boot_id != gauge.boot_id or before.sequence < gauge.sequence:
            in_flight = {one.org_id: one.in_flight for one in gauge.organizations}
            subjects: Counter[tuple[str, str, str]] = Counter()
            for one in gauge.organizations:
                for operation, subject, count in one.subjects:
                    subjects[one.org_id, operation, subject] += count
            self._said[name] = _Said(gauge.boot_id, gauge.sequence, now_ms + gauge.ttl_ms, in_flight, subjects)

    def forget(self, now_ms: int) -> None:
        """After a record: what is too old counts no more."""
        self._said = {name: said for name, said in self._said.items() if said.until_ms > now_ms}

    def in_flight(self, organization_id: str) -> int:
        """Over all nodes."""
        return sum(said.in_flight.get(organization_id, 0) for said in self._said.values())

    def subjects(self) -> Counter[tuple[str, str, str]]:
        """How many requests are about each (organization, operation, subject), over all nodes."""
        return sum((said.subjects for said in self._said.values()), Counter())
