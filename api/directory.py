"""What a gate's view cannot tell by organization: its keys, and the decisions that are about it.

Fed with every change of the view, which stays the one truth: what it has let go is left out of every answer here.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from sluicegate.follower import Change, View
from sluicegate.follower.entries import Key
from sluicegate_schemas.outputs import KeyEntitlement, decision_key
from sluicegate_schemas.wire_decision import WireDecision

KEYS_MAX: Final = 1_000
"""Keys of one organization that are listed, with what blocks them; the others work all the same, and see their own."""
STANDING_MAX: Final = 2_000
"""Decisions on one organization or key that are listed; beyond it those that stand no more go, then the oldest."""
DECISIONS_MAX: Final = 50_000
"""The newest decisions, by id; an older one is in ClickHouse."""


class Directory:
    """By organization; see the module."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._keys: dict[str, dict[str, str]] = {}
        self._owners: dict[str, str] = {}
        self._newest: dict[str, dict[str, WireDecision]] = {}
        self._decisions: OrderedDict[str, WireDecision] = OrderedDict()

    def on_change(self, change: Change) -> None:
        """Takes in a change of the view."""
        record = change.record
        if isinstance(record, KeyEntitlement):
            keys = self._keys.setdefault(record.organization_id, {})
            if len(keys) < KEYS_MAX:
                keys[record.api_key_id] = record.key_sha256
            self._owners[record.api_key_id] = record.organization_id  # as many as the view lets in
        elif isinstance(record, WireDecision):
            self._note(record)
            self._decisions[record.decision_id] = record
            self._decisions.move_to_end(record.decision_id)
            if len(self._decisions) > DECISIONS_MAX:
                self._decisions.popitem(last=False)

    def _note(self, decision: WireDecision) -> None:
        """Keeps it as the newest on its scope and limit."""
        newest = self._newest.setdefault(decision.scope.id, {})
        newest[decision_key(decision.scope.text(), decision.limit_name)] = decision
        if len(newest) > STANDING_MAX:
            kept = [(name, one) for name, one in newest.items() if self._stands(one)]
            self._newest[decision.scope.id] = dict(kept[-STANDING_MAX:])

    def _stands(self, decision: WireDecision) -> bool:
        verdict = (self._view.verdicts_on(decision.scope.text()) or {}).get(decision.limit_name)
        return verdict is not None and verdict.decision_id == decision.decision_id

    def keys_of(self, organization_id: str) -> list[Key]:
        """Its keys by id, revoked ones too."""
        found = (self._view.key(sha256) for _, sha256 in sorted(self._keys.get(organization_id, {}).items()))
        return [key for key in found if key is not None]

    def organization_of_key(self, api_key_id: str) -> str | None:
        """Whose key it is."""
        return self._owners.get(api_key_id)

    def has_key(self, organization_id: str, api_key_id: str) -> bool:
        """Whether the key is this organization's."""
        return self._owners.get(api_key_id) == organization_id

    def concerns(self, decision: WireDecision, organization_id: str, account_id: str) -> bool:
        """Whether a decision is about the organization: itself, one of its keys, or the account that pays for it."""
        scope = decision.scope
        if scope.kind == "key":
            return self.has_key(organization_id, scope.id)
        return scope.id == organization_id or (scope.kind == "account" and scope.id == account_id)

    def decision(self, decision_id: str) -> WireDecision | None:
        """One of the newest decisions."""
        return self._decisions.get(decision_id)

    def standing(self, organization_id: str, account_id: str) -> Iterator[WireDecision]:
        """What stands on the organization, its keys and its account, also blocks that time has cleared since: blocks,
        and of the limits whose use is told how much is used."""
        for owner in (organization_id, *self._keys.get(organization_id, ())):
            yield from filter(self._stands, self._newest.get(owner, {}).values())
        if account_id != organization_id:
            for decision in self._newest.get(account_id, {}).values():
                if decision.scope.kind == "account" and self._stands(decision):
                    yield decision
