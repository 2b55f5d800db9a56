"""Files that the command line takes, as bodies: accounts to publish, and a catalogue to hold a month's use against."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from clickhouse.plan_fit import month_fits
from sluicegate.operator.organizations import home_of
from sluicegate.operator.publish import PublishedAccounts
from sluicegate_schemas.accounts import AnyCommand, OrganizationPut
from sluicegate_schemas.bounds import Month, OrganizationId
from sluicegate_schemas.files import load_accounts, load_catalogue
from sluicegate_schemas.plan_fit import PlanFits

from ...auth import OperatorReads, OperatorWrites
from ...balances import month_of
from ...problems import FieldProblem, ProblemError
from .asking import PREFIX, as_problems, desk_of, known_of, known_organization, now_of, parts_of, record_answer, shows
from .commands import ORGANIZATION
from .toml_bodies import TOML_BODY, toml_text

router = APIRouter(tags=["operator files"])


@router.post(f"{PREFIX}/accounts", openapi_extra=TOML_BODY, **shows(PublishedAccounts))
async def publish(request: Request, operator: OperatorWrites) -> Response:
    """Publishes the organizations and keys of a file, whose ``issued_by`` is the operator's own name; again changes
    nothing. Does not wait for the workers."""
    text = await toml_text(request)
    parts = parts_of(request)
    with as_problems():
        commands = load_accounts(text)
        known = known_of(parts).organizations
        for put in _puts(commands):
            home_of(known.get(put.organization_id), put.organization_id, put.account_id)
        if any(command.issued_by != operator.name for command in commands):
            fields = [FieldProblem(field="issued_by", message="must be the name of the operator who asks")]
            raise ProblemError(422, "A field is not what it must be.", fields=fields)
        published = await desk_of(request).publish_accounts(commands, now=now_of(parts))
    return record_answer(PublishedAccounts(commands=published.commands, commands_known=published.commands_known))


@router.post(f"{ORGANIZATION}/plan-fit", openapi_extra=TOML_BODY, **shows(PlanFits))
async def plan_fit(
    request: Request, _: OperatorReads, organization_id: OrganizationId, month: Month | None = None
) -> Response:
    """What a month's use (by default this month's) would have come to on each plan of a catalogue that is not
    published. As ClickHouse has it; nothing is published."""
    text = await toml_text(request)
    parts = parts_of(request)
    known_organization(known_of(parts), organization_id)
    with as_problems():
        catalogue = load_catalogue(text)
    wanted = month or month_of(parts.clock())
    return record_answer(await parts.history.ask(month_fits, organization_id, catalogue, wanted))


def _puts(commands: list[AnyCommand]) -> list[OrganizationPut]:
    return [command for command in commands if isinstance(command, OrganizationPut)]
