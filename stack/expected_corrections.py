"""What operators' charges add to the expected totals (requirements, section 9: corrections)."""

from __future__ import annotations

from collections.abc import Iterable

from sluicegate_schemas.accounts import AnyCommand, CorrectionPut
from stack.expected import Tenants, Totals
from stack.rating import month_booked, month_of


def book_corrections(totals: Totals, tenants: Tenants, commands: Iterable[tuple[AnyCommand, int]]) -> None:
    """Adds each charge once; ``commands`` are in the order of their log, with the broker's time (epoch ms)."""
    done: set[tuple[str, str]] = set()
    for command, logged_at_ms in commands:
        if not isinstance(command, CorrectionPut) or command.direction != "charge":
            continue
        organization_id, api_key_id, micro = command.organization_id, command.api_key_id, command.credits_micro
        is_known = tenants.account_of.get(organization_id) == command.account_id
        is_own_key = api_key_id is None or tenants.organization_of_key.get(api_key_id) == organization_id
        memory = command.account_id, command.command_id
        if not is_known or not is_own_key or command.month > month_of(logged_at_ms) or memory in done:
            continue
        done.add(memory)
        month = month_booked(command.month, logged_at_ms)
        totals.credits_micro += micro
        totals.by_account[command.account_id, month] += micro
        totals.by_organization[organization_id, month] += micro
        totals.by_breakdown[command.account_id, month, command.breakdown] += micro
        if api_key_id is not None:
            totals.by_key[api_key_id, month] += micro
