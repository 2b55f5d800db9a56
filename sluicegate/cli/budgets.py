"""``sluicegate budget`` and ``sluicegate recount``: credits per day or month of a scope, and counts of resources."""

from enum import StrEnum
from typing import Annotated

import typer

from ..errors import ConfigurationError
from ..operator.commands import Fields
from .change import change
from .command import group
from .grants import Credits, account_of
from .organizations import Organization
from .session import Session
from .values import credits_micro, table, whole

Key = Annotated[str | None, typer.Option(metavar="key_…", help="Of this key.")]
Label = Annotated[str | None, typer.Option(help="NAME=VALUE: of what carries this label.")]

app = group("budget", "Credits per day or month of an organization, a key or a label.")


class Period(StrEnum):
    """The time that a budget is for, in UTC."""

    DAY = "day"
    MONTH = "month"


@change(app, "put")
async def put(
    session: Session,
    organization: Organization,
    period: Period,
    amount: Credits,
    key: Key = None,
    label: Label = None,
    threshold: Annotated[list[int] | None, typer.Option(help="Percent of it at which to alert.")] = None,
    blocks: Annotated[bool, typer.Option("--block/--no-block", help="Close the scope when it is used up.")] = False,
    mode: Annotated[str, typer.Option(help="soft or hard.")] = "soft",
) -> Fields:
    """Set a budget; one of each scope and period."""
    return {
        "kind": "budget.put",
        **await _scope(session, organization, key, label),
        "period": period.value,
        "credits_micro": credits_micro("--credits", amount),
        "thresholds_percent": threshold or (),
        "blocks": blocks,
        "mode": mode,
    }


@change(app, "remove")
async def remove(
    session: Session, organization: Organization, period: Period, key: Key = None, label: Label = None
) -> Fields:
    """End a budget."""
    return {"kind": "budget.remove", **await _scope(session, organization, key, label), "period": period.value}


async def recount(
    session: Session,
    organization: Organization,
    count: Annotated[list[str], typer.Option(help="RESOURCE=COUNT, as counted in full.")],
) -> Fields:
    """Set how much of each resource an organization holds, counted in full."""
    return {
        "kind": "quota.recount",
        "account_id": await account_of(session, organization),
        "organization_id": organization,
        "counts": table("--count", count, whole),
    }


async def _scope(session: Session, organization: str, key: str | None, label: str | None) -> Fields:
    name, equals, value = (label or "").partition("=")
    if label is not None and not equals:
        raise ConfigurationError("--label must be name=value")
    return {
        "account_id": await account_of(session, organization),
        "organization_id": organization,
        "api_key_id": key,
        "label": {"name": name, "value": value} if label is not None else None,
    }


def add_to(root: typer.Typer) -> None:
    """Makes the commands known."""
    root.add_typer(app)
    change(root, "recount")(recount)
