"""Corrections: usage that was not metered is booked, or credits are given back for what was metered too much.

A charge is usage like any other: it goes into ledgers, breakdown and a rollup cell of the operation ``CORRECTION``, so
used credits stay the sum of what is rated. A month that takes no more late events stays as it was: its charge is of the
current month, whose ledgers say for which month it came (requirements, section 9).
"""

from typing import Final

from sluicegate_schemas.accounts import AnyCommand, CorrectionPut
from sluicegate_schemas.bounds import CREDITS_MICRO_MAX

from .budgets import Budgets
from .capacity import Capacity
from .command_record import RefusedError
from .grants import CORRECTION as GRANT_OF_CORRECTION
from .grants import Grants
from .participant import Change, Participant
from .period import month_start_ms, parse_month
from .policy import Moment
from .pools import Pools
from .routes import Route, Tariff
from .tables import GROUPS, GrantRow

CORRECTION: Final = "correction"
"""The operation of the rollup cells that hold charges."""
CHUNK_FIRST: Final = 2**62
"""A charge's cell is named by its command's offset above this, so that no usage record makes the same."""
_PRIORITY: Final = 0


class Corrections(Participant):
    """Carries corrections out."""

    obeys = (CorrectionPut,)

    def obey(self, moment: Moment, command: AnyCommand) -> Change:
        assert isinstance(command, CorrectionPut)
        month = parse_month(command.month)
        if month > moment.month:
            raise RefusedError("has not begun", "month")
        if command.direction == "credit":
            return self._credit(moment, command)
        return self._charge(moment, command, month)

    def _credit(self, moment: Moment, command: CorrectionPut) -> Change:
        row = GrantRow(command.credits_micro, _PRIORITY, moment.now_ms, month_start_ms(moment.month + 1))
        self.context.peer(Grants).give(
            moment, GRANT_OF_CORRECTION, command.account_id, command.command_id, row, "command_id"
        )
        return Change(command.command_id, None, {"month": command.month, "credited_micro": command.credits_micro})

    def _charge(self, moment: Moment, command: CorrectionPut, month: int) -> Change:
        context, micro = self.context, command.credits_micro
        is_over = month <= context.time.closed_month(context.settings.grace_ms)
        at_ms = moment.now_ms if is_over or month == moment.month else month_start_ms(month + 1) - 1
        names = command.organization_id, command.account_id, command.api_key_id or "", CORRECTION
        route = context.routes.at(Route(*names, is_costless=False), at_ms)
        if route.account.used_micro + micro > CREDITS_MICRO_MAX:
            raise RefusedError("is more than a ledger can hold", "credits_micro")
        before = route.organization.used_micro
        tariff = route.tariff = Tariff(moment.version, None)
        tariff.group, tariff.category, tariff.is_unrated = GROUPS.index(command.breakdown), "", False
        context.routes.touch(route, CHUNK_FIRST + moment.offset)
        route.credits_micro += micro
        route.account.used_micro += micro
        context.routes.fold()
        if is_over:
            for ledger in (route.account, route.organization, route.key_ledger):
                if ledger is not None:
                    ledger.charges_micro[command.month] = ledger.charges_micro.get(command.month, 0) + micro
        context.peer(Grants).settle_late(command.account_id)
        context.peer(Pools).look(moment, command.account_id)
        context.peer(Capacity).look(moment, command.account_id)
        context.peer(Budgets).charge(moment, command.organization_id, command.api_key_id, micro)
        if route.account.used_micro >= route.account.watch_micro:
            tier = context.accounts.organizations[command.account_id].tier
            context.policy.credits_reached(moment, route.account, tier, None)
        return Change(
            command.command_id,
            {"month": command.month, "used_micro": before},
            {"month": command.month, "used_micro": route.organization.used_micro},
        )
