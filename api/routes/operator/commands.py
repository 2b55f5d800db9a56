"""One route for each kind of operator command, from one table: path, body and checks come from the command's record, so
that a new kind or field needs a line here at most."""

import re
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from inspect import Parameter, Signature, cleandoc
from typing import Annotated, Any, Final, Literal, NamedTuple

from fastapi import APIRouter, Body, Depends
from pydantic import BeforeValidator
from starlette.responses import Response

from sluicegate.operator.commands import Fields
from sluicegate.operator.known import check_key_is_free
from sluicegate.operator.organizations import home_of
from sluicegate.operator.submit import Origin
from sluicegate_schemas import accounts
from sluicegate_schemas.accounts import Command, KeyPut, OrganizationPut
from sluicegate_schemas.bounds import AccountId, OrganizationId

from ...problems import away
from .asking import (
    PREFIX,
    CommandOutcome,
    Write,
    as_problems,
    in_turn,
    known_of,
    known_organization,
    outcome_answer,
    shows,
    submit,
    write_of,
)
from .bodies import BEGINS_NOW, JsonBody, body_of

router = APIRouter(tags=["operator commands"])
ORGANIZATION: Final = f"{PREFIX}/organizations/{{organization_id}}"
_IN_PATH: Final = re.compile(r"\{(\w+)(?::path)?\}")
Writing = Annotated[Write, Depends(write_of)]


class Route(NamedTuple):
    """``path`` is below an organization's; ``cli`` is the command line's command that does the same."""

    method: Literal["PUT", "POST"]
    path: str
    command: type[Command]
    cli: str


ROUTES: Final = (
    Route("PUT", "", accounts.OrganizationPut, "org put"),
    Route("PUT", "/keys/{api_key_id}", KeyPut, "key put"),
    Route("POST", "/keys/{api_key_id}/revoke", accounts.KeyRevoke, "key revoke"),
    Route("PUT", "/grants/{grant_id:path}", accounts.GrantPut, "grant put"),
    Route("POST", "/grants/{grant_id:path}/revoke", accounts.GrantRevoke, "grant revoke"),
    Route("PUT", "/boosts/{boost_id:path}", accounts.BoostPut, "boost put"),
    Route("POST", "/boosts/{boost_id:path}/end", accounts.BoostEnd, "boost end"),
    Route("PUT", "/exemptions/{exemption_id:path}", accounts.ExemptionPut, "exempt put"),
    Route("POST", "/exemptions/{exemption_id:path}/end", accounts.ExemptionEnd, "exempt end"),
    Route("PUT", "/budgets/{period}", accounts.BudgetPut, "budget put"),
    Route("POST", "/budgets/{period}/remove", accounts.BudgetRemove, "budget remove"),
    Route("PUT", "/reserved-capacity/{category}", accounts.CapacityReserve, "reserve"),
    Route("POST", "/corrections", accounts.CorrectionPut, "correct"),
    Route("PUT", "/resource-counts", accounts.QuotaRecount, "recount"),
)


class OrganizationPutBody(body_of(OrganizationPut)):  # type: ignore[misc]  # made of the record
    """The tier and all own limits; what is not given is the plan's. ``account_id``: who pays, for a new member of a
    pool; it never changes."""

    account_id: AccountId | None = None


def endpoint(route: Route) -> Callable[..., Awaitable[Response]]:
    """The function that answers ``route``, with the signature that the framework reads."""
    in_path = _IN_PATH.findall(route.path)
    body_type = OrganizationPutBody if route.command is OrganizationPut else body_of(route.command, without=in_path)
    kind = kind_of(route.command)

    async def run(write: Write, organization_id: str, body: JsonBody, **path: str) -> Response:
        given = body.given()
        known = known_of(write.parts)
        if route.command is OrganizationPut:
            if organization_id not in known.organizations and not write.parts.knowledge.view.complete:
                raise away("Whether there is such an organization cannot be told")  # it would get another account
            with as_problems():
                account_id = home_of(
                    known.organizations.get(organization_id), organization_id, given.pop("account_id", None)
                )
        else:
            account_id = known_organization(known, organization_id).account_id

        async def making(origin: Origin) -> Fields:
            if route.command is KeyPut and origin.earlier is None:
                name, same_hash = path["api_key_id"], write.parts.knowledge.view.key(given["key_sha256"])
                check_key_is_free(organization_id, name, known.keys.get(name), same_hash)
            fields = {"kind": kind, **given, **path}
            if "organization_id" in route.command.model_fields:
                fields["organization_id"] = organization_id
            if BEGINS_NOW in route.command.model_fields and fields.get(BEGINS_NOW) is None:
                fields[BEGINS_NOW] = origin.issued_at
            return fields

        turn = in_turn(write, organization_id) if route.command is OrganizationPut else nullcontext()
        async with turn:
            _, outcome = await submit(write, account_id, organization_id, making)
        return outcome_answer(outcome)

    parameters: dict[str, Any] = {"write": Writing, "organization_id": OrganizationId}
    parameters |= {name: annotation_of(route.command, name) for name in in_path}
    parameters["body"] = Annotated[body_type, BeforeValidator(body_type.read), Body()]
    run.__signature__ = Signature(  # type: ignore[attr-defined]  # what inspect.signature then returns
        [Parameter(name, Parameter.KEYWORD_ONLY, annotation=annotation) for name, annotation in parameters.items()]
    )
    run.__name__ = kind.replace(".", "_")
    run.__doc__ = cleandoc(route.command.__doc__ or "")
    return run


def kind_of(command: type[Command]) -> str:
    """``grant.put``."""
    kind: str = command.model_fields["kind"].annotation.__args__[0]  # type: ignore[union-attr]  # a Literal of one
    return kind


def annotation_of(command: type[Command], name: str) -> Any:
    """A field's type with its bounds, for a parameter."""
    field = command.model_fields[name]
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


for _route in ROUTES:
    router.add_api_route(
        ORGANIZATION + _route.path, endpoint(_route), methods=[_route.method], **shows(CommandOutcome, may_wait=True)
    )
