"""``sluicegate fit``: a month's use held against each plan, by the rollups in ClickHouse."""

from pathlib import Path
from typing import Annotated

import typer

from sluicegate_schemas.bounds import ORGANIZATION_ID_PATTERN, full_match
from sluicegate_schemas.money import credits_text
from sluicegate_schemas.plan_fit import PlanFit, PlanFits

from ..errors import ConfigurationError
from .command import command
from .module import run_module
from .session import Session
from .text import time_text
from .values import check_month

_ORGANIZATION = full_match(ORGANIZATION_ID_PATTERN)
_HEADINGS = ("plan", "credits a month", "used", "beyond", "dry from", "requests", "throttled, at least")


def add_to(app: typer.Typer) -> None:
    """Makes the command known."""
    command(app, "fit", prints=PlanFits)(fit)


async def fit(
    session: Session,
    organization: Annotated[str, typer.Argument(metavar="org_…", help="Whose use.")],
    plan: Annotated[Path, typer.Option(help="The catalogue whose plans to hold it against, as a file.")],
    month: Annotated[str | None, typer.Option(help="YYYY-MM; by default this one.")] = None,
) -> None:
    """Show what an organization's month would have come to on each plan: the credits beyond its total, and at least how
    many requests its limits per minute would have refused (`sluicegate replay` tells it exactly, for the last days).
    Needs ClickHouse (SLUICEGATE_CLICKHOUSE_URL, …) and the sink's code (the checkout, or its image)."""
    if not _ORGANIZATION.match(organization):
        raise ConfigurationError("fit is of an organization (org_…)")
    check_month("--month", month)
    wanted = month or f"{session.now:%Y-%m}"
    words = (organization, "--plan", str(plan), "--month", wanted, "--json")
    found = await run_module(session, "clickhouse.plan_fit", *words, prints=PlanFits)
    session.screen.record(found, [f"{organization} in {wanted}, on the plans of version {found.plan_version}:"])
    if not session.screen.as_json:
        session.screen.table(_HEADINGS, [_row(one) for one in found.fits])


def _row(one: PlanFit) -> tuple[str, ...]:
    return (
        one.tier,
        "no limit" if one.total_micro is None else credits_text(one.total_micro),
        credits_text(one.used_micro),
        credits_text(one.beyond_micro),
        "-" if one.ran_out_at is None else time_text(one.ran_out_at),
        f"{one.requests:,}",
        f"{one.throttled:,}",
    )
