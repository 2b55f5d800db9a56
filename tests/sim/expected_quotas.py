"""How much of each resource an organization holds: what its requests made and removed, and full counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

API_KEYS = "api_keys"


class ExpectedQuotas:
    """Of one partition."""

    def __init__(self) -> None:
        self.counts: defaultdict[tuple[str, str], int] = defaultdict(int)

    def change(self, organization_id: str, deltas: Mapping[str, int]) -> None:
        """A request that was answered 2xx made or removed so much; nobody holds less than nothing."""
        for resource, delta in deltas.items():
            if resource != API_KEYS:
                self.counts[organization_id, resource] = max(0, self.counts[organization_id, resource] + delta)

    def recount(self, organization_id: str, counts: Mapping[str, int]) -> bool:
        """Sets what was counted in full; returns whether that can be: keys are counted by themselves."""
        if API_KEYS in counts:
            return False
        for resource, count in counts.items():
            self.counts[organization_id, resource] = count
        return True
