"""Boosts and exemptions: limits that are higher, or off, for a time (requirements, section 1)."""

from typing import Any, Final

import msgspec

from sluicegate_schemas.accounts import (
    PRIORITY_DEFAULT,
    AnyCommand,
    BoostEnd,
    BoostPut,
    ExemptionEnd,
    ExemptionPut,
)
from sluicegate_schemas.bounds import to_epoch_ms

from .command_record import RefusedError
from .deadlines import Deadlines
from .grants import BOOST as GRANT_OF_BOOST
from .grants import Grants
from .in_force import BOOST, EXEMPTION
from .participant import Change, Participant, PartitionContext
from .policy import Moment
from .recovery import Recovery, by_names
from .tables import GrantRow, OverrideRow, row_key

_Names = tuple[str, str, str]
"""(kind, organization, id)."""


class Overrides(Participant):
    """Keeps them until they end; when one begins or ends by log time, all who hold limits are told."""

    obeys = (BoostPut, BoostEnd, ExemptionPut, ExemptionEnd)

    def __init__(self, context: PartitionContext) -> None:
        super().__init__(context)
        self._rows: Final[dict[_Names, OverrideRow]] = {}
        self._count_of: Final[dict[str, int]] = {}
        self._deadlines = Deadlines()

    def add_tables(self, recovery: Recovery) -> None:
        recovery.add("g", OverrideRow, by_names(self._restore))

    def sizes(self) -> dict[str, int]:
        return {"overrides": len(self._rows)}

    def obey(self, moment: Moment, command: AnyCommand) -> Change:
        match command:
            case BoostPut():
                rates = command.rates
                row = OverrideRow(
                    to_epoch_ms(command.effective_at),
                    to_epoch_ms(command.until),
                    False,
                    credits_micro=command.credits_micro,
                    rates=None
                    if rates is None
                    else (rates.requests_per_second, rates.burst, rates.requests_per_minute),
                    concurrency=command.concurrency,
                    quotas=None if command.quotas is None else {str(name): n for name, n in command.quotas.items()},
                )
                return self._put(moment, (BOOST, command.organization_id, command.boost_id), row)
            case ExemptionPut():
                row = OverrideRow(
                    to_epoch_ms(command.effective_at),
                    to_epoch_ms(command.until),
                    False,
                    limit_name=command.limit_name,
                    api_key_id=command.api_key_id,
                )
                return self._put(moment, (EXEMPTION, command.organization_id, command.exemption_id), row)
            case BoostEnd():
                return self._end(moment, (BOOST, command.organization_id, command.boost_id), "boost_id")
            case ExemptionEnd():
                return self._end(moment, (EXEMPTION, command.organization_id, command.exemption_id), "exemption_id")
            case _:
                raise NotImplementedError

    def _put(self, moment: Moment, names: _Names, row: OverrideRow) -> Change:
        if row.until_ms <= moment.now_ms:
            raise RefusedError("lies in the past", "until")
        before = self._rows.get(names)
        settings = self.context.settings
        if before is None:
            if len(self._rows) >= settings.overrides_max:
                raise RefusedError(f"a partition holds {settings.overrides_max} boosts and exemptions at most")
            if self._count_of.get(names[1], 0) >= settings.organization_overrides_max:
                raise RefusedError(
                    f"an organization has {settings.organization_overrides_max} boosts and exemptions at most"
                )
        self._grant(moment, names, row, before)
        self._remove(names)
        self._insert(names, row)
        if row.from_ms <= moment.now_ms:
            self._begin(names, row)
        self.context.changed.rows[row_key("g", *names)] = row
        if row.has_begun or (before is not None and before.has_begun):
            self._tell(moment, names[1], {row.api_key_id, None if before is None else before.api_key_id})
        return Change(names[2], _shown(names, before), _shown(names, row))

    def _grant(self, moment: Moment, names: _Names, row: OverrideRow | None, before: OverrideRow | None) -> None:
        """The credits of a boost are a grant of its time. Raises RefusedError, then nothing changed."""
        _, organization_id, boost_id = names
        account_id = self.context.accounts.organizations[organization_id].account_id
        grants, identifier = self.context.peer(Grants), f"{organization_id}:{boost_id}"
        if row is not None and row.credits_micro is not None:
            credits_ = GrantRow(row.credits_micro, PRIORITY_DEFAULT, row.from_ms, row.until_ms)
            grants.give(moment, GRANT_OF_BOOST, account_id, identifier, credits_, "credits_micro", replaces=True)
        elif before is not None and before.credits_micro is not None:
            grants.take_back(moment, GRANT_OF_BOOST, account_id, identifier)

    def _end(self, moment: Moment, names: _Names, field: str) -> Change:
        row = self._rows.get(names)
        if row is None:
            raise RefusedError("is none of the organization that has not ended", field)
        self._grant(moment, names, None, row)
        self._forget(names)
        if row.has_begun:
            self._tell(moment, names[1], {row.api_key_id})
        return Change(names[2], _shown(names, row), None)

    def cross(self, moment: Moment) -> None:
        """What is due begins or ends, so many with one record; an organization is told of once for all of them."""
        due = self._deadlines.take(moment.now_ms, self.context.settings.overrides_a_wake)
        changed: dict[str, set[str | None]] = {}
        for joined in due:
            names = _split(joined)
            row = self._rows[names]
            if row.until_ms <= moment.now_ms:
                self._forget(names)
                if not row.has_begun:
                    continue
            else:
                self._begin(names, row)
                self.context.changed.rows[row_key("g", *names)] = row
            changed.setdefault(names[1], set()).add(row.api_key_id)
        self.boundary_ms = self._deadlines.next_ms
        for organization_id in sorted(changed):
            self._tell(moment, organization_id, changed[organization_id])

    def _begin(self, names: _Names, row: OverrideRow) -> None:
        row.has_begun = True
        self.context.plans.in_force.begin(*names, row)
        self._await("|".join(names), row.until_ms)

    def _await(self, joined: str, due_ms: int) -> None:
        self._deadlines.set(joined, due_ms)
        self.boundary_ms = self._deadlines.next_ms

    def _insert(self, names: _Names, row: OverrideRow) -> None:
        self._rows[names] = row
        self._count_of[names[1]] = self._count_of.get(names[1], 0) + 1
        self._await("|".join(names), row.until_ms if row.has_begun else row.from_ms)

    def _remove(self, names: _Names) -> None:
        if self._rows.pop(names, None) is None:
            return
        self._count_of[names[1]] -= 1
        if not self._count_of[names[1]]:
            del self._count_of[names[1]]
        self.context.plans.in_force.end(*names)

    def _forget(self, names: _Names) -> None:
        self._remove(names)
        self._deadlines.drop("|".join(names))
        self.context.changed.rows[row_key("g", *names)] = None

    def _tell(self, moment: Moment, organization_id: str, api_key_ids: set[str | None]) -> None:
        for api_key_id in sorted(one for one in api_key_ids if one is not None):
            self.context.entitlements.key(api_key_id)
        self.context.changes.limits_changed(moment, organization_id)

    def _restore(self, kind: str, organization_id: str, identifier: str, row: OverrideRow) -> None:
        names = kind, organization_id, identifier
        self._insert(names, row)
        if row.has_begun:
            self.context.plans.in_force.begin(*names, row)


def _split(joined: str) -> _Names:
    kind, organization_id, identifier = joined.split("|")
    return kind, organization_id, identifier


def _shown(names: _Names, row: OverrideRow | None) -> dict[str, Any] | None:
    """The row as the audit trail shows it."""
    if row is None:
        return None
    fields: dict[str, Any] = {"kind": names[0]}
    fields.update({name: value for name, value in msgspec.structs.asdict(row).items() if value is not None})
    return fields
