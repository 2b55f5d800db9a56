"""``sluicegate boost`` and ``sluicegate exempt``: limits that are higher, or off, for a time."""

from typing import Annotated

import typer

from ..operator.commands import Fields
from .change import change
from .command import group
from .grants import account_of
from .organizations import Organization, Pairs
from .session import Session
from .values import count_or_none, optional_credits_micro, rates, table, when

Begin = Annotated[str, typer.Option("--from", help="When it begins.")]
Until = Annotated[str, typer.Option("--until", help="When it ends: a time, or +7d.")]

boost = group("boost", "Limits that are higher for a time.")
exempt = group("exempt", "Limits that are off for a time.")


@change(boost, "put")
async def put_boost(
    session: Session,
    organization: Organization,
    boost_id: Annotated[str, typer.Argument(metavar="BOOST")],
    until: Until,
    effective: Begin = "now",
    amount: Annotated[str | None, typer.Option("--credits", help="A grant of that time.")] = None,
    rate: Annotated[str | None, typer.Option("--rates", help="Requests a second/burst/requests a minute.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Requests at a time.")] = None,
    quota: Annotated[Pairs, typer.Option(help="RESOURCE=COUNT or RESOURCE=unlimited.")] = None,
) -> Fields:
    """Raise limits of an organization for a time; a boost never lowers one."""
    return {
        "kind": "boost.put",
        "account_id": await account_of(session, organization),
        "organization_id": organization,
        "boost_id": boost_id,
        "effective_at": when("--from", effective, session.now),
        "until": when("--until", until, session.now),
        "credits_micro": optional_credits_micro("--credits", amount),
        "rates": rates("--rates", rate),
        "concurrency": concurrency,
        "quotas": table("--quota", quota, count_or_none),
    }


@change(boost, "end")
async def end_boost(
    session: Session, organization: Organization, boost_id: Annotated[str, typer.Argument(metavar="BOOST")]
) -> Fields:
    """End a boost now."""
    account = await account_of(session, organization)
    return {"kind": "boost.end", "account_id": account, "organization_id": organization, "boost_id": boost_id}


@change(exempt, "put")
async def put_exemption(
    session: Session,
    organization: Organization,
    exemption_id: Annotated[str, typer.Argument(metavar="EXEMPTION")],
    limit: Annotated[str, typer.Option(help="The limit's name, as decisions say it.")],
    until: Until,
    effective: Begin = "now",
    key: Annotated[str | None, typer.Option(metavar="key_…", help="Only for this key.")] = None,
) -> Fields:
    """Take a limit off an organization, or off one key of it, for a time."""
    return {
        "kind": "exemption.put",
        "account_id": await account_of(session, organization),
        "organization_id": organization,
        "exemption_id": exemption_id,
        "api_key_id": key,
        "limit_name": limit,
        "effective_at": when("--from", effective, session.now),
        "until": when("--until", until, session.now),
    }


@change(exempt, "end")
async def end_exemption(
    session: Session, organization: Organization, exemption_id: Annotated[str, typer.Argument(metavar="EXEMPTION")]
) -> Fields:
    """End an exemption now."""
    account = await account_of(session, organization)
    fields = {"organization_id": organization, "exemption_id": exemption_id}
    return {"kind": "exemption.end", "account_id": account, **fields}


def add_to(root: typer.Typer) -> None:
    """Makes the commands known."""
    root.add_typer(boost)
    root.add_typer(exempt)
