"""``sluicegate plan``: what is in force for an organization now."""

from sluicegate_schemas.money import credits_text

from ..operator.catalogues import in_force, published
from ..operator.effective_plan import EffectivePlan, effective
from ..operator.known import organization_id
from .command import command, group
from .exits import CommandError, Exit
from .known import read_known
from .organizations import Organization
from .session import Session

app = group("plan", "What is in force for an organization.")


@command(app, "show", prints=EffectivePlan)
async def show(session: Session, organization: Organization) -> None:
    """Show the effective plan of an organization: the plan, own values, boosts and exemptions together."""
    known = await read_known(session)
    entitlement = known.organization(organization_id(organization))
    catalogue = in_force(await published(session), session.now)
    if catalogue is None:
        raise CommandError("no catalogue version is in force", Exit.NOT_FOUND)
    keys = {key.api_key_id: key.mode for key in known.keys_of(organization) if not key.revoked}
    plan = effective(entitlement, catalogue, keys)
    session.screen.record(plan, lines(plan))


def lines(one: EffectivePlan) -> list[str]:
    """The plan for people; ``*`` marks what is not the plan's."""

    def said(name: str, value: object) -> str:
        mark = "*" if name in one.not_the_plans else " "
        return f"{mark} {name.removesuffix('_micro_per_month'):<18} {'unlimited' if value is None else value}"

    month = None if one.credits_micro_per_month is None else f"{credits_text(one.credits_micro_per_month)} a month"
    rates = None
    if one.rates is not None:
        each = one.rates
        rates = f"{each.requests_per_second} a second (burst {each.burst}), {each.requests_per_minute} a minute"
    categories = ", ".join(f"{name} {number or 'unlimited'}" for name, number in one.requests_per_minute.items())
    quotas = [f"{name} {'unlimited' if count is None else f'{count:,}'}" for name, count in one.quotas.items()]
    modes = [
        f"{name} {mode.mode}{f' {mode.allowance_percent} %' if mode.allowance_percent else ''}"
        for name, mode in one.failure_modes.items()
    ]
    return [
        f"{one.organization_id}: {one.tier}, catalogue version {one.catalogue_version}, account {one.account_id}",
        said("credits_micro_per_month", month),
        said("credits_mode", one.credits_mode),
        said("rates", rates),
        said("shares", f"a minute: {categories}"),
        said("concurrency", one.concurrency),
        said("quotas", ", ".join(quotas) or None),
        said("objects_per_batch", one.objects_per_batch),
        said("features", ", ".join(f"{name}={value}" for name, value in one.features.items()) or "-"),
        said("failure_modes", ", ".join(modes) or "open"),
        *(f"  exempt from {name}" for name in one.exempt),
        *(f"  {name} {mode}" for name, mode in one.keys.items()),
        *(["* own value or boost"] if one.not_the_plans else []),
    ]
