"""``sluicegate usage``: the balances of an organization or a key, as the workers last published them."""

from typing import Annotated

import typer

from sluicegate_schemas.bounds import API_KEY_ID_PATTERN, ORGANIZATION_ID_PATTERN, full_match
from sluicegate_schemas.money import credits_text
from sluicegate_schemas.outputs import Balance

from ..errors import ConfigurationError, NotFoundError
from ..operator.balances import kept_balances
from .command import command
from .session import Session
from .text import time_text
from .values import check_month

_ABOUT = (full_match(ORGANIZATION_ID_PATTERN), full_match(API_KEY_ID_PATTERN))
_HEADINGS = ("kind", "month", "used", "total", "remaining", "overage", "requests", "breakdown", "as of", "final")


def add_to(app: typer.Typer) -> None:
    """Makes the command known."""
    command(app, "usage", prints=Balance)(usage)


async def usage(
    session: Session,
    about: Annotated[str, typer.Argument(metavar="org_… | key_…", help="An organization (account) or a key.")],
    month: Annotated[str | None, typer.Option(help="One month, YYYY-MM; else all that are kept.")] = None,
) -> None:
    """Show the credits of an organization (as account, as member, and by label) or of a key, month by month."""
    if not any(pattern.match(about) for pattern in _ABOUT):
        raise ConfigurationError("usage is of an organization (org_…) or a key (key_…)")
    check_month("--month", month)
    balances = await kept_balances(session, (about,), month=month)
    if not balances:
        raise NotFoundError(f"no balance of {about} is known{f' for {month}' if month else ''}")
    session.screen.records(balances, _HEADINGS, [_row(one) for one in balances])


def _row(one: Balance) -> tuple[str, ...]:
    total = "-" if one.total_micro is None else credits_text(one.total_micro)
    left = "-" if one.total_micro is None else credits_text(max(0, one.total_micro - one.used_micro))
    parts = [f"{name} {credits_text(micro)}" for name, micro in one.breakdown_micro.items() if micro]
    return (
        f"{one.kind} {one.label}" if one.label else one.kind,
        one.month,
        credits_text(one.used_micro),
        total,
        left,
        credits_text(one.overage_micro),
        f"{one.requests:,}",
        ", ".join(parts) or "-",
        time_text(one.as_of),
        "yes" if one.final else "no",
    )
