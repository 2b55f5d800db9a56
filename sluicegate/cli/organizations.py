"""``sluicegate org``: organizations, their tiers and own limits."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from sluicegate_schemas.files import load_accounts
from sluicegate_schemas.outputs import KeyEntitlement, OrganizationEntitlement

from ..operator.commands import Fields
from ..operator.known import organization_id
from ..operator.organizations import OWN, Put, ShownOrganization, home_of, put_fields, shown_organization
from ..operator.own_values import PendingError, own_values, standing_put
from ..operator.publish import PublishedAccounts, publish
from ..operator.send import WAIT_S_DEFAULT
from .change import change
from .command import command, group
from .exits import CommandError, Exit
from .files import read_file
from .known import read_known
from .session import Session
from .values import count_or_none, failure_mode, feature, optional_credits_micro, rates, table, whole

_HEADINGS = ("organization", "account", "tier", "keys", "own or boosted", "exempt")

Organization = Annotated[str, typer.Argument(metavar="org_…")]
Amount = Annotated[str | None, typer.Option(metavar="CREDITS", help="Instead of the plan's.")]
Pairs = list[str] | None
Cap = Annotated[str | None, typer.Option(metavar="CREDITS", help="It may use so much of its pool in a month.")]
Reserved = Annotated[str | None, typer.Option(metavar="CREDITS", help="So much of its pool only it may use.")]

app = group("org", "Organizations: tier, own limits, keys.")


@change(app, "put")
async def put(
    session: Session,
    organization: Organization,
    tier: Annotated[str | None, typer.Option(help="free, pro, team or enterprise; needed without --keep.")] = None,
    account: Annotated[str | None, typer.Option(metavar="org_…", help="Who pays, for a new member of a pool.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="What is not given stays as it was put last.")] = False,
    credits_per_month: Amount = None,
    rate: Annotated[str | None, typer.Option("--rates", help="Requests a second/burst/requests a minute.")] = None,
    share: Annotated[Pairs, typer.Option(help="CATEGORY=PERCENT of the minute limit; give all five.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Requests at a time.")] = None,
    quota: Annotated[Pairs, typer.Option(help="RESOURCE=COUNT or RESOURCE=unlimited.")] = None,
    objects_per_batch: Annotated[int | None, typer.Option(help="Objects in one batch.")] = None,
    features: Annotated[Pairs, typer.Option("--feature", help="NAME=VALUE.")] = None,
    credits_mode: Annotated[str | None, typer.Option(help="soft or hard.")] = None,
    failure: Annotated[Pairs, typer.Option("--failure-mode", help="CATEGORY=open|closed|allowance:PERCENT.")] = None,
    cap: Cap = None,
    reserved: Reserved = None,
) -> Fields:
    """Create an organization, or set its tier and own limits: all of them, so what is not given is the plan's."""
    standing = await last_put(session, organization) if keep else None
    given: dict[str, Any] = {
        "tier": tier,
        "credits_micro_per_month": optional_credits_micro("--credits-per-month", credits_per_month),
        "rates": rates("--rates", rate),
        "shares": table("--share", share, whole),
        "concurrency": concurrency,
        "quotas": table("--quota", quota, count_or_none),
        "objects_per_batch": objects_per_batch,
        "features": table("--feature", features, feature),
        "credits_mode": credits_mode,
        "failure_modes": table("--failure-mode", failure, failure_mode),
        "pool": pool(cap, reserved),
    }
    return put_fields(organization, await _home(session, organization, account), standing, given)


async def _home(session: Session, organization: str, account: str | None) -> str:
    """The account of an organization: where it is known its own, which never changes."""
    known = (await read_known(session)).organizations.get(organization_id(organization))
    return home_of(known, organization, account)


def pool(cap: str | None, reserved: str | None) -> dict[str, Any] | None:
    """A share of a pool; None where neither is given."""
    given = {
        "cap_micro": optional_credits_micro("--cap", cap),
        "reserved_micro": optional_credits_micro("--reserved", reserved),
    }
    return {name: value for name, value in given.items() if value is not None} or None


async def last_put(session: Session, organization: str) -> Put:
    """What was put last for the organization, once every change of it has its answer. Raises CommandError where one has
    none, and where nothing is on the trail."""
    account = (await read_known(session)).organization(organization_id(organization)).account_id
    try:
        found = await standing_put(session, account, organization, now=session.now, wait_s=WAIT_S_DEFAULT)
    except PendingError as error:
        raise CommandError(
            f"{error}, and nothing was sent: sluicegate doctor says whether workers run", Exit.AWAY
        ) from None
    if found is None:
        raise CommandError(
            f"there is nothing to keep: no command that put {organization} is on the trail", Exit.NOT_FOUND
        )
    return found


@command(app, "show", prints=ShownOrganization)
async def show(session: Session, organization: Organization) -> None:
    """Show an organization: tier, limits that are not the plan's, keys, and what was put last."""
    known = await read_known(session)
    found = known.organization(organization_id(organization))
    keys = tuple(known.keys_of(organization))
    shown = shown_organization(found, keys, (await own_values(session, found.account_id)).get(organization))
    lines = [f"{organization}: {found.tier}, account {found.account_id}"]
    lines += [f"  {name}: {value}" for name, value in _not_the_plans(found).items()]
    lines += [f"  exempt from {name}" for name in found.exempt]
    lines += [f"  {key.api_key_id} {key.mode}{' revoked' if key.revoked else ''}{_scopes(key)}" for key in keys]
    if (put_last := shown.put) is not None:
        lines.append(f"  put last by {put_last.issued_by} at {put_last.issued_at.isoformat()}: {put_last.command_id}")
    session.screen.record(shown, lines)


def _scopes(key: KeyEntitlement) -> str:
    return "" if key.scopes is None else f", may read {', '.join(key.scopes) or 'nothing'}"


@command(app, "list", prints=OrganizationEntitlement)
async def list_all(
    session: Session,
    account: Annotated[str | None, typer.Option(metavar="org_…", help="Only those of this account.")] = None,
) -> None:
    """List the organizations that the workers know."""
    known = await read_known(session)
    found = [known.organizations[name] for name in sorted(known.organizations)]
    found = [one for one in found if account in (None, one.account_id)]
    counts: dict[str, int] = {}
    for key in known.keys.values():
        counts[key.organization_id] = counts.get(key.organization_id, 0) + (not key.revoked)
    rows = [
        (
            one.organization_id,
            one.account_id,
            one.tier,
            str(counts.get(one.organization_id, 0)),
            ", ".join(_not_the_plans(one)) or "-",
            ", ".join(one.exempt) or "-",
        )
        for one in found
    ]
    session.screen.records(found, _HEADINGS, rows)


@command(app, "publish", prints=PublishedAccounts)
async def publish_file(
    session: Session,
    file: Annotated[Path, typer.Argument(help="Organizations and keys as TOML (examples/accounts.toml).")],
) -> None:
    """Publish the organizations and keys of a file; again changes nothing. Does not wait for the workers."""
    commands = read_file(file, load_accounts)
    published = await publish(
        session.brokers,
        topic_prefix=session.topic_prefix,
        catalogue=None,
        commands=commands,
        now=session.now,
        by="file",
        lead=timedelta(0),
    )
    shown = PublishedAccounts(commands=published.commands, commands_known=published.commands_known)
    known = f"{published.commands_known} were published before"
    session.screen.record(shown, [f"account commands: {published.commands} published, {known}"])


def _not_the_plans(one: OrganizationEntitlement) -> dict[str, object]:
    fields = one.model_dump(mode="json", include=set(OWN), exclude_none=True)
    return {name: fields[name] for name in OWN if name in fields}
