"""Turns what the tables take in into events for the streams."""

from typing import Final

from sluicegate.follower import Change
from sluicegate.follower.view import USE_MATTERS
from sluicegate_schemas.alerts import UsageAlert
from sluicegate_schemas.outputs import decision_key
from sluicegate_schemas.wire_decision import WireDecision

from .alerts import organization_of
from .balances import Balance, Held, month_of
from .blocks import block_of
from .live import OPERATORS, Hub
from .parts import Parts
from .routes.alerts import shown
from .routes.usage import usage_of
from .verdicts import decision_of

BLOCKED_MAX: Final = 50_000
"""Blocks whose end operators are told of for sure; of further ones the next look says it."""


class News:
    """Listens for ``hub``; what nobody listens to costs a look-up."""

    def __init__(self, parts: Parts, hub: Hub, operators: Hub) -> None:
        self._parts = parts
        self._hub = hub
        self._operators = operators
        self._blocked: set[str] = set()
        """Blocks that operators were told of and that were not cleared: an allow may be no more than a use."""
        parts.balances.listen(self.on_balance)
        parts.alerts.listen(self.on_alert)

    def on_balance(self, held: Held, before: Balance | None) -> None:
        """Credits of an organization's month that runs changed. Its requests alone are no news: the API's own would be
        the next."""
        balance = held.balance
        if balance.kind != "organization" or not self._hub.hears(balance.id):
            return
        if before is not None and _money(before) == _money(balance):
            return
        if balance.month == month_of(held.taken_ms):
            self._hub.tell(balance.id, "balance", usage_of(self._parts, held, balance.month, None))

    def on_alert(self, alert: UsageAlert) -> None:
        """An alert fired or cleared."""
        owner = organization_of(alert)
        if self._hub.hears(owner):
            self._hub.tell(owner, "alert", shown(alert))

    def on_change(self, change: Change) -> None:
        """A decision was made; one on a pool's account is told to its root alone."""
        decision = change.record
        if not isinstance(decision, WireDecision):
            return
        scope = decision.scope
        owner = self._parts.directory.organization_of_key(scope.id) if scope.kind == "key" else scope.id
        if owner is not None and self._hub.hears(owner):
            self._hub.tell(owner, "decision", decision_of(decision, owner))
        if self._operators.hears(OPERATORS):
            self._tell_operators(decision, owner)

    def _tell_operators(self, decision: WireDecision, owner: str | None) -> None:
        """Blocks, and what ends one; not how much of a limit is used."""
        name = decision_key(decision.scope.text(), decision.limit_name)
        blocks = decision.verdict == "block"
        if not blocks and decision.limit_name in USE_MATTERS and name not in self._blocked:
            return
        if not blocks:
            self._blocked.discard(name)
        elif len(self._blocked) < BLOCKED_MAX:
            self._blocked.add(name)
        self._operators.tell(OPERATORS, "block" if blocks else "clear", block_of(decision, owner))


def _money(balance: Balance) -> tuple[int | None, int, int, bool]:
    return balance.total_micro, balance.used_micro, balance.lent_micro, balance.final
