"""Tells gates again what organizations may do when another catalogue version moves the plan under their own limits."""

from collections import deque
from typing import Final

from .deadlines import NEVER_MS
from .participant import Participant, PartitionContext
from .policy import Moment
from .recovery import Recovery, by_names
from .tables import ToldRow, row_key

_ROW: Final = "entitlements"


class EntitlementsAgain(Participant):
    """Most entitlements leave to the plan what is the plan's. Those that name own quotas, features, failure modes, or
    the higher of a boost and the plan, are published again, so many with one record; a new owner begins anew with
    what was not finished."""

    def __init__(self, context: PartitionContext) -> None:
        super().__init__(context)
        self._told = ToldRow(0)
        self._waiting: Final[deque[str]] = deque()

    def add_tables(self, recovery: Recovery) -> None:
        recovery.add("E", ToldRow, by_names(self._restore))

    def plan_changed(self, moment: Moment, organization_id: str | None) -> None:
        if organization_id is None:
            self._begin()

    def resume(self, moment: Moment) -> None:
        if self._told.catalogue_version != moment.version:
            self._begin()

    def _begin(self) -> None:
        organizations, in_force = self.context.accounts.organizations, self.context.plans.in_force
        boosted = set(in_force.boosted())
        self._waiting.clear()
        for organization_id, row in sorted(organizations.items()):
            stands_in_plan = (row.quotas_own, row.features_own, row.failure_modes_own) != (None, None, None)
            if stands_in_plan or organization_id in boosted:
                self._waiting.append(organization_id)
        self.next_ms = 0

    def wake(self, moment: Moment) -> None:
        for _ in range(min(len(self._waiting), self.context.settings.entitlements_a_wake)):
            self.context.entitlements.organization(self._waiting.popleft())
        if not self._waiting:
            self.next_ms = NEVER_MS
            self._told = ToldRow(moment.version)
            self.context.changed.rows[row_key("E", _ROW)] = self._told

    def _restore(self, name: str, row: ToldRow) -> None:
        self._told = row
