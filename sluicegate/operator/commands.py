"""Makes operator commands of what people give, each field checked by the record's own rules."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import ValidationError

from sluicegate_schemas.accounts import ACCOUNT_COMMAND, AnyCommand
from sluicegate_schemas.bounds import Record
from sluicegate_schemas.outputs import Reject, TrailEntry

from ..errors import InvalidFieldError
from .send import Sent

Fields = dict[str, Any]
"""A command's fields by name, as they are before any is checked."""


class Outcome(Record):
    """What became of an operator command. "applied": ``trail`` says what changed. "refused": ``reject`` says why.
    "unconfirmed": no answer in time. "sent": nobody waited."""

    command_id: str
    command: str
    account_id: str
    organization_id: str
    outcome: Literal["applied", "refused", "unconfirmed", "sent"]
    was_known: bool
    trail: TrailEntry | None
    reject: Reject | None


def as_command(fields: Mapping[str, object]) -> AnyCommand:
    """The operator command with these fields; those that are None are left out. Raises
    InvalidFieldError."""
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        return ACCOUNT_COMMAND.validate_json(json.dumps(given, default=_plain))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        name = ".".join(str(part) for part in first["loc"][1:])
        said = first["msg"].removeprefix("Value error, ")
        raise InvalidFieldError(name, said) from None


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    raise TypeError(type(value).__name__)


def outcome_of(made: AnyCommand, sent: Sent) -> Outcome:
    """What became of the command."""
    return Outcome(
        command_id=made.command_id,
        command=made.kind,
        account_id=made.account_id,
        organization_id=made.about,
        outcome=sent.outcome,
        was_known=sent.was_known,
        trail=sent.trail,
        reject=sent.reject,
    )
