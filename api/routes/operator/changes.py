"""Changes that are more than one record's fields: a new key, and changes of what an organization was put as last."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Body
from pydantic import BeforeValidator
from starlette.responses import Response

from sluicegate.errors import NotFoundError
from sluicegate.operator.commands import Fields, as_command
from sluicegate.operator.new_key import NewKey, new_key
from sluicegate.operator.organizations import Put, put_fields
from sluicegate.operator.submit import Origin, OtherCommandError
from sluicegate_schemas.accounts import AnyCommand, KeyMode, KeyPut, KeyScopes, OrganizationPut, Pool
from sluicegate_schemas.bounds import OrganizationId, Record, Sentence

from .asking import (
    PENDING_S_MIN,
    CommandOutcome,
    Write,
    in_turn,
    known_of,
    known_organization,
    now_of,
    outcome_answer,
    shows,
    submit,
)
from .bodies import JsonBody, body_of
from .commands import ORGANIZATION, Writing

router = APIRouter(tags=["operator commands"])


class NewKeyBody(JsonBody):
    """A test key spends no credits. ``scopes``: what the key may read in the usage API; null: all."""

    mode: KeyMode = "live"
    scopes: KeyScopes | None = None
    reason: Sentence = ""


class MadeKey(Record):
    """A new key. ``secret`` is in the answer to the first request alone and kept nowhere: a repeat has null, and who
    lost it revokes the key and makes another."""

    api_key_id: str
    organization_id: str
    mode: KeyMode
    secret: str | None
    key_sha256: str
    outcome: CommandOutcome
    scopes: KeyScopes | None = None


class PoolBody(JsonBody, Pool):
    """A member's cap and reserved share; none of what is not given."""

    reason: Sentence = ""


_ChangesBody = body_of(OrganizationPut, without=("based_on",), optional=True)


class OrganizationChanges(_ChangesBody):  # type: ignore[misc,valid-type]  # made of the record
    """What is given replaces what was put last (RFC 7396, its fields whole); null: the plan's again."""


KeyGiven = Annotated[NewKeyBody, BeforeValidator(NewKeyBody.read), Body()]
PoolGiven = Annotated[PoolBody, BeforeValidator(PoolBody.read), Body()]
ChangesGiven = Annotated[OrganizationChanges, BeforeValidator(OrganizationChanges.read), Body()]


@router.post(f"{ORGANIZATION}/keys", **shows(MadeKey, done=201, may_wait=True))
async def make_key(
    write: Writing,
    organization_id: OrganizationId,
    body: KeyGiven,
) -> Response:
    """Makes a key and shows its secret, this once. Only the secret's hash goes into the log."""
    account_id = known_organization(known_of(write.parts), organization_id).account_id
    made: NewKey | None = None

    async def making(origin: Origin) -> Fields:
        nonlocal made
        fields: Fields = {"kind": "key.put", "organization_id": organization_id, **body.model_dump(mode="json")}
        if origin.earlier is None:
            made = new_key(organization_id, body.mode)
            return {**fields, "api_key_id": made.api_key_id, "key_sha256": made.key_sha256}
        made, earlier = None, origin.earlier.command
        if not isinstance(earlier, KeyPut):
            raise OtherCommandError("that id is another command's")
        return {**fields, "api_key_id": earlier.api_key_id, "key_sha256": earlier.key_sha256}

    sent, outcome = await submit(write, account_id, organization_id, making)
    key = MadeKey(
        api_key_id=sent["api_key_id"],
        organization_id=organization_id,
        mode=body.mode,
        secret=None if made is None else made.secret,
        key_sha256=sent["key_sha256"],
        outcome=outcome,
        scopes=body.scopes,
    )
    return outcome_answer(outcome, key, 201)


@router.patch(ORGANIZATION, **shows(CommandOutcome, may_wait=True))
async def change_organization(
    write: Writing,
    organization_id: OrganizationId,
    body: ChangesGiven,
) -> Response:
    """Changes the tier or own limits; what is not given stays as it was put last."""
    given = body.given()
    reason = given.pop("reason", None) or ""

    def changed(standing: Put, account_id: str) -> Fields:
        kept = put_fields(organization_id, account_id, standing, {}) | given
        return {**kept, "reason": reason}

    return await _change(write, organization_id, changed)


@router.put(f"{ORGANIZATION}/pool", **shows(CommandOutcome, may_wait=True))
async def put_pool(write: Writing, organization_id: OrganizationId, body: PoolGiven) -> Response:
    """Sets a member's cap and reserved share; all else stays as it was put last."""
    pool = body.model_dump(exclude={"reason"}, exclude_none=True)

    def changed(standing: Put, account_id: str) -> Fields:
        return {**put_fields(organization_id, account_id, standing, {}), "pool": pool, "reason": body.reason}

    return await _change(write, organization_id, changed)


async def _change(write: Write, organization_id: str, changed: Callable[[Put, str], Fields]) -> Response:
    account_id = known_organization(known_of(write.parts), organization_id).account_id
    desk = write.parts.desk

    async def making(origin: Origin) -> Fields:
        if origin.earlier is not None:
            offset = origin.earlier.position.offset
            puts = await desk.puts_before(account_id, organization_id, offset)
            return _as_made([changed(put, account_id) for put in puts], origin.earlier.command)
        wait_s = max(PENDING_S_MIN, write.wait_s)
        standing = await desk.standing_put(account_id, organization_id, now=now_of(write.parts), wait_s=wait_s)
        if standing is None:
            raise NotFoundError(f"no command that put {organization_id} is on the trail")
        return changed(standing, account_id)

    async with in_turn(write, organization_id):
        _, outcome = await submit(write, account_id, organization_id, making)
    return outcome_answer(outcome)


def _as_made(possible: list[Fields], earlier: AnyCommand) -> Fields:
    """The fields that a repeat has: those of the first, which was made of one of the puts before it. Which one that
    was, a command of an older version does not say. Raises OtherCommandError."""
    if not isinstance(earlier, OrganizationPut):
        raise OtherCommandError("that id is another command's")
    shared = {name: getattr(earlier, name) for name in ("command_id", "issued_at", "issued_by", "account_id")}
    for fields in reversed(possible):
        if earlier.based_on not in (None, fields["based_on"]):
            continue
        as_then = {**fields, "based_on": earlier.based_on}
        if as_command({**as_then, **shared}) == earlier:
            return as_then
    raise OtherCommandError("that id is another command's")
