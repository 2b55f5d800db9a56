"""A record of the accounts topic, read as the command that it holds."""

import json
from typing import Final

from pydantic import ValidationError

from sluicegate_schemas.accounts import ACCOUNT_COMMAND, AnyCommand
from sluicegate_schemas.outputs import RejectReason
from sluicegate_schemas.wire_checks import HARMLESS_NAME

_COMMAND_BYTES_MAX: Final = 32 * 1024
"""A few hundred commands with what they make known, before and after, have to fit into a flush's header."""


class RefusedError(Exception):
    """A command can't be obeyed: the reason and field of its reject; the argument says why."""

    def __init__(self, detail: str, field: str | None = None, reason: RejectReason = "command_refused") -> None:
        super().__init__(detail)
        self.field = field
        self.reason = reason


def decode_command(value: bytes | None) -> AnyCommand:
    """The command that a record holds. Raises RefusedError."""
    if not value:
        raise RefusedError("The record has no value.", reason="empty")
    if len(value) > _COMMAND_BYTES_MAX:
        raise RefusedError(f"A command has {_COMMAND_BYTES_MAX} bytes at most.", reason="too_large")
    try:
        json.loads(value.decode(), object_pairs_hook=_distinct)
    except UnicodeDecodeError:
        raise RefusedError("The record is not UTF-8.", reason="not_utf8") from None
    except (ValueError, RecursionError):
        raise RefusedError("The record is not JSON.", reason="not_json") from None
    try:
        return ACCOUNT_COMMAND.validate_json(value)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    path, detail = problem["loc"], problem["msg"]
    if problem["type"] == "extra_forbidden":
        name, path = str(path[-1]), path[:-1]
        detail = f"has an unknown field: {name}" if HARMLESS_NAME(name) else "has an unknown field"
    field = ".".join(str(word) for word in path)
    if problem["type"] in ("union_tag_invalid", "union_tag_not_found"):
        raise RefusedError("kind is none of the commands that this worker knows", "kind", "unknown_command")
    reason: RejectReason = "not_json" if problem["type"] == "json_invalid" else "invalid"
    raise RefusedError(detail, field or None, reason)


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise RefusedError("A field is given twice.", reason="duplicate_field")
    return fields
